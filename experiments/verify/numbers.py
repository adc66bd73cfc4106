"""Whether the numbers in a result file follow from each other.

Axes: K sources, S seeds.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from experiments.harness.stages import read_stage
from experiments.mixtraining.costs import kind_of
from experiments.reporting import markdown as md
from experiments.text_mixture.plan import COMBINED, OWN_ARMS, SHARED_ARMS
from experiments.verify.findings import Finding, Metrics, Result, differences, judged, skipped
from mixmin_jax.stats import comparison
from mixmin_jax.stats.paired_bootstrap import BootstrapDifference, interval_verdict

_WEIGHT_ROUNDING = 1e-6  # of a sum of weights; the solver keeps to 1e-9, arms that others chose may not
_SUMMARY = {"mean", "std", "per_seed"}


def summaries(result: Result) -> Iterator[Finding]:
    """Means and standard deviations, wherever they stand, from the seeds' values."""
    found = list(_summaries(result.metrics))
    wrong = [
        line
        for path, stated in found
        for line in differences(dict(stated), comparison.summary(stated["per_seed"]), path)
    ]
    yield judged(f"{len(found)} means and standard deviations follow from the seeds' values", wrong)
    seeds = len(result.metrics["seeds"])
    wrong = [f"{path} has {len(s['per_seed'])} values" for path, s in found if len(s["per_seed"]) != seeds]
    yield judged(f"each has the values of {md.plural(seeds, 'seed')}", wrong)


