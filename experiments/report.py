"""Write the reports and figures of finished runs again, from their result files alone.

python -m experiments.report experiments/results/text_mixture [DIR ...]
"""

import dataclasses
from pathlib import Path

import tyro

from experiments.harness.command_line import run
from experiments.questions import read_results
from mixmin_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Report:
    """Write the reports, figures and summaries of runs again, from their result files alone."""

    results: tyro.conf.Positional[tuple[Path, ...]]
    """Folders that experiments wrote to (--out)."""


def main(config: Report) -> None:
    if not config.results:
        raise InputError("give at least one folder of results")
    found = {folder: read_results(folder) for folder in config.results}  # all are read before anything is written
    for folder, (question, results) in found.items():
        question.write(folder, results)
        print(f"{folder}: written again")


if __name__ == "__main__":
    run(Report, main)
