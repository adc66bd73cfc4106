"""The benchmark of MixTraining: its cases, its blocks, its arithmetic on made-up times, and what it writes."""

import functools
import json

import jax
import numpy as np
import pytest

from benchmarks import machine
from benchmarks.mixtraining import __main__ as mixtraining
from benchmarks.mixtraining import cases as mixtraining_cases
from benchmarks.mixtraining.blocks import Program, split_blocks, training_call
from benchmarks.mixtraining.cases import (
    BASELINE,
    KINDS,
    MODELS,
    PIPELINES,
    SSL_MASK,
    TWO_PASSES,
    VISIBLE,
    epoch_fetch,
    kind_of,
    random_data,
)
from benchmarks.mixtraining.report import report, summary
from benchmarks.timing import Timing
from experiments.harness.command_line import parse
from mixmin_jax.errors import InputError
from mixmin_jax.models.encoder import EncoderConfig
from mixmin_jax.models.vision_transformer import VisionConfig, normalize
from mixmin_jax.training.flops import count_flops
from mixmin_jax.training.learners import image_learner
from mixmin_jax.training.mixtraining import Learner, MixState, OptimizerSettings, init_state, make_step, step_flops
from mixmin_jax.training.proxies import Diverged
from mixmin_jax.training.schedule import StepPlan

MODEL = VisionConfig(8, 2, 3, (10,), EncoderConfig(32, 1, 2), EncoderConfig(8, 1, 1))
BATCH, STEPS = 4, 2
UNOPTIMISED = {"xla_backend_optimization_level": 0}  # compiles in half the time, and runs as fast where all is small


def timing(*seconds, last=-1):
    return Timing(9.0, seconds, None, False, last)


def abstract_data():
    return jax.eval_shape(lambda: random_data(MODEL, BATCH * STEPS, jax.random.key(0)))


def made_up():
    """Blocks of two steps; SSL takes 1 s a step, joint steps 2 s (in two passes 4 s), SL 3 s."""
    seconds = {"ssl": 1.0, "sl": 3.0, "joint_visible_0.5": 2.0, "joint_two_passes": 4.0}
    alone = {("alone", name): timing(2 * value, 2 * value, 3 * value) for name, value in seconds.items()}
    switch = {("switch", name): timing(2.2 * seconds[name]) for name in ("ssl", "sl", "joint_visible_0.5")}
    pipelines = {("pipeline", name): timing(40.0, 44.0, 60.0) for name in PIPELINES}
    return {**alone, **switch, **pipelines, ("pipeline", BASELINE): timing(32.0, 40.0, 33.0)}


FLOPS = {"ssl": 10.0, "sl": 40.0, "joint_visible_0.5": 20.0, "joint_two_passes": 50.0}


def test_pipelines_spend_whole_blocks_on_the_epochs_they_promise():
    epochs = {}
    for name, pipeline in PIPELINES.items():
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
        split_blocks(PIPELINES["sl"].schedule.plan(3), 5)


def test_every_phase_of_a_pipeline_has_its_kind_of_step():
    assert kind_of("ssl", TWO_PASSES) == "ssl" and kind_of("joint", TWO_PASSES) == "joint_two_passes"
    for phase in ("ssl", "joint", "sl"):
        for pipeline in PIPELINES.values():
            kind = KINDS[kind_of(phase, pipeline.variant)]
            assert kind.phase == phase and (phase != "joint" or kind.variant == pipeline.variant)


def test_data_repeat_and_an_epoch_shows_every_image_once():
    @functools.partial(jax.jit, compiler_options=UNOPTIMISED)
    def epoch(key):
        order_key, images_NxSxSxC, labels_N = random_data(MODEL, 8, key)
        batches = [epoch_fetch(4)(step, key, order_key, images_NxSxSxC, jax.numpy.arange(8)) for step in (0, 1)]
        return images_NxSxSxC, labels_N, [task for batch in batches for task in batch.sl]

    images_NxSxSxC, labels_N, tasks = epoch(jax.random.key(3))
    assert images_NxSxSxC.shape == (8, 8, 8, 3) and images_NxSxSxC.dtype == np.uint8
    assert labels_N.min() >= 0 and 1 < labels_N.max() < 10
    assert sorted(label for task in tasks for label in task.labels.tolist()) == list(range(8))
    assert {task.inputs.shape for task in tasks} == {(4, 8, 8, 3)}
    jax.tree.map(np.testing.assert_array_equal, epoch(jax.random.key(3)), (images_NxSxSxC, labels_N, tasks))


