"""Reports, figures and the summary over targets of the molecule experiment, from metrics.json alone.

    python -m experiments.molecule_mixture.report_files --results experiments/results/molecule_mixture

writes them again for a finished run, without computing anything.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.harness.command_line import run
from experiments.harness.result_files import read_metrics, write_bytes, write_text
from experiments.molecule_mixture.figures import gains_figure, growth_figure, molecule_figures
from experiments.molecule_mixture.report import molecule_gains, molecule_report, molecule_summary
from experiments.molecule_mixture.runs import target_size
from experiments.reporting.figures import figure_png


def write_report(folder: Path, metrics: dict[str, Any]) -> None:
    """report.md and the figures of one target."""
    for name, figure in molecule_figures(metrics).items():
        write_bytes(folder / name, figure_png(figure))
    write_text(folder / "report.md", molecule_report(metrics))


def write_summary(out: Path, runs: Sequence[dict[str, Any]]) -> None:
    """summary.md, gains.md (its tables alone), gains.png and growth.png of all targets, by their amount of data."""
    runs = sorted(runs, key=lambda metrics: (target_size(metrics), metrics["target"]))
    grown = len({point["sources"] for point in runs[0]["growth"]}) > 1
    write_text(out / "gains.md", molecule_gains(runs) + "\n")
    write_text(out / "summary.md", molecule_summary(runs, grown))
    write_bytes(out / "gains.png", figure_png(gains_figure(runs)))
    if grown:
        write_bytes(out / "growth.png", figure_png(growth_figure(runs)))


@dataclasses.dataclass(frozen=True)
class MoleculeMixtureReport:
    """Write the reports, figures and summary of a run of experiments.molecule_mixture again, from its metrics.json."""

    results: Path
    """The run's --out folder."""


def main(config: MoleculeMixtureReport) -> None:
    runs = read_metrics(config.results)
    for folder, metrics in runs.items():
        write_report(folder, metrics)
    write_summary(config.results, list(runs.values()))


if __name__ == "__main__":
    run(MoleculeMixtureReport, main)
