"""What to train, at what cost, and how sure that is: the first lines of a MixTraining report.

At each fraction of the data the most accurate arm under the most favorable budget is recommended. A cheaper one takes
its place if it lies less than one paired standard error below (the one-standard-error rule of Breiman et al. 1984,
section 3.4.3; as in `tuning.ranking`), and loses to none of which that is true. A plain baseline that is at least as
accurate as every arm is recommended in their place.
"""

import dataclasses
from typing import Self

from experiments.mixtraining.results import MixTrainingMetrics, Reference, Run
from experiments.mixtraining.runs import Cell, Pair, accuracy, cell_runs, cells, pairs
from mixmin_jax.stats.comparison import Summary


@dataclasses.dataclass(frozen=True, eq=False)
class Decision:
    """The recommendation at one fraction of the data.

    cell, runs: the recommended arm, under its budget.      baseline: what is recommended in its place, if anything is.
    over: the arm against the most accurate cell of another arm; None if there is none with seeds in common.
    """

    fraction: float
    cell: Cell
    runs: list[Run]
    baseline: Reference | None
    over: Pair | None

    @property
    def accuracy(self) -> Summary:
        return accuracy(self.runs)

    @property
    def flops(self) -> float:
        return _mean_flops(self.runs)

    @property
    def seconds(self) -> float:
        return sum(run.seconds for run in self.runs) / len(self.runs)

    @classmethod
    def of(cls, metrics: MixTrainingMetrics, fraction: float) -> Self | None:
        """None if no run at this fraction ended well."""
        runs_of = {cell: cell_runs(metrics, cell, fraction) for cell in cells(metrics)}
        by_accuracy = sorted(
            (cell for cell, runs in runs_of.items() if runs),
            key=lambda cell: (-accuracy(runs_of[cell]).mean, _mean_flops(runs_of[cell])),
        )
        if not by_accuracy:
            return None
        best = by_accuracy[0]
        as_good = [cell for cell in by_accuracy if cell == best or _within_an_error(metrics, best, cell, fraction)]
        as_good = [cell for cell in as_good if not any(_loses(metrics, cell, other, fraction) for other in as_good)]
        chosen = min(as_good, key=lambda cell: _mean_flops(runs_of[cell]))
        others = [pairs(metrics, chosen, cell).get(fraction) for cell in by_accuracy if cell.arm != chosen.arm]
        baselines = [found for found in metrics.references if found.fraction == fraction]
        baseline = max(baselines, key=lambda found: found.accuracy, default=None)
        if baseline and baseline.accuracy < accuracy(runs_of[best]).mean:
            baseline = None
        return cls(fraction, chosen, runs_of[chosen], baseline, next((pair for pair in others if pair), None))


def decisions(metrics: MixTrainingMetrics) -> list[Decision]:
    """The recommendation at each fraction where there is one."""
    return [found for fraction in metrics.fractions if (found := Decision.of(metrics, fraction))]


def _mean_flops(runs: list[Run]) -> float:
    return sum(run.flops for run in runs) / len(runs)


def _within_an_error(metrics: MixTrainingMetrics, best: Cell, other: Cell, fraction: float) -> bool:
    pair = pairs(metrics, best, other).get(fraction)
    error = pair.difference.standard_error if pair else None
    return pair is not None and error is not None and pair.difference.mean < error


def _loses(metrics: MixTrainingMetrics, cell: Cell, other: Cell, fraction: float) -> bool:
    pair = pairs(metrics, cell, other).get(fraction)
    return pair is not None and pair.verdict == "loses"
