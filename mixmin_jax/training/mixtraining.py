"""MixTraining: steps on self-supervised (SSL), supervised (SL) and joint losses, in one compiled loop.

Li et al., arXiv:2502.19513. A `losses.Learner` defines the model, a `schedule.StepPlan` what each step does.

Axes: T steps.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jax.typing import ArrayLike

from mixmin_jax.errors import InputError, list_some
from mixmin_jax.training.batches import Batch, Fetch, check_labels, check_rows, check_tasks, step_keys
from mixmin_jax.training.batches import Labeled as Labeled  # what a loop needs can be had from this module alone
from mixmin_jax.training.checkpoint import Checkpoints
from mixmin_jax.training.convolutions import with_fast_convolutions
from mixmin_jax.training.driver import Finished, run_blocks
from mixmin_jax.training.flops import count_flops
from mixmin_jax.training.loop import BLOCK_STEPS, TrainState, compile_block
from mixmin_jax.training.losses import PARTS, Learner, Losses, joint_loss, sl_loss, ssl_loss, task_logits
from mixmin_jax.training.losses import TrainedParts as TrainedParts
from mixmin_jax.training.mesh import over_batch, put, replicated
from mixmin_jax.training.nonfinite import OnNonfinite, counted, counters, is_finite, too_many, too_many_in_words
from mixmin_jax.training.schedule import JOINT, PHASES, SL, SSL, Phase, StepPlan, check_plan

PyTree = Any
PADDING = len(PHASES)  # phase of steps that fill up a block: they compute and change nothing


@dataclasses.dataclass(frozen=True)
class OptimizerSettings:
    """AdamW with clipped gradients. Learning rates are part of the schedule."""

    weight_decay: float = 0.05  # on arrays of two or more axes
    b1: float = 0.9
    b2: float = 0.95
    clip_norm: float = 1.0  # largest norm of the gradient over all parts that a step trains; inf: no clipping
    label_smoothing: float = 0.0  # share of a label that is divided evenly among its task's classes

    def __post_init__(self) -> None:
        if not (0 <= self.b1 < 1 and 0 <= self.b2 < 1):
            raise InputError(f"b1 and b2 must lie in [0, 1), not {self.b1} and {self.b2}")
        if not (0 <= self.weight_decay < math.inf and self.clip_norm > 0):
            raise InputError(
                f"weight_decay must not be negative and clip_norm must be positive, not {self.weight_decay} and"
                f" {self.clip_norm}"
            )
        if not 0 <= self.label_smoothing < 1:
            raise InputError(f"label_smoothing must lie in [0, 1), not {self.label_smoothing}")

    def direction(self) -> optax.GradientTransformation:
        """AdamW's step before the factor -learning rate."""
        return optax.chain(
            optax.scale_by_adam(self.b1, self.b2),
            optax.add_decayed_weights(self.weight_decay, lambda params: jax.tree.map(lambda p: p.ndim > 1, params)),
        )


MixState = TrainState  # its `opt_state` has one state per part, so an idle head keeps its moments and step count


class Failure(NamedTuple):
    """The step at which training stopped for a loss or gradient that is not finite, or for too many of them."""

    phase: Phase
    step: int
    too_many: str = ""  # the number of such steps, if they are skipped

    def __str__(self) -> str:
        if self.too_many:
            return (
                f"{self.too_many}; stopped at step {self.step}, in the phase {self.phase!r}: lower the learning rate,"
                " or look for broken inputs or labels"
            )
        return (
            f"the loss or gradient was not finite at step {self.step}, in the phase {self.phase!r}: the parameters are"
            " those from before it; lower the learning rate, or look for broken inputs or labels"
        )


class TrainRun(NamedTuple):
    """A trained model."""

    state: MixState  # if training failed, the last good one
    losses: Losses  # float32 arrays of T steps; NaN if not computed or skipped, and from a failed step on
    failure: Failure | None

    @property
    def skipped(self) -> int:
        """The number of skipped steps."""
        return int(self.state.skipped.in_all) if self.state.skipped else 0


OnBlock = Callable[[int, int, Losses, MixState], None]  # (steps done, steps in all, losses of the block, state)


