"""The benchmark of MixTraining: its cases, its blocks, its arithmetic on made-up times, and what it writes."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from benchmarks.mixtraining import __main__ as mixtraining
from benchmarks.mixtraining import cases
from benchmarks.mixtraining.measure import records, split_blocks, training_call
from benchmarks.mixtraining.records import MixTrainingRecord, Settings
from benchmarks.mixtraining.report import report
from experiments.harness.command_line import parse
from mixmin_jax.models.encoder import EncoderConfig
from mixmin_jax.models.vision_transformer import VisionConfig
from mixmin_jax.training.flops import count_flops
from mixmin_jax.training.learners import image_learner
from mixmin_jax.training.mixtraining import (
    Batch,
    Labeled,
    MixState,
    OptimizerSettings,
    init_state,
    make_step,
    step_flops,
)
from mixmin_jax.training.nonfinite import Diverged
from mixmin_jax.training.schedule import StepPlan
from tests.benchmarks.made_up import MADE_BY, quick_run, timing

MODEL = VisionConfig(8, 2, 3, (10,), EncoderConfig(32, 1, 2), EncoderConfig(8, 1, 1))
BATCH, STEPS = 4, 2
UNOPTIMIZED = {"xla_backend_optimization_level": 0}  # compiles in half the time, and runs as fast where all is small


def test_pipelines_spend_whole_blocks_on_the_epochs_they_promise():
    epochs = {}
    for name, pipeline in cases.PIPELINES.items():
        plan = pipeline.schedule.plan(3)
        blocks = split_blocks(plan, 3)
        assert all(len(set(block.phase)) == 1 for block in blocks)  # one phase a block
        for whole, parts in zip(plan, zip(*blocks, strict=True), strict=True):
            np.testing.assert_array_equal(whole, np.concatenate(parts))
        epochs[name] = np.bincount([block.phase[0] for block in blocks], minlength=3).tolist()  # ssl, joint, sl
    assert epochs == {
        "ssl_then_sl": [4, 0, 4],
        "mixtraining_0.25": [3, 1, 3],
        "mixtraining_0.5": [2, 2, 2],
        "mixtraining_1": [0, 4, 0],
        "mixtraining_two_passes_0.5": [2, 2, 2],
        "sl": [0, 0, 4],
    }
    with pytest.raises(ValueError, match="cannot reshape array of size 12"):
        split_blocks(cases.PIPELINES["sl"].schedule.plan(3), 5)


def test_data_repeat_and_an_epoch_shows_every_image_once():
    @functools.partial(jax.jit, compiler_options=UNOPTIMIZED)
    def epoch(key):
        order_key, images_NxSxSxC, labels_N = cases.random_data(MODEL, 8, key)
        batches = [cases.epoch_fetch(4)(step, key, order_key, images_NxSxSxC, jax.numpy.arange(8)) for step in (0, 1)]
        return images_NxSxSxC, labels_N, [task for batch in batches for task in batch.sl]

    images_NxSxSxC, labels_N, tasks = epoch(jax.random.key(3))
    assert images_NxSxSxC.shape == (8, 8, 8, 3) and images_NxSxSxC.dtype == np.uint8
    assert labels_N.min() >= 0 and 1 < labels_N.max() < 10
    assert sorted(label for task in tasks for label in task.labels.tolist()) == list(range(8))
    assert {task.inputs.shape for task in tasks} == {(4, 8, 8, 3)}
    jax.tree.map(np.testing.assert_array_equal, epoch(jax.random.key(3)), (images_NxSxSxC, labels_N, tasks))


@pytest.mark.slow
def test_kinds_cost_what_they_encode():
    learner, optimizer = image_learner(MODEL, cases.SSL_MASK), OptimizerSettings()
    arguments = jax.eval_shape(
        lambda: (
            init_state(learner, optimizer, jax.random.key(0)),
            jax.tree.map(lambda values: values[0], cases.PIPELINES["sl"].schedule.plan(1)),
            *cases.random_data(MODEL, BATCH * STEPS, jax.random.key(0)),
        )
    )

    def first_images(step, key, order_key, images_NxSxSxC, labels_N):
        return Batch((Labeled(images_NxSxSxC[:BATCH], labels_N[:BATCH]),))

    def flops(name):
        kind = cases.KINDS[name]
        step = make_step(learner, optimizer, fetch=first_images, only=kind.phase, **kind.variant.arguments(MODEL))
        return count_flops(jax.jit(step).lower(*arguments))

    ssl, sl, visible, all_tokens, two_passes = map(
        flops, ("ssl", "sl", "joint_visible_0.5", "joint_all_tokens_0.5", "joint_two_passes")
    )
    assert ssl < visible < sl < all_tokens
    # the gradients of both objectives; the batch and the update of the encoder only once
    assert 0.9 * (ssl + sl) < two_passes < ssl + sl


def test_calls_train_on_and_refuse_times_of_steps_that_did_nothing():
    seen = []

    def count(state, rows, offset):
        seen.append((int(state.step), rows.phase.tolist(), offset))
        step = state.step + len(rows.phase)
        return state._replace(step=step, failed_at=np.int32(5 if step > 5 else -1)), np.zeros(2)

    blocks = split_blocks(StepPlan(*(np.arange(4) for _ in StepPlan._fields)), 2)
    call = training_call(("pipeline", "sl"), count, MixState(0, {}, {}, None, np.int32(-1)), blocks, (7,))
    call.run()
    with pytest.raises(Diverged, match="pipeline, sl: step 5 was not finite"):
        call.run()
    assert seen == [(0, [0, 1], 7), (2, [2, 3], 7), (4, [0, 1], 7), (6, [2, 3], 7)]


@pytest.fixture
def record():
    """Of blocks of two steps; SSL takes 1 s a step, joint steps 2 s (in two passes 4 s), SL 3 s."""
    seconds = {"ssl": 1.0, "sl": 3.0, "joint_visible_0.5": 2.0, "joint_two_passes": 4.0}
    flops = {"ssl": 10.0, "sl": 40.0, "joint_visible_0.5": 20.0, "joint_two_passes": 50.0}
    timings = {("alone", name): timing(2 * value, 2 * value, 3 * value) for name, value in seconds.items()}
    timings |= {("switch", name): timing(2.2 * seconds[name]) for name in ("ssl", "sl", "joint_visible_0.5")}
    timings |= {("pipeline", name): timing(40.0, 44.0, 60.0) for name in cases.PIPELINES}
    timings |= {("loop", name): timing(2 * value) for name, value in (("scan", 3.0), ("step_by_step", 4.0))}
    timings["pipeline", cases.BASELINE] = timing(32.0, 40.0, 33.0)
    settings, kinds = Settings(7, 1.0, "micro", 6, False, 2), {name: cases.KINDS[name] for name in flops}
    found = records(kinds, cases.PIPELINES, flops, timings, settings)
    return MixTrainingRecord(
        made_by=MADE_BY, settings=settings, model=MODEL, ssl_mask=0.75, compile_seconds={}, **found._asdict()
    )


def test_records_of_steps(record):
    sl = record.steps["sl"]
    assert sl.spread == (3.0, 3.0, 4.5) and sl.rounds == 3
    assert (sl.phase, sl.flops, sl.images_per_second) == ("sl", 40.0, 2.0)
    assert list(record.switch) == ["ssl", "joint", "sl"]
    joint = record.switch["joint"]
    assert joint.kind == "joint_visible_0.5" and joint.median_seconds == pytest.approx(2.2)
    assert all(ratio == pytest.approx((1.1, 4.4 / 6, 1.1)) for ratio in record.switch_over_alone.values())


def test_records_of_loops(record):
    assert record.convolutions["scan"].median_seconds == 3.0
    assert record.loop_over_step_by_step["scan"].median == 0.75
    (row,) = [line for line in report(record)[".md"].splitlines() if line.startswith("| `scan` ")]
    assert "3000.00" in row and " 0.75 " in row
    assert "`scan`" not in report(dataclasses.replace(record, convolutions={}))[".md"]  # as older results


def test_records_of_pipelines(record):
    base, mixed = record.pipelines[cases.BASELINE], record.pipelines["mixtraining_0.5"]
    assert record.speed_up[cases.BASELINE].median == 1
    # four epochs of two steps each of SSL and of SL; joint steps stand for both
    assert base.median_seconds == 33 / 4 and base.flops == 2 * (10 + 40) and base.seconds_of_steps == 2 * 4
    assert mixed.epochs == {"ssl": 2, "joint": 2, "sl": 2} and mixed.mix_ratio == 0.5
    assert mixed.flops == 10 + 20 + 40 and mixed.seconds_of_steps == 1 + 2 + 3
    assert record.speed_up["mixtraining_0.5"] == pytest.approx((33 / 44, 32 / 60, 1.0))
    assert record.pipelines["mixtraining_two_passes_0.5"].flops == 10 + 50 + 40
    assert record.pipelines["sl"].flops == 2 * 40 and record.pipelines["sl"].epochs == {"sl": 4}


@pytest.mark.slow
def test_quick_run_writes_its_record(tmp_path, capsys):
    config = mixtraining.Config(quick=True, model="micro", batch_size=BATCH, steps=STEPS, repeats=2, out=tmp_path / "r")
    record, _ = quick_run(mixtraining, config, MixTrainingRecord, capsys, {"micro": MODEL})
    assert list(record.steps) == ["ssl", "sl", "joint_visible_0.5"]
    assert list(record.switch) == ["ssl", "joint", "sl"]
    assert set(cases.PIPELINES) - set(record.pipelines) == {"mixtraining_two_passes_0.5"}
    learner, fetch = image_learner(MODEL, cases.SSL_MASK), cases.epoch_fetch(BATCH)
    data = jax.eval_shape(lambda: cases.random_data(MODEL, BATCH * STEPS, jax.random.key(0)))
    flops = step_flops(learner, fetch, data, OptimizerSettings(), **cases.VISIBLE.arguments(MODEL))
    for step in record.steps.values():
        assert step.rounds == 2 and step.min_seconds > 0
        assert step.flops == pytest.approx(flops[step.phase], rel=1e-2)  # a scan counts its steps too
    assert list(record.convolutions) == ["scan", "step_by_step", "scan_as_written"]
    assert all(pipeline.min_seconds > 0 and pipeline.flops > 0 for pipeline in record.pipelines.values())


def test_settings():
    assert mixtraining.Config().settings(accelerator=False) == Settings(7, 120.0, "micro", 128, False, 8)
    assert mixtraining.Config().settings(accelerator=True) == Settings(7, 120.0, "tiny", 256, False, 48)
    config = parse(mixtraining.Config, arguments=["--quick", "--model", "tiny", "--bfloat16", "--steps", "3"])
    assert config.settings(accelerator=False) == Settings(3, 5.0, "tiny", 64, True, 3)
    quick, whole = (cases.sized(cases.MODELS["tiny"], quick, quick) for quick in (True, False))
    assert quick.encoder.depth == 6 and quick.encoder.bfloat16 and quick.decoder.bfloat16
    assert whole == cases.MODELS["tiny"]
    assert mixtraining.Config(repeats=2, model="micro", batch_size=128).is_whole(accelerator=False)
    assert not mixtraining.Config(model="micro").is_whole(accelerator=True)
    assert not mixtraining.Config(batch_size=64).is_whole(accelerator=False)
