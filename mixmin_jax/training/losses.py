"""A learner and its losses: self-supervised (SSL), supervised (SL), and joint, with one encoder pass for both.

Li et al., arXiv:2502.19513.

Axes: B rows of a batch, A classes of a task.
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Integer

from mixmin_jax.errors import InputError
from mixmin_jax.training.batches import Batch, Labeled, check_logits, check_ssl_loss, check_tasks

PyTree = Any
PARTS = ("encoder", "ssl", "sl")  # of the parameters: "ssl" is the decoder, "sl" the heads of all supervised tasks


class Losses(NamedTuple):
    """Means over rows; NaN if a step does not compute them."""

    ssl: Any
    sl: Any


class TrainedParts(NamedTuple):
    """The parts of the parameters that each phase trains. All others keep their values, and cost no gradient."""

    ssl: tuple[str, ...] = ("encoder", "ssl")
    joint: tuple[str, ...] = PARTS
    sl: tuple[str, ...] = ("encoder", "sl")

    @property
    def of_any_phase(self) -> tuple[str, ...]:
        """Those that some phase trains: the optimizer has moments of them alone."""
        return tuple(dict.fromkeys(itertools.chain(*self)))


@dataclasses.dataclass(frozen=True)
class Learner:
    """A shared encoder with a self-supervised and supervised heads, as pure functions.

    `params` is a dict of three trees, "encoder", "ssl" and "sl", and of those that `trained` adds. Rows are the leading
    axis of every leaf of `inputs` and of the results of `hide` and `encode`, so rows of several origins can be encoded
    together. Two variants of a model (with views of different size) are two learners with the same params.
    """

    init: Callable[..., PyTree]  # (key) -> params
    hide: Callable[..., PyTree]  # (key, inputs) -> view: what self-supervision hides, the same number in every row
    encode: Callable[..., PyTree]  # (params, inputs, view | None) -> features; None: nothing is hidden
    ssl_loss: Callable[..., jax.Array]  # (params, features, inputs, view) -> mean over rows
    sl_logits: Callable[..., jax.Array]  # (params, features, task) -> logits_BxA of the task of that number
    trained: TrainedParts = TrainedParts()  # `make_step` reads that of the learner of SSL and SL steps


def ssl_loss(learner: Learner, params: PyTree, batch: Batch, key: jax.Array) -> Float[Array, ""]:
    """The self-supervised loss."""
    inputs = _ssl_inputs(batch)
    ssl_key, _ = jax.random.split(key)
    view = learner.hide(ssl_key, inputs)
    return _reconstruction_loss(learner, params, learner.encode(params, inputs, view), inputs, view)


def sl_loss(learner: Learner, params: PyTree, batch: Batch, *, label_smoothing: float = 0.0) -> Float[Array, ""]:
    """The supervised loss in nats: the mean over tasks of the mean cross-entropy of their rows.

    One encoder pass, with nothing hidden, serves all tasks.
    """
    return _heads_loss(learner, params, learner.encode(params, _sl_inputs(batch), None), batch, label_smoothing)


def joint_loss(
    learner: Learner,
    params: PyTree,
    batch: Batch,
    key: jax.Array,
    alpha: ArrayLike,
    *,
    two_passes: bool = False,
    label_smoothing: float = 0.0,
) -> tuple[Float[Array, ""], Losses]:
    """The joint loss (arXiv:2502.19513, section 3).

        alpha L_ssl + (1 - alpha) L_sl

    One encoder pass over the visible parts of all rows (those of `batch.ssl`, if given, come first) serves all heads.
    L_ssl hides the same as `ssl_loss` with the same key.

    Args:
        learner, params, batch, key: the model and its data.
        alpha: weight of L_ssl.
        two_passes: L_sl comes from a second pass with nothing hidden: the dearer reference.
        label_smoothing: as in `OptimizerSettings`.

    Returns:
        The joint loss, and the two losses.

    Raises:
        InputError: there are no labels, or rows to encode together differ in shape or type.
    """
    if two_passes:
        ssl = ssl_loss(learner, params, batch, key)
        sl = sl_loss(learner, params, batch, label_smoothing=label_smoothing)
    else:
        ssl_key, sl_key = jax.random.split(key)
        inputs, sl_inputs = _ssl_inputs(batch), _sl_inputs(batch)
        view = learner.hide(ssl_key, inputs)
        if batch.ssl is None:
            ssl_features = sl_features = learner.encode(params, inputs, view)
        else:
            views = _concatenate([view, learner.hide(sl_key, sl_inputs)])
            features = learner.encode(params, _concatenate([inputs, sl_inputs]), views)
            rows = _num_rows(inputs)
            ssl_features, sl_features = _rows(features, 0, rows), _rows(features, rows, None)
        ssl = _reconstruction_loss(learner, params, ssl_features, inputs, view)
        sl = _heads_loss(learner, params, sl_features, batch, label_smoothing)
    share = jnp.asarray(alpha)
    return share * ssl + (1 - share) * sl, Losses(ssl, sl)


def task_logits(learner: Learner, params: PyTree, tasks: tuple[Labeled, ...]) -> list[Float[Array, "B A"]]:
    """The logits of each task, with nothing hidden."""
    batch = Batch(tasks)
    return _logits(learner, params, learner.encode(params, _sl_inputs(batch), None), batch)


def _ssl_inputs(batch: Batch) -> PyTree:
    check_tasks(batch)
    return _sl_inputs(batch) if batch.ssl is None else batch.ssl


def _sl_inputs(batch: Batch) -> PyTree:
    check_tasks(batch)
    if not batch.sl:
        raise InputError("this loss needs rows with labels, but the batch has none: give `Batch.sl` a task")
    return _concatenate([task.inputs for task in batch.sl])


def _reconstruction_loss(
    learner: Learner, params: PyTree, features: PyTree, inputs: PyTree, view: PyTree
) -> Float[Array, ""]:
    loss = learner.ssl_loss(params, features, inputs, view)
    check_ssl_loss(loss)
    return loss


def _heads_loss(
    learner: Learner, params: PyTree, features: PyTree, batch: Batch, label_smoothing: float
) -> Float[Array, ""]:
    logits = _logits(learner, params, features, batch)
    losses = [
        _cross_entropy(logits_BxA, jnp.asarray(task.labels), label_smoothing)
        for logits_BxA, task in zip(logits, batch.sl, strict=True)
    ]
    return jnp.stack(losses).mean()


def _logits(learner: Learner, params: PyTree, features: PyTree, batch: Batch) -> list[Float[Array, "B A"]]:
    """Of each task, whose rows are encoded one after the other."""
    found, first = [], 0
    for number, task in enumerate(batch.sl):
        rows = _num_rows(task.inputs)
        logits_BxA = learner.sl_logits(params, _rows(features, first, first + rows), number)
        check_logits(logits_BxA, rows, number)
        found.append(logits_BxA)
        first += rows
    return found


def _cross_entropy(
    logits_BxA: Float[Array, "B A"], labels_B: Integer[Array, " B"], label_smoothing: float
) -> Float[Array, ""]:
    # an invalid label must give NaN, but -1 would mean the last class
    known_B = jnp.where(labels_B < 0, logits_BxA.shape[1], labels_B)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits_BxA, known_B).mean()
    if label_smoothing:
        loss = (1 - label_smoothing) * loss - label_smoothing * jax.nn.log_softmax(logits_BxA).mean()
    return loss


def _concatenate(trees: Sequence[PyTree]) -> PyTree:
    """Rows of several origins, one after the other."""
    if len(trees) == 1:
        return trees[0]
    kinds = [jax.tree.map(lambda leaf: (leaf.shape[1:], str(leaf.dtype)), tree) for tree in trees]
    for kind in kinds[1:]:
        if kind != kinds[0]:
            raise InputError(
                "rows that are encoded together must have one shape and type, but these differ (shape of a row, type):"
                f" {kinds[0]} and {kind}"
            )
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *trees)


def _num_rows(tree: PyTree) -> int:
    return len(jax.tree.leaves(tree)[0])


def _rows(tree: PyTree, first: int, last: int | None) -> PyTree:
    return jax.tree.map(lambda leaf: leaf[first:last], tree)
