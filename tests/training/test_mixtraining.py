"""The trainer on a tiny masked autoencoder over rows of L positions with C numbers each, two classes, D features.

Its randomness is a word of the key, because `jax.random` would take most of the time to compile.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mixmin_jax.errors import InputError
from mixmin_jax.training import mixtraining
from mixmin_jax.training.mesh import make_mesh
from mixmin_jax.training.mixtraining import (
    Batch,
    Failure,
    Labeled,
    Learner,
    Losses,
    OptimizerSettings,
    init_state,
    joint_loss,
    make_step,
    sl_loss,
    ssl_loss,
    step_flops,
    train,
)
from mixmin_jax.training.schedule import PHASES, SL, SSL, Alpha, Schedule, StepPlan, plan_steps
from tests.training.trees import assert_same

L, C, D, CLASSES, ROWS, BATCH = 6, 3, 8, 2, 24, 4


class View(NamedTuple):
    visible_BxV: jax.Array
    hidden_BxH: jax.Array


def word(key):
    return (jax.random.key_data(key)[-1] >> 8).astype(jnp.int32)


class TinyLearner:
    """Each position is embedded alone, the features are their mean; `num_encodes` counts traces of the encoder.

    Parts have two arrays each: where only one is divided by Adam's bias correction, XLA multiplies by the inverse, and
    the last bits are not those of a plain loop with one optimiser for all.
    """

    def __init__(self, num_hidden, tasks=1):
        self.num_hidden, self.tasks, self.num_encodes = num_hidden, tasks, 0
        self.learner = Learner(self.init, self.hide, self.encode, self.ssl_loss, self.sl_logits)

    def init(self, key):
        def wave(first, *shape):
            return jnp.sin(word(key) % 1000 + first + jnp.arange(np.prod(shape)) ** 1.5).reshape(shape)

        heads = [{"kernel_DxA": wave(3 + i, D, CLASSES), "bias_A": jnp.zeros(CLASSES)} for i in range(self.tasks)]
        return {
            "encoder": {"kernel_CxD": wave(0, C, D), "bias_D": wave(1, D)},
            "ssl": {"kernel_DxC": wave(2, D, C), "bias_C": jnp.zeros(C)},
            "sl": heads,
        }

    def hide(self, key, inputs_BxLxC):
        first_B = word(key) % L + jnp.arange(len(inputs_BxLxC))
        order_BxL = (first_B[:, None] + jnp.arange(L)[None]) % L
        return View(order_BxL[:, self.num_hidden :], order_BxL[:, : self.num_hidden])

    def encode(self, params, inputs_BxLxC, view):
        self.num_encodes += 1
        if view is not None:
            inputs_BxLxC = jnp.take_along_axis(inputs_BxLxC, view.visible_BxV[:, :, None], 1)
        return jnp.tanh(dense(params["encoder"], "kernel_CxD", "bias_D", inputs_BxLxC)).mean(1)

    def ssl_loss(self, params, features_BxD, inputs_BxLxC, view):
        predicted_BxC = dense(params["ssl"], "kernel_DxC", "bias_C", features_BxD)
        error_BxHxC = predicted_BxC[:, None] - jnp.take_along_axis(inputs_BxLxC, view.hidden_BxH[:, :, None], 1)
        return (error_BxHxC**2).sum() / max(error_BxHxC.size, 1)  # 0 where nothing is hidden

    def sl_logits(self, params, features_BxD, task):
        return dense(params["sl"][task], "kernel_DxA", "bias_A", features_BxD)


def dense(params, kernel, bias, x):
    return x @ params[kernel] + params[bias]


def batch_rows(step, key, inputs_NxLxC, labels_N):
    """Rows in turn, with noise in place of augmentation."""
    rows_B = (step * BATCH + jnp.arange(BATCH)) % len(labels_N)
    noise = 0.1 * jnp.sin(word(key) % 1000 + jnp.arange(BATCH * L * C)).reshape(BATCH, L, C)
    return Batch((Labeled(inputs_NxLxC[rows_B] + noise, labels_N[rows_B]),))


TINY_MODEL = TinyLearner(num_hidden=3)
TINY = TINY_MODEL.learner
INPUTS = jax.random.normal(jax.random.key(0), (ROWS, L, C))
LABELS = (INPUTS[:, :, 0].sum(1) > 0).astype(jnp.int32)
DATA = (INPUTS, LABELS)
SETTINGS = OptimizerSettings()
KEY = jax.random.key(5)
MIXED = Schedule(2, 2, 0.5, learning_rate=0.03)  # 4 SSL, 4 joint and 4 SL steps
STEPS_PER_EPOCH = 4
START = jax.jit(lambda: init_state(TINY, SETTINGS, KEY))()
PARAMS = START.params
ONE_BATCH = batch_rows(0, jax.random.key(2), *DATA)


def training(plan, learner=TINY, data=DATA, key=KEY, fetch=batch_rows, **options):
    return train(learner, plan, fetch, data, SETTINGS, key, **{"block_steps": 5} | options)


def first_row(plan):
    return jax.tree.map(lambda values: values[0], plan)


def assert_close(a, b, **tolerance):
    jax.tree.map(functools.partial(np.testing.assert_allclose, **{"rtol": 1e-5, "atol": 1e-7} | tolerance), a, b)


# The losses


@functools.cache
def loss_and_gradient(num_hidden, two_passes):
    learner, key = TinyLearner(num_hidden).learner, jax.random.key(1)
    objectives = {
        "joint": lambda p, batch, alpha: joint_loss(learner, p, batch, key, alpha, two_passes=two_passes)[0],
        "ssl": lambda p, batch, alpha: ssl_loss(learner, p, batch, key),
        "sl": lambda p, batch, alpha: sl_loss(learner, p, batch),
    }
    return {name: jax.jit(jax.value_and_grad(objective)) for name, objective in objectives.items()}


def joint_at(alpha, batch=ONE_BATCH, num_hidden=3, two_passes=False):
    return loss_and_gradient(num_hidden, two_passes)["joint"](PARAMS, batch, jnp.float32(alpha))


def ssl_at(batch):
    return loss_and_gradient(3, False)["ssl"](PARAMS, batch, None)


def sl_at(batch):
    return loss_and_gradient(3, False)["sl"](PARAMS, batch, None)


OTHER_ROWS = ONE_BATCH._replace(ssl=INPUTS[-3:])


@pytest.mark.parametrize("two_passes", [False, True])
@pytest.mark.parametrize("batch", [ONE_BATCH, OTHER_ROWS], ids=["same rows", "other rows"])
def test_joint_at_alpha_1_is_self_supervision_at_the_same_mask(batch, two_passes):
    assert_close(joint_at(1.0, batch, two_passes=two_passes), ssl_at(batch))
    assert abs(jax.tree.leaves(ssl_at(batch)[1]["encoder"])[0]).max() > 0.01


@pytest.mark.parametrize("batch", [ONE_BATCH, OTHER_ROWS], ids=["same rows", "other rows"])
def test_joint_at_alpha_0_is_supervision(batch):
    assert_close(joint_at(0.0, batch, two_passes=True), sl_at(batch))
    assert_close(joint_at(0.0, batch, num_hidden=0), sl_at(batch))
    assert abs(joint_at(0.0, batch)[0] - sl_at(batch)[0]) > 1e-4  # with a part hidden it is another loss


@pytest.mark.parametrize("two_passes", [False, True])
def test_joint_gradient_is_linear_in_alpha(two_passes):
    (_, ssl), (_, sl) = joint_at(1.0, two_passes=two_passes), joint_at(0.0, two_passes=two_passes)
    mixed = jax.tree.map(lambda a, b: 0.3 * np.asarray(a) + 0.7 * np.asarray(b), ssl, sl)
    assert_close(joint_at(0.3, two_passes=two_passes)[1], mixed, rtol=1e-4, atol=1e-6)


def test_joint_gradient_agrees_with_finite_differences():
    with jax.enable_x64(True):
        params, inputs = jax.tree.map(lambda x: np.asarray(x, np.float64), (PARAMS, OTHER_ROWS.ssl))
        batch = Batch((Labeled(inputs, np.array([0, 1, 1])),))
        loss = jax.jit(jax.value_and_grad(lambda p: joint_loss(TINY, p, batch, jax.random.key(3), 0.3)[0]))
        direction = jax.tree.map(lambda x: np.cos(np.arange(x.size)).reshape(x.shape), params)
        ahead, behind = (loss(jax.tree.map(lambda p, d, h=h: p + h * d, params, direction))[0] for h in (1e-5, -1e-5))
        slopes = jax.tree.map(lambda g, d: np.vdot(g, d), loss(params)[1], direction)
        np.testing.assert_allclose(float(ahead - behind) / 2e-5, sum(jax.tree.leaves(slopes)), rtol=1e-8)


def test_a_joint_step_encodes_once():
    for batch in (ONE_BATCH, OTHER_ROWS):
        tiny = TinyLearner(num_hidden=3, tasks=1)
        jax.eval_shape(lambda p: joint_loss(tiny.learner, p, batch, KEY, 0.5), PARAMS)  # noqa: B023 traced at once
        assert tiny.num_encodes == 1
        jax.eval_shape(lambda p: joint_loss(tiny.learner, p, batch, KEY, 0.5, two_passes=True), PARAMS)  # noqa: B023
        assert tiny.num_encodes == 3


def test_tasks_encoded_together_have_the_losses_of_tasks_encoded_alone():
    tiny, nothing_hidden = TinyLearner(num_hidden=3, tasks=3), TinyLearner(num_hidden=0, tasks=3)
    cuts = slice(0, 2), slice(2, 7), slice(7, 8)
    batch = Batch(tuple(Labeled(INPUTS[cut], LABELS[cut]) for cut in cuts))

    @jax.jit
    def losses():
        params = tiny.init(KEY)
        together = sl_loss(tiny.learner, params, batch)
        assert tiny.num_encodes == 1
        alone = []
        for task, (inputs, labels) in enumerate(batch.sl):
            logits = tiny.sl_logits(params, tiny.encode(params, inputs, None), task)
            alone.append(optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean())
        _, joint = joint_loss(nothing_hidden.learner, params, batch._replace(ssl=INPUTS[8:]), KEY, 0.5)
        return together, joint.sl, jnp.stack(alone)

    together, joint, alone = losses()
    assert alone.std() > 0.01
    np.testing.assert_allclose((together, joint), (alone.mean(), alone.mean()), rtol=1e-6)


def test_label_smoothing_spreads_a_share_of_the_label():
    @jax.jit
    def losses(params, batch):
        logits = TINY.sl_logits(params, TINY.encode(params, batch.sl[0].inputs, None), 0)
        targets = optax.smooth_labels(jax.nn.one_hot(batch.sl[0].labels, CLASSES), 0.2)
        return sl_loss(TINY, params, batch, label_smoothing=0.2), optax.softmax_cross_entropy(logits, targets).mean()

    loss, expected = losses(PARAMS, ONE_BATCH)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    assert abs(loss - sl_at(ONE_BATCH)[0]) > 1e-3


@pytest.mark.parametrize("label", [-1, CLASSES])
def test_a_label_that_is_no_class_has_no_loss(label):
    assert np.isnan(sl_at(Batch((Labeled(INPUTS[:BATCH], jnp.array([0, 0, 1, label])),)))[0])


# The training


def plain_pipeline(state, schedule):
    """SSL then SL as two loops over optax's own AdamW, with an optimiser each and nothing of the trainer."""

    def run(params, names, loss, phase, first):
        plan = plan_steps([phase], STEPS_PER_EPOCH, learning_rate=schedule.learning_rate)
        optimizer = optax.chain(
            optax.clip_by_global_norm(SETTINGS.clip_norm),
            optax.scale_by_adam(SETTINGS.b1, SETTINGS.b2),
            optax.add_decayed_weights(SETTINGS.weight_decay, lambda p: jax.tree.map(lambda x: x.ndim > 1, p)),
        )

        @jax.jit
        def gradient(trained, frozen, step):
            fetch_key, hide_key = jax.random.split(jax.random.fold_in(state.key, step))
            batch = batch_rows(step, fetch_key, *DATA)
            return jax.value_and_grad(lambda p: loss(frozen | p, batch, hide_key))(trained)

        @jax.jit
        def update(trained, opt_state, grads, rate):
            updates, opt_state = optimizer.update(grads, opt_state, trained)
            return optax.apply_updates(trained, jax.tree.map(lambda u: -rate * u, updates)), opt_state

        trained = {name: params[name] for name in names}
        opt_state, losses = optimizer.init(trained), []
        for step, rate in enumerate(plan.learning_rate, start=first):
            value, grads = gradient(trained, params, step)
            trained, opt_state = update(trained, opt_state, grads, rate)
            losses.append(value)
        return params | trained, losses

    def pretraining(params, batch, key):
        ((inputs, _),) = batch.sl
        view = TINY.hide(jax.random.split(key)[0], inputs)
        return TINY.ssl_loss(params, TINY.encode(params, inputs, view), inputs, view)

    def fine_tuning(params, batch, key):
        ((inputs, labels),) = batch.sl
        logits = TINY.sl_logits(params, TINY.encode(params, inputs, None), 0)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    params, ssl = run(state.params, ("encoder", "ssl"), pretraining, ("ssl", schedule.ssl_epochs), 0)
    params, sl = run(params, ("encoder", "sl"), fine_tuning, ("sl", schedule.sl_epochs), len(ssl))
    return params, ssl, sl


