"""Reports, figures and the summary over targets of the molecule experiment, from metrics.json alone.

    python -m experiments.molecule_mixture_report --results experiments/results/molecule_mixture

writes them again for a finished run, without computing anything.
"""

import dataclasses
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.command_line import run
from experiments.result_files import write_bytes, write_text
from mixmin_jax.errors import InputError
from mixmin_jax.figures import figure_png
from mixmin_jax.molecule_figures import gains_figure, growth_figure, molecule_figures
from mixmin_jax.molecule_report import molecule_report, molecule_summary


def target_folder(out: Path, target: str) -> Path:
    """The folder of one target's results; characters that folders dislike become `_`."""
    return out / ("target_" * (target == "stages") + re.sub(r"[^\w.+-]+", "_", target).lstrip("."))


def write_report(folder: Path, metrics: dict[str, Any]) -> None:
    """report.md and the figures of one target."""
    for name, figure in molecule_figures(metrics).items():
        write_bytes(folder / name, figure_png(figure))
    write_text(folder / "report.md", molecule_report(metrics))


def write_summary(out: Path, runs: Sequence[dict[str, Any]]) -> None:
    """summary.md, gains.png and growth.png of all targets, by their number of positives."""
    runs = sorted(runs, key=lambda metrics: (metrics["data"]["target"]["train_positives"], metrics["target"]))
    write_text(out / "summary.md", molecule_summary(runs) + "\n")
    write_bytes(out / "gains.png", figure_png(gains_figure(runs)))
    if len({point["sources"] for point in runs[0]["growth"]}) > 1:
        write_bytes(out / "growth.png", figure_png(growth_figure(runs)))


@dataclasses.dataclass(frozen=True)
class MoleculeMixtureReport:
    """Write the reports, figures and summary of a run of experiments.molecule_mixture again, from its metrics.json."""

    results: Path
    """The run's --out folder."""


def main(config: MoleculeMixtureReport) -> None:
    paths = sorted(config.results.glob("*/metrics.json"))
    if not paths:
        raise InputError(f"{config.results}: no target's metrics.json in it")
    runs = [json.loads(path.read_text()) for path in paths]
    for path, metrics in zip(paths, runs, strict=True):
        write_report(path.parent, metrics)
    write_summary(config.results, runs)


if __name__ == "__main__":
    run(MoleculeMixtureReport, main)
