"""The molecule experiment end to end, tiny: part of the bundled table, two targets, two seeds."""

import csv
import dataclasses
import json
import shutil

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from experiments import report as report_again
from experiments.harness import command_line, result_files, stages
from experiments.harness.replacement import UNFINISHED
from experiments.molecule_mixture import report as molecule_reports
from experiments.molecule_mixture.__main__ import QUESTION, main
from experiments.molecule_mixture.config import MoleculeMixture
from experiments.molecule_mixture.data import choose_sources, choose_targets, read_molecules
from experiments.molecule_mixture.plan import MIXED_ARMS, describe_plan, make_plan
from experiments.molecule_mixture.report import conclusion, molecule_gains, molecule_report, molecule_summary
from experiments.molecule_mixture.results import Collapsed, MoleculeMetrics
from experiments.molecule_mixture.stages import CrossFitted, ModelCounts, SeedStages, TargetRows, best_sound_mixture
from mixmin_jax.data.molecules.bundled import bundled_assays
from mixmin_jax.errors import InputError
from mixmin_jax.stats.comparison import summary
from mixmin_jax.training.boosted_trees import TreeRun
from mixmin_jax.training.logistic_learner import LogisticRun
from mixmin_jax.training.mlp_learner import MlpRun
from mixmin_jax.training.multitask import MultitaskRun
from tests.experiments.molecule_mixture.made_up import record, with_verdicts
from tests.experiments.verify.verified import assert_verified, failures

NUM_MOLECULES = 500


