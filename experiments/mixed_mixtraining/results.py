"""metrics.json of the experiment that joins both papers."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.harness.data_sets import text_record
from experiments.harness.stages import Product, Stages, made_elsewhere, skipped_steps
from experiments.mixed_mixtraining.plan import ARMS, MIXTURES, SSL_ARMS, Plan, config_record
from experiments.mixed_mixtraining.stages import SeedResult
from mixmin_jax.data.text.source_notes import as_record
from mixmin_jax.stats.comparison import paired_difference, summary, verdict

SCHEMA_VERSION = 1
SUBJECT = "mixmin"  # what the other arms are compared with


def build_metrics(
    plan: Plan, results: Sequence[SeedResult], overlap: Product, stages: Stages, made_by: Mapping[str, Any]
) -> dict[str, Any]:
    """The numbers of the seeds that are done, with all that they rest on."""
    config = plan.config
    reached = {arm: [float(np.mean(result.runs[arm]["accuracies"])) for result in results] for arm in ARMS}
    worst = max(results, key=lambda result: (not result.solution["converged"], result.solution["gap"]))
    hidden = ("weights", "gap_history", "document_NxK", "bytes_N")
    return {
        "schema_version": SCHEMA_VERSION,
        "experiment": "mixed_mixtraining",
        "demonstration": config.demonstration,
        "complete": len(results) == config.seeds,
        "seeds": [result.seed for result in results],
        "sources": list(plan.names),
        "tasks": [
            {
                "classes": list(task.classes),
                "labels_per_class": len(examples) // len(task.classes),
                "test": len(task.test),
                "shared_documents_left_out": task.num_shared,
                "documents": {corpus.name: corpus.num_documents for corpus in task.corpora},
            }
            for task, examples in zip(plan.tasks, plan.labelled(0), strict=True)
        ],
        "arms": {arm: _arm(plan, arm, reached[arm], results) for arm in ARMS},
        "comparisons": {arm: _compare(reached[SUBJECT], reached[arm]) for arm in ARMS if arm != SUBJECT},
        "references": [
            {"task": number, "name": name, "accuracy": summary([result.references[number][name] for result in results])}
            for number in range(len(plan.tasks))
            for name in results[0].references[number]
        ],
        "mixmin": {key: value for key, value in worst.solution.items() if key not in hidden} | {"seed": worst.seed},
        "gap_history": {SUBJECT: [result.solution["gap_history"] for result in results]},
        "overlap": dict(overlap),
        "flops": {"proxies": plan.proxy_flops, "arms": {arm: plan.flops(arm) for arm in ARMS}, "step": plan.step_flops},
        "model": {
            "name": config.model,
            "parameters": sum(plan.parameters.values()),
            "encoder_parameters": plan.parameters["encoder"],
        },
        "data": {
            corpus.name: {"documents": corpus.num_documents, "bytes": corpus.num_bytes, "windows": int(windows)}
            for corpus, windows in zip(plan.sources, plan.store.windows_K, strict=True)
        },
        "source_notes": as_record(plan.notes),
        "data_sets": _data_sets(plan),
        "config": config_record(config),
        "identity": plan.identity,
        "made_by": dict(made_by),
        "stage_commits": stages.commits(),
        **made_elsewhere(stages.records, made_by),
        "seconds": {name: record.seconds for name, record in stages.records.items()},
        **skipped_steps(config, stages.records),
    }


def _data_sets(plan: Plan) -> list[dict[str, Any]]:
    """What the run reads, source by source and class by class."""
    field = None if plan.config.demonstration else plan.config.field
    classes = [(number, corpus) for number, task in enumerate(plan.tasks) for corpus in task.corpora]
    return [
        *(text_record("source", corpus, field) for corpus in plan.sources),
        *(text_record(f"class of task {number}", corpus, field) for number, corpus in classes),
    ]


def _arm(plan: Plan, arm: str, reached: Sequence[float], results: Sequence[SeedResult]) -> dict[str, Any]:
    runs = [result.runs[arm] for result in results]
    found = {
        "accuracy": summary(reached),
        "accuracy_per_task": [
            summary([run["accuracies"][number] for run in runs]) for number in range(len(plan.tasks))
        ],
        "test_loss": summary([float(np.mean(run["test_losses"])) for run in runs]),
        "steps": runs[0]["steps"],
        "flops": plan.flops(arm),
        "wall_seconds": summary([run["wall_seconds"] for run in runs]),
        "curves": [run["curve"] for run in runs],
    }
    if arm in SSL_ARMS:
        # the labelled windows are the last source that is drawn from
        epochs_SxK = np.array([run["draws"] for run in runs])[:, :-1] / plan.store.windows_K
        found["epochs"] = _named(epochs_SxK.mean(0), plan.names)
    if arm in MIXTURES:
        weights_SxK = np.stack([result.weights[arm] for result in results])
        found["weights"] = _named(weights_SxK.mean(0), plan.names)
        found["weights_per_seed"] = [_named(w_K, plan.names) for w_K in weights_SxK]
        found["proxy_loss"] = summary([result.proxy_loss[arm] for result in results])
    return found


def _compare(subject: Sequence[float], other: Sequence[float]) -> dict[str, Any]:
    """Accuracy of `mixmin` less that of another arm, paired by seed; no verdict from one seed."""
    difference = paired_difference(subject, other)
    known = difference.standard_error is not None
    return dataclasses.asdict(difference) | {"verdict": verdict(difference, better="higher") if known else None}


def _named(values_K: np.ndarray, names: tuple[str, ...]) -> dict[str, float]:
    return {name: float(value) for name, value in zip(names, values_K, strict=True)}
