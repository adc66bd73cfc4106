"""Steps with a loss or gradient that is not finite: a training stops, or skips and counts them.

Axes: T steps, M models.
"""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float

from mixmin_jax.errors import InputError
from mixmin_jax.training.mesh import gathered

PyTree = Any
OnNonfinite = Literal["stop", "skip"]
MOST_IN_A_ROW = 20  # skipped steps in a row that end a training: later steps would fail too
LARGEST_SHARE = 0.1  # largest share of skipped steps; more would make the result unreliable


class Diverged(RuntimeError):
    """A model's loss or parameters became NaN or infinite, or too many of its steps were skipped."""


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


def check_losses(
    loss_TxM: Float[np.ndarray, "T M"],
    skipped_M: Skipped | tuple[()],
    first_step: int,
    num_steps: int,
    names: tuple[str, ...],
    learning_rate: float,
) -> None:
    """Raise `Diverged` for a loss that is not finite, or for too many skipped steps if the training skips them.

    Models beyond the names are padding.
    """
    remedy = f"lower the learning rate ({learning_rate:g}) or check its data"
    if skipped_M:
        skipped_M = Skipped(*gathered(skipped_M))
        if (bad_M := too_many(skipped_M, num_steps)[: len(names)]).any():
            m = int(bad_M.argmax())
            found = too_many_in_words(int(skipped_M.in_all[m]), int(skipped_M.longest[m]), num_steps)
            raise Diverged(f"{names[m]}: {found}: {remedy}")
    elif (bad_TxM := ~np.isfinite(loss_TxM[:, : len(names)])).any():
        t, m = np.argwhere(bad_TxM)[0]
        raise Diverged(f"the loss of {names[m]} became {loss_TxM[t, m]} at step {first_step + t}: {remedy}")


def check_parameters(params: PyTree, done: int, names: tuple[str, ...], learning_rate: float) -> None:
    """Raise `Diverged` if the last step made parameters infinite or NaN, which its loss does not show yet.

    Models beyond the names are padding.
    """
    finite_M = gathered(_finite_models(params))[: len(names)]
    if not finite_M.all():
        raise Diverged(
            f"the parameters of {names[int(finite_M.argmin())]} are not finite after step {done - 1}: lower the"
            f" learning rate ({learning_rate:g}) or check its data"
        )


@jax.jit
def _finite_models(params: PyTree) -> jax.Array:
    """Which of M models (the leading axis of every leaf) have only finite parameters."""
    finite = [jnp.isfinite(leaf).all(axis=tuple(range(1, leaf.ndim))) for leaf in jax.tree.leaves(params)]
    return jnp.stack(finite).all(axis=0)