def test_mix_ratio_0_is_the_conventional_pipeline_bit_for_bit():
    schedule = Schedule(2, 3, 0.0, learning_rate=0.03)
    run = training(schedule.plan(STEPS_PER_EPOCH))
    start = START
    params, ssl, sl = plain_pipeline(start, schedule)
    assert_same(run.state.params, params)
    np.testing.assert_allclose(run.losses.ssl, [*ssl, *[np.nan] * len(sl)], rtol=1e-6)
    np.testing.assert_allclose(run.losses.sl, [*[np.nan] * len(ssl), *sl], rtol=1e-6)
    assert run.failure is None and run.state.step == 20


def test_both_losses_fall_and_only_what_a_phase_computes_is_reported():
    plan = Schedule(40, 40, 0.5, learning_rate=0.03).plan(STEPS_PER_EPOCH)
    losses = training(plan).losses
    np.testing.assert_array_equal(np.isfinite(losses.ssl), plan.phase < 2)
    np.testing.assert_array_equal(np.isfinite(losses.sl), plan.phase > 0)
    assert np.mean(losses.ssl[140:160]) < 0.9 * np.mean(losses.ssl[:20])
    assert np.mean(losses.sl[-20:]) < 0.7 * np.mean(losses.sl[80:100])


def test_blocks_of_another_length_change_nothing_bit_for_bit():
    plan = MIXED.plan(STEPS_PER_EPOCH)
    assert len(plan.phase) % 5  # so that the last block of five is filled up
    assert_same(training(plan, block_steps=12), training(plan))