def write_table(path, smiles, columns):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["smiles", "name", *columns])
        for n, text in enumerate(smiles):
            cells = ["" if np.isnan(values[n]) else f"{values[n]:g}" for values in columns.values()]
            writer.writerow([text, f"molecule {n}", *cells])


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Related assays of the first molecules, one with too few positives, and two with labels by chance."""
    bundled, rng = bundled_assays(), np.random.default_rng(0)
    values_NxA = bundled.values_NxA[:NUM_MOLECULES]
    enough_A = ((values_NxA == 1).sum(0) > 60) & ((values_NxA == 0).sum(0) > 60)
    chosen = np.flatnonzero(enough_A)[:5]
    columns = {bundled.assays[a]: values_NxA[:, a] for a in chosen}
    # their gaps are those of the other target, so that the programs of both have one shape
    gaps_N = np.isnan(columns["heavy"])
    columns |= {f"chance/{c}": np.where(gaps_N, np.nan, rng.random(NUM_MOLECULES) < 0.4) for c in range(2)}
    columns["rare"] = (np.arange(NUM_MOLECULES) < 4).astype(float)
    path = tmp_path_factory.mktemp("molecules") / "table.csv"
    write_table(path, [*bundled.smiles[: NUM_MOLECULES - 1], "no molecule"], columns)
    return path


@pytest.fixture(scope="module")
def config(table, tmp_path_factory):
    return MoleculeMixture(
        assays=table,
        num_targets=2,
        seeds=2,
        numbers_of_sources=(3, 300),
        random_mixtures=4,
        min_positives=10,
        min_test_positives=5,
        bits=128,
        learner="logistic",
        logistic=LogisticRun((10.0, 100.0)),
        perceptron=MlpRun(hidden=(8,), steps=20, batch_size=64),
        multitask=MultitaskRun(hidden=8, epochs=2.0),
        trees=TreeRun(rounds=3, depth=2),
        out=tmp_path_factory.mktemp("run") / "out",
    )


@pytest.fixture(scope="module")
def finished(config):
    main(config)
    return config.out


def load(out, target):
    return result_files.read_result(out / result_files.file_name(target) / "metrics.json", MoleculeMetrics)


@pytest.fixture(scope="module")
def plan(config):
    return make_plan(read_molecules(config))


def test_every_target_gets_its_files(finished, plan):
    assert len(plan.targets) == 2
    for target in plan.targets:
        folder = finished / target.file_name
        assert {path.name for path in folder.iterdir()} == {
            "weights.json", "metrics.json", "report.md", "report.html", "weights.png", "scores.png", "gap.png",
            "fidelity.png", "growth.png",
        }  # fmt: skip
    assert {path.name for path in finished.iterdir() if path.is_file()} == {
        "config.json", "status.json", "summary.md", "gains.md", "index.html", "gains.png", "growth.png",
    }  # fmt: skip
    assert json.loads((finished / "status.json").read_text()) == {"complete": True}
    assert (finished / "gains.md").read_text() in (finished / "summary.md").read_text()


def test_metrics_hold_what_readers_rely_on(finished, plan):
    for target in plan.targets:
        metrics = load(finished, target.name)
        assert list(metrics.arms) == list(plan.arms) and metrics.complete and metrics.seeds == (0, 1)
        for name, arm in metrics.arms.items():
            assert 0 < arm.scores["average_precision"].mean <= 1 and len(arm.scores["roc_auc"].per_seed) == 2
            if name not in MIXED_ARMS:
                assert arm.weights is None and arm.predicted_loss is None
                continue
            assert sum(arm.weights.values()) == pytest.approx(1)
            assert (target.name in arm.weights) == (name in ("own", "natural_own")) or name == "mixmin_own"
        assert all(solved.converged and solved.gap <= solved.tolerance for solved in metrics.solved.values())
        # labels by chance teach nothing that holds for other molecules; some seem to, by chance
        assert metrics.collapsed.flat and set(metrics.collapsed.flat) <= {"chance/0", "chance/1"}
        assert list(metrics.grown()) == [3, len(target.sources)]
        assert metrics.data.target_test.positives >= 5
        assert metrics.data.unparsable[0][:2] == (NUM_MOLECULES + 1, "no molecule")
        assert set(metrics.data.unusable_assays) == {"rare"} and metrics.data.ignored_columns == {"name": "text"}
        assert tuple(metrics.data.sources) == tuple(metrics.data.shared) == target.sources
        assert {found.correlations.all.n for found in metrics.fidelity.values()} == {2 * (len(MIXED_ARMS) + 4)}
        assert metrics.cost.random_mixtures_per_target == 4 and metrics.cost.random_mixtures == 2 * 4


def test_a_finished_run_is_verified_and_what_was_tampered_with_is_named(finished, plan, tmp_path):
    held = assert_verified(finished, with_data=True)
    assert any(line.startswith("data: assays table.csv") for line in held)
    out = shutil.copytree(finished, tmp_path / "out")
    path = out / plan.targets[1].file_name / "metrics.json"
    metrics = json.loads(path.read_text())
    compared = metrics["comparisons"][0]
    compared["verdict"] = {"wins": "ties", "ties": "wins", "loses": "ties"}[compared["verdict"]]
    metrics["comparisons"][2] |= {"lower": 0.2, "upper": 0.1}
    metrics["arms"]["mixmin"]["weights_per_seed"].reverse()
    metrics["solved"]["mixmin_own"]["gap"] = 1.0
    path.write_text(json.dumps(metrics))
    shutil.rmtree(out / plan.targets[0].file_name)
    found = failures(out)
    what = " ".join(f"{what}: {why}" for what, why in found.items())
    assert "comparisons[0].verdict is" in what and "arms.mixmin.weights_per_seed" in what
    assert "mixmin less natural, average_precision: the interval is upside down" in what
    assert "mixmin_own: the gap 1 is above the tolerance" in what
    assert found["targets (1) are those of one run"] == f"there is none of {plan.targets[0].name}"


def test_what_follows_from_other_numbers_is_computed_again():
    found = record()
    assert found.derived().compared("mixmin", "natural").mean == pytest.approx(-0.03)
    wrong = dataclasses.replace(found.comparisons[0], lower=0.1, verdict="loses")
    assert dataclasses.replace(found, comparisons=(wrong,)).derived().comparisons[0].verdict == "wins"
    fidelity = found.fidelity["loss"]
    assert fidelity.derived() == fidelity and fidelity.correlations.random_mixtures.spearman == 1
    turned = dataclasses.replace(fidelity, reached=fidelity.reached[::-1])
    assert turned.derived().correlations.random_mixtures.spearman is None
    arm = dataclasses.replace(found.arms["own"], weights={"a": 1.0})
    assert arm.derived().weights == {"a": 0.875, "b": 0.125}


def test_a_report_that_cannot_be_rendered_leaves_the_results_whole(finished, config, plan, monkeypatch, tmp_path):
    out = shutil.copytree(finished, tmp_path / "out")
    for path in out.glob("*/*.json"):
        path.unlink()
    monkeypatch.setattr(molecule_reports, "TOP_SOURCES", "many")
    with pytest.raises(result_files.NotRendered, match=r"cannot be rendered, metrics.json is whole \(TypeError"):
        main(dataclasses.replace(config, out=out))
    for target in plan.targets:
        metrics = load(out / UNFINISHED, target.name)
        assert metrics.seeds == (0,) and not metrics.complete
        for name, content in QUESTION.files(metrics).items():
            assert json.loads((out / UNFINISHED / target.file_name / name).read_text()) == content


def stage_arrays(folder, name):
    with np.load(folder / "stages" / f"{name}.npz") as file:
        return {key.removeprefix("array/"): file[key] for key in file.files if key.startswith("array/")}


def test_own_arm_s_numbers_can_be_computed_from_the_stages(finished, plan):
    """Average precision and predicted loss, from the raw products, by other code."""
    target, is_test_N = plan.targets[0], plan.split.is_test_N
    metrics = load(finished, target.name)
    labels_N = plan.split.molecules.values_NxA[is_test_N, target.column]
    measured_N = np.isfinite(labels_N)
    test_NxM = stage_arrays(finished, "arms-seed1")["scores_NxM"][is_test_N]
    assert test_NxM.shape[1] == 2 * plan.num_arms
    for arm in ("own", "natural"):
        expected = average_precision_score(labels_N[measured_N], test_NxM[measured_N, MIXED_ARMS.index(arm)])
        assert metrics.arms[arm].scores["average_precision"].per_seed[1] == pytest.approx(expected)

    found, own = stage_arrays(finished, "proxies-seed0"), np.searchsorted(plan.proxy_columns, target.column)
    assert np.isnan(found["heldout_NxM"][is_test_N]).all() and not np.isnan(found["heldout_NxM"][plan.train_N]).any()
    score_FxN = found["test_FxNxM"][:, measured_N, own].astype(float)
    logit_FxN = found["slope_F1xM"][-1, own] * score_FxN + found["intercept_F1xM"][-1, own]
    p_N, y_N = (1 / (1 + np.exp(-logit_FxN))).mean(0), labels_N[measured_N]
    by_class = [-np.log(np.where(y_N == 1, p_N, 1 - p_N))[y_N == label].mean() for label in (0, 1)]
    assert metrics.arms["own"].predicted_loss.per_seed[0] == pytest.approx(np.mean(by_class), rel=1e-5)


def test_a_fold_is_calibrated_on_the_labels_of_the_other(finished, plan):
    target, found = plan.targets[0], stage_arrays(finished, "proxies-seed0")
    own = np.searchsorted(plan.proxy_columns, target.column)
    labels_N, fold_N = plan.split.molecules.values_NxA[:, target.column], plan.split.folds(0)
    for fold in range(2):
        other_N = (fold_N == 1 - fold) & np.isfinite(labels_N)
        scores, labels = found["heldout_NxM"][other_N, own][:, None], labels_N[other_N]
        fit = LogisticRegression(C=1e8, class_weight="balanced").fit(scores, labels)
        assert found["slope_F1xM"][fold, own] == pytest.approx(max(fit.coef_[0, 0], 0), rel=1e-2, abs=1e-6)


def test_no_model_sees_the_molecule_that_it_is_judged_on(plan):
    for seed in range(2):
        fold_N = plan.split.folds(seed)
        assert ((fold_N < 0) == plan.split.is_test_N).all() and set(fold_N) == {-1, 0, 1}
        for scaffold in np.unique(plan.split.molecules.scaffold_N):
            assert len(set(fold_N[plan.split.molecules.scaffold_N == scaffold])) == 1
    assert not np.array_equal(plan.split.folds(0), plan.split.folds(1))


def contents(*folders):
    return {path: path.read_bytes() for folder in folders for path in folder.iterdir() if path.is_file()}


@pytest.mark.slow
def test_a_second_run_computes_nothing_and_the_report_module_writes_the_same(finished, config, monkeypatch, plan):
    folder = finished / plan.targets[0].file_name
    before = contents(folder, finished)
    monkeypatch.setattr(stages, "_write", lambda *_: pytest.fail("a stage ran again"))
    main(config)
    report_again.main(report_again.Report((finished,)))
    assert contents(folder, finished) == before


@pytest.mark.slow
def test_a_source_that_is_the_target_in_disguise_gets_the_weight(table, tmp_path):
    """Its molecules are the target's, its labels too: nothing else can predict better."""
    rows = list(csv.DictReader(table.read_text().splitlines()))
    name = next(column for column in rows[0] if column not in ("smiles", "name"))
    copied = {"twin": name, "chance/0": "chance/0", "chance/1": "chance/1", "target": name}
    columns = {new: [float(row[old] or "nan") for row in rows] for new, old in copied.items()}
    twin = tmp_path / "twin.csv"
    write_table(twin, [row["smiles"] for row in rows], columns)
    config = MoleculeMixture(
        assays=twin, target=("target",), keep=("twin",), seeds=1, numbers_of_sources=(), random_mixtures=2,
        min_positives=10, min_test_positives=5, bits=256, split="random",
        out=tmp_path / "out",
    )  # fmt: skip
    main(config)
    metrics = load(tmp_path / "out", "target")
    assert metrics.arms["mixmin"].weights["twin"] > 0.7
    precision = {arm: metrics.arms[arm].scores["average_precision"].mean for arm in ("mixmin", "own", "natural")}
    assert precision["mixmin"] > precision["natural"] and precision["mixmin"] == pytest.approx(
        precision["own"], abs=0.1
    )
    report = molecule_report(metrics)
    assert "Number of sources" not in report.markdown and "growth.png" not in report.figures


