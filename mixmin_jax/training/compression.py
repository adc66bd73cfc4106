"""Smaller models after training: magnitude pruning, and weights of eight bits.

Pure functions from parameters to parameters of the same shapes and types, with the number of bytes that a file of the
compressed model needs. Arrays that are not meant stay as they are, at the size of their type.

Axes: I inputs, O outputs of a kernel.
"""

import math
from typing import Any, NamedTuple

import jax
import numpy as np

from mixmin_jax.errors import InputError
from mixmin_jax.training.low_rank import Targets, every_kernel, matched, path_of

PyTree = Any
INT8_MOST = 127  # -128 is left out, so that the range is symmetric


class Compressed(NamedTuple):
    """Parameters as the compressed model has them."""

    params: PyTree
    bytes: int


def dense_bytes(params: PyTree) -> int:
    """Bytes of all parameters as they are."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(params))


def prune(params: PyTree, share: float, targets: Targets = every_kernel) -> Compressed:
    """Set the smallest entries of all kernels together to zero (Han et al., arXiv:1506.02626, without retraining).

    floor(share N) of the N entries, ordered by their absolute values, become 0; of equal ones the first.

    Bytes: one bit for each entry of a kernel, which says whether it is zero, and the others at the size of their type.

    Args:
        params: NumPy or JAX arrays; kernels become NumPy arrays.
        share: share of the entries, in [0, 1].
        targets: the kernels.

    Raises:
        InputError: the share lies elsewhere, or there are no kernels.
    """
    if not 0 <= share <= 1:
        raise InputError(f"the share to prune must lie in [0, 1], not {share}")
    kernels = {name: np.asarray(kernel) for name, kernel in matched(params, targets).items()}
    entries = np.concatenate([np.abs(kernel).ravel() for kernel in kernels.values()])
    kept = np.ones(entries.size, bool)
    kept[np.argsort(entries, kind="stable")[: math.floor(share * entries.size + 1e-9)]] = False
    masks = np.split(kept, np.cumsum([kernel.size for kernel in kernels.values()])[:-1])
    pruned = {
        name: np.where(mask.reshape(kernel.shape), kernel, np.zeros_like(kernel))
        for (name, kernel), mask in zip(kernels.items(), masks, strict=True)
    }
    stored = sum(-(-kernel.size // 8) + np.count_nonzero(kernel) * kernel.dtype.itemsize for kernel in pruned.values())
    return Compressed(_replaced(params, pruned), int(stored) + dense_bytes(params) - dense_bytes(kernels))


def int8_weights(params: PyTree, targets: Targets = every_kernel) -> Compressed:
    """Round the entries of kernels to 255 evenly spaced values, symmetric around 0, with a step for each output.

        step_o = max_i |W_io| / 127          W_io -> step_o round(W_io / step_o)

    So no entry moves by more than half a step, and rounding again changes nothing but last bits. Outputs are the last
    axis. Computation stays in the type of the parameters.

    Bytes: one for each entry of a kernel, and a float32 for each output.

    Raises:
        InputError: there are no kernels.
    """
    kernels = {name: np.asarray(kernel) for name, kernel in matched(params, targets).items()}
    rounded, stored = {}, 0
    for name, kernel in kernels.items():
        largest_O = np.abs(kernel).max(axis=tuple(range(kernel.ndim - 1)))
        step_O = np.where(largest_O > 0, largest_O, 1).astype(np.float32) / INT8_MOST
        rounded[name] = (np.rint(kernel / step_O) * step_O).astype(kernel.dtype)
        stored += kernel.size + 4 * step_O.size
    return Compressed(_replaced(params, rounded), stored + dense_bytes(params) - dense_bytes(kernels))


def _replaced(params: PyTree, arrays: dict[str, np.ndarray]) -> PyTree:
    return jax.tree_util.tree_map_with_path(lambda path, leaf: arrays.get("/".join(path_of(path)), leaf), params)
