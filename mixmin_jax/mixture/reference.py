"""The weights of a reference mixture as users write them.

Axes: K sources.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from mixmin_jax.errors import InputError
from mixmin_jax.mixture.checks import as_float64, list_names, total
from mixmin_jax.mixture.constraints import PerSource

_DIGITS = 1e-6  # for weights written to a few digits or held in float32


def reference_weights(
    weights: PerSource, what: str, num_sources: int, sources: tuple[str, ...] | None
) -> Float[np.ndarray, " K"]:
    """One weight a source, or a mapping from names or columns to weights (0 for the others), as an array of sum 1.

    Raises:
      InputError: names that are no sources, negative weights, a sum that is not 1. `what` names them in the message.
    """
    values: Any = weights
    if isinstance(weights, Mapping):
        columns = {name: k for k, name in enumerate(sources or ())} | {k: k for k in range(num_sources)}
        if unknown := [name for name in weights if name not in columns]:
            names = list_names(sources or [str(k) for k in range(num_sources)])
            raise InputError(f"{what} names {unknown[0]!r}, which is no source; the sources are {names}")
        values = np.zeros(num_sources)
        for name, weight in weights.items():
            values[columns[name]] = weight
    weights_K = as_float64(values, what)
    if weights_K.shape != (num_sources,):
        raise InputError(
            f"{what} has the shape {weights_K.shape}, but there are {num_sources} sources: give one weight a source"
        )
    if (bad := np.flatnonzero(~(weights_K >= 0))).size:
        name = sources[bad[0]] if sources else bad[0]
        raise InputError(f"{what} must not be negative or NaN, but {name} has {weights_K[bad[0]]}")
    if not abs(weights_K.sum() - 1) <= _DIGITS:
        raise InputError(f"{what} must sum to 1, but sums to {total(weights_K.sum())}; divide it by its sum")
    return weights_K / weights_K.sum()