@pytest.mark.slow
def test_two_assays_give_a_run_with_one_source_each(config, tmp_path):
    few = dataclasses.replace(config, seeds=1, sources=1, random_mixtures=None, target=("heavy",), out=tmp_path / "out")
    main(few)
    metrics = load(tmp_path / "out", "heavy")
    (source,) = metrics.data.sources
    assert all(metrics.arms[arm].weights == {source: 1} for arm in ("mixmin", "natural", "uniform", "random_search"))
    assert set(metrics.arms["mixmin_own"].weights) <= {source, "heavy"} and metrics.growth == ()
    assert metrics.compared("mixmin", "natural").verdict == "ties" and metrics.cost.random_mixtures == 1


@pytest.mark.slow
def test_trees_go_through_the_same_stages(config, tmp_path):
    main(dataclasses.replace(config, learner="trees", seeds=1, out=tmp_path / "out", numbers_of_sources=()))
    assert '"learner": "trees"' in next((tmp_path / "out").glob("*/metrics.json")).read_text()


@pytest.mark.slow
def test_the_learner_that_predicts_left_out_molecules_best_is_taken(config, tmp_path):
    config = dataclasses.replace(config, learner="auto", seeds=1, numbers_of_sources=(), fingerprints="ecfp_counts")
    config = dataclasses.replace(config, out=tmp_path / "out", perceptron=MlpRun(hidden=(8,), steps=1, batch_size=8))
    main(config)
    for target in make_plan(read_molecules(config)).targets:
        metrics = load(tmp_path / "out", target.name)
        means = {learner: np.mean(losses) for learner, losses in metrics.choice.losses.items()}
        assert set(means) == {"logistic", "perceptron", "trees"} and metrics.choice.collapsed["perceptron"] > 0
        assert metrics.learner == min(("logistic", "trees"), key=means.get)  # one step of training learns nothing
        assert "was taken for all models" in molecule_report(metrics).markdown and metrics.learner != "perceptron"


