"""The runs of a MixTraining experiment, as its record holds them: which to set against which, and what they say.

A cell is what differs between runs beside the seed: an arm, a budget ("schedule": its own epochs; "matched": the FLOPs
of `ssl_then_sl`, whose own schedule counts for all, by more epochs; "cheaper": these divided by `times_cheaper`) and a
fraction of the training data. Runs are paired by seed, whatever their order. Runs that failed are in no cell.
"""

import itertools
from typing import Literal, NamedTuple

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

Runs = dict[int, Run]  # of one cell, by seed

BUDGETS: tuple[Budget, ...] = ("schedule", "cheaper", "matched")
EQUAL_COMPUTE = 0.05  # FLOPs further apart than this share are not called matched


class Cell(NamedTuple):
    """An arm under a budget."""

    arm: str
    budget: Budget = "schedule"

    @property
    def name(self) -> str:
        return self.arm if self.budget == "schedule" else f"{self.arm}, {self.budget}"


def cells(metrics: MixTrainingMetrics) -> list[Cell]:
    """The cells that any run, failed ones included, belongs to: in the order of the arms, `schedule` first."""
    there = {(run.arm, run.budget) for run in metrics.runs}
    return [Cell(arm, budget) for arm in metrics.arms for budget in BUDGETS if (arm, budget) in there]


def cell_runs(metrics: MixTrainingMetrics, cell: Cell, fraction: float) -> Runs:
    """The runs of a cell that did not fail, by seed, in the order of the seeds.

    Raises:
        InputError: two runs of the same cell, fraction and seed.
    """
    found = [run for run in metrics.runs if (run.arm, run.budget, run.fraction) == (*cell, fraction)]
    found = [run for run in found if not run.failure]
    by_seed = {run.seed: run for run in sorted(found, key=lambda run: run.seed)}
    if len(by_seed) < len(found):
        raise InputError(f"metrics: {cell.name}, fraction {fraction:g} holds a seed twice; keep one run each")
    return by_seed


def paired_runs(metrics: MixTrainingMetrics, a: Cell, b: Cell) -> dict[float, tuple[Runs, Runs]]:
    """The runs of two cells by fraction, those fractions and seeds that both have."""
    found = {}
    for fraction in metrics.fractions:
        runs_a, runs_b = cell_runs(metrics, a, fraction), cell_runs(metrics, b, fraction)
        if seeds := [seed for seed in runs_a if seed in runs_b]:
            found[fraction] = {seed: runs_a[seed] for seed in seeds}, {seed: runs_b[seed] for seed in seeds}
    return found


def failed_runs(metrics: MixTrainingMetrics) -> list[Run]:
    """Runs that failed, by arm, budget, fraction and seed."""
    arms = list(metrics.arms)
    failed = [run for run in metrics.runs if run.failure]
    return sorted(failed, key=lambda run: (arms.index(run.arm), BUDGETS.index(run.budget), run.fraction, run.seed))


def values(runs: Runs, key: str) -> list[float]:
    """One number per seed."""
    return [getattr(run, key) for run in runs.values()]


def accuracy(runs: Runs) -> Summary:
    """The accuracies of one run or more."""
    return summary(values(runs, "accuracy"))


def accuracy_difference(a: Runs, b: Runs) -> Comparison:
    """Accuracy of a less that of b, paired by seed; both as `paired_runs` gives them."""
    difference = paired_difference(values(a, "accuracy"), values(b, "accuracy"))
    return Comparison.of(difference, "higher", decides=difference.standard_error is not None)


def times_cheaper(a: Runs, b: Runs, key: Literal["flops", "seconds"]) -> float:
    """How many times as much b costs as a, over all seeds: sum_s b_s / sum_s a_s; 1 is equal."""
    return sum(values(b, key)) / sum(values(a, key))


def speed_range(metrics: MixTrainingMetrics, a: Runs, b: Runs) -> tuple[float, float]:
    """The least and the most that `times_cheaper(a, b, "seconds")` is while each kind of step takes what a round took.

    A kind has one time for both arms, from its fastest to its slowest round; the extremes lie where all are at an end.
    """
    steps: dict[str, list[int]] = {}  # of a and b, by kind
    for place, runs in enumerate((a, b)):
        for run in runs.values():
            for phase, count in run.steps.items():
                if count:
                    steps.setdefault(metrics.kind_of(phase, run.arm), [0, 0])[place] += count
    ends = [(metrics.steps[kind].ms_low, metrics.steps[kind].ms_high) for kind in steps]
    found = []
    for ms in itertools.product(*ends):
        ms_a, ms_b = (sum(n[i] * t for n, t in zip(steps.values(), ms, strict=True)) for i in (0, 1))
        found.append(ms_b / ms_a)
    return min(found), max(found)


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


def same_accuracy(a: Runs, b: Runs) -> CostShare:
    """a's FLOPs to the accuracy that b ends with, as a share of b's FLOPs to it, per seed.

    Both are read off their checkpoints, which are scored on fewer examples than ends are: b itself often is there
    before its end, and a share of all its FLOPs would call that a saving (`share_of_all_flops`).
    """
    there = [flops_to_accuracy(run, run.accuracy) for run in b.values()]
    return share_of_cost(_curves(a), [flops for flops in there if flops is not None], values(b, "accuracy"))


def share_of_all_flops(a: Runs, b: Runs) -> CostShare:
    """a's FLOPs to the accuracy that b ends with, as a share of all of b's, per seed; b may be compared with itself."""
    return share_of_cost(_curves(a), values(b, "flops"), values(b, "accuracy"))


def _curves(runs: Runs) -> list[tuple[list[float], list[float]]]:
    return [accuracy_curve(run) for run in runs.values()]


def unmatched(metrics: MixTrainingMetrics) -> list[tuple[Cell, float, float]]:
    """Cells of matched compute that got more or less of it than they should: (cell, fraction, share that they got)."""
    found = []
    for cell in (cell for cell in cells(metrics) if cell.budget == "matched"):
        for fraction, (a, b) in paired_runs(metrics, cell, Cell(BASELINE)).items():
            share = 1 / times_cheaper(a, b, "flops")
            if abs(share - 1) > EQUAL_COMPUTE:
                found.append((cell, fraction, share))
    return found
