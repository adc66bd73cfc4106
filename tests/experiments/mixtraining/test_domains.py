"""The image and the text experiment end to end: digits and made-up words, transformers that compile in seconds."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from experiments import image_mixtraining, text_mixtraining
from experiments import report as write_again
from experiments.harness.command_line import parse
from experiments.harness.result_files import read_result
from experiments.mixed_mixtraining.config import PRESETS as MIXED_PRESETS
from experiments.mixtraining import final_model
from experiments.mixtraining import report as report_module
from experiments.mixtraining import run as mixtraining_run
from experiments.mixtraining.decision import Decision
from experiments.mixtraining.domain import Labels
from experiments.mixtraining.images import config as image_config
from experiments.mixtraining.images import data as image_data
from experiments.mixtraining.images.config import ImageMixTraining
from experiments.mixtraining.images.variants import VARIANT_PRESETS
from experiments.mixtraining.results import MixTrainingMetrics
from experiments.mixtraining.text import config as text_config
from experiments.mixtraining.text import data as text_data
from experiments.mixtraining.text import model as text_model
from experiments.mixtraining.text.config import TextMixTraining
from mixmin_jax.data.images.sources import read_images
from mixmin_jax.data.text.documents import Corpus
from mixmin_jax.errors import InputError
from mixmin_jax.models.encoder import EncoderConfig
from mixmin_jax.models.vision_transformer import VisionConfig
from mixmin_jax.trained.folder import load_model
from mixmin_jax.training.learners import image_learner
from mixmin_jax.training.nonfinite import Diverged
from tests.experiments.made_up_text import WORDS, sentences, write_lines
from tests.experiments.mixtraining.counted_costs import counted_costs
from tests.experiments.verify.verified import assert_verified

SMALL = EncoderConfig(width=8, depth=1, heads=1)
MAIN = {"images": image_mixtraining.main, "text": text_mixtraining.main}


@pytest.fixture(scope="module", autouse=True)
def small_models():
    with pytest.MonkeyPatch.context() as patch:
        for sizes in (image_config.SIZES, text_model.SIZES):
            patch.setitem(sizes, "nano", (SMALL, SMALL))
        yield


@pytest.fixture(scope="module")
def configs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for seed, (name, words) in enumerate(WORDS.items()):
        write_lines(folder / "sources" / f"{name}.jsonl", sentences(words, 30, seed, 30))
    images = ImageMixTraining(
        out=folder / "images", fractions=(0.25,), ssl_epochs=2, sl_epochs=2, patch_size=4, checkpoints=1
    )
    text = TextMixTraining(
        sources=(str(folder / "sources"),), out=folder / "text", length=12, windows=60, test_windows=30,
        fractions=(1.0,), seeds=1, ssl_epochs=2, sl_epochs=10, batch_size=16, learning_rate=1e-2,
        sl_learning_rate=1e-2, scratch_learning_rate=1e-2, matched=False, checkpoints=0,
    )  # fmt: skip
    return {"images": images, "text": text}


@pytest.fixture(scope="module")
def finished(configs):
    """The folder of a run on images."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mixtraining_run, "step_costs", counted_costs)
        image_mixtraining.main(configs["images"])
    return configs["images"].out


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
    flops = {kind: step.flops for kind, step in metrics.steps.items()}
    assert flops["joint_visible"] < flops["ssl"] + flops["sl"]
    first = {(r.arm, r.seed): r.curve.ssl[0] for r in metrics.runs if r.budget == "schedule" and r.arm != "sl"}
    assert [first["mixtraining", seed] == first["ssl_then_sl", seed] for seed in (0, 1)] == [True, True]
    assert first["mixtraining", 0] != first["mixtraining", 1]


def test_a_run_leaves_the_recommended_arm_trained_on_all_but_the_test_part(finished):
    metrics = load(finished)
    final, chosen = metrics.final, Decision.of(metrics, 0.25).cell
    assert (final.arm, final.budget, final.asked, final.examples) == (*chosen, "best", 1293 + 145)
    model, test = load_model(finished / "model"), read_images("digits").test
    assert model.classes == test.classes and model.temperature == final.temperature and not model.resize
    right_N = model.outputs(test.images_NxHxWxC).probabilities_NxA.argmax(axis=1) == test.labels_N
    assert right_N.mean() == pytest.approx(final.accuracy)
    assert final.class_accuracy["7"] == pytest.approx(right_N[test.labels_N == 7].mean())
    report, card = (finished / "report.md").read_text(), (finished / "model" / "card.md").read_text()
    assert f"is right on {100 * final.accuracy:.1f}% of the 359 test images" in report
    assert "chosen on the same test part" in report
    for said in (f"{100 * final.accuracy:.1f}% of 359 images", "1,438 images", "demonstration", "| `7` |", "--convert"):
        assert said in card
    assert assert_verified(finished) >= {"the record follows from its stages"}