def test_one_program_serves_all_plans():
    training(MIXED.plan(STEPS_PER_EPOCH))
    traces = TINY_MODEL.num_encodes
    for schedule in (Schedule(2, 2), Schedule(0, 2), dataclasses.replace(MIXED, alpha=Alpha.constant(0.5))):
        training(schedule.plan(STEPS_PER_EPOCH))
    training(plan_steps([("joint", 1), ("ssl", 1), ("joint", 1), ("sl", 1)], 3))
    assert TINY_MODEL.num_encodes == traces


def test_a_mesh_of_one_device_changes_no_bit():
    plan = MIXED.plan(STEPS_PER_EPOCH)
    assert_same(training(plan, mesh=make_mesh()), training(plan))


@pytest.mark.slow
@pytest.mark.parametrize("axes", [(1, 2), (2, 4)])
def test_batches_over_devices_change_no_result(axes):
    """But for rounding: sums over a batch have another order."""
    plan, mesh = MIXED.plan(STEPS_PER_EPOCH), make_mesh(*axes)
    one, meshed = training(plan), training(plan, mesh=mesh)
    assert_close(meshed.losses, one.losses)
    assert_close(meshed.state.params, one.state.params, rtol=1e-3, atol=1e-5)
    assert all(leaf.sharding.device_set == set(mesh.devices.flat) for leaf in jax.tree.leaves(meshed.state.params))
    traces = TINY_MODEL.num_encodes
    training(plan, mesh=mesh)
    assert TINY_MODEL.num_encodes == traces