def init_state(
    learner: Learner, optimizer: OptimizerSettings, key: jax.Array, on_nonfinite: OnNonfinite = "stop"
) -> MixState:
    """New parameters with zero moments."""
    init_key, train_key = jax.random.split(key)
    params = learner.init(init_key)
    parts = tuple(dict.fromkeys((*PARTS, *learner.trained.of_any_phase)))
    if not isinstance(params, dict) or set(params) != set(parts):
        raise InputError(f"this learner's params must be a dict of the trees {', '.join(parts)}")
    params = jax.tree.map(lambda p: jax.lax.convert_element_type(p, p.dtype), params)  # weak types compile twice
    opt_state = {part: optimizer.direction().init(params[part]) for part in learner.trained.of_any_phase}
    begin, none = jnp.zeros((), jnp.int32), jnp.full((), -1, jnp.int32)
    return MixState(begin, params, opt_state, train_key, none, counters(on_nonfinite))


def given(step: jax.Array, key: jax.Array, batch: Batch) -> Batch:
    """The `fetch` of steps whose data are the batch itself."""
    del step, key
    return batch


def make_step(
    learner: Learner,
    optimizer: OptimizerSettings,
    *,
    joint: Learner | None = None,
    two_passes: bool = False,
    fetch: Fetch = given,
    only: Phase | None = None,
) -> Callable[..., tuple[MixState, Losses]]:
    """A pure `step(state, row, *data) -> (state, losses)` for a scan over the rows of a `StepPlan`; not compiled here.

    1. Gradient: `lax.switch` selects it by phase. The batch, `fetch(step, key, *data)`, is made inside the branch, so a
       phase pays only for what it uses. SSL steps minimize `ssl_loss(learner)`, SL steps `sl_loss(learner)`, joint
       steps `joint_loss(joint or learner)`.
    2. Update: the gradient is clipped by the norm over all parts that the phase trains (`learner.trained`); each part
       takes AdamW's step. An idle part keeps its parameters and moments (a restart resets its moments too).
    3. If loss or gradient is not finite, only `failed_at` changes, and later steps change nothing. If the state counts
       skipped steps, the step is counted instead and the next one continues; a restart still takes place.

    Do not batch the row in a vmap over states: with a batched phase XLA computes all branches. Convolutions are as fast
    in a scan as outside of it (`with_fast_convolutions`).

    Args:
        learner: of SSL and SL steps.
        optimizer: settings.
        joint: learner of joint steps; None: `learner`.
        two_passes: as in `joint_loss`.
        fetch: makes the batch.
        only: makes the step of this phase without a switch, to measure its cost.
    """
    direction, trained = optimizer.direction(), learner.trained
    clip = optax.clip_by_global_norm(optimizer.clip_norm)

    def objective(
        phase: int, params: PyTree, batch: Batch, key: jax.Array, alpha: jax.Array
    ) -> tuple[jax.Array, Losses]:
        nan = jnp.full((), jnp.nan)
        if phase == SSL:
            loss = ssl_loss(learner, params, batch, key)
            return loss, Losses(loss, nan)
        check_tasks(batch)
        if not batch.sl:  # only for runs of SSL steps: NaN makes any other step fail
            return nan, Losses(nan, nan)
        if phase == SL:
            loss = sl_loss(learner, params, batch, label_smoothing=optimizer.label_smoothing)
            return loss, Losses(nan, loss)
        smoothing = optimizer.label_smoothing
        return joint_loss(joint or learner, params, batch, key, alpha, two_passes=two_passes, label_smoothing=smoothing)

    def gradient(
        phase: int, params: PyTree, step: jax.Array, keys: jax.Array, alpha: jax.Array, data: Sequence[PyTree]
    ) -> tuple[jax.Array, Losses, PyTree]:
        fetch_key, hide_key = keys
        batch = fetch(step, fetch_key, *data)
        value_and_grad = jax.value_and_grad(
            lambda parts: objective(phase, params | parts, batch, hide_key, alpha), has_aux=True
        )
        (loss, losses), grads = value_and_grad({part: params[part] for part in trained[phase]})
        loss, losses = jax.tree.map(lambda x: x.astype(jnp.float32), (loss, losses))
        return loss, losses, zeros(params) | grads  # of the same types in all branches

    def zeros(params: PyTree) -> PyTree:
        return jax.tree.map(jnp.zeros_like, {part: params[part] for part in trained.of_any_phase})

    def nothing(params: PyTree, *_: Any) -> tuple[jax.Array, Losses, PyTree]:
        nan = jnp.full((), jnp.nan, jnp.float32)
        return nan, Losses(nan, nan), zeros(params)

    def update(
        parts: tuple[str, ...], params: PyTree, opt_state: PyTree, grads: PyTree, rate: jax.Array
    ) -> tuple[PyTree, PyTree]:
        grads, _ = clip.update({part: grads[part] for part in parts}, optax.EmptyState())
        params, opt_state = dict(params), dict(opt_state)
        for part in parts:
            updates, opt_state[part] = direction.update(grads[part], opt_state[part], params[part])
            params[part] = optax.apply_updates(params[part], jax.tree.map(lambda u: -rate * u, updates))
        return params, opt_state

    gradients: list[Callable[..., Any]] = [functools.partial(gradient, phase) for phase in (SSL, JOINT, SL)]
    gradients.append(nothing)
    updates = [functools.partial(update, parts) for parts in trained]

    def select(phase: ArrayLike, branches: Sequence[Callable[..., Any]], *operands: PyTree) -> Any:
        return jax.lax.switch(phase, branches, *operands) if only is None else branches[PHASES.index(only)](*operands)

    @with_fast_convolutions
    def step(state: MixState, row: StepPlan, *data: PyTree) -> tuple[MixState, Losses]:
        keys = step_keys(state.key, state.step)
        loss, losses, grads = select(row.phase, gradients, state.params, state.step, keys, row.alpha, data)

        going = (state.failed_at < 0) & (row.phase != PADDING)
        finite = is_finite(loss, grads)
        kept = going & finite
        begun = going if state.skipped else kept
        fresh = {part: direction.init(state.params[part]) for part in state.opt_state}
        params, opt_state = jax.lax.cond(  # inside a branch, updates are bit-identical to those compiled alone
            kept,
            functools.partial(select, row.phase, updates),
            lambda params, opt_state, *_: (params, opt_state),
            *(state.params, _where(begun & row.restart, fresh, state.opt_state), grads, row.learning_rate),
        )
        failed_at, skipped, shown = state.failed_at, state.skipped, going
        if skipped:
            skipped = _where(going, counted(skipped, ~finite), skipped)
            shown = kept
        else:
            failed_at = jnp.where(going & ~finite, state.step, failed_at)
        state = MixState(state.step + begun, params, opt_state, state.key, failed_at, skipped)
        return state, jax.tree.map(lambda x: jnp.where(shown, x, jnp.nan), losses)

    return step


