"""From the stages' products to metrics.json, weights.json, report.md and figures, one folder per target."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.provenance import command, device, git_commit, versions
from experiments.result_files import write_bytes, write_json, write_text
from experiments.stages import Product
from experiments.text_mixture_data import Target
from experiments.text_mixture_plan import ARMS, Plan
from experiments.text_mixture_stages import SOLVED_ARMS, SeedResult
from mixmin_jax.comparison import (
    RANDOM_MIXTURE,
    fidelity,
    paired_bootstrap_over_documents,
    paired_difference,
    summary,
    verdict,
)
from mixmin_jax.data.documents import Corpus
from mixmin_jax.figures import figure_png, text_mixture_figures
from mixmin_jax.report import text_mixture_report

SCHEMA_VERSION = 1
DISTRIBUTIONS = ("mixmin_jax", "jax", "jaxlib", "flax", "optax", "jaxopt", "numpy", "scipy")


def write_target(folder: Path, metrics: dict[str, Any]) -> None:
    """Write one target's files; metrics.json comes last, so that its presence says that the folder is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "weights.json", {arm: result["weights"] for arm, result in metrics["arms"].items()})
    for name, figure in text_mixture_figures(metrics).items():
        write_bytes(folder / name, figure_png(figure))
    write_text(folder / "report.md", text_mixture_report(metrics))
    write_json(folder / "metrics.json", metrics)


def build_metrics(
    plan: Plan,
    target: Target,
    results: Sequence[SeedResult],
    overlap: Product,
    config: dict[str, Any],
    seconds: dict[str, float],
) -> dict[str, Any]:
    """metrics.json of one target, from every seed's result."""
    names, runs = plan.names, plan.config
    bytes_D = np.array([len(document) for document in target.documents("test")])
    bits = math.log(2) * bytes_D.sum()
    levels = {arm: [float(result.test_nats[arm].sum() / bits) for result in results] for arm in ARMS}
    worst = {
        arm: max(results, key=lambda r: (not r.solutions[arm]["converged"], r.solutions[arm]["gap"]))
        for arm in SOLVED_ARMS
    }
    finding = plan.flops_of_finding
    return {
        "schema_version": SCHEMA_VERSION,
        "experiment": "text_mixture",
        "demonstration": runs.demonstration,
        "complete": True,
        "target": target.name,
        "seeds": [result.seed for result in results],
        "sources": list(names),
        "arms": {arm: _arm(arm, levels[arm], results, plan) for arm in ARMS},
        "comparisons": {
            arm: _compare(levels["mixmin"], levels[arm], results, arm, bytes_D) for arm in ARMS if arm != "mixmin"
        },
        **{
            arm: {key: value for key, value in result.solutions[arm].items() if key != "gap_history"}
            | {"seed": result.seed}
            for arm, result in worst.items()
        },
        "gap_history": {arm: [result.solutions[arm]["gap_history"] for result in results] for arm in SOLVED_ARMS},
        "fidelity": fidelity(_points(levels, results)),
        "random_mixtures": [
            {"seed": result.seed, "weights": _named(w_K, names), "test_bits_per_byte": float(reached)}
            for result in results
            for w_K, reached in zip(result.random_MxK, result.random_reached, strict=True)
        ],
        "overlap": {key: overlap[key] for key in ("ngram", "threshold", "sources", "worst")},
        "flops": finding
        | {
            "target": plan.target_flops,
            "total": len(results) * (sum(finding.values()) + len(ARMS) * plan.target_flops),
        },
        "tokens": {
            name: run.num_windows * run.sequence_length for name, run in (("proxy", runs.proxy), ("target", runs.model))
        },
        "regmix": {
            "model": plan.regmix_model,
            "runs": plan.num_random,
            "more_compute_than_mixmin": plan.num_random > len(names),
        },
        "max_epochs": runs.max_epochs,
        "data": {
            "sources": {corpus.name: _counts(corpus) for corpus in plan.sources},
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
            | {"split_seed": runs.split_seed, "fit_fraction": runs.fit_fraction}
            | {f"{part}_document_numbers": getattr(target, part).tolist() for part in ("fit", "test")},
        },
        "config": config,
        "versions": versions(*DISTRIBUTIONS),
        "device": device(),
        "git_commit": git_commit(),
        "command": command(),
        "seconds": seconds,
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
        for arm in ARMS
    ]
    random = [
        point(result.seed, RANDOM_MIXTURE, "proxy", predicted, reached)
        for result in results
        for predicted, reached in zip(result.random_predicted, result.random_reached, strict=True)
    ]
    return arms + random


def _named(values_K: np.ndarray, names: tuple[str, ...]) -> dict[str, float]:
    return {name: float(value) for name, value in zip(names, values_K, strict=True)}


def _counts(corpus: Corpus) -> dict[str, Any]:
    return {"documents": corpus.num_documents, "bytes": corpus.num_bytes, "sha256": corpus.fingerprint}