def test_each_device_gets_its_rows_of_a_batch():
    seen = []

    def encode(params, inputs, view):
        jax.debug.inspect_array_sharding(
            inputs, callback=lambda sharding: seen.append(sharding.shard_shape(inputs.shape))
        )
        return TINY.encode(params, inputs, view)

    training(Schedule(0, 1).plan(1), learner=dataclasses.replace(TINY, encode=encode), mesh=make_mesh(2, 4))
    assert seen and set(seen) == {(BATCH // 4, L, C)}


def test_the_phase_selects_a_branch():
    row, step = first_row(MIXED.plan(STEPS_PER_EPOCH)), make_step(TINY, SETTINGS, fetch=batch_rows)
    assert jax.jit(step).lower(START, row, *DATA).as_text().count("stablehlo.case") == 3  # gradient, finite, update
    states = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), START)
    over_states = jax.jit(jax.vmap(step, in_axes=(0, None, None, None)))
    assert over_states.lower(states, row, *DATA).as_text().count("stablehlo.case") == 1  # the gradient's stays


@pytest.mark.parametrize("phase", PHASES)
def test_the_step_of_one_phase_alone_is_the_step_of_that_phase(phase):
    plan = plan_steps([(phase, 1)], 1, alpha=Alpha.constant(0.4))
    alone = jax.jit(make_step(TINY, SETTINGS, fetch=batch_rows, only=phase))
    program = alone.lower(START, first_row(plan), *DATA).compile()
    assert program.as_text().count(" conditional(") == 1  # whether the loss was finite
    state, losses = program(START, first_row(plan), *DATA)
    run = training(plan)
    assert_close(state.params, run.state.params)
    assert_close(losses, jax.tree.map(lambda x: x[0], run.losses))