def train(
    learner: Learner,
    plan: StepPlan,
    fetch: Fetch,
    data: tuple[PyTree, ...],
    optimizer: OptimizerSettings,
    key: jax.Array,
    *,
    joint: Learner | None = None,
    two_passes: bool = False,
    mesh: Mesh | None = None,
    block_steps: int = BLOCK_STEPS,
    on_block: OnBlock | None = None,
    checkpoints: Checkpoints | None = None,
    on_nonfinite: OnNonfinite = "stop",
    initial: Mapping[str, PyTree] | None = None,
) -> TrainRun:
    """Train by `plan`: step t on `fetch(t, key_t, *data)`.

    Steps run in blocks; the last block is filled up with steps that do nothing. So one compiled program serves all
    plans with the same learners, fetch and shapes. Blocks and padding do not change any bit of the result. Training
    stops after a block with a loss that is not finite (see `TrainRun`), or, with `on_nonfinite="skip"`, with too many
    of them (`nonfinite.too_many`).

    Args:
        learner, optimizer, joint, two_passes: as in `make_step`.
        plan: what each step does.
        fetch: (step, key, *data) -> batch.
        data: arrays for `fetch`.
        key: of the parameters and of the whole training.
        mesh: rows of batches are sharded over its `data` axis; devices along `source` do the same work. Parameters and
            `data` are on all devices.
        block_steps: steps of one compiled call.
        on_block: called after each block. It must read what it needs of the state before it returns, because the next
            block reuses the buffers.
        checkpoints: training continues from the newest; the result is bit-identical to an uninterrupted one.
        on_nonfinite: "stop" or "skip".
        initial: parts of the parameters to start from, such as {"encoder": ...} of a pretrained model; `learner.init`
            makes the others.

    Returns:
        The trained model, its losses, and the failure if there was one.

    Raises:
        InputError: before any step is compiled: an invalid plan; SL or joint steps without labels; rows that do not fit
            together or do not divide over the mesh; a loss or logits of a wrong shape; labels that are no classes (in
            512 of the steps, evenly over the run; in another, such a label makes the loss NaN); initial parameters of
            another structure than the learner's.
        Stopped: on a request to `checkpoints`.
    """
    check_plan(plan)
    if block_steps < 1:
        raise InputError(f"block_steps must be at least 1, not {block_steps}")
    init = _compiled_init(learner, optimizer, on_nonfinite, mesh)
    block = _compiled_block(learner, optimizer, joint, two_passes, fetch, mesh)
    batch, labeled_steps = jax.eval_shape(fetch, *_step_and_key(), *data), np.flatnonzero(plan.phase != SSL)
    check_rows(batch, not labeled_steps.size, 1 if mesh is None else mesh.shape["data"])
    shapes = jax.eval_shape(init, key)
    # checks what the learner returns; the program is traced once, if shapes say where arrays are
    jax.eval_shape(block, _on(mesh, shapes), _padded(plan, 0, 1, block_steps), *_on(mesh, data))
    if labeled_steps.size:
        logits = jax.eval_shape(_compiled_logits(learner), shapes.params, batch.sl)
        check_labels(fetch, jax.random.split(key)[1], data, labeled_steps, [values.shape[1] for values in logits])
    data = jax.device_put(data) if mesh is None else put(data, replicated(mesh))
    state, failure = init(key), None
    if initial:
        state = state._replace(params=_replaced(state.params, initial, mesh))
    num_steps, start = len(plan.phase), 0
    losses = Losses(*(np.full(num_steps, np.nan, np.float32) for _ in Losses._fields))
    if checkpoints and (found := checkpoints.restore((state, losses))):
        start, (state, losses) = found
    bounds = [(first, min(first + block_steps, num_steps)) for first in range(start, num_steps, block_steps)]

    def report(done: Finished) -> None:
        for kept, new in zip(losses, done.metrics, strict=True):
            kept[done.first : done.last] = np.asarray(new)[: done.last - done.first]

    def after_block(done: int, state: MixState) -> bool:
        nonlocal failure
        if on_block:
            first = start + (done - 1 - start) // block_steps * block_steps
            on_block(done, num_steps, Losses(losses.ssl[first:done], losses.sl[first:done]), state)
        failure = _failure(state, plan, done)
        if failure is None and checkpoints and checkpoints.due(done, num_steps):
            checkpoints.save(done, num_steps, (state, losses))
        return failure is not None

    state = run_blocks(
        lambda state, rows: block(state, rows, *data),
        state,
        bounds,
        (_padded(plan, first, last, block_steps) for first, last in bounds),
        report,
        pauses=lambda done: True,  # `on_block` reads the state
        at_pause=after_block,
    )
    return TrainRun(state, losses, failure)


