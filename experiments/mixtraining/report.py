"""The report of the MixTraining experiments, images and text alike, from their record alone."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.harness.question import Question, Results
from experiments.harness.result_files import write_report, write_text
from experiments.mixtraining.compression_report import compression_table
from experiments.mixtraining.config import FINETUNE
from experiments.mixtraining.decision import decisions
from experiments.mixtraining.figures import mixtraining_figures
from experiments.mixtraining.results import BASELINE, MIXED, SUPERVISED, MixTrainingMetrics, Run, from_stages, problems
from experiments.mixtraining.runs import (
    CONVENTIONAL,
    Cell,
    Pair,
    accuracy,
    cell_runs,
    cells,
    failed_runs,
    flops_to_accuracy,
    pairs,
)
from experiments.mixtraining.unlabeled import LABELED_ALONE
from experiments.reporting import markdown as md
from experiments.reporting.render import Report, report, sentences
from experiments.reporting.schema import visible_sizes
from mixmin_jax.stats.comparison import Summary, chance_of_false_verdict, summary

TEMPLATE = "mixtraining"
PAPER_SPEED_UP = 1.29  # over SSL then SL, at no less accuracy: the most that the paper reports (arXiv:2502.19513)
EQUAL_COMPUTE = 0.05  # FLOPs further apart than this share are not called matched
PICTURES, COMPRESSION = "reconstructions.npz", "compression.md"

SCHEDULE, CHEAPER, MATCHED = Cell(MIXED), Cell(MIXED, "cheaper"), Cell(MIXED, "matched")
LABELS_ONLY, FINETUNED = Cell(SUPERVISED, "matched"), Cell(FINETUNE, "matched")
UNLABELED = (  # SSL on all, and at equal FLOPs on the labeled examples alone
    (CONVENTIONAL, Cell(BASELINE, LABELED_ALONE)),
    (MATCHED, Cell(MIXED, LABELED_ALONE)),
)
QUESTIONS = {  # name in the template -> an arm, and what it is set against
    "own": (SCHEDULE, CONVENTIONAL),
    "cheaper": (CHEAPER, CONVENTIONAL),
    "matched": (MATCHED, CONVENTIONAL),
    "simple": (MATCHED, LABELS_ONLY),
    "worth": (CONVENTIONAL, LABELS_ONLY),
    "finetune": (MATCHED, FINETUNED),  # these two with a pretrained start
    "start": (FINETUNED, LABELS_ONLY),
}


class Level(NamedTuple):
    """What a cell reached at one fraction, on average, and against `ssl_then_sl`."""

    cell: Cell
    runs: list[Run]
    num_failed: int
    against: Pair | None  # not of `ssl_then_sl` itself

    @property
    def accuracy(self) -> Summary:
        return accuracy(self.runs)

    def mean(self, key: str) -> float:
        return float(sum(getattr(run, key) for run in self.runs) / len(self.runs))


def mixtraining_report(metrics: MixTrainingMetrics, reconstructions: dict[str, np.ndarray] | None = None) -> Report:
    """Verdicts, accuracies and costs, what a step costs, settings, data; figures, with those of `reconstructions`."""
    tests = metrics.dataset.test
    reached = [run.accuracy for run in metrics.runs if not run.failure]
    # of which `ssl_then_sl`, the yardstick, is the first: read off as the others are
    against = [pairs(metrics, cell) for cell in sorted(cells(metrics), key=lambda cell: cell != CONVENTIONAL)]
    return report(
        TEMPLATE,
        f"SSL and SL in one phase, or one after the other? MixTraining on {md.code(metrics.dataset.name)}",
        mixtraining_figures(metrics, reconstructions),
        **_context(metrics),
        levels={fraction: levels(metrics, fraction, cells(metrics)) for fraction in metrics.fractions},
        same_accuracy=[found[fraction] for fraction in metrics.fractions for found in against if fraction in found],
        checkpoint_examples=min(metrics.config["checkpoint_examples"], tests),
        chance=chance_of_false_verdict(len(metrics.seeds)),
        compression=compression_table([metrics]),
        test_error=max((math.sqrt(p * (1 - p) / tests) for p in reached), default=0.0),
    )


def levels(metrics: MixTrainingMetrics, fraction: float, of: Iterable[Cell]) -> list[Level]:
    """What each of these cells reached at a fraction; failed runs count, but reach nothing."""
    failed = [(Cell(run.arm, run.budget), run.fraction) for run in metrics.runs if run.failure]
    return [
        Level(
            cell,
            cell_runs(metrics, cell, fraction),
            failed.count((cell, fraction)),
            None if cell == CONVENTIONAL else pairs(metrics, cell).get(fraction),
        )
        for cell in of
    ]


def summary_table(metrics: MixTrainingMetrics) -> str:
    """A line per fraction, with accuracies, verdicts against `ssl_then_sl` and costs."""
    extra = (
        [CHEAPER] * (metrics.times_cheaper is not None)
        + [MATCHED, LABELS_ONLY]
        + [FINETUNED] * (metrics.start is not None)
    )
    lines = {fraction: levels(metrics, fraction, (CONVENTIONAL, SCHEDULE, *extra)) for fraction in metrics.fractions}
    against = [level.against for found in lines.values() for level in found if level.against]
    digits = md.decimals(visible_sizes(pair.difference for pair in against))
    context: dict[str, Any] = {"extra": extra, "lines": lines, "digits": digits}
    return report("mixtraining_summary", "", {}, metrics=metrics, **context).markdown.strip()


def verdict(metrics: MixTrainingMetrics) -> str:
    """What MixTraining gains, at which cost, and how far that can be believed, in three sentences."""
    return sentences(TEMPLATE, **_context(metrics))


def recommendation(metrics: MixTrainingMetrics) -> str:
    """What to train at each fraction of the data, at which cost, and how sure that is: a line each."""
    return sentences(TEMPLATE, "decision", **_context(metrics))


def _context(metrics: MixTrainingMetrics) -> dict[str, Any]:
    """What the verdict's sentences and the table under them are about."""
    found = {name: list(pairs(metrics, *compared).values()) for name, compared in QUESTIONS.items()}
    ended = {run.arm for run in metrics.runs if not run.failure}
    equal = [cell for cell in cells(metrics) if cell.budget in ("matched", LABELED_ALONE)]
    matched = [pair for cell in equal for pair in pairs(metrics, cell).values()]
    price = metrics.price_per_hour
    shown = [pair for compared in (*QUESTIONS.values(), *UNLABELED) for pair in pairs(metrics, *compared).values()]
    shown += [pair for cell in cells(metrics) for pair in pairs(metrics, cell).values()]
    digits = md.decimals(visible_sizes(pair.difference for pair in shown))
    return {
        "metrics": metrics,
        "digits": digits,
        "decisions": decisions(metrics),
        "paper_speed_up": PAPER_SPEED_UP,
        "beyond": "beyond noise" + f" or {100 * metrics.matters:g} points" * bool(metrics.matters),
        "compared": found,
        "at": {name: _by_verdict(pairs, digits) for name, pairs in found.items()},
        "unlabeled": [pair for compared in UNLABELED for pair in pairs(metrics, *compared).values()],
        "failed": [
            f"{md.code(Cell(run.arm, run.budget).name)} at {md.percent(run.fraction)}, seed {run.seed} "
            f"({run.failure.phase} phase, step {run.failure.step:,})"
            for run in failed_runs(metrics)
            if run.failure
        ],
        "absent": [md.code(arm) for arm in (MIXED, BASELINE) if arm not in ended],
        "trade_off": _trade_off(found["own"], found["cheaper"]),
        "cost": _cost(found["own"]),
        **_same_accuracy(found["own"]),
        "unmatched": [
            f"{md.code(pair.a.arm)} got {pair.share_of_flops:.2f} times the FLOPs at {md.percent(pair.fraction)}"
            for pair in matched
            if abs(pair.share_of_flops - 1) > EQUAL_COMPUTE
        ],
        "better": _better_references(metrics),
        "money": [_money(pair, price) for pair in found["own"] if price is not None],
    }