def _summaries(value: Any, path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(value, Mapping):
        if set(value) == _SUMMARY:
            yield path, value
        else:
            for key, part in value.items():
                yield from _summaries(part, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from _summaries(part, f"{path}[{number}]")


def weights(result: Result) -> Iterator[Finding]:
    """Weights are in [0, 1] and sum to 1; those of an arm are the mean of those of its seeds."""
    found, seeds = 0, result.metrics["seeds"]
    wrong: list[str] = []
    for path, weights_K in _weights(result.metrics):
        found += 1
        values_K = np.array(list(weights_K.values()), np.float64)
        if not ((values_K >= 0) & (values_K <= 1 + _WEIGHT_ROUNDING)).all():
            wrong.append(f"{path} has a weight outside of 0 to 1")
        if not abs(values_K.sum() - 1) <= _WEIGHT_ROUNDING:
            wrong.append(f"{path} sums to {values_K.sum():.9g}")
    yield judged(f"{found} mixtures have weights in [0, 1] that sum to 1", wrong)
    arms = {arm: held for arm, held in result.metrics["arms"].items() if "weights_per_seed" in held}
    wrong = []
    for arm, held in arms.items():
        per_seed = held["weights_per_seed"]
        wrong += [f"{arm} has weights of {len(per_seed)} seeds"] * (len(per_seed) != len(seeds))
        names = list(held["weights"])  # a source without weight may be left out
        wrong += [
            f"{arm}: {name} has weight in a seed alone" for s in per_seed for name in s if s[name] and name not in names
        ]
        mean = {name: float(np.mean([s.get(name, 0) for s in per_seed])) for name in names}
        wrong += differences(held["weights"], mean, f"arms.{arm}.weights")
    if arms:
        yield judged(f"the weights of {len(arms)} arms are the means of their seeds' weights", wrong)


def _weights(metrics: Metrics) -> Iterator[tuple[str, Mapping[str, float]]]:
    for arm, held in metrics["arms"].items():
        if "weights" in held:
            yield f"arms.{arm}.weights", held["weights"]
        for seed, weights_K in enumerate(held.get("weights_per_seed", ())):
            yield f"arms.{arm}.weights_per_seed[{seed}]", weights_K
    mixtures = metrics.get("random_mixtures")
    for number, mixture in enumerate(mixtures if isinstance(mixtures, list) else ()):
        yield f"random_mixtures[{number}].weights", mixture["weights"]


def certificates(result: Result) -> Iterator[Finding]:
    """The gap of every solved mixture is within the goal, is its seed's last, and is the largest of all seeds."""
    metrics = result.metrics
    wrong: list[str] = []
    solved = metrics.get("solved") or {
        arm: metrics[arm] for arm in ("mixmin", "mixmin_token", COMBINED) if isinstance(metrics.get(arm), Mapping)
    }
    for arm, found in solved.items():
        if not found["converged"]:
            wrong.append(f"{arm} did not converge")
        if "tolerance" in found and not found["gap"] <= found["tolerance"]:
            wrong.append(f"{arm}: the gap {found['gap']:.3g} is above the goal {found['tolerance']:.3g}")
        if arm in metrics.get("gap_history", ()):
            last = dict(zip(metrics["seeds"], (gaps[-1] for gaps in metrics["gap_history"][arm]), strict=True))
            wrong += differences(found["gap"], last[found["seed"]], f"{arm}, gap of seed {found['seed']}")
            wrong += differences(found["gap"], max(last.values()), f"{arm}, largest gap")
    yield judged(f"the certificates of {len(solved)} solved mixtures hold: gap within the goal", wrong)


def fidelity(result: Result) -> Iterator[Finding]:
    """Rank correlations from the points that they are of."""
    held = result.metrics["fidelity"]
    tables = {"": held} if "points" in held else held
    wrong: list[str] = []
    for name, found in tables.items():
        rows = [row for row, part in found.items() if isinstance(part, Mapping)]
        wrong += differences(found, comparison.fidelity(found["points"], rows), f"fidelity.{name}".rstrip("."))
    yield judged("rank correlations follow from the points", wrong)


def seeds(result: Result) -> Iterator[Finding]:
    """A complete run has all the seeds that were asked for."""
    metrics = result.metrics
    asked = metrics.get("config", {}).get("seeds")
    if asked is None:
        yield skipped("all seeds are there", "an earlier version wrote no configuration here")
        return
    wrong = [] if metrics["complete"] else ["the run did not end"]
    wrong += differences(metrics["seeds"], list(range(asked)), "seeds")
    yield judged(f"complete, with {md.plural(asked, 'seed')}", wrong)


def text_comparisons(result: Result) -> Iterator[Finding]:
    """Differences of `mixmin` to the other arms: paired over seeds, or over documents from the stages' scores."""
    metrics = result.metrics
    levels = {arm: found["test_bits_per_byte"]["per_seed"] for arm, found in metrics["arms"].items()}
    reached = [point for point in metrics["fidelity"]["points"] if point["label"] in levels]
    stated = [levels[point["label"]][metrics["seeds"].index(point["seed"])] for point in reached]
    yield judged(
        "the points of the arms are at their test losses",
        differences([point["reached"] for point in reached], stated, "fidelity.points.reached"),
    )
    scores = _test_scores(result)
    if scores is None:
        yield skipped("test losses follow from the scores of documents", "their stages are not in the folder")
    else:
        bits = np.log(2) * scores[0]["bytes"].sum()
        found = {arm: [float(seed[arm].sum() / bits) for seed in scores] for arm in levels}
        yield judged("test losses follow from the scores of documents", differences(levels, found))
    wrong: list[str] = []
    exact = True
    for arm, held in metrics["comparisons"].items():
        if len(metrics["seeds"]) > 1:
            difference = comparison.paired_difference(levels["mixmin"], levels[arm])
        elif scores is not None:
            difference = comparison.paired_bootstrap_over_documents(
                scores[0]["mixmin"], scores[0][arm], scores[0]["bytes"]
            )
        else:
            exact, paired = False, comparison.paired_difference(levels["mixmin"], levels[arm])
            difference = comparison.Difference(
                paired.mean, held["standard_error"], held["n"], paired.per_seed, "documents"
            )
        expected = dataclasses.asdict(difference) | {"verdict": comparison.verdict(difference)}
        wrong += differences(held, expected, f"comparisons.{arm}")
    what = f"{len(metrics['comparisons'])} comparisons and their verdicts follow from the test losses"
    yield judged(what if exact else f"{what}, standard errors apart", wrong)
    if not exact:
        yield skipped("standard errors over documents", "the stages with the documents' scores are not in the folder")


def _test_scores(result: Result) -> list[dict[str, np.ndarray]] | None:
    """Nats of each test document under every arm, and `bytes`, of each seed; None where a stage is missing."""
    target, groups = result.metrics["target"], {"shared-arms": SHARED_ARMS, "arms": OWN_ARMS}
    if COMBINED in result.metrics["arms"]:
        groups |= {f"{COMBINED}-arm": (COMBINED,)}
    found = []
    for seed in result.metrics["seeds"]:
        held: dict[str, np.ndarray] = {}
        for name, arms in groups.items():
            path = result.run / "stages" / f"score-{name}-{target}-seed{seed}.npz"
            if not path.exists():
                return None
            product, _ = read_stage(path)
            held |= dict(zip(arms, -product["document_DxM"].T, strict=True)) | {"bytes": product["bytes_D"]}
        found.append(held)
    return found


def molecule_comparisons(result: Result) -> Iterator[Finding]:
    """Differences of arms from their seeds' values, and verdicts from the intervals."""
    metrics = result.metrics
    wrong: list[str] = []
    for held in metrics["comparisons"]:
        name = f"{held['arm']} less {held['other']}, {held['metric']}"
        a_S, b_S = (metrics["arms"][held[which]][held["metric"]]["per_seed"] for which in ("arm", "other"))
        per_seed = np.subtract(a_S, b_S).tolist()
        wrong += differences(held["per_seed"], per_seed, f"{name}, per_seed")
        wrong += differences(held["mean"], float(np.mean(per_seed)), f"{name}, mean")
        interval = BootstrapDifference(*(held[key] for key in ("mean", "lower", "upper", "confidence", "per_seed")))
        wrong += differences(held["verdict"], interval_verdict(interval), f"{name}, verdict")
        wrong += [f"{name}: the interval is upside down"] * (held["lower"] > held["upper"])
    yield judged(
        f"{len(metrics['comparisons'])} differences follow from the arms, verdicts from their intervals", wrong
    )
    yield skipped("intervals", "scores and labels of the test molecules are in no result file")
    last = [point for point in metrics["growth"] if point["sources"] == len(metrics["sources"])]
    wrong = [
        line
        for point in last
        for metric in metrics["metrics"]
        for line in differences(point[metric], metrics["arms"][point["arm"]][metric], f"growth.{point['arm']}.{metric}")
    ]
    yield judged("with all sources, the growth ends at the arms", wrong)


def mixed_comparisons(result: Result) -> Iterator[Finding]:
    """Differences of `mixmin` to the other arms, paired by seed, and accuracies from those of the tasks."""
    metrics = result.metrics
    wrong: list[str] = []
    arms = metrics["arms"]
    for arm, held in metrics["comparisons"].items():
        pair = (arms[name]["accuracy"]["per_seed"] for name in ("mixmin", arm))
        difference = comparison.paired_difference(*pair)
        word = None if difference.standard_error is None else comparison.verdict(difference, better="higher")
        wrong += differences(held, dataclasses.asdict(difference) | {"verdict": word}, f"comparisons.{arm}")
    yield judged(f"{len(metrics['comparisons'])} comparisons and their verdicts follow from the accuracies", wrong)
    wrong = []
    for arm, held in arms.items():
        mean_S = np.mean([task["per_seed"] for task in held["accuracy_per_task"]], axis=0).tolist()
        wrong += differences(held["accuracy"]["per_seed"], mean_S, f"arms.{arm}.accuracy.per_seed")
    yield judged("accuracies are the means of those of the tasks", wrong)


def mixtraining_runs(result: Result) -> Iterator[Finding]:
    """FLOPs and seconds of every run from its steps and what a step costs; every seed has every run."""
    metrics = result.metrics
    wrong: list[str] = []
    costs, joint = metrics["steps"], metrics["schedule"]["joint"]
    for run in metrics["runs"]:
        kinds = {phase: kind_of(phase, run["arm"], joint, costs) for phase, count in run["steps"].items() if count}
        name = f"{run['arm']}, {run['budget']}, {run['fraction']:g}, seed {run['seed']}"
        for total, unit, scale in (("flops", "flops", 1), ("seconds", "ms", 1000)):
            counted = sum(run["steps"][phase] * costs[kind][unit] for phase, kind in kinds.items()) / scale
            wrong += differences(run[total], counted, f"{name}, {total}")
        wrong += [f"{name}: accuracy {run['accuracy']}"] * (not 0 <= run["accuracy"] <= 1)
    yield judged(f"FLOPs and seconds of {len(metrics['runs'])} runs follow from their steps", wrong)
    cells: dict[tuple[Any, ...], list[int]] = {}
    for run in metrics["runs"]:
        cells.setdefault((run["arm"], run["budget"], run["fraction"]), []).append(run["seed"])
    wrong = [f"{cell} has the seeds {found}" for cell, found in cells.items() if sorted(found) != metrics["seeds"]]
    yield judged("every arm, budget and fraction has one run of each seed", wrong)


def variant_runs(result: Result) -> Iterator[Finding]:
    """Every variant has a run of every seed."""
    seeds, variants = result.metrics["seeds"], result.metrics["variants"]
    wrong = [f"{name} has {len(runs)}" for name, runs in variants.items() if len(runs) != len(seeds)]
    yield judged(f"{len(variants)} variants have a run of each seed", wrong)


def regmix_means(result: Result) -> Iterator[Finding]:
    """Means over domains from the correlations."""
    held = result.metrics["spearman"]
    means = {model: {size: float(np.mean(list(v.values()))) for size, v in r.items()} for model, r in held.items()}
    yield judged(
        "mean correlations follow from those of the domains", differences(result.metrics["spearman_mean"], means)
    )
    wrong = [
        f"{m}.{s}.{d} is {rho}" for m, r in held.items() for s, v in r.items() for d, rho in v.items() if abs(rho) > 1
    ]
    yield judged("correlations are in [-1, 1]", wrong)


def file_losses(result: Result) -> Iterator[Finding]:
    """Weights of log-likelihood files: the loss of several targets from those of each."""
    metrics, records = result.metrics, result.metrics.get("targets", [])
    combine = metrics["config"].get("combine")
    wrong = list(differences(metrics["arms"]["mixmin"]["loss"], metrics["mixmin"]["loss"], "arms.mixmin.loss"))
    for record in records:
        wrong += differences(record["excess"], record["loss"] - record["reference"], f"{record['file']}, excess")
    if records:
        expected = (
            sum(record["price"] * record["loss"] for record in records)
            if combine == "weighted"
            else max(record["excess"] for record in records)
        )
        wrong += differences(metrics["mixmin"]["loss"], expected, "mixmin.loss")
    yield judged("the loss follows from those of the targets", wrong)
