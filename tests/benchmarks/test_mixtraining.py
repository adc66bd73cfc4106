"""The benchmark of MixTraining: its cases, its blocks, its arithmetic on made-up times, and what it writes."""

import functools

import jax
import numpy as np
import pytest

from benchmarks import machine
from benchmarks.mixtraining import __main__ as mixtraining
from benchmarks.mixtraining import cases
from benchmarks.mixtraining import measure as mixtraining_measure
from benchmarks.mixtraining.measure import checked, pipeline_records, step_records, switch_records
from benchmarks.mixtraining.methods import Program, split_blocks, training_call
from benchmarks.mixtraining.records import MixTrainingRecord, Settings
from benchmarks.mixtraining.report import report, summary
from experiments.harness.command_line import parse
from experiments.harness.result_files import read_result
from mixmin_jax.models.encoder import EncoderConfig
from mixmin_jax.models.vision_transformer import VisionConfig, normalize
from mixmin_jax.training.flops import count_flops
from mixmin_jax.training.learners import image_learner
from mixmin_jax.training.mixtraining import (
    Batch,
    Labeled,
    Learner,
    MixState,
    OptimizerSettings,
    init_state,
    make_step,
    step_flops,
)
from mixmin_jax.training.proxies import Diverged
from mixmin_jax.training.schedule import StepPlan
from tests.benchmarks.made_up import MADE_BY, cells, columns_line_up, timing

MODEL = VisionConfig(8, 2, 3, (10,), EncoderConfig(32, 1, 2), EncoderConfig(8, 1, 1))
BATCH, STEPS = 4, 2
UNOPTIMIZED = {"xla_backend_optimization_level": 0}  # compiles in half the time, and runs as fast where all is small


def made_up():
    """Blocks of two steps; SSL takes 1 s a step, joint steps 2 s (in two passes 4 s), SL 3 s."""
    seconds = {"ssl": 1.0, "sl": 3.0, "joint_visible_0.5": 2.0, "joint_two_passes": 4.0}
    alone = {("alone", name): timing(2 * value, 2 * value, 3 * value) for name, value in seconds.items()}
    switch = {("switch", name): timing(2.2 * seconds[name]) for name in ("ssl", "sl", "joint_visible_0.5")}
    pipelines = {("pipeline", name): timing(40.0, 44.0, 60.0) for name in cases.PIPELINES}
    return {**alone, **switch, **pipelines, ("pipeline", cases.BASELINE): timing(32.0, 40.0, 33.0)}


FLOPS = {"ssl": 10.0, "sl": 40.0, "joint_visible_0.5": 20.0, "joint_two_passes": 50.0}


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
    with pytest.raises(ValueError, match="12 steps is not whole blocks of 5"):
        split_blocks(cases.PIPELINES["sl"].schedule.plan(3), 5)


def test_every_phase_of_a_pipeline_has_its_kind_of_step():
    assert (
        cases.kind_of("ssl", cases.TWO_PASSES) == "ssl"
        and cases.kind_of("joint", cases.TWO_PASSES) == "joint_two_passes"
    )
    for phase in ("ssl", "joint", "sl"):
        for pipeline in cases.PIPELINES.values():
            kind = cases.KINDS[cases.kind_of(phase, pipeline.variant)]
            assert kind.phase == phase and (phase != "joint" or kind.variant == pipeline.variant)


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


def test_calls_train_on_and_tell_where_training_failed():
    seen = []

    def count(state, rows, offset):
        seen.append((int(state.step), rows.phase.tolist(), offset))
        step = state.step + len(rows.phase)
        return state._replace(step=step, failed_at=np.int32(5 if step > 5 else -1)), np.zeros(2)

    blocks = split_blocks(StepPlan(*(np.arange(4) for _ in StepPlan._fields)), 2)
    call = training_call(Program(count, 0.0, 0.0), MixState(0, {}, {}, None, np.int32(-1)), blocks, (7,))
    assert (call.run(), call.run()) == (-1, 5)
    assert seen == [(0, [0, 1], 7), (2, [2, 3], 7), (4, [0, 1], 7), (6, [2, 3], 7)]