def _by_verdict(compared: Iterable[Pair], digits: int) -> dict[str, str]:
    """The fractions with each verdict, "one seed" included, as `10% (44.0% against 44.3%: -0.36 ± 0.06 points)`."""
    found: dict[str, list[str]] = {"wins": [], "ties": [], "loses": [], "one seed": []}
    for pair in compared:
        place = f"{md.percent(pair.fraction)} ({pair.levels(digits)}: {md.points(pair.difference, digits)} points)"
        found[pair.verdict].append(place)
    return {word: md.listing(places) for word, places in found.items()}


def _trade_off(own: Iterable[Pair], cheaper: Iterable[Pair]) -> dict[str, list[str]]:
    """Where the paper's trade-off is "missed" and "met", by the own schedule or else by the cheaper one.

    One seed meets nothing.
    """
    found: dict[str, list[str]] = {"missed": [], "met": []}
    others = {pair.fraction: pair for pair in cheaper}
    for pair in own:
        place, other = md.percent(pair.fraction), others.get(pair.fraction)
        short = _falls_short(pair)
        if short and other and other.difference.verdict and not _falls_short(other):
            by = f"by {md.code(CHEAPER.name)}, {other.times_as_fast:.2f} times as fast; not by its own schedule"
            found["met"].append(f"{place} ({by})")
        elif short:
            found["missed"].append(f"{place} ({', '.join(short)})")
        elif pair.difference.verdict:
            found["met"].append(place)
    return found


