"""From the stages' products to the numbers of metrics.json.

Axes: T a target's test molecules, A assays, K its sources, S seeds, R resamples.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.harness.data_sets import table_record
from experiments.harness.stages import Stages, made_elsewhere, skipped_steps
from experiments.molecule_mixture.plan import ARMS, GROWTH_ARMS, SOLVED_ARMS, Plan, Target, config_record, identity
from experiments.molecule_mixture.stages import SeedResult, TargetRows
from mixmin_jax.stats.comparison import RANDOM_MIXTURE, fidelity, summary
from mixmin_jax.stats.paired_bootstrap import bootstrap_difference, interval_verdict, resampled_metric
from mixmin_jax.stats.prediction_metrics import CLASSIFICATION_METRICS, REGRESSION_METRICS, evaluate

SCHEMA_VERSION = 1
NUM_RESAMPLES = 1000
# (arm, other): what the report compares, the first less the second
COMPARED = (
    *(("mixmin", arm) for arm in ("own", "natural", "uniform", "random_search")),
    ("mixmin_own", "own"),
    ("mixmin_own", "natural_own"),
    ("mixmin_own", "mixmin"),
)


def build_metrics(
    plan: Plan, target: Target, results: Sequence[SeedResult], stages: Stages, provenance: Mapping[str, Any]
) -> dict[str, Any]:
    """metrics.json of one target from the seeds that are done; `complete` says whether those are all."""
    config, rows = plan.config, TargetRows(plan, target, plan.split.is_test_N)
    metrics = CLASSIFICATION_METRICS if config.task == "classification" else REGRESSION_METRICS
    scores = {arm: np.stack([result.test_scores[arm] for result in results]) for arm in ARMS}
    scaffold_T = plan.split.molecules.scaffold_N[rows.index_T]
    resampled = {
        metric: resampled_metric(scores, rows.value_T, metric, NUM_RESAMPLES, groups_N=scaffold_T) for metric in metrics
    }
    predicted = {arm: np.stack([result.predicted[arm] for result in results]) for arm in ARMS}
    worst = {
        arm: max(results, key=lambda r: (not r.solutions[arm]["converged"], r.solutions[arm]["gap"]))
        for arm in SOLVED_ARMS
    }
    records = stages.records_of(target.name)
    return {
        "schema_version": SCHEMA_VERSION,
        "experiment": "molecule_mixture",
        "demonstration": config.demonstration,
        "complete": len(results) == config.seeds,
        "task": config.task,
        "loss": _loss_unit(plan),
        "balance": config.balanced,
        "calibrated": config.calibrate,
        "learner": config.learner,
        "metrics": list(metrics),
        "target": target.name,
        "seeds": [result.seed for result in results],
        "sources": list(target.sources),
        "arms": {
            arm: {metric: summary(resampled[metric][arm][:, 0]) for metric in metrics}
            | {
                "test_loss": summary(rows.losses(scores[arm].T)),
                "predicted_loss": summary(rows.losses(predicted[arm].T)),
                "weights": _named(np.mean([result.weights[arm] for result in results], axis=0), plan),
                "weights_per_seed": [_named(result.weights[arm], plan) for result in results],
            }
            for arm in ARMS
        },
        "comparisons": [
            {"arm": arm, "other": other, "metric": metric} | _compare(resampled[metric][arm], resampled[metric][other])
            for arm, other in COMPARED
            for metric in metrics
        ],
        "resamples": NUM_RESAMPLES,
        "growth": _growth(plan, target, results, metrics, rows.value_T),
        "solved": {
            arm: {key: value for key, value in result.solutions[arm].items() if key != "gap_history"}
            | {"seed": result.seed}
            for arm, result in worst.items()
        },
        "gap_history": {arm: [result.solutions[arm]["gap_history"] for result in results] for arm in SOLVED_ARMS},
        "fidelity": {what: fidelity(_points(rows, results, what), rows=("molecule",)) for what in (metrics[0], "loss")},
        "random_mixtures": plan.num_random,
        "models": plan.models | {"seeds": config.seeds, "targets": len(plan.targets), "folds": config.folds},
        "flops_per_model": plan.flops_per_model,
        "data": _data(plan, target),
        "overlap": _overlap(plan, target),
        "data_sets": [table_record(plan.split.table, config.assays)],
        "config": config_record(config),
        "identity": identity(plan),
        **provenance,
        "stage_commits": sorted({str(record.made_by["git_commit"]) for record in records.values()}),
        **made_elsewhere(records, provenance),
        "seconds": {name: record.seconds for name, record in records.items()},
        **skipped_steps(config, records),
    }


def _compare(a_SxR: np.ndarray, b_SxR: np.ndarray) -> dict[str, Any]:
    difference = bootstrap_difference(a_SxR, b_SxR)
    return dataclasses.asdict(difference) | {"verdict": interval_verdict(difference)}


def _growth(
    plan: Plan, target: Target, results: Sequence[SeedResult], metrics: Sequence[Any], value_T: np.ndarray
) -> list[dict[str, Any]]:
    """Every metric of the arms that grow, at each number of sources; the last number is all of them."""
    everything = {len(target.sources): [{arm: result.test_scores[arm] for arm in GROWTH_ARMS} for result in results]}
    scores = {number: [result.growth[number] for result in results] for number in plan.numbers_of_sources} | everything
    return [
        {"sources": number, "arm": arm}
        | {metric: summary([evaluate(metric, seed[arm], value_T)[0] for seed in seeds]) for metric in metrics}
        for number, seeds in scores.items()
        for arm in GROWTH_ARMS
    ]


def _points(rows: TargetRows, results: Sequence[SeedResult], what: Any) -> list[dict[str, Any]]:
    """Predicted and reached, the loss or a metric, of every model trained on a mixture, on the test molecules."""

    def judge(score_T: np.ndarray) -> float:
        return float((rows.losses(score_T[:, None]) if what == "loss" else evaluate(what, score_T, rows.value_T))[0])

    arms = [
        {"seed": result.seed, "label": arm, "size": "all molecules", "predicted_molecule": judge(result.predicted[arm])}
        | {"reached": judge(result.test_scores[arm])}
        for result in results
        for arm in ARMS
    ]
    random = [
        {
            "seed": result.seed,
            "label": RANDOM_MIXTURE,
            "size": "without a fold",
            "predicted_molecule": judge(predicted_T),
        }
        | {"reached": float(np.mean([judge(score_T) for score_T in score_FxT]))}
        for result in results
        for predicted_T, score_FxT in zip(result.random_predicted_RxT, result.random_scores_RxFxT, strict=True)
    ]
    return arms + random


def _loss_unit(plan: Plan) -> str:
    if plan.config.task == "regression":
        return "mean squared error"
    return "nats per molecule, classes alike" if plan.config.balanced else "nats per molecule"


def _data(plan: Plan, target: Target) -> dict[str, Any]:
    split, molecules = plan.split, plan.split.molecules
    train, test = split.train_counts, split.test_counts
    kinds = ("positives", "negatives") if plan.config.task == "classification" else ("molecules",)
    cleaning = molecules.cleaning
    return {
        "table": split.table.origin,
        **split.table.fingerprint,
        "rows": cleaning.rows,
        "molecules": len(molecules.smiles),
        "unparsable": [list(row) for row in cleaning.unparsable],
        "salts": cleaning.salts,
        "duplicates": cleaning.duplicates,
        "conflicts": cleaning.conflicts,
        "ignored_columns": split.table.ignored,
        "assays": len(split.names),
        "unusable_assays": split.unusable,
        "train_molecules": int(plan.train_N.sum()),
        "test_molecules": int(split.is_test_N.sum()),
        "target": {
            f"{part}_{what}": int(counts[target.column])
            for part, both in (("train", train), ("test", test))
            for what, counts in zip(kinds, both, strict=False)
        },
        "train_molecules_per_source": _named(plan.sizes_A.astype(float), plan, target.sources),
    }


def _overlap(plan: Plan, target: Target) -> dict[str, dict[str, float]]:
    """How many of the target's training molecules each source has, and the reverse: {"of_target", "of_source"}."""
    is_measured_NxA = np.isfinite(plan.split.values_NxA[plan.train_N])
    shared_A = is_measured_NxA[is_measured_NxA[:, target.column]].sum(0)
    return {
        "of_target": _named(shared_A / shared_A[target.column], plan, target.sources),
        "of_source": _named(shared_A / np.maximum(plan.sizes_A, 1), plan, target.sources),
    }


def _named(values_A: np.ndarray, plan: Plan, only: Sequence[str] | None = None) -> dict[str, float]:
    """By assay: those in `only`, or those that are not 0."""
    names = plan.split.names
    if only is not None:
        return {name: float(value) for name, value in zip(names, values_A, strict=True) if name in set(only)}
    return {name: float(value) for name, value in zip(names, values_A, strict=True) if value != 0}