def test_times_of_steps_that_did_nothing_are_refused():
    good = {("alone", "sl"): timing(1.0, last=-1)}
    assert checked(good) == good
    with pytest.raises(Diverged, match="pipeline, sl: step 4 was not finite"):
        checked({**good, ("pipeline", "sl"): timing(1.0, last=4)})


@pytest.fixture
def record():
    """What `made_up` times come to."""
    settings = Settings(7, 1.0, "micro", 6, False, 2)
    kinds, times = {name: cases.KINDS[name] for name in FLOPS}, made_up() | {("alone", "unused"): timing(9.0)}
    return MixTrainingRecord(
        made_by=MADE_BY,
        settings=settings,
        model=MODEL,
        ssl_mask=0.75,
        steps=step_records(kinds, FLOPS, times, settings),
        switch=switch_records(kinds, times, steps=2),
        pipelines=pipeline_records(cases.PIPELINES, FLOPS, times, steps=2),
        compile_seconds={},
    )


def test_step_and_switch_records(record):
    sl = record.steps["sl"]
    assert sl.spread == (3.0, 3.0, 4.5) and sl.rounds == 3
    assert (sl.phase, sl.flops, sl.images_per_second) == ("sl", 40.0, 2.0)
    assert list(record.switch) == ["ssl", "joint", "sl"]
    joint = record.switch["joint"]
    assert joint.kind == "joint_visible_0.5" and joint.median_seconds == pytest.approx(2.2)
    assert all(ratio == pytest.approx((1.1, 4.4 / 6, 1.1)) for ratio in record.switch_over_alone.values())


def test_pipeline_records(record):
    base, mixed = record.pipelines[cases.BASELINE], record.pipelines["mixtraining_0.5"]
    assert record.speed_up[cases.BASELINE].median == 1
    # four epochs of two steps each of SSL and of SL; joint steps stand for both
    assert base.median_seconds == 33 / 4 and base.flops == 2 * (10 + 40) and base.seconds_of_steps == 2 * 4
    assert mixed.epochs == {"ssl": 2, "joint": 2, "sl": 2} and mixed.mix_ratio == 0.5
    assert mixed.flops == 10 + 20 + 40 and mixed.seconds_of_steps == 1 + 2 + 3
    assert record.speed_up["mixtraining_0.5"] == pytest.approx((33 / 44, 32 / 60, 1.0))
    assert record.pipelines["mixtraining_two_passes_0.5"].flops == 10 + 50 + 40
    assert record.pipelines["sl"].flops == 2 * 40 and record.pipelines["sl"].epochs == {"sl": 4}


def test_wording(record):
    times = "0.75 (0.53 to 1.00)"
    mixed = ", ".join(f"{name} {times}" for name in cases.PIPELINES if name != cases.BASELINE)
    assert summary(record) == (
        f"mixtraining: speed-up in time over ssl_then_sl (the paper: up to 1.29): ssl_then_sl 1.00 (0.80 to 1.25),"
        f" {mixed}; time in the switch over alone: ssl 1.10 (0.73 to 1.10), joint 1.10 (0.73 to 1.10), sl 1.10 (0.73 to"
        " 1.10)"
    )
    text = report(record)[".md"]
    assert "32 wide, 1 deep, float32. 6 images a step, 2 steps a block. 1 x toy." in text
    assert (
        "An SL step takes 3.00 (3.00 to 3.00) times an SSL step inside the switch, 3.00 (2.00 to 4.50) times alone."
        in text
    )
    rows = cells(text)
    assert ["`sl`", "3000.00", "3000.00", "4500.00", "0.00", "2", "1.00", "1.00"] in rows
    assert ["`ssl`", "1000.00", "1100.00", "1100.00", "1100.00", "1.10", "0.73", "1.10"] in rows
    base, pipeline = (
        next(row for row in rows if row[0] == f"`{name}`") for name in (cases.BASELINE, "mixtraining_0.5")
    )
    assert base[5:] == ["8000.00", "1.031", "0.00", "1.00", "0.80", "1.25", "1.00"]
    assert pipeline[1:7] == ["2 ssl + 2 joint + 2 sl", "11000.00", "10000.00", "15000.00", "6000.00", "1.833"]
    assert pipeline[8:] == ["0.75", "0.53", "1.00", "1.43"]
    assert columns_line_up(text)