def _replaced(params: PyTree, initial: Mapping[str, PyTree], mesh: Mesh | None) -> PyTree:
    """The parameters with parts replaced by copies of those given, because training takes over their buffers."""
    for part, tree in initial.items():
        ours, theirs = (
            {jax.tree_util.keystr(path): jnp.shape(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(which)}
            for which in (params.get(part), tree)
        )
        if ours != theirs:
            differing = sorted(name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name))
            raise InputError(f"the initial {part!r} does not fit the learner's parameters: {list_some(differing)}")
    parts = {part: params[part] for part in initial}
    copied = jax.tree.map(lambda new, old: jnp.array(new, old.dtype), dict(initial), parts)
    return params | (copied if mesh is None else put(copied, replicated(mesh)))


def _failure(state: MixState, plan: StepPlan, done: int) -> Failure | None:
    """Why the training ends after so many steps, if it does."""
    if (failed_at := int(state.failed_at)) >= 0:
        return Failure(PHASES[plan.phase[failed_at]], failed_at)
    if state.skipped and too_many(state.skipped, len(plan.phase)):
        words = too_many_in_words(int(state.skipped.in_all), int(state.skipped.longest), len(plan.phase))
        return Failure(PHASES[plan.phase[done - 1]], done - 1, words)
    return None