@pytest.mark.slow
def test_measured_values_are_predicted_by_squared_error(tmp_path):
    bundled, rng = bundled_assays(), np.random.default_rng(0)
    smiles = bundled.smiles[:200]
    size_N = np.array([len(text) for text in smiles], float)
    columns = {f"size {c}": 3 * c + 10 * size_N + rng.normal(size=200) for c in range(3)} | {
        "noise": rng.normal(size=200)
    }
    write_table(tmp_path / "sizes.csv", smiles, columns)
    config = MoleculeMixture(
        assays=tmp_path / "sizes.csv", task="regression", target=("size 0",), keep=("size 1", "size 2"), seeds=1,
        numbers_of_sources=(), random_mixtures=2, bits=64, split="random", out=tmp_path / "out",
    )  # fmt: skip
    main(config)
    metrics = load(tmp_path / "out", "size 0")
    assert metrics.metrics == ("spearman", "r_squared") and not metrics.balanced
    report = (tmp_path / "out" / result_files.file_name("size 0") / "report.md").read_text()
    assert "positive" not in report and "log-likelihood" not in report and "labels" not in report
    assert metrics.arms["mixmin"].scores["spearman"].mean > 0.3
    weights = metrics.arms["mixmin"].weights  # some of `noise`, which predicts the mean, shrinks the others
    assert weights.get("size 1", 0) + weights.get("size 2", 0) > 0.6
    values_N = read_molecules(config).values_NxA[~read_molecules(config).is_test_N, 0]
    assert values_N.mean() == pytest.approx(0, abs=1e-5) and values_N.std() == pytest.approx(1, abs=1e-5)


