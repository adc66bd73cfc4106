"""Self-supervision on more examples than have labels, on a domain of vectors and on tiny pictures and texts."""

import dataclasses

import jax
import numpy as np
import pytest
from PIL import Image

from experiments.harness.command_line import parse
from experiments.harness.data_sets import read_again
from experiments.harness.result_files import read_result
from experiments.mixtraining.config import ARMS
from experiments.mixtraining.images import data as image_data
from experiments.mixtraining.images.config import PRESETS, ImageMixTraining
from experiments.mixtraining.plan import Study
from experiments.mixtraining.report import mixtraining_report
from experiments.mixtraining.results import JOINT_LABELED, MixTrainingMetrics
from experiments.mixtraining.run import run_experiment
from experiments.mixtraining.text import data as text_data
from experiments.mixtraining.text.config import TextMixTraining
from mixmin_jax.errors import InputError
from tests.experiments.made_up_text import WORDS, sentences, write_lines
from tests.experiments.mixtraining.linear_domain import OPTIONS, linear_domain, vectors
from tests.experiments.verify.verified import assert_verified

DOMAIN = linear_domain(8)
POOL = dataclasses.replace(DOMAIN, unlabeled=vectors(80, 9).inputs)
FEW_LABELS = dataclasses.replace(OPTIONS, fractions=(1.0,), label_fractions=(0.05, 0.5), seeds=1)
SETTINGS = {arm: OPTIONS.settings(arm) for arm in ARMS}


def is_among(rows_BxD, all_NxD):
    return (rows_BxD[:, None] == all_NxD[None]).all(2).any(1)


def test_without_a_pool_nothing_changes():
    study = Study(DOMAIN, OPTIONS)
    assert study.fetch is DOMAIN.fetch and len(study.data(0.5, 0)) == 2
    assert all(trial.num_pool is None and "ssl_examples" not in trial.inputs for trial in study.trials(SETTINGS))


