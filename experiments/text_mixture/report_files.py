"""Reports, figures and the summary over targets of the text experiment, from metrics.json alone.

    python -m experiments.text_mixture_report --results experiments/results/text_mixture

writes them again for a finished run, without computing anything.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.harness.command_line import run
from experiments.harness.result_files import read_metrics, write_bytes, write_text
from experiments.reporting import markdown as md
from experiments.reporting.figures import ReportFigure, figure_png, loss_panels_figure, text_mixture_figures
from experiments.text_mixture.report import text_mixture_report

VERDICTS = {"wins": "MixMin wins", "ties": "tie", "loses": "**MixMin loses**"}


def summary_table(runs: Sequence[dict[str, Any]]) -> str:
    """Markdown from every target's metrics: test bits per byte of each arm, and what MixMin does against it."""
    arms = list(runs[0]["arms"])

    def cell(metrics: dict[str, Any], arm: str) -> str:
        level = md.spread(metrics["arms"][arm]["test_bits_per_byte"])
        return level if arm == "mixmin" else f"{level} ({VERDICTS[metrics['comparisons'][arm]['verdict']]})"

    header = ["test bits per byte", *(md.code(metrics["target"]) for metrics in runs)]
    rows = [[md.code(arm), *(cell(metrics, arm) for metrics in runs)] for arm in arms]
    rows.append(["rank correlation, document rows", *(md.correlation(m["fidelity"]["document"]["all"]) for m in runs)])
    rows.append(["rank correlation, token rows", *(md.correlation(m["fidelity"]["token"]["all"]) for m in runs)])
    return md.table(header, rows)


def summary_figure(runs: Sequence[dict[str, Any]]) -> ReportFigure:
    """Test loss of every arm, a panel per target."""
    return loss_panels_figure(
        {
            metrics["target"]: {arm: r["test_bits_per_byte"]["per_seed"] for arm, r in metrics["arms"].items()}
            for metrics in runs
        }
    )


def write_report(folder: Path, metrics: dict[str, Any]) -> None:
    """report.md and the figures of one target."""
    for name, figure in text_mixture_figures(metrics).items():
        write_bytes(folder / name, figure_png(figure))
    write_text(folder / "report.md", text_mixture_report(metrics))


def write_summary(out: Path, runs: Sequence[dict[str, Any]]) -> None:
    """summary.md and summary.png of all targets, by name."""
    runs = sorted(runs, key=lambda metrics: metrics["target"])
    write_text(out / "summary.md", summary_table(runs) + "\n")
    write_bytes(out / "summary.png", figure_png(summary_figure(runs)))


@dataclasses.dataclass(frozen=True)
class TextMixtureReport:
    """Write the reports, figures and summary of a run of experiments.text_mixture again, from its metrics.json."""

    results: Path
    """The run's --out folder."""


def main(config: TextMixtureReport) -> None:
    runs = read_metrics(config.results)
    for folder, metrics in runs.items():
        write_report(folder, metrics)
    write_summary(config.results, list(runs.values()))


if __name__ == "__main__":
    run(TextMixtureReport, main)
