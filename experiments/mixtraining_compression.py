"""MixTraining against SSL then SL with adapters, frozen encoders and compressed weights: one table of several runs.

    for train in all lora:8 head; do
        python -m experiments.image_mixtraining --train $train --compress --out runs/train/${train%:*}
    done
    python -m experiments.mixtraining_compression runs/train/all runs/train/lora runs/train/head --out compression.md

Every run has been made with --compress, on the same data. Nothing is trained.
"""

import dataclasses
from pathlib import Path

import tyro

from experiments.harness.command_line import run
from experiments.harness.result_files import read_result, write_text
from experiments.mixtraining.compression_report import compression_table
from experiments.mixtraining.results import MixTrainingMetrics
from mixmin_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class MixTrainingCompression:
    """Put the accuracies of compressed models of several MixTraining runs into one table."""

    results: tyro.conf.Positional[tuple[Path, ...]]
    """Folders that image_mixtraining or text_mixtraining wrote to (--out) with --compress."""
    out: Path | None = None
    """File for the table, in Markdown; by default it is printed."""


def main(config: MixTrainingCompression) -> None:
    if not config.results:
        raise InputError("give at least one folder of results")
    records = {folder: read_result(folder / "metrics.json", MixTrainingMetrics) for folder in config.results}
    first, *others = records.items()
    for folder, metrics in records.items():
        if not any(found.compressed for found in metrics.runs):
            raise InputError(f"{folder} has no accuracies of compressed models: run it with --compress")
    for folder, metrics in others:
        if metrics.dataset != first[1].dataset or metrics.model != first[1].model:
            raise InputError(f"{folder} and {first[0]} are of different data or models: give each a table of its own")
        if metrics.matters != first[1].matters:
            raise InputError(
                f"{folder} and {first[0]} call differences below {metrics.matters:g} and {first[1].matters:g} ties:"
                " judge one of them again (python -m experiments.report DIR --matters)"
            )
    table = compression_table(list(records.values()))
    if config.out is None:
        print(table)
    else:
        write_text(config.out, table + "\n")


if __name__ == "__main__":
    run(MixTrainingCompression, main)