def linear_learner(config, mask_ratio, mask_tokens=False):
    """In place of `image_learner`, whose programs take long to compile: hides rows of pixels."""
    rows = round((1 - mask_ratio) * config.image_size)
    values, classes = config.image_size * config.channels, config.classes[0]

    def init(key):
        shapes = {"encoder": (values, 4), "ssl": (4, values), "sl": (4, classes)}
        keys = zip(shapes, jax.random.split(key, 3), strict=True)
        return {part: jax.random.normal(part_key, shapes[part]) / 10 for part, part_key in keys}

    def encode(params, images, view):
        return (normalize(images)[:, :view] if view else normalize(images)).mean(1).reshape(-1, values) @ params[
            "encoder"
        ]

    return Learner(
        init=init,
        hide=lambda key, images: rows,
        encode=encode,
        ssl_loss=lambda params, x, images, view: (
            (x @ params["ssl"] - normalize(images)[:, -1].reshape(-1, values)) ** 2
        ).mean(),
        sl_logits=lambda params, x, task: x @ params["sl"],
    )


@pytest.mark.slow
def test_quick_run_writes_its_record(tmp_path, capsys, monkeypatch):
    for module in (mixtraining_measure, cases):
        monkeypatch.setattr(module, "image_learner", linear_learner)
    config = mixtraining.Config(quick=True, model="micro", batch_size=BATCH, steps=STEPS, repeats=2, out=tmp_path / "r")
    mixtraining.main(config, {"micro": MODEL})
    printed = capsys.readouterr().out.splitlines()
    path = tmp_path / f"r/mixtraining-{machine.device_slug()}-quick.json"
    record = read_result(path, MixTrainingRecord)
    assert record.summary == printed[-1] and record.made_by.device in printed[0]
    assert record.made_by.versions["jax"] and record.made_by.command
    assert path.with_suffix(".md").read_text() == report(record)[".md"]
    assert list(record.steps) == ["ssl", "sl", "joint_visible_0.5"]
    assert list(record.switch) == ["ssl", "joint", "sl"]
    assert list(record.pipelines) == [
        name for name, pipeline in cases.PIPELINES.items() if pipeline.variant == cases.VISIBLE
    ]
    learner, fetch = linear_learner(MODEL, cases.SSL_MASK), cases.epoch_fetch(BATCH)
    data = jax.eval_shape(lambda: cases.random_data(MODEL, BATCH * STEPS, jax.random.key(0)))
    flops = step_flops(learner, fetch, data, OptimizerSettings(), **cases.VISIBLE.arguments(MODEL))
    for step in record.steps.values():
        assert step.rounds == 2 and step.min_seconds > 0
        assert step.flops == pytest.approx(flops[step.phase], rel=1e-2)  # a scan counts its steps too
    assert all(pipeline.min_seconds > 0 and pipeline.flops > 0 for pipeline in record.pipelines.values())


def test_the_usual_sizes_are_the_whole():
    assert mixtraining.Config(repeats=2, model="micro", batch_size=128).is_whole(accelerator=False)
    assert not mixtraining.Config(model="micro").is_whole(accelerator=True)
    assert not mixtraining.Config(batch_size=64).is_whole(accelerator=False)


def test_settings():
    assert mixtraining.Config().settings(accelerator=False) == Settings(7, 120.0, "micro", 128, False, 8)
    assert mixtraining.Config().settings(accelerator=True) == Settings(7, 120.0, "tiny", 256, False, 48)
    config = parse(mixtraining.Config, arguments=["--quick", "--model", "tiny", "--bfloat16", "--steps", "3"])
    assert config.settings(accelerator=False) == Settings(3, 5.0, "tiny", 64, True, 3)
    quick, whole = (cases.sized(cases.MODELS["tiny"], quick, quick) for quick in (True, False))
    assert quick.encoder.depth == 6 and quick.encoder.bfloat16 and quick.decoder.bfloat16
    assert whole == cases.MODELS["tiny"]