@pytest.mark.parametrize(
    ("domain", "options", "pool", "of_all"),
    [
        (POOL, dataclasses.replace(OPTIONS, fractions=(0.1,)), 12 + 80, False),
        (DOMAIN, dataclasses.replace(OPTIONS, label_fractions=(0.1,)), 120, True),
        (POOL, dataclasses.replace(OPTIONS, label_fractions=(0.1,)), 120 + 80, True),
    ],
)
def test_ssl_rows_come_from_the_pool_and_sl_rows_have_labels(domain, options, pool, of_all):
    study = Study(domain, options)
    labeled = study.subset(0.1, 0)
    key, *arrays = (jax.random.key(0), *study.data(0.1, 0))
    assert len(labeled) == 12 and len(arrays[2]) == pool
    batches = [jax.device_get(study.fetch(t, key, key, *arrays)) for t in range(pool // 8)]
    sl_BxD, labels_B = (np.concatenate(part) for part in zip(*(batch.sl[0] for batch in batches), strict=True))
    ssl_BxD = np.concatenate([batch.ssl for batch in batches])
    which_B = (sl_BxD[:, None] == labeled.inputs[None]).all(2).argmax(1)
    assert is_among(sl_BxD, labeled.inputs).all() and (labels_B == labeled.labels_N[which_B]).all()
    assert np.ptp(np.bincount(which_B, minlength=12)) <= 1  # labeled examples repeat evenly
    assert len(np.unique(ssl_BxD, axis=0)) == len(ssl_BxD)  # each once in an epoch
    with_labels = is_among(ssl_BxD, domain.train.inputs).sum()
    assert (with_labels > 12) == of_all and is_among(ssl_BxD, arrays[2]).all()


def test_the_number_of_steps_does_not_depend_on_the_labels():
    study = Study(POOL, FEW_LABELS)
    trials = {(t.fraction, t.arm, t.budget): t for t in study.trials(SETTINGS)}
    assert len(study.subset(0.05, 0)) == 6 < OPTIONS.batch_size
    for (fraction, arm, budget), trial in trials.items():
        assert trial.plan.phase.tolist() == trials[0.5, arm, budget].plan.phase.tolist()
        if (arm, budget) == ("ssl_then_sl", "labeled"):
            assert trial.plan.phase.tolist() == trials[fraction, arm, "schedule"].plan.phase.tolist()
            assert trial.inputs != trials[fraction, arm, "schedule"].inputs
        elif budget != "schedule":
            one = max(study.step_flops(trial.settings, budget=budget).values())
            assert abs(study.cost(trial) - study.cost(trials[fraction, "ssl_then_sl", "schedule"])) <= one / 2
    unmatched = Study(POOL, dataclasses.replace(FEW_LABELS, matched=False)).trials(SETTINGS)
    assert {trial.budget for trial in unmatched} == {"schedule"}


def test_only_joint_steps_pay_for_both_batches():
    alone, both = (Study(domain, OPTIONS).step_flops(SETTINGS["mixtraining"]) for domain in (DOMAIN, POOL))
    labeled = Study(POOL, OPTIONS).step_flops(SETTINGS["mixtraining"], budget="labeled")
    draw = 1000  # FLOPs at most, of rows that repeat
    assert all(abs(both[phase] - alone[phase]) < draw for phase in ("ssl", "sl")) and both["sl"] == labeled["sl"]
    assert both["joint"] > 1.5 * alone["joint"] and abs(labeled["joint"] - alone["joint"]) < draw


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("pool") / "out"
    entry = {"origin": "made up", "examples": 80, "copies_of_test": 2, "skipped": 0, "fingerprint": "0123"}
    domain = dataclasses.replace(POOL, dataset={**POOL.dataset, "unlabeled": entry})
    options = dataclasses.replace(FEW_LABELS, out=out, label_fractions=(0.05,), checkpoints=0)
    return run_experiment("text_mixtraining", domain, options, demonstration=False), out


@pytest.mark.slow
def test_a_run_says_what_unlabeled_data_are_worth(finished):
    metrics, out = finished
    assert metrics == read_result(out / "metrics.json", MixTrainingMetrics)
    assert (metrics.fractions, metrics.examples, metrics.ssl_examples) == ((0.05,), (6,), (200,))
    budgets = {run.budget: run.flops for run in metrics.runs if run.arm == "mixtraining"}
    assert budgets["labeled"] == pytest.approx(budgets["matched"], rel=0.05)
    assert metrics.steps[JOINT_LABELED].flops < metrics.steps["joint_visible"].flops
    said = (out / "report.md").read_text()
    assert "- **With 5% of the labels (6 of 120 examples labeled) " in said
    assert "## What unlabeled data are worth" in said and "5% of the labels (" in said
    assert "80 windows without labels" in said and "2 that are in the test set were left out" in said
    rows = [line for line in said.splitlines() if "| 6 | 200 |" in line]
    assert len(rows) == 2 and [row.split("|")[1].strip() for row in rows] == ["`ssl_then_sl`", "`mixtraining, matched`"]
    assert_verified(out)


@pytest.mark.slow
def test_reports_need_unlabeled_data_or_label_fractions_and_not_both(finished):
    metrics, _ = finished
    config = {name: value for name, value in metrics.config.items() if name != "label_fractions"}  # as if not given
    said = mixtraining_report(dataclasses.replace(metrics, config=config)).markdown
    assert "80 windows without labels" in said and "of the labels" not in said
    dataset = dataclasses.replace(metrics.dataset, unlabeled=None)
    said = mixtraining_report(dataclasses.replace(metrics, dataset=dataset)).markdown
    assert "windows without labels beside" not in said and "5% of the labels (" in said


@pytest.mark.slow
def test_a_run_without_the_comparison_says_so(finished):
    metrics, _ = finished
    runs = tuple(run for run in metrics.runs if run.budget != "labeled")
    assert "their worth is not known" in mixtraining_report(dataclasses.replace(metrics, runs=runs)).markdown


def test_labels_of_all_and_of_a_share_are_not_asked_for_at_once(capsys):
    for bad, message in (({"label_fractions": (0.0,)}, "--label-fractions must lie"),):
        with pytest.raises(InputError, match=message):
            dataclasses.replace(OPTIONS, **bad)
    with pytest.raises(SystemExit):
        parse(ImageMixTraining, PRESETS, ["--preset", "micro", "--fractions", "0.5", "--label-fractions", "0.1"])
    assert "label-fractions" in capsys.readouterr().err
    found = parse(ImageMixTraining, PRESETS, ["--preset", "micro", "--label-fractions", "0.1", "0.2"])
    assert found.shares == (0.1, 0.2)


# ---------------------------------------------------------------- images


def picture(path, seed, shape=(8, 8, 3)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8)).save(path)


@pytest.fixture
def pictures(tmp_path):
    """30 pictures of each of two classes to train on, four to test on, and five without labels, one of which is
    tested on."""
    for label, name in enumerate(("cat", "dog")):
        for part, count in (("train", 30), ("test", 4)):
            for n in range(count):
                picture(tmp_path / part / name / f"{n:02}.png", (label, n, len(part)))
    for n in range(4):
        picture(tmp_path / "Unlabelled" / "deep" / f"{n}.png", (7, n))
    picture(tmp_path / "Unlabelled" / "copy.png", (0, 1, 4))
    return tmp_path


def config(folder, **changes):
    return ImageMixTraining(
        out=folder / "out", dataset=f"folder:{folder}", batch_size=8, patch_size=4, dry_run=True, seeds=1, **changes
    )


@pytest.mark.slow
def test_images_without_labels_are_found_and_are_no_class(pictures, capsys):
    domain, _ = image_data.read_domain(config(pictures))
    assert domain.classes == ("cat", "dog") and len(domain.unlabeled) == 4
    found = domain.dataset["unlabeled"]
    assert (found["examples"], found["copies_of_test"]) == (4, 1) and found["origin"].endswith(", Unlabelled")
    assert [record.role for record in domain.data_sets][2] == "images without labels"
    loaded = {}
    assert [read_again(record, loaded) for record in domain.data_sets] == list(domain.data_sets)
    run_experiment("image_mixtraining", domain, config(pictures, label_fractions=(0.2,)), demonstration=False)
    said = capsys.readouterr().out
    assert (
        "sees all training examples, and 4 without labels: folder:" in said
        and "(1 left out, which are tested on)" in said
    )
    assert "0.2 of the labels, ssl_then_sl, labeled: 10 examples" in said


def test_images_without_labels_can_be_given_or_left_out(pictures):
    other = pictures / "more"
    picture(other / "a" / "0.png", 50)
    picture(other / "1.png", 51)
    given, _ = image_data.read_domain(config(pictures, unlabeled=str(other)))
    assert len(given.unlabeled) == 2 and "Unlabelled" in given.notices[-1]
    assert [read_again(record, {}) for record in given.data_sets] == list(given.data_sets)
    none, _ = image_data.read_domain(config(pictures, unlabeled="none"))
    assert none.unlabeled is None and "Unlabelled is left out" in " ".join(none.notices)
    assert "unlabeled" not in none.dataset


@pytest.mark.parametrize(
    ("shape", "message"), [((9, 8, 3), r"0.png is 8 x 9; .*--image-size"), ((8, 8), "no image in it")]
)
def test_images_without_labels_that_do_not_fit_are_refused(pictures, shape, message):
    other = pictures / "more"
    other.mkdir()
    if len(shape) == 3:
        picture(other / "0.png", 1, shape)
    with pytest.raises(InputError, match=message):
        image_data.read_domain(config(pictures, unlabeled=str(other)))
    if len(shape) == 3:
        resized, _ = image_data.read_domain(config(pictures, unlabeled=str(other), image_size=8))
        assert resized.unlabeled.shape == (1, 8, 8, 3)


def test_color_images_without_labels_are_not_made_gray(tmp_path):
    picture(tmp_path / "0.png", 1)
    with pytest.raises(InputError, match=r"0\.png: a color image, but those with labels are gray"):
        image_data.read_domain(ImageMixTraining(unlabeled=str(tmp_path)))
    picture(tmp_path / "0.png", 1, (8, 8))
    assert image_data.read_domain(ImageMixTraining(unlabeled=str(tmp_path)))[0].unlabeled.shape == (1, 8, 8, 1)


# ---------------------------------------------------------------- text


def test_text_without_labels_is_found_and_is_no_class(tmp_path):
    for seed, (name, words) in enumerate(list(WORDS.items())[:2]):
        write_lines(tmp_path / f"{name}.jsonl", sentences(words, 30, seed, 30))
    options = TextMixTraining(sources=(str(tmp_path),), length=12, windows=60, test_windows=30, batch_size=16)
    before = text_data.read_domain(options)
    assert before.unlabeled is None
    more = sentences([*list(WORDS.values())[2]], 20, 5, 30)
    first = next(iter(WORDS))
    write_lines(tmp_path / "unsup.jsonl", [*more, *sentences(WORDS[first], 30, 0, 30)])
    domain = text_data.read_domain(options)
    assert domain.classes == before.classes and (domain.train.inputs == before.train.inputs).all()
    found = domain.dataset["unlabeled"]
    assert found["copies_of_test"] == 9  # three tenths of the 30 documents of a class
    assert found["examples"] == len(domain.unlabeled) > 100
    few = text_data.read_domain(dataclasses.replace(options, unlabeled_windows=10))
    assert len(few.unlabeled) == 10
    none = text_data.read_domain(dataclasses.replace(options, unlabeled=("none",)))
    assert none.unlabeled is None and "unsup is left out" in none.notices[0]
    given = text_data.read_domain(dataclasses.replace(options, unlabeled=(str(tmp_path / "unsup.jsonl"),)))
    assert (given.unlabeled == domain.unlabeled).all()


def test_text_needs_two_classes_beside_the_text_without_labels(tmp_path):
    for seed, name in enumerate(("one", "unlabeled")):
        write_lines(tmp_path / f"{name}.jsonl", sentences(["ab", "cd"], 30, seed, 30))
    with pytest.raises(InputError, match="unlabeled is text without labels: give two classes beside it, not only one"):
        text_data.read_domain(TextMixTraining(sources=(str(tmp_path),), length=12))