def test_targets_are_chosen_by_their_number_of_positives_at_equal_distances(config):
    split = read_molecules(config)
    everything = choose_targets(dataclasses.replace(split, config=dataclasses.replace(config, num_targets=99)))
    positives = [(split.molecules.values_NxA[:, split.names.index(name)] == 1).sum() for name in everything]
    assert positives == sorted(positives) and "rare" not in everything
    assert choose_targets(split) == (everything[0], everything[-1])
    few = dataclasses.replace(split, config=dataclasses.replace(config, sources=3))
    sources = choose_sources(few, everything[0])
    train_positives = (split.molecules.values_NxA[~split.is_test_N] == 1).sum(0)
    least = min(train_positives[split.names.index(name)] for name in sources)
    others = set(split.names) - set(sources) - {everything[0]} - set(split.unusable)
    assert len(sources) == 3 and all(train_positives[split.names.index(name)] <= least for name in others)


def test_the_loss_of_a_balanced_target_gives_both_classes_half(plan):
    rows = TargetRows(plan, plan.targets[0], plan.train_N)
    assert rows.weight_T[rows.value_T == 1].sum() == pytest.approx(0.5) and rows.weight_T.sum() == pytest.approx(1)
    assert rows.losses(np.zeros((len(rows.value_T), 1)))[0] == pytest.approx(np.log(2))


def test_the_mixture_of_proxies_predicts_the_mean_probability(plan):
    rows, rng = TargetRows(plan, plan.targets[0], plan.train_N), np.random.default_rng(0)
    score_FxTxK, weights_K = 3 * rng.normal(size=(2, len(rows.value_T), 3)), np.array([0.5, 0.5, 0.0])
    p_T = (1 / (1 + np.exp(-score_FxTxK))).mean(0) @ weights_K
    assert rows.mixture_predictions(score_FxTxK, weights_K) == pytest.approx(np.log(p_T / (1 - p_T)))
    sure_FxTxK = np.full((1, len(rows.value_T), 1), 2000.0)
    assert rows.mixture_predictions(sure_FxTxK, np.ones(1)) == pytest.approx(2000)


