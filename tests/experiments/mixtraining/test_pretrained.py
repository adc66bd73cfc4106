"""A pretrained start in the image experiment, and probes while a run self-supervises."""

import contextlib
import dataclasses
import io
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import image_mixtraining
from experiments.harness.result_files import read_result
from experiments.harness.stages import Running
from experiments.mixtraining import figures
from experiments.mixtraining import run as mixtraining_run
from experiments.mixtraining.images import config as image_config
from experiments.mixtraining.images import data as image_data
from experiments.mixtraining.images.config import ImageMixTraining
from experiments.mixtraining.plan import Study
from experiments.mixtraining.probing import features_of, probe_steps
from experiments.mixtraining.report import mixtraining_report, summary_table, verdict
from experiments.mixtraining.results import MixTrainingMetrics, Probes
from experiments.mixtraining.trial import run_trial
from mixmin_jax.errors import InputError
from mixmin_jax.models.encoder import EncoderConfig
from mixmin_jax.models.pretrained import Taken
from mixmin_jax.models.vit_files import NORMALIZATIONS
from mixmin_jax.training.checkpoint import Checkpoints
from mixmin_jax.training.probes import k_nn, linear_probe
from mixmin_jax.training.schedule import plan_steps
from tests.experiments.mixtraining import linear_domain as linear
from tests.experiments.mixtraining.counted_costs import counted_costs
from tests.experiments.mixtraining.linear_domain import linear_domain, linear_learner
from tests.experiments.mixtraining.made_up import EPOCHS, SETTINGS, changed, made_up, one_run
from tests.models.made_up_vits import saved, timm_vit

SMALL = EncoderConfig(width=8, depth=1, heads=1)
MATCHED, FINETUNED = ("mixtraining", "matched"), ("finetune", "matched")


pytestmark = pytest.mark.slow  # a whole run; what is read and adapted is tested in tests/models


@pytest.fixture(scope="module", autouse=True)
def small_model():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(image_config.SIZES, "nano", (SMALL, SMALL))
        yield


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("start")
    file = saved(folder, timm_vit(width=8, depth=1, mlp_ratio=4, patch=4, grid=3))
    return ImageMixTraining(
        out=folder / "out", init=file, init_normalization="imagenet", fractions=(0.25,), seeds=1, ssl_epochs=2,
        sl_epochs=2, patch_size=4, checkpoints=1, probe=True, final="none",
    )  # fmt: skip


@pytest.fixture(scope="module")
def finished(config):
    """The results of a run, and what it printed."""
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
        patch.setattr(mixtraining_run, "step_costs", counted_costs)
        image_mixtraining.main(config)
    return read_result(config.out / "metrics.json", MixTrainingMetrics), printed.getvalue()


@pytest.fixture(scope="module")
def metrics(finished):
    return finished[0]


def test_a_run_from_a_file_says_what_it_took_and_has_an_arm_and_references_more(config, metrics):
    start = metrics.start
    assert start.file == str(config.init) and start.unused == ("head.bias", "head.weight")
    assert start.unfilled == ("tokens/mask_token",) and len(start.taken) == 18
    assert [words.split(":")[0] for words in start.adapted] == [
        "pos_embed", "patch_embed.proj", "patch_embed.proj.weight"
    ]  # fmt: skip
    assert metrics.identity["start"][0] == start.sha256
    assert list(metrics.arms) == ["sl", "ssl_then_sl", "mixtraining", "finetune"]
    assert len([run for run in metrics.runs if run.arm == "finetune"]) == 2  # its own schedule, and matched
    assert [reference.name.split(":")[0] for reference in metrics.references] == [
        "logistic regression on pixels", "frozen", "k_nn"
    ]  # fmt: skip
    report = (config.out / "report.md").read_text()
    assert "| in the file, not used | head.bias, head.weight |" in report and "frozen: linear probe on" in report
    assert "| Is the pretrained encoder better than none? | `finetune, matched` | `sl, matched` |" in report


def test_all_arms_but_sl_start_from_the_file(config, metrics):
    """The same seed has the same heads and batches in all arms."""
    domain, _ = image_data.read_domain(config)
    first = {run.arm: run.curve for run in metrics.runs if run.budget == "schedule"}
    assert first["ssl_then_sl"].ssl[0] == first["mixtraining"].ssl[0]
    assert first["finetune"].sl[0] != first["sl"].sl[0]
    assert domain.initial("sl") is None
    rows, images = Study(domain, config).rows(0.25, 0), domain.test
    train = domain.train.take(rows)
    found = [features_of(domain.features, domain.initial("finetune"), part) for part in (train, images)]
    reached = {reference.name.split(":")[0]: reference.accuracy for reference in metrics.references}
    args = found[0], train.labels_N, found[1], images.labels_N
    assert reached["frozen"] == pytest.approx(linear_probe(*args), abs=0.01)  # threads sum in other orders
    assert reached["k_nn"] == pytest.approx(k_nn(*args), abs=0.01)


def test_runs_that_self_supervise_are_probed(metrics):
    probed = {run.arm: run.probes for run in metrics.runs if run.budget == "schedule"}
    assert probed["sl"] is None and probed["finetune"] is None
    for arm in ("ssl_then_sl", "mixtraining"):
        assert len(probed[arm].step) == len(probed[arm].linear) == len(probed[arm].k_nn) == 1
        assert min(probed[arm].linear[0], probed[arm].k_nn[0]) > 0.2  # of ten classes