@pytest.mark.slow
def test_the_same_run_may_leave_another_arm_and_tells_if_that_fails(configs, finished, tmp_path, monkeypatch, capsys):
    config = dataclasses.replace(
        configs["images"], out=shutil.copytree(finished, tmp_path / "out"), final="ssl_then_sl"
    )
    monkeypatch.setattr(mixtraining_run, "step_costs", counted_costs)
    monkeypatch.setattr(report_module, "mixtraining_figures", lambda *_: {})
    assert load(finished).final.arm != "ssl_then_sl"
    asked = []

    def run_trial(study, trial, judge_on, stage, keep_params):
        asked.append((trial.arm, len(study.domain.train), len(judge_on), keep_params))
        run = load(finished).runs[0]
        kept = {name: getattr(run, name) for name in ("accuracy", "test_loss", "flops", "epochs")}
        return kept | {"failure": {"phase": "sl", "step": 5}}

    monkeypatch.setattr(final_model, "run_trial", run_trial)
    with pytest.raises(Diverged, match="the training of the final model failed"):
        image_mixtraining.main(config)
    said = capsys.readouterr()
    assert "outside the test part: ssl_then_sl, " in said.out and "no model: the training of `ssl_then_sl`" in said.err
    assert asked == [("ssl_then_sl", 1438, 359, True)]
    assert load(config.out).final.failure.step == 5 and "There is none: " in (config.out / "report.md").read_text()
    assert (config.out / "model" / "card.md").read_text() == (finished / "model" / "card.md").read_text()


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


@pytest.mark.slow
def test_reconstructions_are_made_as_ssl_steps_were():
    images, model = read_images("digits").test, VisionConfig(8, 4, 1, (10,), SMALL, SMALL)
    params = jax.jit(image_learner(model, 0.5).init)(jax.random.key(0))
    visible, asked = (image_data.reconstructions(model, images, "sl", tokens)(params, 0.5) for tokens in (False, True))
    assert [name for name in visible if (visible[name] != asked[name]).any()] == ["reconstructed_ExHxWxC"]


def test_the_report_is_written_again_from_the_files(finished, tmp_path):
    for name in ("metrics.json", "reconstructions.npz"):
        shutil.copy(finished / name, tmp_path)
    write_again.main(write_again.Report((tmp_path,)))
    for name in ("report.md", "summary.md", "reconstructions.png", "curves.png"):
        assert (tmp_path / name).read_bytes() == (finished / name).read_bytes()
    assert "](reconstructions.png)" in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize(
    ("domain", "tune", "said"),
    [
        pytest.param(
            "images", False, "  0.25 of the data, mixtraining, matched: 325 examples, ", marks=pytest.mark.slow
        ),
        ("text", True, "180 examples to train on, 24 to validate, 90 to test; 3 classes\n3 runs after a search of 4"),
    ],
)
def test_a_dry_run_prints_the_plan_and_writes_nothing(configs, tmp_path, capsys, domain, tune, said):
    MAIN[domain](dataclasses.replace(configs[domain], out=tmp_path / "out", dry_run=True, tune=tune))
    assert said in capsys.readouterr().out and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("domain", "change", "message"),
    [
        ("images", {"patch_size": 3}, "patch sizes that fit: 1, 2, 4, 8"),
        ("images", {"ssl_mask": 0.05}, "hides none of the 4 tokens"),
        ("images", {"batch_size": 400}, "--fractions 0.25 of 1,293 examples: a batch of 400 rows cannot be drawn from"),
        ("images", {"fractions": (0.001,)}, "leaves class . empty"),
        ("images", {"validation_fraction": 0.001}, "--validation-fraction 0.001: .*leaves class . empty"),
        ("images", {"padding": 8}, "padding must be 0 or more and less"),
        ("images", {"dataset": "nowhere"}, "unknown images; known are digits"),
        ("text", {"batch_size": 181}, "--batch-size 181 is more than the 180"),
        ("text", {"length": 600}, r"class 'digits'.*0 window\(s\) of 600 bytes"),
        ("text", {"windows": 0}, "--windows"),
        ("text", {"test_fraction": 1.0}, "--test-fraction"),
        ("text", {"ssl_mask": 0.01}, "hides none"),
    ],
)
def test_bad_input_is_one_error_before_compute(configs, tmp_path, domain, change, message):
    with pytest.raises(InputError, match=message):
        MAIN[domain](dataclasses.replace(configs[domain], out=tmp_path / "out", **change))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "presets", [image_config.PRESETS, VARIANT_PRESETS, text_config.PRESETS, MIXED_PRESETS], ids=["i", "v", "t", "m"]
)
def test_every_preset_is_chosen_by_name_and_overridden_by_options(presets):
    for name, preset in presets.items():
        assert parse(type(preset), presets, ["--preset", name]) == preset
        assert parse(type(preset), presets, ["--preset", name, "--seeds", "5"]) == dataclasses.replace(preset, seeds=5)


