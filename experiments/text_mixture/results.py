"""From the stages' products to the numbers of metrics.json."""

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.harness.options import numbers_of
from experiments.harness.stages import Product, Stages, made_elsewhere, skipped_steps
from experiments.text_mixture.config import TextMixture
from experiments.text_mixture.data import Target
from experiments.text_mixture.plan import Plan
from experiments.text_mixture.stages import SeedResult, divergence_records, solved_arms
from mixmin_jax.data.text.documents import Corpus
from mixmin_jax.data.text.source_notes import as_record
from mixmin_jax.stats.comparison import (
    RANDOM_MIXTURE,
    fidelity,
    paired_bootstrap_over_documents,
    paired_difference,
    summary,
    verdict,
)
from mixmin_jax.training.source_monitor import ERRORS, RISE

SCHEMA_VERSION = 1
NUM_WORST = 5  # near-duplicates that the report shows; overlap.json has all


def build_metrics(
    plan: Plan,
    target: Target,
    results: Sequence[SeedResult],
    overlap: Product,
    stages: Stages,
    provenance: dict[str, Any],
) -> dict[str, Any]:
    """metrics.json of one target from the seeds that are done; `complete` says whether those are all."""
    names, config = plan.names, plan.config
    bytes_D = np.array([len(document) for document in target.documents("test")])
    bits = math.log(2) * bytes_D.sum()
    levels = {arm: [float(result.test_nats[arm].sum() / bits) for result in results] for arm in plan.arms}
    solved = solved_arms(plan)
    worst = {
        arm: max(results, key=lambda r: (not r.solutions[arm]["converged"], r.solutions[arm]["gap"])) for arm in solved
    }
    records = stages.records_of(target.name)
    return {
        "schema_version": SCHEMA_VERSION,
        "experiment": "text_mixture",
        "demonstration": config.demonstration,
        "complete": len(results) == config.seeds,
        "target": target.name,
        "seeds": [result.seed for result in results],
        "sources": list(names),
        "arms": {arm: _arm(arm, levels[arm], results, plan) for arm in plan.arms},
        "comparisons": {
            arm: _compare(levels["mixmin"], levels[arm], results, arm, bytes_D) for arm in plan.arms if arm != "mixmin"
        },
        **{
            arm: {key: value for key, value in result.solutions[arm].items() if key != "gap_history"}
            | {"seed": result.seed}
            for arm, result in worst.items()
        },
        "gap_history": {arm: [result.solutions[arm]["gap_history"] for result in results] for arm in solved},
        "fidelity": fidelity(_points(levels, results)),
        "random_mixtures": [
            {"seed": result.seed, "weights": _named(w_K, names), "test_bits_per_byte": float(reached)}
            for result in results
            for w_K, reached in zip(result.random_RxK, result.random_reached_R, strict=True)
        ],
        "overlap": {key: overlap[key] for key in ("ngram", "threshold", "sources")}
        | {"worst": [_with_part(match, target) for match in overlap["matches"][:NUM_WORST]]}
        | _dropped(overlap, target),
        "monitors": _monitors(plan, results),
        "source_notes": as_record(plan.care.notes),
        "flops": plan.flops_of(target),
        "tokens": {
            role: run.num_windows * run.sequence_length
            for role, run in (("proxy", config.proxy), ("target", config.model))
        },
        "regmix": {
            "model": plan.regmix_model,
            "runs": plan.num_random,
            "more_compute_than_mixmin": plan.num_random > len(names),
        },
        "max_epochs": config.max_epochs,
        "data": {
            "sources": {corpus.name: _counts(corpus) | _as_read(plan, corpus) for corpus in plan.sources},
            "target": {"name": target.name}
            | _counts(target.corpus)
            | {
                f"{part}_{what}": value
                for part in ("fit", "test")
                for what, value in (
                    ("documents", len(getattr(target, part))),
                    ("bytes", sum(map(len, target.documents(part)))),
                )
            }
            | {"split_seed": config.split_seed, "fit_fraction": config.fit_fraction}
            | {f"{part}_document_numbers": getattr(target, part).tolist() for part in ("fit", "test")},
        },
        "config": config_record(config),
        "identity": identity(plan),
        **provenance,
        "stage_commits": sorted({str(record.made_by["git_commit"]) for record in records.values()}),
        **made_elsewhere(records, provenance),
        "seconds": {name: record.seconds for name, record in records.items()},
        **skipped_steps(config, records),
    }


def config_record(config: TextMixture) -> dict[str, Any]:
    """The configuration as JSON, with what is needed to run it again."""
    record = json.loads(json.dumps(dataclasses.asdict(config), default=str))
    return numbers_of(record)


def identity(plan: Plan) -> dict[str, Any]:
    """What makes two runs the same: everything that the results depend on, and nothing else."""
    data = ("sources", "sources_info", "drop_duplicates", "target", "field")  # by the hashes of what is trained on
    elsewhere = (*data, "tokens_on")
    return {key: value for key, value in config_record(plan.config).items() if key not in elsewhere} | {
        "data": plan.inputs["sources"],
        "targets": {target.name: target.corpus.fingerprint for target in plan.targets},
    }