@pytest.mark.parametrize("name", ["a/b", "a b", "../../x", "...", "stages", "summary.md", "x" * 300, "naïve", ""])
def test_any_name_of_an_assay_becomes_one_file_name_of_its_own(name):
    found = result_files.file_name(name)
    assert found not in (name, "") and "/" not in found and not found.startswith(".") and len(found) < 100
    assert found != result_files.file_name(name + "_") and result_files.file_name("TOX21_p53.2-a") == "TOX21_p53.2-a"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": ("rare",)}, "--target rare: fewer than 10 among the training molecules"),
        ({"target": ("chance/7",)}, "is no assay of .*closest names? .*chance/"),
        ({"target": ("name",)}, "left out of the assays .*text"),
        ({"min_test_positives": 400}, "no assay of .* has enough data to be a target"),
        ({"assays": None, "ignore": ("x",)}, "give --assays"),
        ({"assays": None, "labels": ("active=1",)}, "give --assays"),
        ({"labels": ("active=2",)}, "--labels active=2: expected CELL=1, CELL=0 or CELL="),
        ({"labels": ("active=1,Active=0",)}, "--labels: 'Active' is there twice"),
        ({"task": "regression", "labels": ("hit=1",)}, "measured values have no labels"),
        ({"keep": ("rare",), "ignore": ("rare",)}, "--keep and --ignore both name 'rare'"),
        ({"folds": 1}, "--folds must be at least 2"),
        ({"seeds": 0}, "--seeds must be at least 1"),
        ({"sources": 0}, "--sources must be at least 1"),
        ({"task": "regression", "contradictions": "majority"}, "values that differ are averaged"),
        ({"max_bytes": 1000}, "max_bytes 1000 is less than"),
        ({"max_unparsable": 0.0}, "no molecule"),
    ],
)
def test_bad_input_is_named_before_any_training(config, changes, message):
    with pytest.raises(InputError, match=message):
        make_plan(read_molecules(dataclasses.replace(config, **changes)))


def test_the_plan_says_what_it_will_do_and_a_dry_run_does_no_more(config, plan, tmp_path, capsys):
    main(dataclasses.replace(config, dry_run=True, out=tmp_path / "none"))
    told = capsys.readouterr().out
    *lines, time = told.strip().splitlines()
    assert lines == describe_plan(plan).splitlines()[:-1] and not (tmp_path / "none").exists()
    assert time.startswith("In all about ") and time.endswith(
        " by logistic, as a product of matrices suggests here, without compiling"
    )
    names = [target.name for target in plan.targets]
    counts = plan.split.unusable["rare"].partition("(")[2].rstrip(")")
    columns = [
        "  smiles: structures",
        f"  targets, 2 of {len(plan.split.can_be_targets)} that can be: {', '.join(names)}",
        f"  sources and no targets, 5: {', '.join(n for n in plan.split.names if n not in (*names, 'rare'))}",
        f"  neither target nor source, as fewer than 10 among the training molecules, 1: rare ({counts})",
        "  no assay, as text, 1: name",
    ]
    place = lines.index("Columns:") + 1
    assert lines[place : place + len(columns)] == columns
    assert "scaffold split" in told and "(logistic)" in told


def test_a_source_that_nearly_copies_the_target_is_called_a_leak(config, plan, table, tmp_path):
    (target, *_), rows = plan.targets, list(csv.reader(table.read_text().splitlines()))
    column = rows[0].index(target.name)
    flipped = {"0": "1", "1": "0", "": "", target.name: "reverse"}
    copied = tmp_path / "copied.csv"
    with copied.open("w", newline="") as file:
        csv.writer(file).writerows(
            [*row, row[column] if n else "copy", flipped[row[column]]] for n, row in enumerate(rows)
        )
    asked = dataclasses.replace(config, assays=copied, target=(target.name,))
    found = make_plan(read_molecules(asked))
    assert found.targets[0].sources == target.sources and set(found.split.leaks(target.name)) == {"copy", "reverse"}
    assert "copy is a leak, and no source: rank correlation 1.00 on" in describe_plan(found)
    kept = make_plan(read_molecules(dataclasses.replace(asked, keep=("copy",))))
    assert {*kept.targets[0].sources} == {*target.sources, "copy"}
    assert plan.split.leaks(target.name) == {}


def test_the_command_line_knows_the_options():
    parsed = command_line.parse(
        MoleculeMixture, arguments=["--target", "a", "b", "--perceptron.steps", "3", "--no-balance"]
    )
    assert parsed.target == ("a", "b") and parsed.perceptron.steps == 3 and not parsed.balance