def test_kinds_cost_what_they_encode():
    learner, optimizer, fetch = image_learner(MODEL, SSL_MASK), OptimizerSettings(), epoch_fetch(BATCH)
    found = step_flops(learner, fetch, abstract_data(), optimizer, **VISIBLE.arguments(MODEL))
    ssl, sl, visible = found["ssl"], found["sl"], found["joint"]
    state, row = jax.eval_shape(
        lambda: (init_state(learner, optimizer, jax.random.key(0)), PIPELINES["sl"].schedule.plan(1))
    )
    row = jax.tree.map(lambda values: jax.ShapeDtypeStruct((), values.dtype), row)
    all_tokens, two_passes = (
        count_flops(
            jax.jit(
                make_step(learner, optimizer, fetch=fetch, only="joint", **KINDS[name].variant.arguments(MODEL))
            ).lower(state, row, *abstract_data())
        )
        for name in ("joint_all_tokens_0.5", "joint_two_passes")
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
    good = {("alone", "sl"): timing(1.0)}
    assert mixtraining.checked(good) == good
    with pytest.raises(Diverged, match="pipeline, sl: step 4 was not finite"):
        mixtraining.checked({**good, ("pipeline", "sl"): timing(1.0, last=4)})


def test_step_and_switch_records():
    kinds = {name: KINDS[name] for name in FLOPS}
    steps = mixtraining.step_records(kinds, FLOPS, made_up(), steps=2, batch_size=6)
    assert steps["sl"] == {
        "phase": "sl",
        "seconds": [3.0, 3.0, 4.5],
        "median_seconds": 3.0,
        "flops": 40.0,
        "images_per_second": 2.0,
    }
    switch = mixtraining.switch_records(kinds, made_up(), steps=2)
    assert list(switch["phases"]) == ["ssl", "joint", "sl"]
    joint = switch["phases"]["joint"]
    assert joint["kind"] == "joint_visible_0.5" and joint["median_seconds"] == pytest.approx(2.2)
    over = {"median": 1.1, "lowest": 4.4 / 6, "highest": 1.1}
    assert all(found["switch_over_alone"] == pytest.approx(over) for found in switch["phases"].values())
    assert switch["sl_over_ssl"] == pytest.approx({"median": 3, "lowest": 3, "highest": 3})
    assert switch["sl_over_ssl_alone"] == pytest.approx({"median": 3, "lowest": 2, "highest": 4.5})


def test_pipeline_records():
    records = mixtraining.pipeline_records(PIPELINES, FLOPS, made_up() | {("alone", "unused"): timing(9.0)}, steps=2)
    base, mixed = records[BASELINE], records["mixtraining_0.5"]
    assert base["speed_up"]["median"] == base["flops_speed_up"] == 1
    # four epochs of two steps each of SSL and of SL; joint steps stand for both
    assert base["median_seconds"] == 33 / 4 and base["flops"] == 2 * (10 + 40) and base["seconds_of_steps"] == 2 * 4
    assert base["whole_over_steps"] == pytest.approx(33 / 32)
    assert mixed["epochs"] == {"ssl": 2, "joint": 2, "sl": 2} and mixed["mix_ratio"] == 0.5
    assert mixed["flops"] == 10 + 20 + 40 and mixed["seconds_of_steps"] == 1 + 2 + 3
    assert mixed["flops_speed_up"] == pytest.approx(10 / 7)
    assert mixed["speed_up"] == pytest.approx({"median": 33 / 44, "lowest": 32 / 60, "highest": 1.0})
    assert records["mixtraining_two_passes_0.5"]["flops"] == 10 + 50 + 40
    assert records["sl"]["flops"] == 2 * 40 and records["sl"]["epochs"] == {"sl": 4}


def test_wording():
    kinds = {name: KINDS[name] for name in FLOPS}
    record = {
        "device": "1 x toy",
        "settings": {"model": "micro", "batch_size": 6, "steps": 2},
        "sizes": {
            "image_size": 8,
            "patch_size": 2,
            "tokens": 16,
            "ssl_mask": 0.75,
            "encoder": {"width": 16, "depth": 1, "bfloat16": True},
        },
        "steps": mixtraining.step_records(kinds, FLOPS, made_up(), 2, 6),
        "switch": mixtraining.switch_records(kinds, made_up(), 2),
        "pipelines": mixtraining.pipeline_records(PIPELINES, FLOPS, made_up(), 2),
    }
    assert summary(record) == (
        "mixtraining: micro, 1 deep, 6 images a step; speed-up over ssl_then_sl: mixtraining_0.5 0.75 (0.53 to 1.00) in"
        " time, 1.43 in FLOPs; mixtraining_1 0.75 (0.53 to 1.00) in time, 2.50 in FLOPs; mixtraining_two_passes_0.5"
        " 0.75 (0.53 to 1.00) in time, 1.00 in FLOPs (the paper: up to 1.29); time in the switch over alone: ssl 1.10"
        " (0.73 to 1.10), joint 1.10 (0.73 to 1.10), sl 1.10 (0.73 to 1.10)"
    )
    text = report(record)
    assert "16 wide, 1 deep, bfloat16. 6 images a step, 2 steps a block. 1 x toy." in text
    assert (
        "An SL step takes 3.00 (3.00 to 3.00) times an SSL step inside the switch, 3.00 (2.00 to 4.50) times alone."
        in text
    )
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    assert ["`sl`", "3000.00", "3000.00", "4500.00", "0.00", "2", "1.00", "1.00"] in rows
    assert ["`ssl`", "1000.00", "1100.00", "1100.00", "1100.00", "1.10", "0.73", "1.10"] in rows
    pipeline = next(row for row in rows if row[0] == "`mixtraining_0.5`")
    assert pipeline[1:7] == ["2 ssl + 2 joint + 2 sl", "11000.00", "10000.00", "15000.00", "6000.00", "1.833"]
    assert pipeline[8:] == ["0.75", "0.53", "1.00", "1.43"]
    for table in text.split("\n\n"):
        lines = table.splitlines()
        if lines[0].startswith("|"):
            assert len({len(line) for line in lines[:1] + lines[2:]}) == 1  # the columns line up


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
    for module in (mixtraining, mixtraining_cases):
        monkeypatch.setattr(module, "image_learner", linear_learner)
    config = mixtraining.Config(quick=True, model="micro", batch_size=BATCH, steps=STEPS, repeats=2, out=tmp_path / "r")
    mixtraining.main(config, {"micro": MODEL})
    printed = capsys.readouterr().out.splitlines()
    path = tmp_path / f"r/mixtraining-{machine.device_slug()}-quick.json"
    record = json.loads(path.read_text())
    assert record["schema"] == 1 and record["summary"] == printed[-1] and record["device"] in printed[0]
    assert record["versions"]["jax"] and record["command"]
    assert path.with_suffix(".md").read_text() == report(record) + "\n"
    assert list(record["steps"]) == ["ssl", "sl", "joint_visible_0.5"]
    assert list(record["switch"]["phases"]) == ["ssl", "joint", "sl"]
    assert list(record["pipelines"]) == [name for name, pipeline in PIPELINES.items() if pipeline.variant == VISIBLE]
    learner, fetch = linear_learner(MODEL, SSL_MASK), epoch_fetch(BATCH)
    flops = step_flops(learner, fetch, abstract_data(), OptimizerSettings(), **VISIBLE.arguments(MODEL))
    for step in record["steps"].values():
        assert len(step["seconds"]) == 2 and min(step["seconds"]) > 0
        assert step["flops"] == pytest.approx(flops[step["phase"]], rel=1e-2)  # a scan counts its steps too
    for pipeline in record["pipelines"].values():
        assert min(pipeline["seconds"]) > 0 and pipeline["flops_speed_up"] > 0


def test_files_are_named_after_what_was_measured():
    name = f"mixtraining-{machine.device_slug()}"
    assert mixtraining.Config(repeats=2, model="micro", batch_size=128).name(accelerator=False) == name
    assert mixtraining.Config(model="micro").name(accelerator=True) == f"{name}-part"
    assert mixtraining.Config(batch_size=64).name(accelerator=False) == f"{name}-part"
    assert mixtraining.Config(quick=True, bfloat16=True).name(accelerator=False) == f"{name}-quick"


def test_settings():
    usual = {"model": "micro", "batch_size": 128, "bfloat16": False, "steps": 8, "repeats": 7, "budget": 120.0}
    assert mixtraining.Config().settings(accelerator=False) == usual
    on_gpu = mixtraining.Config().settings(accelerator=True)
    assert (on_gpu["model"], on_gpu["batch_size"], on_gpu["steps"]) == ("tiny", 256, 48)
    config = parse(mixtraining.Config, arguments=["--quick", "--model", "tiny", "--bfloat16", "--steps", "3"])
    found = config.settings(accelerator=False)
    assert (found["batch_size"], found["steps"], found["bfloat16"]) == (64, 3, True)
    quick, whole = (mixtraining.sized(MODELS["tiny"], quick, quick) for quick in (True, False))
    assert quick.encoder.depth == 6 and quick.encoder.bfloat16 and quick.decoder.bfloat16
    assert whole == MODELS["tiny"]


@pytest.mark.parametrize("option", ["batch_size", "steps", "repeats", "budget"])
def test_settings_must_be_positive(option):
    with pytest.raises(InputError, match=f"--{option.replace('_', '-')} must be above 0; got 0"):
        mixtraining.Config(**{option: 0})