@pytest.mark.parametrize(("phase", "idle"), [("ssl", "sl"), ("sl", "ssl")])
def test_the_idle_head_and_its_moments_stay(phase, idle):
    seen = {}
    plan = plan_steps([("joint", 1), (phase, 1)], 5, restart_moments=False)

    def keep(done, total, losses, state):
        seen[done] = jax.tree.map(np.array, (state.params, state.opt_state))

    training(plan, on_block=keep)
    for before, after in zip(seen[5], seen[10], strict=True):
        assert_same(before[idle], after[idle])
        for part in {"encoder", "ssl", "sl"} - {idle}:
            moved = jax.tree.map(lambda a, b: (a != b).any(), before[part], after[part])
            assert all(jax.tree.leaves(moved))


def test_restart_forgets_the_moments_of_all_parts():
    plan = plan_steps([("joint", 1), ("ssl", 1)], 5)
    counts = jax.tree.map(lambda state: int(state[0].count), training(plan).state.opt_state, is_leaf=is_chain)
    assert counts == {"encoder": 5, "ssl": 5, "sl": 0}
    plan = plan_steps([("joint", 1), ("ssl", 1)], 5, restart_moments=False)
    counts = jax.tree.map(lambda state: int(state[0].count), training(plan).state.opt_state, is_leaf=is_chain)
    assert counts == {"encoder": 10, "ssl": 10, "sl": 5}