@pytest.mark.parametrize(
    ("found", "sentences"),
    [
        (record(), ["`mixmin` ties with `own`, `natural`, `uniform` and `random_search`.",
                    "(`mixmin_own`) makes no clear difference: +0.000, -0.100 to +0.100 against `own`.",
                    "The highest mean average precision on the test molecules has `natural_own`: 0.610 ± 0.071."]),
        (with_verdicts(record(), "loses"), ["**`mixmin` loses against `own` (-0.200, -0.300 to -0.100), `natural`",
                                            "(`mixmin_own`) harms: -0.200, -0.300 to -0.100 against `own`.**",
                                            "**MixMin's weights are worse than half own, half natural"]),
        (with_verdicts(record(), "wins"), ["`mixmin` wins against `own` (+0.200, +0.100 to +0.300), `natural`",
                                           "(`mixmin_own`) helps: +0.200, +0.100 to +0.300 against `own`.",
                                           "MixMin's weights are better than half own, half natural"]),
        (with_verdicts(record(), natural="wins", uniform="loses"), ["**`mixmin` loses against `uniform` (",
                                                                    "`mixmin` wins against `natural` (",
                                                                    "ties with `own` and `random_s"]),
        (record(complete=False, demonstration=True, solved={
            "mixmin": dataclasses.replace(record().solved["mixmin"], converged=False)
        }), ["**This run did not end", "a demonstration on computed properties and decides nothing.**",
             "**The weights of `mixmin` are not solved to tolerance.**"]),
    ],
)  # fmt: skip
def test_the_first_three_rules_that_hold_are_said(found, sentences):
    told = conclusion(found)
    places = [told.index(sentence) for sentence in sentences]
    assert places == sorted(places) and told.count(". ") + told.count(".** ") == 2
    assert f"\n\n{told}\n\n| difference |" in molecule_report(found).markdown


def test_a_report_says_what_a_reader_is_warned_of():
    found = record()
    told = molecule_report(found).markdown
    assert "the sources have measured 25% to 67% (median 50%)" in told and "not corrected for the number" in told
    assert "4 of 16 are positive: a random order has an average precision of about 0.250" in told
    assert "| 3 others |" not in told and "| 1 others | 0.000 |" in told and "Row 7 is not readable: `no \\|" in told
    assert "Not used: `rare`, one class only." in told and "`name` is no assay (text)." in told
    assert "One seed:" not in told and "**loses**" not in told and "growth.png" in told and "were skipped" not in told
    one = molecule_report(dataclasses.replace(with_verdicts(found, "loses"), seeds=(0,), growth=())).markdown
    assert "One seed:" in one and "**loses**" in one and "growth.png" not in one
    skipped = molecule_report(dataclasses.replace(found, skipped_steps={"arms-seed0": {"own of target": 2}})).markdown
    assert "2 of `own of target`" in skipped
    flat = molecule_report(
        dataclasses.replace(found, models=ModelCounts(8, 0, 0, None), collapsed=Collapsed(flat=("a", "b")))
    )
    assert (
        "2 sources had a proxy, in some seed, that tells nothing" in flat.markdown and ": `a` and `b`." in flat.markdown
    )


def test_differences_that_are_too_small_tie_and_decided_ones_show_what_decides():
    found = with_verdicts(record(matters=0.005), "wins")
    near = dataclasses.replace(found.comparisons[0], lower=0.0003)
    reached = found.arms["own"].scores["average_precision"].per_seed
    for gain, verdict in ((0.004, "ties"), (0.006, "wins")):
        scores = {
            "average_precision": summary(np.array(reached) + gain),
            "roc_auc": found.arms["own"].scores["roc_auc"],
        }
        arms = found.arms | {"mixmin": dataclasses.replace(found.arms["mixmin"], scores=scores)}
        judged = dataclasses.replace(found, arms=arms, comparisons=(near, *found.comparisons[1:])).derived()
        assert judged.compared("mixmin", "own").verdict == verdict
        told = molecule_report(judged).markdown
        assert "Differences below 0.005 in either metric are called ties." in told
        assert ("| `mixmin` less `own` | +0.0060, +0.0003 to +0.3000 | wins |" in told) == (verdict == "wins")


