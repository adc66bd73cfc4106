"""The report on RegMix's published runs; its words and tables stand in `regmix_published.md.jinja`."""

from pathlib import Path

from experiments.harness.question import Question, Results
from experiments.harness.result_files import write_report
from experiments.regmix_published.results import HELD_OUT, MODELS, RegmixPublished
from experiments.reporting.render import Report, report


def regmix_report(metrics: RegmixPublished) -> Report:
    """Correlations by domain and size of the held-out models, then by number of runs."""
    title = "RegMix on its published runs"
    return report("regmix_published", title, {}, metrics=metrics, sizes=HELD_OUT, models=list(MODELS))


def _write(folder: Path, results: Results) -> None:
    write_report(folder, regmix_report(results[""]))


QUESTION = Question("regmix_published", RegmixPublished, _write)