def is_chain(node):
    return isinstance(node, tuple)


def test_the_gradient_is_clipped_by_the_norm_of_what_is_trained():
    hide_key = jax.random.split(jax.random.fold_in(START.key, 0))[1]
    grads = jax.jit(jax.grad(lambda p: ssl_loss(TINY, p, ONE_BATCH, hide_key)))(PARAMS)
    norm = np.linalg.norm([np.linalg.norm(leaf) for leaf in jax.tree.leaves(grads)])
    settings = OptimizerSettings(clip_norm=float(norm) / 2)
    step = jax.jit(make_step(TINY, settings, only="ssl"))
    state, _ = step(START, first_row(MIXED.plan(STEPS_PER_EPOCH)), ONE_BATCH)
    moments = {part: state.opt_state[part][0].mu for part in grads}
    assert_close(moments, jax.tree.map(lambda g: (1 - settings.b1) * np.asarray(g) / 2, grads))


def test_joint_steps_may_have_another_learner_and_two_passes():
    other = TinyLearner(num_hidden=1).learner
    step = jax.jit(make_step(TINY, SETTINGS, joint=other, two_passes=True, only="joint"))
    _, losses = step(START, first_row(plan_steps([("joint", 1)], 1)), ONE_BATCH)
    hide_key = jax.random.split(jax.random.fold_in(START.key, 0))[1]
    expected = jax.jit(lambda p: (ssl_loss(other, p, ONE_BATCH, hide_key), sl_loss(TINY, p, ONE_BATCH)))(PARAMS)
    assert_close(losses, Losses(*expected))


# What can go wrong


def poisoned(first_bad_row):
    """Data whose rows from `first_bad_row` on have infinite inputs (each batch draws four rows, in turn).

    All are there twice, so that twelve steps see no row again: those before the bad ones see what `DATA` gives them.
    """
    inputs, labels = (jnp.concatenate([rows, rows]) for rows in DATA)
    return inputs.at[first_bad_row:].set(jnp.inf), labels


@pytest.mark.parametrize(
    ("bad_step", "phase"), [(0, "ssl"), (3, "ssl"), (4, "joint"), (5, "joint"), (8, "sl"), (11, "sl")]
)
def test_a_loss_that_is_not_finite_stops_there_and_keeps_the_last_good_state(bad_step, phase):
    plan = MIXED.plan(STEPS_PER_EPOCH)
    run = training(plan, data=poisoned(bad_step * BATCH))
    assert run.failure == Failure(phase, bad_step)
    assert f"step {bad_step}, in the phase '{phase}'" in str(run.failure)
    before = plan.phase[:bad_step]
    assert np.array_equal(np.isfinite(run.losses.ssl[:bad_step]), before != SL)
    assert np.array_equal(np.isfinite(run.losses.sl[:bad_step]), before != SSL)
    assert np.isnan(run.losses.ssl[bad_step + 1 :]).all() and np.isnan(run.losses.sl[bad_step + 1 :]).all()
    if bad_step:
        ended_before = training(StepPlan(*(values[:bad_step] for values in plan)))
        assert_same(run.state._replace(failed_at=jnp.int32(-1)), ended_before.state)
    else:
        assert_same(run.state.params, PARAMS)


def test_training_stops_after_the_block_that_failed():
    blocks = []
    training(MIXED.plan(STEPS_PER_EPOCH), data=poisoned(0), on_block=lambda *block: blocks.append(block[:2]))
    assert blocks == [(5, 12)]


def test_a_gradient_that_is_not_finite_is_a_failure_too():
    @jax.custom_jvp
    def steep(x):
        return x

    steep.defjvp(lambda x, t: (x[0], t[0] * jnp.inf))
    learner = dataclasses.replace(TINY, ssl_loss=lambda *args: steep(TINY.ssl_loss(*args)))
    step = jax.jit(make_step(learner, SETTINGS, only="ssl"))
    state, losses = step(START, first_row(MIXED.plan(STEPS_PER_EPOCH)), ONE_BATCH)
    assert state.failed_at == 0 and np.isfinite(losses.ssl)
    assert_same(state._replace(failed_at=START.failed_at), START)


