"""NumPy for arrays on the host, jax.numpy for JAX's: a formula runs at once, or becomes part of a compiled program."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import jax.scipy.linalg
import numpy as np
import scipy.linalg

HostOrDevice = np.ndarray | jax.Array
X = TypeVar("X")


def namespace(array: Any) -> Any:
    """The module of NumPy's functions for this array."""
    return jnp if isinstance(array, jax.Array) else np


def log_sum_exp(x: Any) -> Any:
    """log sum exp(x) over the last axis."""
    if isinstance(x, jax.Array):
        return jax.nn.logsumexp(x, axis=-1)
    most = x.max(axis=-1)
    most = np.where(np.isfinite(most), most, 0)
    return most + np.log(np.exp(x - most[..., None]).sum(axis=-1))


def repeat(times: int, update: Callable[[X], X], x: X) -> X:
    """Apply a function several times."""
    if any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(x)):
        return jax.lax.fori_loop(0, times, lambda _, x: update(x), x)
    for _ in range(times):
        x = update(x)
    return x


def cholesky(matrix_KxK: Any) -> Any:
    """The lower factor, with anything above the diagonal; NaN if the matrix is not positive definite."""
    if isinstance(matrix_KxK, jax.Array):
        return jax.scipy.linalg.cho_factor(matrix_KxK, lower=True)[0]
    try:
        return scipy.linalg.cho_factor(matrix_KxK, lower=True, check_finite=False)[0]
    except scipy.linalg.LinAlgError:
        return np.full_like(matrix_KxK, np.nan)


def solve_factored(lower_KxK: Any, x_KxR: Any) -> Any:
    """(L L')^-1 x."""
    module = jax.scipy.linalg if isinstance(lower_KxK, jax.Array) else scipy.linalg
    return module.cho_solve((lower_KxK, True), x_KxR, check_finite=False)


def solve_lower(lower_KxK: Any, x_KxR: Any) -> Any:
    """L^-1 x."""
    module = jax.scipy.linalg if isinstance(lower_KxK, jax.Array) else scipy.linalg
    return module.solve_triangular(lower_KxK, x_KxR, lower=True, check_finite=False)
