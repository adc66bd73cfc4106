"""The image experiment end to end: digits, and a transformer small enough to compile in seconds."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from experiments import report as write_again
from experiments.harness.command_line import parse
from experiments.harness.result_files import read_result
from experiments.mixtraining import run as mixtraining_run
from experiments.mixtraining.costs import step_kinds
from experiments.mixtraining.images import data as image_data
from experiments.mixtraining.images.__main__ import main
from experiments.mixtraining.images.config import PRESETS, SIZES, ImageMixTraining
from experiments.mixtraining.images.data import image_domain, image_fetch, reconstructions
from experiments.mixtraining.results import MixTrainingMetrics
from mixmin_jax.data.images.sources import read_images
from mixmin_jax.errors import InputError
from mixmin_jax.models.encoder import EncoderConfig
from mixmin_jax.models.vision_transformer import VisionConfig
from mixmin_jax.training.learners import image_learner
from mixmin_jax.training.schedule import Schedule, total_flops

SMALL = EncoderConfig(width=8, depth=1, heads=1)


@pytest.fixture(scope="module", autouse=True)
def small_model():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SIZES, "nano", (SMALL, SMALL))
        yield


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return ImageMixTraining(
        out=tmp_path_factory.mktemp("run") / "out",
        fractions=(0.25,),
        seeds=2,
        ssl_epochs=2,
        sl_epochs=2,
        batch_size=64,
        patch_size=4,
        checkpoints=1,
    )


def counted_costs(study, settings, advance):
    """The FLOPs of every kind of step, not its time."""
    return {
        name: {"flops": study.step_flops(given, joint)[phase], "ms": 1.0, "ms_low": 1.0, "ms_high": 1.0}
        for name, (phase, given, joint) in step_kinds(settings).items()
    }


@pytest.fixture(scope="module")
def finished(config):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mixtraining_run, "step_costs", counted_costs)
        main(config)
    return config.out


def load(out):
    return read_result(out / "metrics.json", MixTrainingMetrics)


def test_a_run_leaves_results_pictures_and_the_plan_of_every_arm(finished):
    assert {path.name for path in finished.iterdir() if path.is_file()} == {
        "config.json", "status.json", "metrics.json", "report.md", "report.html", "summary.md", "curves.png",
        "accuracy_compute.png", "reconstructions.npz", "reconstructions.png",
    }  # fmt: skip
    metrics = load(finished)
    assert metrics.complete and metrics.demonstration and metrics.domain == "images"
    data, model = metrics.dataset, metrics.model
    assert (data.train, data.validation, data.test, data.shape) == (1293, 145, 359, (8, 8, 1))
    assert data.skipped == 0 and data.skipped_files == () and metrics.examples == (325,)
    assert (model.width, model.depth, model.patch_size) == (8, 1, 4)
    assert model.encoder_parameters < model.parameters
    assert metrics.config["dataset"] == "digits" and len(metrics.runs) == 10
    assert metrics.references[0].name == "logistic regression on pixels" and 0.8 < metrics.references[0].accuracy < 1


def test_arms_share_their_first_step_and_get_the_compute_they_should(finished):
    metrics = load(finished)
    runs = {(run.arm, run.budget, run.seed): run for run in metrics.runs}
    kinds = {"ssl": "ssl", "joint": "joint_visible", "sl": "sl"}
    flops = {phase: metrics.steps[kind].flops for phase, kind in kinds.items()}
    assert flops["joint"] < flops["ssl"] + flops["sl"]
    for seed in (0, 1):
        mixed, conventional = (runs[arm, "schedule", seed] for arm in ("mixtraining", "ssl_then_sl"))
        assert mixed.curve.ssl[0] == conventional.curve.ssl[0]
        assert mixed.steps == {"ssl": 5, "joint": 5, "sl": 5}
        assert mixed.flops == total_flops(Schedule(2, 2, 0.5).plan(5), flops)
        for arm in ("mixtraining", "sl"):
            assert abs(runs[arm, "matched", seed].flops - conventional.flops) <= max(flops.values()) / 2
    assert runs["mixtraining", "schedule", 0].curve.ssl[0] != runs["mixtraining", "schedule", 1].curve.ssl[0]


def test_reconstructions_are_of_test_images(finished):
    with np.load(finished / "reconstructions.npz") as file:
        assert {name: file[name].shape for name in file.files if "ExHxWxC" in name} == {
            f"{name}_ExHxWxC": (8, 8, 8, 1) for name in ("original", "masked", "reconstructed")
        }
        assert file["original_ExHxWxC"].dtype == np.uint8
        assert float(file["mask_ratio"]) == 0.75 and str(file["arm"]) == "mixtraining"
        hidden = (file["original_ExHxWxC"] != file["masked_ExHxWxC"]).any()
        test = read_images("digits").test.images_NxHxWxC
        assert hidden and all((test == image).all((1, 2, 3)).any() for image in file["original_ExHxWxC"])


def test_reconstructions_are_made_as_ssl_steps_were():
    images, model = read_images("digits").test, VisionConfig(8, 4, 1, (10,), SMALL, SMALL)
    params = jax.jit(image_learner(model, 0.5).init)(jax.random.key(0))
    visible, asked = (reconstructions(model, images, "mixtraining", tokens)(params, 0.5) for tokens in (False, True))
    same = {name for name in visible if (visible[name] == asked[name]).all()}
    assert set(visible) - same == {"reconstructed_ExHxWxC"}


@pytest.mark.slow
def test_the_same_command_computes_nothing_and_another_is_refused(finished, config, tmp_path, monkeypatch):
    out = shutil.copytree(finished, tmp_path / "out")
    monkeypatch.setattr(mixtraining_run, "run_trial", lambda *_, **__: pytest.fail("trained again"))
    monkeypatch.setattr(mixtraining_run, "step_costs", lambda *_: pytest.fail("measured again"))
    main(dataclasses.replace(config, out=out))
    assert load(out).runs == load(finished).runs
    assert (out / "reconstructions.npz").exists()
    with pytest.raises(InputError, match=r"options\.patch_size \(4 there, 2 now\)"):
        main(dataclasses.replace(config, out=out, patch_size=2))


def test_the_report_is_written_again_from_the_files(finished, tmp_path):
    for name in ("metrics.json", "reconstructions.npz"):
        shutil.copy(finished / name, tmp_path)
    write_again.main(write_again.Report((tmp_path,)))
    for name in ("report.md", "summary.md", "reconstructions.png", "curves.png"):
        assert (tmp_path / name).read_bytes() == (finished / name).read_bytes()
    assert "](reconstructions.png)" in (tmp_path / "report.md").read_text()


def test_a_dry_run_writes_nothing(config, tmp_path, capsys):
    main(dataclasses.replace(config, out=tmp_path / "out", dry_run=True))
    assert "0.25 of the data, mixtraining, matched: 325 examples" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patch_size": 3}, "patch sizes that fit: 1, 2, 4, 8"),
        ({"ssl_mask": 0.05}, "hides none of the 4 tokens"),
        ({"batch_size": 400}, "--fractions 0.25 of 1,293 examples: a batch of 400 rows cannot be drawn from 325"),
        ({"fractions": (0.001,)}, "leaves class . empty"),
        ({"validation_fraction": 0.001}, "--validation-fraction 0.001: .*leaves class . empty"),
        ({"padding": 8}, "padding must be 0 or more and less"),
        ({"dataset": "nowhere"}, "unknown images; known are digits"),
    ],
)
def test_bad_input_is_one_error_before_compute(config, tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        main(dataclasses.replace(config, out=tmp_path / "out", **change))
    assert not (tmp_path / "out").exists()


def write_images(folder, shape=(8, 8), count=60):
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(rng.integers(0, 256, (*shape, 3), np.uint8)).save(folder / name / f"{i:03}.png")


def test_images_that_cannot_be_read_are_counted_and_named(config, tmp_path, capsys):
    write_images(tmp_path / "data")
    (tmp_path / "data" / "dog" / "007.png").write_bytes(b"no image")
    chosen = dataclasses.replace(
        config, dataset=f"folder:{tmp_path / 'data'}", out=tmp_path / "out", dry_run=True, batch_size=8
    )
    main(chosen)
    said = capsys.readouterr().err
    assert "unreadable: one image" in said and "dog/007.png" in said
    images = read_images(chosen.dataset)
    model = VisionConfig(8, 4, 3, (2,), SMALL, SMALL)
    data = image_domain(images, model, "nano", image_fetch(8, 0, False), 0.1, ()).dataset
    assert data["skipped"] == 1 and "dog/007.png" in data["skipped_files"][0]


def test_images_that_are_not_square_need_a_size(config, tmp_path):
    write_images(tmp_path / "data", shape=(8, 12))
    wide = dataclasses.replace(config, dataset=f"folder:{tmp_path / 'data'}", batch_size=8, dry_run=True)
    with pytest.raises(InputError, match=r"8 x 12 .* --image-size"):
        main(wide)
    main(dataclasses.replace(wide, image_size=8))


@pytest.mark.slow
def test_digits_are_neither_shifted_nor_mirrored_but_other_images_are(config, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(image_data, "image_fetch", lambda *args: asked.append(args) or image_fetch(*args))
    write_images(tmp_path / "data")
    main(dataclasses.replace(config, dry_run=True))
    others = dataclasses.replace(config, dry_run=True, dataset=f"folder:{tmp_path / 'data'}", batch_size=8)
    main(others)
    main(dataclasses.replace(others, padding=2, flip=False))
    assert asked == [(64, 0, False), (8, 1, True), (8, 2, False)]


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_chosen_by_name_and_overridden_by_options(name):
    parsed = parse(ImageMixTraining, PRESETS, ["--preset", name, "--seeds", "5", "--no-matched"])
    assert parsed == dataclasses.replace(PRESETS[name], seeds=5, matched=False)


@pytest.mark.slow
def test_the_demonstration_learns_to_read_digits(tmp_path, monkeypatch):
    config = dataclasses.replace(PRESETS["digits"], out=tmp_path / "out", seeds=1)
    monkeypatch.setitem(SIZES, "nano", (EncoderConfig(64, 2, 2), EncoderConfig(32, 1, 2)))
    main(config)
    metrics = load(config.out)
    assert all(run.accuracy > (0.92 if run.fraction == 1.0 else 0.8) for run in metrics.runs)
    assert set(metrics.steps) == {"ssl", "sl", "joint_visible", "joint_all_tokens", "joint_two_passes"}
    assert all(step.ms_low <= step.ms <= step.ms_high for step in metrics.steps.values())