def unlabelled(step, key, inputs_NxLxC, labels_N):
    return Batch((), batch_rows(step, key, inputs_NxLxC, labels_N).sl[0].inputs)


def test_parts_that_are_given_are_trained_on_and_stay_with_the_caller():
    given = {"encoder": jax.tree.map(lambda x: np.asarray(x) + 1, START.params["encoder"])}
    plan = MIXED.plan(STEPS_PER_EPOCH)
    still = StepPlan(
        *(np.zeros_like(values) if name == "learning_rate" else values for name, values in plan._asdict().items())
    )
    for initial in ({}, given, given):
        params = train(TINY, still, batch_rows, DATA, SETTINGS, KEY, initial=initial).state.params
        assert_same(params, START.params | initial)
    other = {"kernel_CxD": START.params["encoder"]["kernel_CxD"], "other": np.zeros(3)}
    with pytest.raises(InputError, match=r"initial 'encoder' does not fit .*: \['bias_D'\], \['other'\]"):
        train(TINY, still, batch_rows, DATA, SETTINGS, KEY, initial={"encoder": other})


def test_self_supervision_needs_no_labels():
    plan = Schedule(2, 0).plan(STEPS_PER_EPOCH)
    assert_same(training(plan, fetch=unlabelled), training(plan))
    assert list(step_flops(TINY, unlabelled, DATA, SETTINGS)) == ["ssl"]


def as_batch(tasks, kind=Batch):
    """A fetch whose batch holds something else in place of one task."""
    return lambda *arguments: kind(tasks(batch_rows(*arguments).sl[0]))


def with_logits(change):
    return dataclasses.replace(TINY, sl_logits=lambda *arguments: change(TINY.sl_logits(*arguments)))


