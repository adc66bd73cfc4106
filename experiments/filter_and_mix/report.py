"""The reports of the experiment that filters and mixes, from its records alone: one for each target, and a summary."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.filter_and_mix.config import SUBJECT
from experiments.filter_and_mix.figures import rates_figure, strength_figure
from experiments.filter_and_mix.results import FilterMetrics, from_stages
from experiments.harness.question import Question, Results
from experiments.harness.result_files import write_index, write_report
from experiments.reporting import markdown as md
from experiments.reporting.figures import ReportFigure, gap_figure, loss_figure, loss_panels_figure
from experiments.reporting.over_targets import COLUMNS, over_targets, over_targets_note
from experiments.reporting.render import Report, report, sentences
from experiments.reporting.schema import SHARE_OF_TOKENS, visible_sizes, weights_file
from mixmin_jax.stats.comparison import chance_of_false_verdict

TEMPLATE = "filter_and_mix"
MOST_BUCKETS = 40  # that a report lists; metrics.json has all
MOSTLY = 0.5  # of a bucket's tokens that are noise, from which on it is called noise
MORE, LESS = 1.25, 0.8  # times the natural share, from which on a bucket is called up- or down-weighted
FEW_DOCUMENTS = 100  # target documents to fit weights on: fewer are called few


def filter_and_mix_report(metrics: FilterMetrics) -> Report:
    """Verdict, arms, buckets, prior, thresholds and examples of one target."""
    listed = sorted(metrics.buckets, key=lambda name: -metrics.buckets[name].weight)
    return report(
        TEMPLATE,
        f"What to leave out and how much of the rest to take for {md.code(metrics.target)}?",
        _figures(metrics),
        **_context(metrics),
        listed=listed[:MOST_BUCKETS],
        num_more=max(len(listed) - MOST_BUCKETS, 0),
        by_source={source: _of_source(metrics, source) for source in metrics.sources},
        price=metrics.config.get("price_per_hour"),
        chance=chance_of_false_verdict(len(metrics.seeds)),
        few_documents=FEW_DOCUMENTS,
    )


def verdict(metrics: FilterMetrics) -> str:
    """What to train on, and how far that can be believed, in three sentences."""
    return sentences(TEMPLATE, **_context(metrics))


def _context(metrics: FilterMetrics) -> dict[str, Any]:
    noise = {name: bucket.natural * bucket.noise for name, bucket in metrics.buckets.items()}
    noisy = [name for name, bucket in metrics.buckets.items() if bucket.noise > MOSTLY]
    return {
        "metrics": metrics,
        "digits": md.decimals(visible_sizes(metrics.comparisons.values())),
        "subject": SUBJECT,
        "by_verdict": {
            word: [arm for arm, found in metrics.comparisons.items() if found.verdict == word]
            for word in ("wins", "ties", "loses")
        },
        "best": metrics.recommended,
        "natural_noise": sum(noise.values()),
        "noisy": [metrics.buckets[name] for name in noisy],
        "noise_held": sum(noise[name] for name in noisy) / max(sum(noise.values()), 1e-12),
        "kept": [metrics.buckets[name] for name in metrics.kept],
    }


def _of_source(metrics: FilterMetrics, source: str) -> dict[str, Any]:
    """What becomes of a source: shares of its own tokens."""
    mine = [bucket for bucket in metrics.buckets.values() if bucket.source == source]
    natural = sum(bucket.natural for bucket in mine)

    def share(low: float, high: float) -> float:
        """Of its tokens in buckets whose rate is in [low, high)."""
        return sum(bucket.natural for bucket in mine if low <= bucket.rate < high) / natural

    return {
        "natural": natural,
        "weight": sum(bucket.weight for bucket in mine),
        "dropped": sum(bucket.natural for bucket in mine if not bucket.weight) / natural,
        "less": share(1e-12, LESS),
        "same": share(LESS, MORE),
        "more": share(MORE, float("inf")),
        "note": metrics.source_notes.get(source),
    }


def _figures(metrics: FilterMetrics) -> dict[str, ReportFigure]:
    levels = {arm: found.test_bits_per_byte.per_seed for arm, found in metrics.arms.items() if found.test_bits_per_byte}
    gaps = [[gap and gap / metrics.solved.tolerance for gap in history] for history in metrics.solved.gap_history]
    return {
        **({"loss.png": loss_figure(levels)} if levels else {}),
        "rates.png": rates_figure(metrics),
        "strength.png": strength_figure(metrics),
        "gap.png": gap_figure({SUBJECT: gaps}, 1.0, "gap / tolerance"),
    }


def write(folder: Path, results: Results) -> None:
    """The report of every target, and the summary and index of the run."""
    runs: dict[str, FilterMetrics] = {name: results[name] for name in sorted(results)}
    for name, metrics in runs.items():
        write_report(folder / name, filter_and_mix_report(metrics))
    levels = {
        metrics.target: {
            arm: found.test_bits_per_byte.per_seed for arm, found in metrics.arms.items() if found.test_bits_per_byte
        }
        for metrics in runs.values()
    }
    write_index(
        folder,
        "What to leave out, and how much of the rest to take?",
        {name: verdict(metrics) for name, metrics in runs.items()},
        summary_table(runs),
        {"summary.png": loss_panels_figure(levels)} if all(levels.values()) else {},
    )


def summary_table(runs: Mapping[str, FilterMetrics]) -> str:
    """Test bits per byte of each arm on every target, what SUBJECT does against it, and its share of noise."""
    digits = md.decimals(visible_sizes(found for metrics in runs.values() for found in metrics.comparisons.values()))
    said = {"wins": "wins", "ties": "tie", "loses": "**loses**", None: ""}

    def cell(metrics: FilterMetrics, arm: str) -> str:
        found = metrics.arms[arm]
        if found.test_bits_per_byte is None:
            return ""
        against = metrics.comparisons.get(arm)
        text = md.mean_std(found.test_bits_per_byte, digits) + (f" ({said[against.verdict]})" if against else "")
        return text + (f", noise {md.percent(round(found.noise, 4))}" if metrics.identity["noise"] else "")

    first = next(iter(runs.values()))
    together = len(runs) > 1 and len(first.comparisons) > 0

    def of_all(arm: str) -> tuple[str, ...]:
        if arm == SUBJECT or not together:
            return ("", "") if together else ()
        return over_targets([m.comparisons[arm] for m in runs.values()], first.matters, higher_is_better=False).cells

    table = md.table(
        ["test bits per byte", *(md.code(m.target) for m in runs.values()), *(COLUMNS if together else ())],
        [[md.code(arm), *(cell(metrics, arm) for metrics in runs.values()), *of_all(arm)] for arm in first.arms],
    )
    notes = [f"In brackets, what {md.code(SUBJECT)} does against the arm."]
    notes += [over_targets_note(len(runs), first.matters, "bits per byte", md.code(SUBJECT))] if together else []
    return "\n\n".join([table, *notes])


def _files(metrics: FilterMetrics) -> dict[str, Any]:
    weights: dict[str, Any] = {arm: found.weights for arm, found in metrics.arms.items()}
    recommended = {"arm": metrics.recommended, "weights": weights[metrics.recommended]}
    return {
        "weights.json": weights_file({**weights, "recommended": recommended}, SHARE_OF_TOKENS, metrics.source_notes)
    }


QUESTION = Question("filter_and_mix", FilterMetrics, write, by_target=True, files=_files, from_stages=from_stages)