def _with_part(match: dict[str, Any], target: Target) -> dict[str, Any]:
    """Which part of the target the document of a near-duplicate is in; most are in none under a byte budget."""
    parts = [part for part in ("fit", "test") if match["document"] in getattr(target, part)]
    return match | {"part": (parts or ["unused"])[0]}


def _dropped(overlap: Product, target: Target) -> dict[str, Any]:
    """What --drop-duplicates took out: documents of each source, for all targets, and the worst of this one's."""
    if "dropped" not in overlap:
        return {}
    sources, matches = overlap["dropped"]["sources"], overlap["dropped"]["matches"]
    worst = sorted(matches, key=lambda match: -match["share"])[:NUM_WORST]
    return {
        "dropped": {name: len(documents) for name, documents in sources.items()},
        "target_documents_repeated": len({match["document"] for match in matches}),
        "worst_dropped": [_with_part(match, target) for match in worst],
    }


def _as_read(plan: Plan, corpus: Corpus) -> dict[str, Any]:
    """How the source's files differ from what is trained on."""
    if plan.care.deduplicated is None:
        return {}
    dropped = plan.care.deduplicated.dropped[corpus.name]
    return {"near_duplicates_dropped": len(dropped), "sha256_as_read": plan.care.read_as[corpus.name]}


def _monitors(plan: Plan, results: Sequence[SeedResult]) -> dict[str, Any]:
    """What the trainings of the arms saw: shares asked and sampled, losses over the run, and what diverged."""

    def seen(result: SeedResult, arm: str) -> dict[str, Any]:
        monitor, asked_K = result.monitors[arm], result.weights[arm]
        bits_KxS = monitor.loss_SxMxK[:, 0].T / math.log(2)
        return {
            "seed": result.seed,
            "asked": _named(asked_K / asked_K.sum(), plan.names),
            "sampled": _named(monitor.sampled_MxK[0], plan.names),
            "bits_per_byte": {
                name: [float(bits) if math.isfinite(bits) else None for bits in bits_S]
                for name, bits_S in zip(plan.names, bits_KxS, strict=True)
            },
        }

    return {
        "steps": results[0].monitors["mixmin"].ends_S.tolist(),
        "windows": plan.config.model.num_windows,
        "rise": RISE,
        "errors": ERRORS,
        "arms": {arm: [seen(result, arm) for result in results] for arm in plan.arms},
        "divergences": [
            record
            for arm in plan.arms
            for result in results
            for record in divergence_records(plan, result.seed, arm, result.monitors[arm], result.weights[arm])
        ],
    }


def _arm(arm: str, levels: list[float], results: Sequence[SeedResult], plan: Plan) -> dict[str, Any]:
    weights_SxK = np.stack([result.weights[arm] for result in results])
    epochs_SxK = np.stack([result.draws[arm] for result in results]) / plan.store.windows_K
    return {
        "test_bits_per_byte": summary(levels),
        "weights": _named(weights_SxK.mean(0), plan.names),
        "weights_per_seed": [_named(w_K, plan.names) for w_K in weights_SxK],
        "epochs": _named(epochs_SxK.mean(0), plan.names),
        "predicted_bits_per_byte": {
            row: summary([result.predicted[arm][row] for result in results]) for row in ("document", "token")
        },
    }


def _compare(
    mixmin: list[float], other: list[float], results: Sequence[SeedResult], arm: str, bytes_D: np.ndarray
) -> dict[str, Any]:
    """MixMin minus another arm: over seeds, or, with one seed, over the test documents."""
    if len(results) > 1:
        difference = paired_difference(mixmin, other)
    else:
        nats = results[0].test_nats
        difference = paired_bootstrap_over_documents(nats["mixmin"], nats[arm], bytes_D)
    return dataclasses.asdict(difference) | {"verdict": verdict(difference)}


def _points(levels: dict[str, list[float]], results: Sequence[SeedResult]) -> list[dict[str, Any]]:
    """Predicted and reached losses of every model trained on a mixture, in bits per byte of the test part."""

    def point(seed: int, label: str, size: str, predicted: dict[str, float], reached: float) -> dict[str, Any]:
        values = {f"predicted_{row}": value for row, value in predicted.items()}
        return {"seed": seed, "label": label, "size": size, "reached": float(reached)} | values

    arms = [
        point(result.seed, arm, "target", result.predicted[arm], levels[arm][s])
        for s, result in enumerate(results)
        for arm in levels
    ]
    random = [
        point(result.seed, RANDOM_MIXTURE, "proxy", predicted, reached)
        for result in results
        for predicted, reached in zip(result.random_predicted, result.random_reached_R, strict=True)
    ]
    return arms + random


def _named(values_K: np.ndarray, names: tuple[str, ...]) -> dict[str, float]:
    return {name: float(value) for name, value in zip(names, values_K, strict=True)}


def _counts(corpus: Corpus) -> dict[str, Any]:
    return {
        "documents": corpus.num_documents,
        "empty_documents_skipped": corpus.num_skipped,
        "bytes": corpus.num_bytes,
        "sha256": corpus.fingerprint,
    }
