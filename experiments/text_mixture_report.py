"""Write the reports of finished runs again: the former name of `experiments.report`."""

import dataclasses
from pathlib import Path

from experiments import report
from experiments.harness.command_line import run


@dataclasses.dataclass(frozen=True)
class TextMixtureReport:
    """Write the reports, figures and summary of a run again, from its result files alone."""

    results: Path
    """The run's --out folder."""


if __name__ == "__main__":
    run(TextMixtureReport, lambda config: report.main(report.Report((config.results,))))
