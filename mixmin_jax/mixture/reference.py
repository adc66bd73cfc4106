"""Check the weights of a reference mixture as users write them.

Axes: K sources.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from mixmin_jax.errors import InputError
from mixmin_jax.mixture.checks import as_float64, list_names, total
from mixmin_jax.mixture.constraints import PerSource

_DIGITS = 1e-6  # largest distance of the sum from 1; larger than SLACK for weights in few digits or float32


def reference_weights(
    weights: PerSource, what: str, num_sources: int, sources: tuple[str, ...] | None
) -> Float[np.ndarray, " K"]:
    """The weights as an array with sum 1.

    Args:
        weights: one weight per source, or a mapping from names or columns to weights (0 for the others).
        what: name of the weights in messages.
        num_sources, sources: K and the names.

    Raises:
        InputError: names that are not sources, negative weights, or a sum that is not 1.
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
