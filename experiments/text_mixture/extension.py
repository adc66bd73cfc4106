"""A run that goes on with other sources, targets or arms: what is used again, and how the weights moved."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.harness.language_model_stages import scoring_flops, training_flops
from experiments.harness.result_files import read_result
from experiments.harness.run_folder import extended, identity_of, last_previous
from experiments.reporting.markdown import plural, share
from experiments.text_mixture import costs
from experiments.text_mixture.build import identity
from experiments.text_mixture.data import Target
from experiments.text_mixture.plan import Plan, Rung
from experiments.text_mixture.results import Extension, TextMetrics
from experiments.text_mixture.stages import SeedResult
from mixmin_jax.errors import InputError
from mixmin_jax.training.ngram_proxies import ngram_operations

# Entries of a run's identity that --extend may change; all others decide what a proxy is and what its weights are.
EXTENDS = ("data", "sizes", "targets", "compared", "arms", "combine", "multiples", "seeds")


@dataclasses.dataclass(frozen=True)
class Change:
    """Sources and targets of a run against those of the results that it extends."""

    kept: tuple[str, ...]  # sources with the same text
    added: tuple[str, ...]
    changed: tuple[str, ...]  # of the same name, with other text
    removed: tuple[str, ...]
    known_targets: tuple[str, ...]  # with the same documents

    @property
    def made(self) -> tuple[str, ...]:
        """The sources that need a proxy."""
        return (*self.added, *self.changed)


@dataclasses.dataclass(frozen=True)
class Before:
    """The results that a run extends."""

    place: Path
    change: Change
    metrics: Mapping[str, TextMetrics]  # by target, of known ones

    def weights(self, plan: Plan) -> dict[str, np.ndarray]:
        """By target, those of `mixmin` on the sources of now."""
        carried = {name: carry_over(held.found, plan.names) for name, held in self.metrics.items()}
        return {name: weights_K for name, weights_K in carried.items() if weights_K is not None}


def carry_over(weights: Mapping[str, float], names: tuple[str, ...]) -> np.ndarray | None:
    """Weights on other sources: 0 for new ones, what removed ones had goes to the rest in proportion.

    None if nothing is left.
    """
    weights_K = np.array([weights.get(name, 0.0) for name in names])
    return weights_K / weights_K.sum() if weights_K.sum() > 1e-6 else None


def change_between(held: Mapping[str, Any], new: Mapping[str, Any]) -> Change:
    """From the identities of two runs."""
    texts, now = held["data"], new["data"]
    return Change(
        kept=tuple(name for name in now if texts.get(name) == now[name]),
        added=tuple(name for name in now if name not in texts),
        changed=tuple(name for name in now if name in texts and texts[name] != now[name]),
        removed=tuple(name for name in texts if name not in now),
        known_targets=tuple(name for name in new["targets"] if held["targets"].get(name) == new["targets"][name]),
    )


def planned_change(plan: Plan) -> Change:
    """Against the run in --out, before that is touched; for a run that is in --out itself, against that before it.

    Raises InputError if --out holds no run, or one of other settings.
    """
    out, new = plan.config.out, _identity(plan)
    held = extended(out, new, EXTENDS)
    place = last_previous(out)
    if held == new and place is not None:
        held = identity_of(place)
    return change_between(held, new)


def read_before(plan: Plan) -> Before | None:
    """The results that were set aside when --out was claimed; None where this run extends none."""
    new, place = _identity(plan), last_previous(plan.config.out)
    if place is None:
        return None
    try:
        if identity_of(plan.config.out) != new:
            return None  # the run before --extend is not that of this run, which will replace both
        change = change_between(extended(place, new, EXTENDS), new)
    except InputError:  # of another run, whose results were replaced since
        return None
    paths = {name: place / name / "metrics.json" for name in change.known_targets}
    return Before(
        place, change, {name: read_result(path, TextMetrics) for name, path in paths.items() if path.exists()}
    )


def _identity(plan: Plan) -> dict[str, Any]:
    """As it is read back."""
    return dict(json.loads(json.dumps(identity(plan))))


def remixing_flops(plan: Plan, rung: Rung, target: Target, change: Change) -> float:
    """Proxies and scores of the fit part that one target still needs; `costs.rung_flops` is what all would cost."""
    documents = target.documents("fit")
    scored = change.made if target.name in change.known_targets else plan.names
    if rung.run is not None:
        return len(change.made) * training_flops(rung.run) + len(scored) * scoring_flops(rung.run, documents)
    order, size_of = plan.config.ngram_order, {corpus.name: corpus.num_bytes for corpus in plan.sources}
    counting, of_scored = [size_of[name] for name in change.made], [size_of[name] for name in scored]
    scoring = ngram_operations(of_scored, sum(map(len, documents)), order) - ngram_operations(of_scored, 0, order)
    return ngram_operations(counting, 0, order) + scoring


def describe_change(plan: Plan, change: Change) -> str:
    """What is used again and what is made, in words."""

    def said(what: str, names: tuple[str, ...]) -> list[str]:
        return [f"  {what}: {', '.join(names)}"] * bool(names)

    new_targets = tuple(target.name for target in plan.targets if target.name not in change.known_targets)
    lines = [
        f"Extends the run in {plan.config.out}:",
        f"  proxies of {plural(len(change.kept), 'source')} are used again",
        *said("proxies are made for new sources", change.added),
        *said("proxies are made again for sources whose text changed", change.changed),
        *said("sources that are no longer there", change.removed),
        *said("targets that these proxies were scored on before", change.known_targets),
        *said("new targets, that all proxies are scored on", new_targets),
    ]
    for target in plan.targets:
        rung = plan.rungs[0]
        whole = costs.rung_flops(plan, rung, target.documents("fit"))
        ratio = remixing_flops(plan, rung, target, change) / whole
        lines.append(f"  finding weights for {target.name} costs {share(ratio)} of what it costs from the beginning")
    if plan.arms:
        lines.append("  target models are trained anew, as their mixtures change; --arms none finds only weights")
    return "\n".join(lines)


def extension_record(plan: Plan, target: Target, result: SeedResult, before: Before) -> Extension:
    """How the weights of the first seed moved, and what that took."""
    held, change = before.metrics.get(target.name), before.change
    carried_K = before.weights(plan).get(target.name)
    rungs = plan.rungs[: len(result.rungs)]
    reached = max((len(one.search.rungs) for one in before.metrics.values() if one.search), default=len(rungs))
    again = [costs.rung_flops(plan, rung, target.documents("fit")) for rung in rungs]
    made = [remixing_flops(plan, rung, target, change) for rung in rungs[:reached]] + again[reached:]
    moved = result.moved or {}
    return Extension(
        previous=str(before.place.relative_to(plan.config.out)),
        kept=change.kept,
        added=change.added,
        changed=change.changed,
        removed=change.removed,
        is_new_target=target.name not in change.known_targets,
        before=held.found if held else None,
        carried=None if carried_K is None else dict(zip(plan.names, carried_K.tolist(), strict=True)),
        gain=moved.get("gain"),
        standard_error=moved.get("standard_error"),
        distinguishable=moved.get("distinguishable"),
        flops=sum(made),
        flops_again=sum(again),
    )