def _falls_short(pair: Pair) -> list[str]:
    """In what the first arm falls short of the paper's trade-off."""
    short = ["less accurate"] * (pair.verdict == "loses")
    return short + [f"{pair.times_as_fast:.2f} times as fast"] * (pair.times_as_fast < PAPER_SPEED_UP)


def _same_accuracy(own: Iterable[Pair]) -> dict[str, list[str]]:
    """Where the accuracy of SSL then SL is "reached", by which share of the FLOPs, and where it is "unreached"."""
    found: dict[str, list[str]] = {"reached": [], "unreached": []}
    for pair in own:
        place, share = md.percent(pair.fraction), pair.same_accuracy
        count, short = len(share.per_seed), len(share.per_seed) - share.num_reached
        if reached := [each for each in share.per_seed if each is not None]:
            some = f" ({len(reached)} of {count} seeds)" * (short > 0)
            found["reached"].append(f"{md.percent_mean_std(summary(reached))} at {place}{some}")
        if short:
            found["unreached"].append(place + f" in {short} of {count} seeds" * (count > 1))
    return found


def _cost(own: Sequence[Pair]) -> dict[str, Any] | None:
    """FLOPs and time of MixTraining with its own schedule against SSL then SL."""
    if not own:
        return None
    faster = [pair.times_as_fast for pair in own]
    return {
        "flops": md.number_range(pair.share_of_flops for pair in own),
        "faster": md.number_range(faster),
        "rounds": md.number_range(end for pair in own for end in pair.speed_range),
        "nowhere": max(faster) <= 1,
        "everywhere": min(faster) > 1,
    }


def _better_references(metrics: MixTrainingMetrics) -> list[str]:
    """References that do no worse than MixTraining with the most compute it got."""
    better = []
    for reference in metrics.references:
        matched, schedule = (cell_runs(metrics, cell, reference.fraction) for cell in (MATCHED, SCHEDULE))
        runs = matched or schedule
        if runs and reference.accuracy >= (reached := accuracy(runs).mean):
            better.append(
                f"{md.plain(reference.name)} at {md.percent(reference.fraction)} "
                f"({100 * reference.accuracy:.1f}% against {100 * reached:.1f}%)"
            )
    return better


def _money(pair: Pair, price_per_hour: float) -> str:
    """What a training costs, and what it costs up to the same accuracy."""

    def price(seconds: Sequence[float]) -> str:
        money = sum(seconds) / len(seconds) / 3600 * price_per_hour
        return f"{money:,.2f}" if money >= 1 else f"{money:#.2g}"

    def seconds_to(run: Run, level: float) -> float | None:
        # checkpoints are counted in FLOPs, so their seconds are those of a FLOP of that run, on average
        flops = flops_to_accuracy(run, level)
        return None if flops is None else flops * run.seconds / run.flops

    both = list(zip(pair.ours, pair.theirs, strict=True))
    reached = [(seconds_to(a, b.accuracy), seconds_to(b, b.accuracy)) for a, b in both]
    costs = [[run.seconds for run in runs] for runs in (pair.ours, pair.theirs)]
    line = " instead of ".join(map(price, costs)) + f" at {md.percent(pair.fraction)}"
    if there := [both for both in reached if None not in both]:
        line += f" ({' instead of '.join(map(price, zip(*there, strict=True)))} up to the same accuracy)"
    return line


def write(folder: Path, results: Results) -> None:
    """report.md, report.html, summary.md and the figures, also of reconstructions.npz where that lies in `folder`."""
    metrics, pictures = results[""], None
    if (folder / PICTURES).exists():
        with np.load(folder / PICTURES, allow_pickle=False) as file:
            pictures = {name: file[name] for name in file.files}
    write_report(folder, mixtraining_report(metrics, pictures))
    write_text(folder / "summary.md", summary_table(metrics) + "\n")
    if table := compression_table([metrics]):
        write_text(folder / COMPRESSION, table + "\n")


QUESTION = Question("mixtraining", MixTrainingMetrics, write, from_stages=from_stages, problems=problems)
