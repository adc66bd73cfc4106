"""The report of the experiment that joins both papers, from its record alone."""

import math
from pathlib import Path
from typing import Any

from experiments.harness.question import Question, Results
from experiments.harness.result_files import write_report
from experiments.mixed_mixtraining.config import SUBJECT
from experiments.mixed_mixtraining.results import MixedMetrics, from_stages
from experiments.reporting import markdown as md
from experiments.reporting.figures import gap_figure, loss_figure, weights_figure
from experiments.reporting.render import Report, report, sentences
from experiments.reporting.schema import visible_sizes, weights_file
from mixmin_jax.stats.comparison import chance_of_false_verdict

TEMPLATE = "mixed_mixtraining"
CHEAP_EPOCHS = 4  # a repeated token is worth almost a new one up to about here (Muennighoff et al., arXiv:2305.16264)
FEW_LABELS = 100  # labeled windows in all: with fewer, weights follow the noise


def mixed_report(metrics: MixedMetrics) -> Report:
    """Verdicts by question, accuracies, weights with their certificate, costs, data."""
    arms, solved = metrics.arms, metrics.mixmin
    gaps = [[None if gap is None else gap / solved.tolerance for gap in history] for history in solved.gap_history]
    weights = {arm: arms[arm].weights_per_seed for arm in (SUBJECT, "natural", "uniform")}
    figures = {
        "accuracy.png": loss_figure(
            {arm: found.accuracy.per_seed for arm, found in arms.items()}, "test accuracy", "higher"
        ),
        "weights.png": weights_figure(weights),
        "gap.png": gap_figure({SUBJECT: gaps}, 1.0, "gap / tolerance"),
    }
    tasks = [_task(metrics, number) for number in range(len(metrics.tasks))]
    proxies = [time for name, time in metrics.seconds.items() if name.startswith(("proxies-", "scores-"))]
    return report(
        TEMPLATE,
        f"Does MixMin's mixture help MixTraining on {md.listing(tasks)}?",
        figures,
        **_context(metrics),
        tasks=tasks,
        proxy_seconds=sum(proxies) / len(metrics.seeds),
        num_labels=sum(task.labels_per_class * len(task.classes) for task in metrics.tasks),
        few_labels=FEW_LABELS,
        cheap_epochs=CHEAP_EPOCHS,
        test_error=math.sqrt(0.25 / min(task.test for task in metrics.tasks)),  # of one accuracy, at most
        chance=chance_of_false_verdict(len(metrics.seeds)),
    )


def verdict(metrics: MixedMetrics) -> str:
    """What choosing the mixture gains, and how far that can be believed, in three sentences."""
    return sentences(TEMPLATE, **_context(metrics))


def _context(metrics: MixedMetrics) -> dict[str, Any]:
    """What the verdict's sentences are about: arms by their verdicts, and references that are as good."""
    by_verdict: dict[str | None, list[str]] = {word: [] for word in ("loses", "ties", "wins", None)}
    digits = md.decimals(visible_sizes(metrics.comparisons.values()))
    for arm, found in metrics.comparisons.items():
        by_verdict[found.verdict].append(f"{md.code(arm)} ({md.points(found, digits)} points)")
    better = []
    for reference in metrics.references:
        ours, theirs = metrics.arms[SUBJECT].accuracy_per_task[reference.task].mean, reference.accuracy.mean
        if theirs >= ours:
            on = f"{md.plain(reference.name)} on {_task(metrics, reference.task)}"
            better.append(f"{on} ({100 * theirs:.1f}% against {100 * ours:.1f}%)")
    return {"metrics": metrics, "digits": digits, "by_verdict": by_verdict, "better": better}


def _task(metrics: MixedMetrics, number: int) -> str:
    return " or ".join(map(md.code, metrics.tasks[number].classes))


def _files(metrics: MixedMetrics) -> dict[str, Any]:
    weights = {arm: found.weights for arm, found in metrics.arms.items() if found.weights}
    return {"weights.json": weights_file(weights, metrics.weights_unit, metrics.source_notes)}


def _write(folder: Path, results: Results) -> None:
    write_report(folder, mixed_report(results[""]))


QUESTION = Question("mixed_mixtraining", MixedMetrics, _write, files=_files, from_stages=from_stages)
