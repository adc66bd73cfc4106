"""The table of --compress: every arm's accuracy by method of compression, from the records of one run or several."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

from experiments.mixtraining.results import MixTrainingMetrics, Run
from experiments.mixtraining.runs import CONVENTIONAL, Cell, Pair, accuracy, cell_runs, cells, pairs
from experiments.reporting import markdown as md
from experiments.reporting.render import report
from experiments.reporting.schema import visible_sizes
from mixmin_jax.stats.comparison import Difference, Summary, paired_difference

DENSE = "all, float32"  # the model as it was trained
TEMPLATE = "mixtraining_compression"


class Entry(NamedTuple):
    """What a cell reaches with compressed weights, less what it reaches without, and against `ssl_then_sl`."""

    accuracy: Summary
    change: Difference | None  # None: nothing is compressed
    against: Pair | None


class Row(NamedTuple):
    """One method at one fraction of one run."""

    trained: str  # --train
    fraction: float
    method: str
    share_of_bytes: float
    entries: list[tuple[Cell, Entry | None]]  # None: no run that ended well


def compression_table(records: Sequence[MixTrainingMetrics]) -> str:
    """A row for each run, fraction and method; nothing if no run was compressed. All call the same differences ties."""
    columns = sorted(dict.fromkeys(cell for metrics in records for cell in cells(metrics)), key=_baseline_first)
    rows = [row for metrics in records for row in _rows(metrics, columns)]
    if not rows:
        return ""
    against = [entry.against for row in rows for _, entry in row.entries if entry and entry.against]
    digits = md.decimals(visible_sizes(pair.difference for pair in against))
    context: dict[str, Any] = {"columns": columns, "conventional": CONVENTIONAL, "rows": rows, "digits": digits}
    context |= {"matters": records[0].matters}
    return report(TEMPLATE, "", {}, **context).markdown.strip()


def with_compressed_accuracy(metrics: MixTrainingMetrics, method: str) -> MixTrainingMetrics:
    """The record in which a run's accuracy is that of its compressed model; other runs are left out."""

    def compressed(run: Run) -> list[Run]:
        return [dataclasses.replace(run, accuracy=found.accuracy) for found in run.compressed if found.method == method]

    return dataclasses.replace(metrics, runs=tuple(new for run in metrics.runs for new in compressed(run)))


def _baseline_first(cell: Cell) -> bool:
    return cell != CONVENTIONAL


def _rows(metrics: MixTrainingMetrics, columns: Sequence[Cell]) -> list[Row]:
    sizes = {found.method: found.share_of_bytes for run in metrics.runs for found in run.compressed}
    rows = []
    for fraction in metrics.fractions if sizes else ():
        for method, share in ({DENSE: 1.0} | sizes).items():
            shown = metrics if method == DENSE else with_compressed_accuracy(metrics, method)
            entries = [(cell, _entry(metrics, shown, cell, fraction)) for cell in columns]
            rows.append(Row(metrics.config.get("train", "all"), fraction, method, share, entries))
    return rows


def _entry(metrics: MixTrainingMetrics, shown: MixTrainingMetrics, cell: Cell, fraction: float) -> Entry | None:
    runs = {run.seed: run for run in cell_runs(shown, cell, fraction)}
    if not runs:
        return None
    dense = [run for run in cell_runs(metrics, cell, fraction) if run.seed in runs]
    reached = accuracy(runs.values())
    change = None if shown is metrics else paired_difference(reached.per_seed, accuracy(dense).per_seed)
    return Entry(reached, change, None if cell == CONVENTIONAL else pairs(shown, cell).get(fraction))