def test_the_summary_says_which_verdicts_holm_leaves():
    def with_p(p_value, verdict="wins"):
        found = with_verdicts(record(), verdict)
        comparisons = tuple(dataclasses.replace(one, p_value=p_value) for one in found.comparisons)
        return dataclasses.replace(found, comparisons=comparisons)

    line = "| `mixmin` less `own` | +0.200 ± 0.000 | +0.200 | +0.200 | 2 | 0 | 0 |"
    assert f"{line} 2 wins | 2 better, 0 worse: p = 0.5 |" in molecule_gains([with_p(0.02), with_p(0.04)])
    assert f"{line} none | 2 better" in molecule_gains([with_p(0.03), with_p(0.04)])
    assert f"{line} not on record | 2 better" in molecule_gains([with_p(0.02), with_p(None)])


def test_gains_over_an_arm_that_learned_nothing_are_in_no_mean():
    def undecided(found):
        comparisons = [dataclasses.replace(one, mean=9.0, verdict=None) for one in found.comparisons]
        return dataclasses.replace(found, comparisons=tuple(comparisons))

    found = molecule_summary([with_verdicts(record(), "wins"), undecided(record())])
    assert "| `mixmin` less `own` | +0.200 | +0.200 | +0.200 | 1 | 0 | 0 |" in found
    assert "| fewer than 30 | 2 | +0.200 | +0.200 | +0.200 |" in found
    nothing = molecule_summary([undecided(record())])
    assert "| `mixmin` less `own` | left out |  |  | 0 | 0 | 0 |" in nothing and "paper's abstract" not in nothing


def test_random_search_takes_no_mixture_that_collapsed_unless_all_did():
    mixtures, losses = np.eye(3), np.array([0.1, 0.3, 0.2])
    for is_collapsed, best in (([False] * 3, 0), ([True, False, False], 2), ([True] * 3, 0)):
        flat = np.zeros(3, bool)
        random = CrossFitted([], mixtures, np.zeros((1, 3)), np.zeros((2, 1, 3)), np.array(is_collapsed), flat)
        np.testing.assert_array_equal(best_sound_mixture(random, losses), mixtures[best])


def test_other_arms_are_judged_on_the_training_molecules_of_each_target(plan):
    label, other = (np.nan_to_num(plan.split.values_NxA[:, target.column]) for target in plan.targets)
    scores_NxT = np.stack([2 * label - 1, np.where(plan.split.is_test_N, other, 0)], axis=1)
    assert SeedStages(plan, 0, None, None, "logistic").collapsed_on_targets(scores_NxT).tolist() == [False, True]


def test_the_summary_counts_verdicts_over_targets():
    runs = [record(), with_verdicts(record(), "loses", natural="wins")]
    gains = molecule_gains(runs)
    assert "| `mixmin` less `natural` | +0.100 ± 0.100 | +0.000 | +0.200 | 1 | 1 | 0 |" in gains
    assert "| `mixmin` less `own` | -0.100 ± 0.100 | -0.200 | +0.000 | 0 | 1 | 1 |" in gains
    assert "| `target` | 20 / 4 |" in gains and "+0.03 to +0.15" in gains
    summary = molecule_summary(runs)
    assert gains in summary
    assert "| 2 | +0.000 (+0.000 to +0.000) | -0.120 (-0.120 to -0.120) |" in summary
    assert "| fewer than 30 | 2 | +0.100 ± 0.100 | -0.100 ± 0.100 | -0.100 ± 0.100 |" in summary
    assert not any(word in summary for word in ("did not end", "demonstration", "not solved"))
    unsolved = {"mixmin": dataclasses.replace(record().solved["mixmin"], converged=False)}
    warned = molecule_summary([record(demonstration=True), record(complete=False, solved=unsolved)])
    assert all(word in warned for word in ("did not end", "**Weights of `target` are not solved", "decides nothing"))
    assert "sources, average" not in molecule_summary([record(growth=())])
