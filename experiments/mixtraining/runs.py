"""The runs of a MixTraining experiment, as its record holds them: which to set against which, and what they say.

A cell is what differs between runs beside the seed: an arm, a budget ("schedule": its own epochs; "matched": the FLOPs
of `ssl_then_sl`, whose own schedule counts for all, by more epochs; "cheaper": these divided by `times_cheaper`;
"labeled": matched, with SSL on the labeled examples alone) and a fraction of the training data. Runs are paired by
seed, whatever their order. Runs that failed are in no cell.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterable
from typing import NamedTuple

from experiments.mixtraining.config import Budget
from experiments.mixtraining.results import BASELINE, MixTrainingMetrics, Run
from experiments.reporting.schema import Comparison
from mixmin_jax.errors import InputError
from mixmin_jax.stats.comparison import (
    CostShare,
    Summary,
    cost_to_reach,
    paired_difference,
    share_of_cost,
    summary,
)

BUDGETS: tuple[Budget, ...] = ("schedule", "cheaper", "matched", "labeled")


class Cell(NamedTuple):
    """An arm under a budget."""

    arm: str
    budget: Budget = "schedule"

    @property
    def name(self) -> str:
        return self.arm if self.budget == "schedule" else f"{self.arm}, {self.budget}"


CONVENTIONAL = Cell(BASELINE)  # what all others are compared with


def cells(metrics: MixTrainingMetrics) -> list[Cell]:
    """The cells that any run, failed ones included, belongs to: in the order of the arms, `schedule` first."""
    there = {(run.arm, run.budget) for run in metrics.runs}
    return [Cell(arm, budget) for arm in metrics.arms for budget in BUDGETS if (arm, budget) in there]


def cell_runs(metrics: MixTrainingMetrics, cell: Cell, fraction: float) -> list[Run]:
    """The runs of a cell that did not fail, in the order of the seeds.

    Raises:
        InputError: two runs of the same cell, fraction and seed.
    """
    found = [run for run in metrics.runs if (run.arm, run.budget, run.fraction) == (*cell, fraction)]
    found = sorted((run for run in found if not run.failure), key=lambda run: run.seed)
    if len({run.seed for run in found}) < len(found):
        raise InputError(f"metrics: {cell.name}, fraction {fraction:g} holds a seed twice; keep one run each")
    return found


def failed_runs(metrics: MixTrainingMetrics) -> list[Run]:
    """Runs that failed, by arm, budget, fraction and seed."""
    arms = list(metrics.arms)
    failed = [run for run in metrics.runs if run.failure]
    return sorted(failed, key=lambda run: (arms.index(run.arm), BUDGETS.index(run.budget), run.fraction, run.seed))


def accuracy(runs: Iterable[Run]) -> Summary:
    """The accuracies of one run or more."""
    return summary([run.accuracy for run in runs])


@dataclasses.dataclass(frozen=True, eq=False)
class Pair:
    """The runs of two cells at one fraction, those of the seeds that both have, in one order."""

    metrics: MixTrainingMetrics
    a: Cell
    b: Cell
    fraction: float
    ours: list[Run]
    theirs: list[Run]

    @functools.cached_property
    def difference(self) -> Comparison:
        """Accuracy of a less that of b, paired by seed."""
        difference = paired_difference(accuracy(self.ours).per_seed, accuracy(self.theirs).per_seed)
        decides = difference.standard_error is not None
        return Comparison.of(difference, "higher", matters=self.metrics.matters, decides=decides)

    def levels(self, digits: int = 3) -> str:
        """`44.0% against 44.3%`: shares, of which `digits` decimals are shown."""
        return " against ".join(f"{100 * accuracy(runs).mean:.{digits - 2}f}%" for runs in (self.ours, self.theirs))

    @property
    def verdict(self) -> str:
        return self.difference.verdict or "one seed"

    @property
    def share_of_flops(self) -> float:
        """a's FLOPs divided by b's, over all seeds: sum_s a_s / sum_s b_s."""
        return sum(run.flops for run in self.ours) / sum(run.flops for run in self.theirs)

    @property
    def times_as_fast(self) -> float:
        """b's seconds divided by a's, over all seeds: sum_s b_s / sum_s a_s."""
        return sum(run.seconds for run in self.theirs) / sum(run.seconds for run in self.ours)

    @functools.cached_property
    def speed_range(self) -> tuple[float, float]:
        """The least and the most that `times_as_fast` is while each kind of step takes what a round took.

        A kind has one time for both arms, from its fastest to its slowest round; the extremes lie where all are at an
        end.
        """
        steps: dict[str, list[int]] = {}  # of a and b, by kind
        for place, runs in enumerate((self.ours, self.theirs)):
            for run in runs:
                for phase, count in run.steps.items():
                    if count:
                        steps.setdefault(self.metrics.kind_of(phase, run.arm, run.budget), [0, 0])[place] += count
        ends = [(self.metrics.steps[kind].ms_low, self.metrics.steps[kind].ms_high) for kind in steps]
        found = []
        for ms in itertools.product(*ends):
            ms_a, ms_b = (sum(n[i] * t for n, t in zip(steps.values(), ms, strict=True)) for i in (0, 1))
            found.append(ms_b / ms_a)
        return min(found), max(found)

    @functools.cached_property
    def same_accuracy(self) -> CostShare:
        """a's FLOPs to the accuracy that b ends with, as a share of b's FLOPs to it, per seed.

        Both are read off their checkpoints, which are scored on fewer examples than ends are: b itself often is there
        before its end, and a share of all its FLOPs would call that a saving (`share_of_all_flops`).
        """
        there = [flops_to_accuracy(run, run.accuracy) for run in self.theirs]
        return self._share([flops for flops in there if flops is not None])

    @property
    def share_of_all_flops(self) -> CostShare:
        """a's FLOPs to the accuracy that b ends with, as a share of all of b's, per seed; a and b may be the same."""
        return self._share([run.flops for run in self.theirs])

    def _share(self, their_flops: list[float]) -> CostShare:
        return share_of_cost(list(map(accuracy_curve, self.ours)), their_flops, accuracy(self.theirs).per_seed)


def pairs(metrics: MixTrainingMetrics, a: Cell, b: Cell = CONVENTIONAL) -> dict[float, Pair]:
    """The two cells at each fraction where both have runs, by fraction."""
    found = {}
    for fraction in metrics.fractions:
        ours, theirs = ({run.seed: run for run in cell_runs(metrics, cell, fraction)} for cell in (a, b))
        if seeds := [seed for seed in ours if seed in theirs]:
            runs = [ours[seed] for seed in seeds], [theirs[seed] for seed in seeds]
            found[fraction] = Pair(metrics, a, b, fraction, *runs)
    return found


def accuracy_curve(run: Run) -> tuple[list[float], list[float]]:
    """FLOPs and test accuracy at the checkpoints of a run, and at its end."""
    checkpoints = zip(run.checkpoints.flops, run.checkpoints.accuracy, strict=True)
    before_end = (1 - 1e-6) * run.flops
    points = [(flops, reached) for flops, reached in checkpoints if flops < before_end]
    points.append((run.flops, run.accuracy))
    return [flops for flops, _ in points], [reached for _, reached in points]


def flops_to_accuracy(run: Run, level: float) -> float | None:
    """The FLOPs from which on the test accuracy of a run stays at `level` or above; None where it ends below."""
    return cost_to_reach(*accuracy_curve(run), level)
