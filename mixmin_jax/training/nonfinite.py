"""Steps with a loss or gradient that is not finite: a training stops, or skips and counts them.

Axes: M models.
"""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mixmin_jax.errors import InputError

PyTree = Any
OnNonfinite = Literal["stop", "skip"]
MOST_IN_A_ROW = 20  # skipped steps in a row that end a training: later steps would fail too
LARGEST_SHARE = 0.1  # largest share of skipped steps; more would make the result unreliable


class Skipped(NamedTuple):
    """Numbers of skipped steps of a model; int32, with a leading axis if there are several models."""

    in_all: jax.Array
    in_a_row: jax.Array  # up to now
    longest: jax.Array  # the most in a row


def counters(on_nonfinite: str) -> Skipped | tuple[()]:
    """Counts of 0 if the training skips steps, () if it stops. Raises InputError for another word."""
    if on_nonfinite not in ("stop", "skip"):
        raise InputError(f"on_nonfinite must be 'stop' or 'skip', not {on_nonfinite!r}")
    zero = jnp.zeros((), jnp.int32)
    return Skipped(zero, zero, zero) if on_nonfinite == "skip" else ()


def is_finite(loss: jax.Array, grads: PyTree) -> jax.Array:
    """Whether a loss and the norm of its gradient are finite."""
    return jnp.isfinite(loss) & jnp.isfinite(optax.tree.norm(grads))


@jax.jit
def finite_models(params: PyTree) -> jax.Array:
    """Which of M models (the leading axis of every leaf) have only finite parameters."""
    finite = [jnp.isfinite(leaf).all(axis=tuple(range(1, leaf.ndim))) for leaf in jax.tree.leaves(params)]
    return jnp.stack(finite).all(axis=0)


def counted(skipped: Skipped, skip: jax.Array) -> Skipped:
    """The counts after a step; `skip`: whether it was skipped."""
    in_a_row = jnp.where(skip, skipped.in_a_row + 1, 0)
    return Skipped(skipped.in_all + skip, in_a_row, jnp.maximum(skipped.longest, in_a_row))


def too_many(skipped: Skipped, num_steps: int) -> np.ndarray:
    """Which models skipped more than `LARGEST_SHARE` of their `num_steps` steps, or `MOST_IN_A_ROW` in a row."""
    share_M = np.asarray(skipped.in_all) / num_steps
    return np.asarray((share_M > LARGEST_SHARE) | (np.asarray(skipped.longest) >= MOST_IN_A_ROW))


def too_many_in_words(in_all: int, longest: int, num_steps: int) -> str:
    """The finding of `too_many`, for an error."""
    return (
        f"{in_all} of {num_steps} steps had a loss or gradient that is not finite, {longest} of them in a row: more"
        f" than a share of {LARGEST_SHARE:g} or {MOST_IN_A_ROW} in a row are not skipped"
    )
