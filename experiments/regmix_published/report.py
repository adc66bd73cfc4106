"""The report on RegMix's published runs."""

from collections.abc import Sequence
from pathlib import Path

from experiments.harness.question import Question, Results
from experiments.harness.result_files import write_report
from experiments.regmix_published.results import HELD_OUT, MODELS, RegmixPublished
from experiments.reporting import markdown as md
from experiments.reporting.render import Report, report


def regmix_report(metrics: RegmixPublished) -> Report:
    """Correlations by domain and size of the held-out models, then by number of runs."""
    columns = [(model, size) for model in MODELS for size in HELD_OUT]
    by_domain = [
        [domain, *_cells([metrics.spearman[model][size][domain] for model, size in columns])]
        for domain in metrics.spearman["ridge"][HELD_OUT[0]]
    ]
    mean = ["**mean**", *_cells([metrics.spearman_mean[model][size] for model, size in columns])]
    by_number = [[number, *_cells(list(found.values()))] for number, found in metrics.spearman_by_num_runs.items()]
    return report(
        "regmix_published",
        "RegMix on its published runs",
        {},
        metrics=metrics,
        sizes=HELD_OUT,
        by_domain=md.table(["domain", *(f"{model} {size}" for model, size in columns)], [*by_domain, mean]),
        by_number=md.table(["runs", *MODELS], by_number),
    )


def _cells(values: Sequence[float | None]) -> list[str]:
    return ["-" if value is None else f"{value:.3f}" for value in values]


def _write(folder: Path, results: Results) -> None:
    write_report(folder, regmix_report(results[""]))


QUESTION = Question("regmix_published", RegmixPublished, _write)
