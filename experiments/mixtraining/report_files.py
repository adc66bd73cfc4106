"""Report, figures and summary of a MixTraining experiment, images and text alike, from metrics.json alone.

    python -m experiments.mixtraining.report_files --results experiments/results/image_mixtraining

writes them again for a finished run, without computing anything; for a folder of several runs, with one summary.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.harness.command_line import run
from experiments.harness.result_files import read_json, write_bytes, write_text
from experiments.mixtraining.figures import mixtraining_figures
from experiments.mixtraining.report import mixtraining_report, summary_table
from experiments.mixtraining.results import SCHEMA_VERSION
from experiments.reporting.figures import figure_png
from mixmin_jax.errors import InputError

PICTURES = "reconstructions.npz"


def write_report(folder: Path, metrics: Mapping[str, Any]) -> None:
    """report.md, summary.md and the figures, also of reconstructions.npz where that lies in `folder`."""
    pictures = None
    if (folder / PICTURES).exists():
        with np.load(folder / PICTURES, allow_pickle=False) as file:
            pictures = {name: file[name] for name in file.files}
    for name, figure in mixtraining_figures(metrics, pictures).items():
        write_bytes(folder / name, figure_png(figure))
    write_text(folder / "report.md", mixtraining_report(metrics, has_reconstructions=pictures is not None))
    write_summary(folder, [metrics])


def write_summary(folder: Path, experiments: list[Mapping[str, Any]]) -> None:
    write_text(folder / "summary.md", summary_table(experiments) + "\n")


@dataclasses.dataclass(frozen=True)
class MixTrainingReport:
    """Write report, figures and summary of an image or text MixTraining run again, from its metrics.json."""

    results: Path
    """The run's --out folder, or a folder of such folders."""


def main(config: MixTrainingReport) -> None:
    own = config.results / "metrics.json"
    paths = [own] if own.exists() else sorted(config.results.glob("*/metrics.json"))
    if not paths:
        raise InputError(f"{config.results}: no metrics.json in it or in a folder of it")
    experiments = [_read(path) for path in paths]
    for path, metrics in zip(paths, experiments, strict=True):
        write_report(path.parent, metrics)
    write_summary(config.results, experiments)


def _read(path: Path) -> Mapping[str, Any]:
    metrics = read_json(path)
    held = metrics.get("schema_version"), metrics.get("metric")
    if held != (SCHEMA_VERSION, "accuracy"):
        raise InputError(
            f"{path}: this reads schema version {SCHEMA_VERSION} of MixTraining experiments, but it holds version"
            f" {held[0]} of {metrics.get('experiment', 'something else')}"
        )
    return metrics


if __name__ == "__main__":
    run(MixTrainingReport, main)
