"""The numbers of a solution, as compiled programs return them.

Axes: K sources, T iterations.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from mixmin_jax.mixture.problem import Problem, Run
from mixmin_jax.mixture.targets import per_target


class Outputs(NamedTuple):
    """The numbers of a solution."""

    weights: Any
    loss: Any  # including the offset
    gap: Any
    penalty: Any
    goal: Any
    rounding: Any  # the gap that the number type can resolve
    converged: Any
    iterations: Any
    gap_history: Any
    targets: Any = None  # losses, references and prices


def outputs(problem: Problem, run: Run, tolerance: ArrayLike) -> Outputs:
    """The numbers of a run."""
    point = run.best.point
    return Outputs(
        weights=point.weights,
        loss=point.loss + problem.f.offset,
        gap=point.gap,
        penalty=problem.penalty(point.weights),
        goal=tolerance * problem.f.scale,
        rounding=64 * np.finfo(point.loss.dtype).eps * (abs(point.loss) + problem.f.scale),
        converged=run.converged,
        iterations=run.iterations,
        gap_history=run.gap_history,
        targets=per_target(problem.f, run.best),
    )


def packed(problem: Problem, run: Run, tolerance: ArrayLike) -> Float[Array, "..."]:
    """The outputs joined into one vector, because fetching many small arrays takes as long as a small solve."""
    dtype = run.best.point.loss.dtype
    return jnp.concatenate(
        [jnp.ravel(leaf).astype(dtype) for leaf in jax.tree.leaves(outputs(problem, run, tolerance))]
    )


def unpacked(vector: ArrayLike, num_sources: int, history_length: int) -> Outputs:
    """The outputs from their vector."""
    vector = np.asarray(vector)
    end = num_sources + len(Outputs._fields) - 3  # of the single numbers
    weights_K, numbers, history_T, rest = np.split(vector, [num_sources, end, end + history_length])
    return Outputs._make([weights_K, *numbers, history_T, rest.reshape(3, -1) if rest.size else None])
