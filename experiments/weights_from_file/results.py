"""What metrics.json says of weights found from files of log-likelihoods."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from scipy.special import stdtrit

from experiments.harness.data_sets import file_record
from experiments.reporting.json_files import to_builtins
from experiments.reporting.schema import (
    SHARE_OF_TOKENS,
    Certificate,
    MadeBy,
    Note,
    RunRecord,
    Verdict,
    Weights,
    weights_file,
)
from experiments.weights_from_file.data import Roles
from experiments.weights_from_file.plan import Plan
from experiments.weights_from_file.solving import Solved
from experiments.weights_from_file.targets import Target, read_targets
from mixmin_jax import Bootstrap, LeaveOneOut
from mixmin_jax.mixture.inference.bootstrap import Comparison
from mixmin_jax.stats.comparison import interval_verdict


@dataclasses.dataclass(frozen=True, kw_only=True)
class SolvedWeights(Certificate):
    """The certificate of the weights; the gap bounds loss + penalty."""

    penalty: float  # of the prior; 0 without one
    status: str  # a sentence on how the solver ended


@dataclasses.dataclass(frozen=True)
class Arm:
    """Weights, and the value of what was minimized: without the penalty of a prior."""

    loss: float | None  # None: infinite
    weights: Weights


@dataclasses.dataclass(frozen=True)
class Interval:
    """The middle share of the weights that resamples gave a source."""

    lower: float
    upper: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Intervals:
    """How far the weights depend on the rows that happen to be in the file: a bootstrap over groups of rows."""

    weights_of: dict[str, Interval]
    level: float  # share of the resamples between the ends of an interval
    resamples: int
    unconverged: int  # resamples that missed the tolerance
    groups: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class AgainstReference:
    """Loss of the reference less that of the weights found, on groups of rows that were left out of the fit.

    The interval is paired: over the differences of the groups, with Student's distribution. The weights found
    win by the rule of `comparison.interval_verdict`, if the gain is also too large for rare sources that are missing
    by chance (`mixmin_jax.bootstrap`). They never lose: fits to resamples are worse than the one to all rows, so a
    gain below 0 shows nothing about the weights found.
    """

    gain: float | None  # None: infinite, or no two groups were ever left out
    standard_error: float | None
    lower: float | None = None
    upper: float | None = None
    level: float
    groups: int
    distinguishable: bool  # by the one-sided tests of `bootstrap`
    verdict: Verdict = "ties"
    status: str  # the tests in a sentence

    def derived(self) -> Self:
        if self.gain is None or self.standard_error is None:
            return self
        half = float(stdtrit(self.groups - 1, (1 + self.level) / 2)) * self.standard_error
        return dataclasses.replace(self, lower=self.gain - half, upper=self.gain + half)

    def judged(self, matters: float) -> Self:
        """With the verdict, if gains below `matters` are ties."""
        better = self.distinguishable
        if self.gain is not None and self.lower is not None and self.upper is not None:
            better &= interval_verdict(self.gain, self.lower, self.upper, matters=matters) == "wins"
        return dataclasses.replace(self, verdict="wins" if better else "ties")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Worth:
    """By how much the least loss grows without a source; the true value is certified to lie in lower to upper."""

    growth: float | None  # None: it cannot be left out
    lower: float | None
    upper: float | None
    reason: str | None  # why it cannot be left out


@dataclasses.dataclass(frozen=True, kw_only=True)
class TargetResult:
    """One file, or a log of each source; one target alone has the reference 0 and the price 1."""

    file: str
    examples: int
    example_weight: float
    loss: float
    reference: float  # to which a worst case compares the loss
    excess: float = 0.0  # loss less reference
    price: float  # its weight in the weighted sum of losses that the weights minimize
    loss_uniform: float
    loss_compared: float | None = None  # of the mixture of --reference; None: there is none, or it is infinite
    loss_alone: dict[str, float | None]  # of each source with all the weight; None: infinite
    above_zero: int  # log-likelihoods above 0, which densities may be and probabilities may not

    def derived(self) -> Self:
        return dataclasses.replace(self, excess=self.loss - self.reference)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightsFromFile(RunRecord):
    """Weights with their certificate, and the losses of every target under them."""

    unit: str
    combine: Literal["weighted", "worst_case"] | None  # None: there is one target
    compared_to: Literal["best", "uniform"] | None  # of a worst case, what each loss is compared to
    mixmin: SolvedWeights
    arms: dict[str, Arm]  # mixmin, uniform, and the mixture of --reference: natural or reference
    compared_with: Literal["natural", "reference"] | None  # which arm the verdict is about
    comparison: AgainstReference | None
    intervals: Intervals | None
    worth: dict[str, Worth] | None
    targets: tuple[TargetResult, ...]
    source_notes: dict[str, Note]
    weights_unit: str | None = None  # what weights are shares of; None: not known, as in older records

    @property
    def left_out(self) -> tuple[str, ...]:
        """Sources that may not be used."""
        return tuple(name for name, note in self.source_notes.items() if not note.allowed)

    def objective(self, losses: Sequence[float]) -> float:
        """What is minimized, where the targets have these losses."""
        pairs = list(zip(self.targets, losses, strict=True))
        if self.combine == "worst_case":
            return max(loss - target.reference for target, loss in pairs)
        return sum(target.price * loss for target, loss in pairs)

    def derived(self) -> Self:
        weights = self.arms["mixmin"].weights
        uniform = self.objective([target.loss_uniform for target in self.targets])
        arms = {
            "mixmin": Arm(self.mixmin.loss, weights),
            "uniform": Arm(uniform, dict.fromkeys(weights, 1 / len(weights))),
        }
        if self.compared_with is not None:
            losses = [target.loss_compared for target in self.targets]
            loss = None if None in losses else self.objective([loss for loss in losses if loss is not None])
            arms[self.compared_with] = Arm(loss, self.arms[self.compared_with].weights)
        comparison = self.comparison and self.comparison.judged(self.matters)
        return dataclasses.replace(self, arms=arms, comparison=comparison)


def build_metrics(plan: Plan, found: Solved, made_by: MadeBy) -> WeightsFromFile:
    """The record of a run, converged or not."""
    config, targets, solution = plan.config, plan.targets, found.solution
    files = tuple(file_record("log-likelihoods", path, target.counts) for target in targets for path in target.files)
    options = to_builtins(config)
    weights = dict(zip(plan.sources, np.asarray(solution.weights, np.float64).tolist(), strict=True))
    arms = {"mixmin": Arm(float(solution.loss), weights)}
    name, compared = (None, None) if plan.reference is None else plan.reference
    if name is not None and compared is not None:
        arms[name] = Arm(None, compared)  # its loss follows
    resampled = found.resampled
    comparison = resampled.comparison if resampled else None
    return WeightsFromFile(
        experiment="weights_from_file",
        seeds=(),  # the bootstrap always draws with the same key, and nothing else is random
        made_by=made_by,
        matters=config.matters,
        config=options,
        identity={
            key: value
            for key, value in options.items()
            if key not in ("log_likelihoods", "out", "overwrite", "no_locks", "matters")
        }
        | {"data": [file.sha256 for file in files], "sources": list(plan.sources), "reference": compared},
        data_sets=files,
        seconds=found.seconds,
        stage_commits=(str(made_by.git_commit),),
        unit=targets[0].unit,
        combine=config.combine,
        compared_to=None if config.relative_to == "none" else config.relative_to,
        mixmin=SolvedWeights(
            loss=float(solution.loss),
            gap=float(solution.gap),
            tolerance=float(solution.goal),
            iterations=int(solution.iterations),
            converged=bool(solution.converged),
            method=str(solution.method),
            penalty=float(solution.penalty),
            status=str(solution.status),
        ),
        arms=arms,
        compared_with=name,
        comparison=_against(comparison, resampled.num_clusters) if resampled and comparison else None,
        intervals=_intervals(plan, resampled) if resampled else None,
        worth=_worth(plan, found.left_out) if found.left_out else None,
        targets=_targets(plan, found),
        source_notes={name: Note(**dataclasses.asdict(note)) for name, note in plan.notes.items()},
        weights_unit=None if targets[0].table.length_N is None else SHARE_OF_TOKENS,
    ).derived()


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _against(comparison: Comparison, num_groups: int) -> AgainstReference:
    return AgainstReference(
        gain=_finite(comparison.gain),
        standard_error=_finite(comparison.standard_error),
        level=comparison.level,
        groups=num_groups,
        distinguishable=comparison.distinguishable,
        status=comparison.status,
    ).derived()


def _intervals(plan: Plan, resampled: Bootstrap) -> Intervals:
    ends = zip(plan.sources, resampled.lower.tolist(), resampled.upper.tolist(), strict=True)
    return Intervals(
        weights_of={name: Interval(lower, upper) for name, lower, upper in ends},
        level=resampled.level,
        resamples=len(resampled.weights),
        unconverged=int((~resampled.converged).sum()),
        groups=resampled.num_clusters,
    )


def _worth(plan: Plan, left_out: LeaveOneOut) -> dict[str, Worth]:
    floors: Mapping[str, float] = plan.constraints.get("lower_bounds", {})
    reasons = left_out.reasons | {k: f"{x} has a floor" for k, x in enumerate(plan.sources) if floors.get(x)}
    return {
        name: Worth(
            growth=_finite(left_out.worth[k]),
            lower=_finite(left_out.lower[k]),
            upper=_finite(left_out.upper[k]),
            reason=reasons.get(k),
        )
        for k, name in enumerate(plan.sources)
    }


def _targets(plan: Plan, found: Solved) -> tuple[TargetResult, ...]:
    solution = found.solution
    if solution.targets is None:
        losses = [(float(solution.loss), 0.0, 1.0)]
    else:
        losses = list(zip(*map(np.ndarray.tolist, dataclasses.astuple(solution.targets)), strict=True))
    return tuple(
        TargetResult(
            file=target.name,
            examples=target.num_rows,
            example_weight=target.example_weight,
            loss=loss,
            reference=reference,
            price=price,
            loss_uniform=target.uniform_loss,
            loss_compared=None if plan.reference is None else _finite(_loss(target, plan.reference[1])),
            loss_alone=dict(zip(target.table.sources, map(_finite, target.loss_alone_K.tolist()), strict=True)),
            above_zero=int((target.table.logp_NxK > 0).sum()),
        ).derived()
        for target, (loss, reference, price) in zip(plan.targets, losses, strict=True)
    )


def _loss(target: Target, weights: Weights) -> float:
    return target.loss(np.array([weights[name] for name in target.table.sources]))


def weights_json(metrics: WeightsFromFile) -> dict[str, Any]:
    """What weights.json holds."""
    return weights_file({"mixmin": metrics.arms["mixmin"].weights}, metrics.weights_unit, metrics.source_notes)


def problems(metrics: WeightsFromFile, folder: Path) -> list[str]:
    """Losses that do not follow from the weights and the files of log-likelihoods, as far as these are there."""
    wrong = _differing("the loss", metrics.mixmin.loss, metrics.objective([found.loss for found in metrics.targets]))
    if not all(Path(file.place).exists() for file in metrics.data_sets):
        return wrong
    config, found = metrics.config, metrics.arms
    # records from before there was `densities` hold what was read without a look at signs and names
    roles = Roles(
        config.get("groups"),
        config.get("length_column"),
        tuple(config.get("ignore", ())),
        config.get("densities", True),
    )
    again = read_targets(config["log_likelihoods"], config.get("rows"), roles)
    for stated, target in zip(metrics.targets, again, strict=True):
        target = target.restricted(tuple(found["mixmin"].weights))
        wrong += _differing(f"{stated.file}: the loss", stated.loss, _loss(target, found["mixmin"].weights))
        wrong += _differing(f"{stated.file}: the loss of uniform weights", stated.loss_uniform, target.uniform_loss)
        if metrics.compared_with is not None:
            compared = _loss(target, found[metrics.compared_with].weights)
            stated_loss = math.inf if stated.loss_compared is None else stated.loss_compared
            wrong += _differing(f"{stated.file}: the loss of {metrics.compared_with}", stated_loss, compared)
    return wrong


def _differing(what: str, stated: float, again: float) -> list[str]:
    """A sentence if two numbers differ by more than rounding: the solver sums in another order."""
    same = math.isclose(stated, again, rel_tol=1e-9, abs_tol=1e-9)
    return [] if same else [f"{what} is {stated:.9g} on record, and {again:.9g} when computed again"]