def with_ssl_loss(change):
    return dataclasses.replace(TINY, ssl_loss=lambda *arguments: change(TINY.ssl_loss(*arguments)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fetch": unlabelled}, "no labels"),
        ({"fetch": lambda *_: Batch(())}, "no labels"),
        ({"plan": Schedule(1, 0).plan(2), "fetch": lambda *_: Batch(())}, "batches are empty"),
        ({"data": (INPUTS, LABELS.astype(jnp.float32))}, "task 0 has .* float32: it needs one whole number per row"),
        ({"data": (INPUTS, LABELS[:, None])}, "one whole number per row"),
        ({"fetch": lambda *_: OTHER_ROWS._replace(ssl=INPUTS[:, :5])}, "one shape and type, but these differ"),
        ({"fetch": lambda *_: OTHER_ROWS._replace(ssl=INPUTS.astype(jnp.bfloat16))}, "one shape and type"),
        ({"plan": StepPlan(*(x[:0] for x in MIXED.plan(1)))}, "one entry a step"),
        ({"block_steps": 0}, "block_steps"),
        ({"mesh": make_mesh(1, 3)}, "a batch has 4 rows, which do not divide over 3 devices"),
        ({"learner": dataclasses.replace(TINY, init=lambda key: {"encoder": {}})}, "encoder, ssl, sl"),
        ({"fetch": as_batch(lambda task: (task,), tuple)}, "must be a `Batch`, but `fetch` returns a tuple"),
        ({"fetch": as_batch(lambda task: task)}, r"put it into a tuple, `Batch\(sl=\(Labeled"),
        ({"fetch": as_batch(lambda task: task.inputs)}, r"not an array of shape \(4, 6, 3\) and type float32"),
        ({"fetch": as_batch(lambda task: (tuple(task),))}, r"`Batch.sl\[0\]` must be a `Labeled.*, not a tuple"),
        ({"fetch": as_batch(lambda task: (task._replace(labels=[0, 1, 0, 1]),))}, "its labels are a list"),
        ({"fetch": lambda *_: OTHER_ROWS._replace(ssl=0.0)}, "one is a single number"),
        (
            {"data": (INPUTS, LABELS + 5)},
            "labels of task 0 must be 0 to 1, because .* 2 logits .* step 4 has the label 5",
        ),
        ({"data": (INPUTS, LABELS - 1)}, "step 4 has the label -1"),
        ({"data": (INPUTS, LABELS.at[21].set(2))}, "step 5 has the label 2"),  # which first sees that row
        (
            {
                "learner": TinyLearner(3, tasks=2).learner,
                "fetch": as_batch(lambda t: (t, t._replace(labels=t.labels + 1))),
            },
            "labels of task 1",
        ),
        (
            {"learner": with_logits(lambda logits: logits[:, 0])},
            r"\(4, classes\) .* task 0, not an array of shape \(4,\)",
        ),
        ({"learner": with_logits(lambda logits: logits.T)}, r"not an array of shape \(2, 4\)"),
        ({"learner": with_logits(lambda logits: logits[:3])}, r"not an array of shape \(3, 2\)"),
        ({"learner": with_logits(lambda logits: logits.argmax(1, keepdims=True))}, "type int32"),
        ({"learner": with_logits(lambda logits: None)}, "not a NoneType"),
        ({"joint": with_logits(lambda logits: logits[:3])}, r"not an array of shape \(3, 2\)"),
        ({"learner": with_ssl_loss(lambda loss: jnp.full(4, loss))}, r"ssl_loss must .* not an array of shape \(4,\)"),
        (
            {"joint": with_ssl_loss(lambda loss: None)},
            "ssl_loss must return one floating-point number.* not a NoneType",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused_before_a_step_is_compiled(options, message, monkeypatch):
    monkeypatch.setattr(mixtraining, "run_blocks", lambda *_, **__: pytest.fail("steps were compiled"))
    with pytest.raises(InputError, match=message):
        training(**{"plan": MIXED.plan(STEPS_PER_EPOCH)} | options)


def test_labels_that_no_step_uses_may_be_anything():
    plan = Schedule(2, 0).plan(STEPS_PER_EPOCH)
    assert_same(training(plan, data=(INPUTS, LABELS - 9)), training(plan))


def test_loops_of_others_refuse_what_train_refuses():
    step = make_step(TINY, SETTINGS, fetch=as_batch(lambda task: task), only="sl")
    with pytest.raises(InputError, match="put it into a tuple"):
        jax.eval_shape(step, START, first_row(MIXED.plan(1)), *DATA)
    for loss in (sl_loss, functools.partial(ssl_loss, key=KEY), functools.partial(joint_loss, key=KEY, alpha=0.5)):
        with pytest.raises(InputError, match="put it into a tuple"):
            loss(TINY, PARAMS, Batch(ONE_BATCH.sl[0]))


@pytest.mark.parametrize(
    "settings", [{"b1": 1.0}, {"b2": -0.1}, {"weight_decay": -1.0}, {"clip_norm": 0.0}, {"label_smoothing": 1.0}]
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        OptimizerSettings(**settings)


# What it costs


def test_flops_of_steps_lowered_alone():
    fewer = TinyLearner(num_hidden=L - 1).learner
    shared, passes = (
        step_flops(TINY, batch_rows, DATA, SETTINGS, joint=fewer, two_passes=two_passes) for two_passes in (False, True)
    )
    assert list(shared) == list(PHASES)
    assert shared["joint"] < passes["joint"]
    assert (shared["ssl"], shared["sl"]) == (passes["ssl"], passes["sl"])
    assert shared["joint"] < shared["sl"]  # one position of six is encoded
    shapes = jax.eval_shape(lambda: DATA)
    assert step_flops(TINY, batch_rows, shapes, SETTINGS, joint=fewer) == shared
    assert step_flops(TINY, batch_rows, DATA, SETTINGS, phases=["sl"]) == {"sl": shared["sl"]}
