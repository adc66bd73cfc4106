"""The data of one MixTraining step, and what is refused before any step is compiled.

Axes: B rows of a batch, A classes of a task.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mixmin_jax.errors import InputError

PyTree = Any
_MOST_STEPS = 512  # whose labels are checked, evenly over a run: a second at most
_AT_ONCE = 64  # steps, so that one program serves runs of all lengths


class Labeled(NamedTuple):
    """Rows of one supervised task."""

    inputs: PyTree  # every leaf has a leading axis of B rows
    labels: jax.Array  # B whole numbers, classes of the task


class Batch(NamedTuple):
    """The data of one step."""

    sl: tuple[Labeled, ...]  # one per supervised task; may be empty if all steps are SSL
    ssl: PyTree | None = None  # inputs of self-supervision; None: those of all tasks in `sl`


Fetch = Callable[..., Batch]  # (step, key, *data) -> the step's batch; runs inside the compiled loop


def step_keys(key: jax.Array, step: jax.Array) -> jax.Array:
    """Two keys: of a step's batch, and of what it hides."""
    return jax.random.split(jax.random.fold_in(key, step))


def check_tasks(batch: Any) -> None:
    """Raise InputError unless this is a `Batch` whose `sl` is a tuple of `Labeled`."""
    if not isinstance(batch, Batch):
        raise InputError(f"the data of a step must be a `Batch`, but `fetch` returns {_in_words(batch)}")
    if isinstance(batch.sl, Labeled):
        raise InputError("`Batch.sl` is one `Labeled`: put it into a tuple, `Batch(sl=(Labeled(inputs, labels),))`")
    if not isinstance(batch.sl, tuple | list):
        raise InputError(f"`Batch.sl` must be a tuple with a `Labeled` for each task, not {_in_words(batch.sl)}")
    for number, task in enumerate(batch.sl):
        if not isinstance(task, Labeled):
            raise InputError(f"`Batch.sl[{number}]` must be a `Labeled(inputs, labels)`, not {_in_words(task)}")


def check_rows(batch: Any, all_ssl: bool, devices: int) -> None:
    """Raise InputError for tasks or rows that do not fit together, to the plan, or to a mesh."""
    check_tasks(batch)
    if not batch.sl and not all_ssl:
        raise InputError("the plan has SL or joint steps, but batches have no labels: give `Batch.sl` a task")
    if not batch.sl and batch.ssl is None:
        raise InputError("batches are empty: they need rows with labels (`Batch.sl`), others (`Batch.ssl`), or both")
    for number, (inputs, labels) in enumerate(batch.sl):
        shapes = [np.shape(leaf) for leaf in jax.tree.leaves(inputs)]
        whole = isinstance(labels, jax.ShapeDtypeStruct | jax.Array) and jnp.issubdtype(labels.dtype, jnp.integer)
        if not whole or {labels.shape} != {shape[:1] for shape in shapes}:
            raise InputError(
                f"task {number} has inputs of shape {' and '.join(map(str, shapes))}, and its labels are"
                f" {_in_words(labels)}: it needs one whole number per row"
            )
    if not all(map(np.shape, jax.tree.leaves(batch))):
        raise InputError("every array of a batch needs a leading axis of rows, but one is a single number")
    for leaf in jax.tree.leaves(batch):
        if len(leaf) % devices:
            raise InputError(f"a batch has {len(leaf)} rows, which do not divide over {devices} devices (data)")


def check_logits(logits_BxA: Any, rows: int, task: int) -> None:
    """Raise InputError unless these are the logits of so many rows."""
    if not _is_floating(logits_BxA) or logits_BxA.ndim != 2 or len(logits_BxA) != rows:
        raise InputError(
            f"the learner's sl_logits must return floating-point logits of shape ({rows}, classes) for the {rows} rows"
            f" of task {task}, not {_in_words(logits_BxA)}"
        )


def check_ssl_loss(loss: Any) -> None:
    """Raise InputError unless this is one floating-point number."""
    if not _is_floating(loss) or loss.ndim:
        raise InputError(
            f"the learner's ssl_loss must return one floating-point number, the mean over rows, not {_in_words(loss)}"
        )


def check_labels(
    fetch: Fetch, key: jax.Array, data: Sequence[PyTree], steps: np.ndarray, classes: Sequence[int]
) -> None:
    """Raise InputError if labels that training will draw are no classes.

    Args:
        fetch, data: make the batches.
        key: of the training, as in its state.
        steps: those with labels. Of more than 512, so many are looked at, evenly over the run.
        classes: how many each task has.
    """
    steps = steps[np.unique(np.linspace(0, len(steps) - 1, min(len(steps), _MOST_STEPS)).astype(int))]
    for first in range(0, len(steps), _AT_ONCE):
        some = steps[first : first + _AT_ONCE]
        filled = np.pad(some, (0, _AT_ONCE - len(some)), mode="edge").astype(np.int32)
        for task, extremes in enumerate(jax.device_get(_label_extremes(fetch)(filled, key, *data))):
            last = classes[task] - 1
            for values in extremes:
                if (bad := np.flatnonzero((values < 0) | (values > last))).size:
                    raise InputError(
                        f"labels of task {task} must be 0 to {last}, because the learner has {last + 1} logits for it,"
                        f" but step {filled[bad[0]]} has the label {values[bad[0]]}: correct the labels, or give the"
                        " head more classes"
                    )


@functools.lru_cache(maxsize=8)
def _label_extremes(fetch: Fetch) -> Callable[..., list[tuple[jax.Array, jax.Array]]]:
    """(steps, key, *data) -> the lowest and highest label of each step, for each task; makes nothing but labels."""

    def extremes(steps: jax.Array, key: jax.Array, *data: PyTree) -> list[tuple[jax.Array, jax.Array]]:
        def of_step(step: jax.Array) -> list[tuple[jax.Array, jax.Array]]:
            batch = fetch(step, step_keys(key, step)[0], *data)
            return [(task.labels.min(), task.labels.max()) for task in batch.sl]

        return jax.lax.map(of_step, steps)

    return jax.jit(extremes)


def _is_floating(value: Any) -> bool:
    return hasattr(value, "dtype") and bool(jnp.issubdtype(value.dtype, jnp.floating))


def _in_words(value: Any) -> str:
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"an array of shape {value.shape} and type {value.dtype}"
    return f"a {type(value).__name__}"
