"""Proxies that have learned less of their source than how often each token occurs in it.

Such a proxy has collapsed, or was trained too little: what it says of a target is not what its source is worth.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Integer

_END = 0.25  # share of a training, its last, whose loss is that of the trained model


class Learned(NamedTuple):
    """What a proxy reached on its own source, and what the frequencies of tokens alone reach; nats per token."""

    loss: float
    frequencies: float

    @property
    def too_little(self) -> bool:
        return self.loss >= self.frequencies


def end_losses(loss_TxM: Float[np.ndarray, "T M"]) -> Float[np.ndarray, " M"]:
    """The mean loss of each training over the last quarter of its steps, without skipped ones (NaN)."""
    seen = [loss_T[np.isfinite(loss_T)] for loss_T in loss_TxM.T]
    return np.array([loss_T[-max(1, int(_END * len(loss_T))) :].mean() for loss_T in seen])


def frequencies_loss(tokens_N: Integer[np.ndarray, " N"]) -> float:
    """The entropy of the tokens' frequencies: no model that knows these alone has a lower loss on the tokens.

    - sum_i f_i log f_i,   f_i: share of token i
    """
    counts = np.bincount(tokens_N)
    share = counts[counts > 0] / len(tokens_N)
    return float(-(share * np.log(share)).sum())


def left_out(proxies: Mapping[str, Learned]) -> tuple[str, ...]:
    """The sources whose proxies collapsed: those that learned too little, unless they are half of all or more.

    Then all proxies were trained too little. They are as good as each other, and none is left out.
    """
    bad = tuple(source for source, found in proxies.items() if found.too_little)
    return bad if 2 * len(bad) < len(proxies) else ()