def test_the_plan_lists_what_is_taken(finished):
    said = finished[1]
    assert "18 keys taken; not used: head.bias, head.weight; not in it: tokens/mask_token" in said
    assert "pos_embed: grid of 3 x 3 to 2 x 2, bicubic" in said and "0.25 of the data, finetune" in said


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"init": Path("nowhere.safetensors")}, r"--init: nowhere.safetensors cannot be read"),
        ({"init_normalization": None}, r"--init: .* does not say how .*: give --init-normalization imagenet"),
        ({"model": "micro"}, r"--init: .* width 8 \(model: 96\), depth 1 \(model: 4\).*; give --model nano"),
        ({"model": "file"}, r"how many attention heads its 8 features"),
    ],
)
def test_a_start_that_does_not_fit_is_one_error_before_compute(config, tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        image_mixtraining.main(dataclasses.replace(config, out=tmp_path / "out", **change))
    assert not (tmp_path / "out").exists()


def test_the_size_may_be_that_of_the_file(config, tmp_path):
    file = saved(tmp_path, timm_vit(width=24, depth=1, patch=4, grid=2), num_attention_heads=3)
    domain, _ = image_data.read_domain(dataclasses.replace(config, init=file, model="file"))
    assert (domain.model["width"], domain.model["depth"], domain.model["heads"]) == (24, 1, 3)


def test_options_of_a_start_need_one():
    for options in ({"model": "file"}, {"init_normalization": "half"}):
        with pytest.raises(InputError, match=r"describe the file of --init: give it"):
            ImageMixTraining(**options)
    with pytest.raises(InputError, match=r"--probe probes --checkpoints times, which is 0"):
        ImageMixTraining(probe=True, checkpoints=0)


# ---------------------------------------------------------------- probes


def test_probes_are_spread_over_the_steps_that_self_supervise():
    plan = plan_steps([("ssl", 2), ("joint", 1), ("sl", 3)], 100)
    assert probe_steps(plan, 3) == [100, 200, 300] and probe_steps(plan, 0) == []
    assert probe_steps(plan_steps([("sl", 3)], 100), 3) == []


def test_probing_a_run_does_not_change_it():
    features = jax.jit(lambda params, inputs: linear_learner(0.75, False, False).encode(params, inputs, None))
    domain = dataclasses.replace(linear_domain(8), features=features)
    alone = Running(
        lambda done, of: None, lambda: Checkpoints(Path("never made"), "alone", every=10**9), lambda counts: None
    )
    found = []
    for probe in (False, True):
        study = Study(domain, dataclasses.replace(linear.OPTIONS, ssl_epochs=10, sl_epochs=10, probe=probe))
        trial = study.trial("mixtraining", study.options.settings("mixtraining"), 1.0, 0)
        found.append(run_trial(study, trial, domain.test, alone, evaluations=2))
    plain, probed = found
    assert plain["curve"] == probed["curve"] and plain["accuracy"] == probed["accuracy"]
    assert "probes" not in plain and probed["probes"]["step"] == [100, 150]
    assert min(probed["probes"]["linear"]) > 0.8  # of three classes around centers


# ---------------------------------------------------------------- the report


def with_start(level):
    """With `finetune` at the same FLOPs and accuracy `level`, plus 0.06 for the larger fraction."""
    start = Taken(
        "vit.safetensors", 64 * "0", "timm", NORMALIZATIONS["half"], ("cls_token",), ("as *is*",), (), (), SMALL
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(EPOCHS, FINETUNED, EPOCHS["sl", "matched"])
        made = made_up()
        runs = [
            one_run(*FINETUNED, fraction, seed, level + 0.06 * f + 0.001 * seed)
            for f, fraction in enumerate(made.fractions)
            for seed in made.seeds
        ]
    arms = SETTINGS | {"finetune": SETTINGS["sl"]}
    return dataclasses.replace(made, runs=(*made.runs, *runs), arms=arms, start=start).derived()


def test_a_pretrained_encoder_that_is_better_fine_tuned_is_said():
    better, worse = with_start(0.6), with_start(0.3)
    assert "less accurate than `finetune`, which only fine-tunes the same pretrained encoder, at 10%" in verdict(better)
    assert "finetune" not in verdict(worse)
    text = mixtraining_report(worse).markdown
    assert "start from the encoder in `vit.safetensors`" in text and r"as \*is\*" in text
    assert "`finetune`, matched" in summary_table(worse)
    assert "finetune" not in mixtraining_report(made_up()).markdown


def test_probes_are_a_third_row_of_the_learning_curves():
    probes = Probes((100, 800), (0.3, 0.5), (0.25, 0.4))
    found = changed(made_up(), ("ssl_then_sl", "schedule"), probes=probes)
    axes = figures.learning_curves_figure(found).axes
    assert len(axes) == 9 and [len(one.lines) for one in axes[6:]] == [0, 2, 0]
    np.testing.assert_allclose([line.get_ydata() for line in axes[7].lines], [[30, 50], [25, 40]])
    assert len(figures.learning_curves_figure(made_up()).axes) == 6