# ---------------------------------------------------------------- images


def other_images(config, folder, shape=(8, 8), **changes):
    """The options of a dry run on 60 random images of each of two classes."""
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / "data" / name).mkdir(parents=True)
        for i in range(60):
            image = Image.fromarray(rng.integers(0, 256, (*shape, 3), np.uint8))
            image.save(folder / "data" / name / f"{i:03}.png")
    return dataclasses.replace(config, dataset=f"folder:{folder / 'data'}", batch_size=8, dry_run=True, **changes)


def test_images_that_cannot_be_read_are_counted_and_named(configs, tmp_path, capsys):
    config = other_images(configs["images"], tmp_path)
    (tmp_path / "data" / "dog" / "007.png").write_bytes(b"no image")
    data = image_data.read_domain(config)[0].dataset
    said = capsys.readouterr().err
    assert "unreadable: one image" in said and "dog/007.png" in said
    assert data["skipped"] == 1 and "dog/007.png" in data["skipped_files"][0]


def test_images_that_are_not_square_need_a_size(configs, tmp_path):
    wide = other_images(configs["images"], tmp_path, shape=(8, 12))
    with pytest.raises(InputError, match=r"8 x 12 .* --image-size"):
        image_data.read_domain(wide)
    assert image_data.read_domain(dataclasses.replace(wide, image_size=8))[0].dataset["shape"] == [8, 8, 3]


def test_digits_are_neither_shifted_nor_mirrored_but_other_images_are(configs, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(image_data, "image_fetch", lambda *args: asked.append(args))
    others = other_images(configs["images"], tmp_path)
    for config in (configs["images"], others, dataclasses.replace(others, padding=2, flip=False)):
        image_data.read_domain(config)
    assert asked == [(64, 0, False), (8, 1, True), (8, 2, False)]


@pytest.mark.slow
def test_the_demonstration_learns_to_read_digits(tmp_path, monkeypatch):
    config = dataclasses.replace(image_config.PRESETS["digits"], out=tmp_path / "out", seeds=1)
    monkeypatch.setitem(image_config.SIZES, "nano", (EncoderConfig(64, 2, 2), EncoderConfig(32, 1, 2)))
    image_mixtraining.main(config)
    metrics = load(config.out)
    assert all(run.accuracy > (0.92 if run.fraction == 1.0 else 0.8) for run in metrics.runs)
    assert set(metrics.steps) == {"ssl", "sl", "joint_visible", "joint_all_tokens", "joint_two_passes"}
    assert all(step.ms_low <= step.ms <= step.ms_high for step in metrics.steps.values())


# ---------------------------------------------------------------- text


@pytest.mark.slow
def test_all_arms_learn_which_source_text_is_from(configs):
    text_mixtraining.main(configs["text"])
    metrics = load(configs["text"].out)
    assert metrics.domain == "text" and metrics.complete and not metrics.demonstration
    assert {run.arm for run in metrics.runs} == {"sl", "ssl_then_sl", "mixtraining"}
    assert min(run.accuracy for run in metrics.runs) > 0.8  # of three classes that share no letter
    assert metrics.references[0].accuracy > 0.95
    data = metrics.dataset
    assert data.classes == ("digits", "lower", "upper") and (data.train, data.test) == (180, 90)
    assert "windows of 12 bytes" in data.origin
    assert "90 test texts" in (configs["text"].out / "report.md").read_text()


def test_no_document_is_in_two_parts(configs, monkeypatch):
    """Every word of a source says which document it is from."""
    sources = [Corpus(c, tuple(f"{c}{d:03}{'.' * 8}".encode() * 6 for d in range(60)), c) for c in "ab"]
    monkeypatch.setattr(text_data, "read_sources", lambda *_, **__: sources)
    domain = text_data.read_domain(configs["text"])
    parts = [{row.tobytes()[:4] for row in part.inputs} for part in (domain.train, domain.validation, domain.test)]
    assert all(len(found) > 5 for found in parts)
    assert sum(map(len, parts)) == len(set.union(*parts))


def test_one_source_has_no_labels(configs):
    with pytest.raises(InputError, match="at least two sources"):
        text_data.read_domain(
            dataclasses.replace(configs["text"], sources=(f"{configs['text'].sources[0]}/digits.jsonl",))
        )


def test_the_reference_reads_bytes_as_they_are():
    """Two classes that differ in the order of two bytes, which are no valid UTF-8."""
    rows = np.frombuffer(b"\xff\xfe\xff\xfe" * 30 + b"\xff\xff\xfe\xfe" * 30, np.uint8).reshape(-1, 4)
    examples = Labels(rows, np.repeat(np.arange(2, dtype=np.int32), 30))
    assert list(text_data.linear_on_ngrams(examples, examples).values()) == [1.0]