def step_flops(
    learner: Learner,
    fetch: Fetch,
    data: tuple[PyTree, ...],
    optimizer: OptimizerSettings,
    *,
    joint: Learner | None = None,
    two_passes: bool = False,
    phases: Sequence[Phase] = PHASES,
) -> dict[Phase, float]:
    """FLOPs of one step of each phase, lowered alone: batch, gradient and update. Without labels: only of SSL steps.

    `joint` and `two_passes` matter to joint steps alone. `data` may be `jax.ShapeDtypeStruct`s. Nothing runs.
    """
    state = jax.eval_shape(functools.partial(init_state, learner, optimizer), jax.random.key(0))
    dtypes: Any = jnp.int32, jnp.float32, jnp.float32, jnp.bool_
    row = jax.tree.map(lambda dtype: jax.ShapeDtypeStruct((), dtype), StepPlan(*dtypes))
    labeled = bool(jax.eval_shape(fetch, *_step_and_key(), *data).sl)

    def flops(phase: Phase) -> float:
        step = make_step(learner, optimizer, joint=joint, two_passes=two_passes, fetch=fetch, only=phase)
        return count_flops(jax.jit(step).lower(state, row, *data))

    return {phase: flops(phase) for phase in phases if labeled or phase == "ssl"}


def _where(condition: Any, new: PyTree, old: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)


def _step_and_key() -> tuple[jax.ShapeDtypeStruct, Any]:
    return jax.ShapeDtypeStruct((), jnp.int32), jax.eval_shape(lambda: jax.random.key(0))


def _on(mesh: Mesh | None, tree: PyTree) -> PyTree:
    """The shapes of arrays that are on all devices of a mesh."""
    sharding, shapes = None if mesh is None else replicated(mesh), jax.eval_shape(lambda tree: tree, tree)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes)


def _padded(plan: StepPlan, first: int, last: int, length: int) -> StepPlan:
    """Rows first to last - 1, filled up to `length` with steps that do nothing."""
    fill = length - (last - first)
    rows = StepPlan(*(np.pad(values[first:last], (0, fill)) for values in plan))
    return rows._replace(phase=np.pad(plan.phase[first:last], (0, fill), constant_values=PADDING))


@functools.lru_cache(maxsize=8)
def _compiled_init(
    learner: Learner, optimizer: OptimizerSettings, on_nonfinite: OnNonfinite, mesh: Mesh | None
) -> Callable[..., MixState]:
    placed = None if mesh is None else replicated(mesh)
    init = functools.partial(init_state, learner, optimizer, on_nonfinite=on_nonfinite)
    return jax.jit(init, out_shardings=placed)


@functools.lru_cache(maxsize=8)
def _compiled_logits(learner: Learner) -> Callable[..., list[jax.Array]]:
    """(params, tasks) -> the logits of each; only ever asked for their shapes, and traced once."""
    return jax.jit(functools.partial(task_logits, learner))


@functools.lru_cache(maxsize=8)
def _compiled_block(
    learner: Learner,
    optimizer: OptimizerSettings,
    joint: Learner | None,
    two_passes: bool,
    fetch: Fetch,
    mesh: Mesh | None,
) -> Callable[..., tuple[MixState, Losses]]:
    """A block of steps; one program per length of block and shape of data."""

    def fetch_sharded(step: jax.Array, key: jax.Array, *data: PyTree) -> Batch:
        batch = fetch(step, key, *data)
        return batch if mesh is None else jax.lax.with_sharding_constraint(batch, over_batch(mesh))

    step = make_step(learner, optimizer, joint=joint, two_passes=two_passes, fetch=fetch_sharded)
    placed = None if mesh is None else replicated(mesh)
    return compile_block(lambda state, row: step(state, *row), lambda *row: row, placed)
