"""The record of one target again from its stages and its other files, for `experiments.verify`."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.harness.stages import read_stage
from experiments.reporting.json_files import read_json
from experiments.reporting.schema import (
    Weights,
)
from experiments.text_mixture.build import comparisons_of, levels, named, near_duplicates
from experiments.text_mixture.plan import COMBINED, SEARCHERS, SOLVED_ARMS
from experiments.text_mixture.results import Extension, Overlap, Search, TextMetrics
from experiments.text_mixture.stages import (
    moved_stage,
    rung_stage,
    score_stage,
    weights_stage,
)


def from_stages(metrics: TextMetrics, stages: Path) -> TextMetrics | None:
    """The record with the weights, losses and search that its stages found; None where a stage is missing."""
    own = tuple(arm for arm in metrics.arms if arm in (*SOLVED_ARMS, *SEARCHERS))
    shared = tuple(arm for arm in metrics.arms if arm not in own and arm != COMBINED)
    groups = {"shared-arms": shared, "arms": own, f"{COMBINED}-arm": (COMBINED,) if metrics.combined else ()}
    nats: list[dict[str, np.ndarray]] = []
    weights: list[dict[str, Weights]] = []
    rungs: list[list[dict[str, Any]]] = []
    try:
        for seed in metrics.seeds:
            scored: dict[str, np.ndarray] = {}
            for name, arms_of_group in groups.items():
                if arms_of_group:
                    product, _ = read_stage(stages / f"{score_stage(name, metrics.target, seed)}.npz")
                    scored |= dict(zip(arms_of_group, -product["document_DxM"].T, strict=True))
                    bytes_D = product["bytes_D"]
            nats.append(scored)
            held: dict[str, Any] = {}
            if len(own) > 1:
                held = read_stage(stages / f"{weights_stage(metrics.target, seed)}.npz")[0]["weights"]
            rungs.append(_read_rungs(metrics, stages, seed))
            held["mixmin"] = [rung for rung in rungs[-1] if rung["changed"]][-1]["weights"]
            weights.append({arm: named(w_K, metrics.sources) for arm, w_K in held.items()})
        extension = metrics.extension and _moved(metrics.extension, metrics, stages)
    except FileNotFoundError:
        return None
    assert metrics.search is not None  # older records have none, and no such stages
    metrics = dataclasses.replace(
        metrics,
        search=_searched(metrics.search, rungs[0], metrics.sources),
        extension=extension,
    )
    if not metrics.arms:
        return metrics
    arms = {
        arm: dataclasses.replace(
            stated,
            test_bits_per_byte=levels(arm, nats, bytes_D),
            weights_per_seed=tuple(w[arm] for w in weights) if arm in weights[0] else stated.weights_per_seed,
        )
        for arm, stated in metrics.arms.items()
    }
    return dataclasses.replace(metrics, arms=arms, comparisons=comparisons_of(arms, nats, bytes_D, metrics.matters))


def _searched(search: Search, rungs: Sequence[Mapping[str, Any]], sources: Sequence[str]) -> Search:
    """The search with what the stages found on its rungs."""
    found = tuple(
        dataclasses.replace(
            stated,
            weights=named(rung["weights"], sources),
            **{name: rung[name] for name in ("predicted_gain", "excess", "noise", "changed")},
        )
        for stated, rung in zip(search.rungs, rungs, strict=True)
    )
    kept = rungs[search.kept]
    bounds = zip(kept["lower"], kept["upper"], strict=True)
    return dataclasses.replace(search, rungs=found, interval=dict(zip(sources, bounds, strict=True)))


def _moved(extension: Extension, metrics: TextMetrics, stages: Path) -> Extension:
    """With what its stage says of the weights before, if they moved."""
    if extension.gain is None:
        return extension
    found, _ = read_stage(stages / f"{moved_stage(metrics.target, metrics.seeds[0])}.npz")
    return dataclasses.replace(extension, **found)


def _read_rungs(metrics: TextMetrics, stages: Path, seed: int) -> list[dict[str, Any]]:
    """What the stages of a seed found on each rung, the first one at least."""
    rungs = [read_stage(stages / f"{rung_stage(metrics.target, 0, seed)}.npz")[0]]
    while (path := stages / f"{rung_stage(metrics.target, len(rungs), seed)}.npz").exists():
        rungs.append(read_stage(path)[0])
    return rungs


def problems(metrics: TextMetrics, folder: Path) -> list[str]:
    """What is wrong beyond what `derived` computes again."""
    wrong = [
        f"the point of {point.label}, seed {point.seed}, is not at its test loss"
        for point in metrics.fidelity.points
        if point.label in metrics.arms
        and point.reached
        != dict(zip(metrics.seeds, metrics.arms[point.label].test_bits_per_byte.per_seed, strict=True))[point.seed]
    ]
    path = folder / metrics.target / "overlap.json"
    if path.exists():
        held, stated = read_json(path), metrics.overlap
        counted = {source: sum(match["source"] == source for match in held["matches"]) for source in held["sources"]}
        worst = tuple(dataclasses.replace(found, part="") for found in stated.worst)
        same = Overlap(
            held["ngram"], held["threshold"], held["sources"], near_duplicates(held["matches"][: len(worst)])
        )
        if counted != held["sources"] or same != dataclasses.replace(
            stated, worst=worst, dropped=None, target_documents_repeated=0, worst_dropped=()
        ):
            wrong.append("overlap.json does not hold the near-duplicates of the record")
    return wrong
