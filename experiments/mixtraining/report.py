"""The report of the MixTraining experiments, images and text alike, from their record alone."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.harness.question import Question, Results
from experiments.harness.result_files import write_report, write_text
from experiments.mixtraining.figures import mixtraining_figures
from experiments.mixtraining.results import BASELINE, MIXED, SUPERVISED, MixTrainingMetrics, from_stages, problems
from experiments.mixtraining.runs import (
    Cell,
    Runs,
    accuracy,
    accuracy_difference,
    cell_runs,
    cells,
    failed_runs,
    flops_to_accuracy,
    paired_runs,
    same_accuracy,
    share_of_all_flops,
    speed_range,
    times_cheaper,
    unmatched,
    values,
)
from experiments.reporting import markdown as md
from experiments.reporting.render import Report, report, sentences
from experiments.reporting.schema import Comparison
from mixmin_jax.stats.comparison import CostShare, chance_of_false_verdict, summary

TEMPLATE = "mixtraining"
PAPER_SPEED_UP = 1.29  # over SSL then SL, at no less accuracy: the most that the paper reports (arXiv:2502.19513)
PICTURES = "reconstructions.npz"
NOUNS = {"images": "image", "text": "text"}

SCHEDULE, CHEAPER, MATCHED = Cell(MIXED), Cell(MIXED, "cheaper"), Cell(MIXED, "matched")
CONVENTIONAL, LABELS_ONLY = Cell(BASELINE), Cell(SUPERVISED, "matched")
QUESTIONS = {  # name in the template -> an arm, and what it is set against
    "own": (SCHEDULE, CONVENTIONAL),
    "cheaper": (CHEAPER, CONVENTIONAL),
    "matched": (MATCHED, CONVENTIONAL),
    "simple": (MATCHED, LABELS_ONLY),
    "worth": (CONVENTIONAL, LABELS_ONLY),
}


class Compared(NamedTuple):
    """Two arms at one fraction."""

    fraction: float
    ours: Runs
    theirs: Runs
    difference: Comparison

    @property
    def faster(self) -> float:
        return times_cheaper(self.ours, self.theirs, "seconds")

    @property
    def short(self) -> list[str]:
        """In what it falls short of the paper's trade-off."""
        short = ["less accurate"] * (self.difference.verdict == "loses")
        return short + [f"{self.faster:.2f} times as fast"] * (self.faster < PAPER_SPEED_UP)

    @property
    def levels(self) -> str:
        return " against ".join(f"{100 * accuracy(runs).mean:.1f}%" for runs in (self.ours, self.theirs))


def compared(metrics: MixTrainingMetrics, a: Cell, b: Cell) -> list[Compared]:
    """The two cells at each fraction where both have runs."""
    return [
        Compared(fraction, *pair, accuracy_difference(*pair)) for fraction, pair in paired_runs(metrics, a, b).items()
    ]


def mixtraining_report(metrics: MixTrainingMetrics, reconstructions: dict[str, np.ndarray] | None = None) -> Report:
    """Verdicts, accuracies and costs, what a step costs, settings, data; figures, with those of `reconstructions`."""
    tests = metrics.dataset.test
    reached = [run.accuracy for run in metrics.runs if not run.failure]
    return report(
        TEMPLATE,
        f"SSL and SL in one phase, or one after the other? MixTraining on {md.code(metrics.dataset.name)}",
        mixtraining_figures(metrics, reconstructions),
        **_context(metrics),
        accuracies={_share_name(metrics, fraction): _accuracies(metrics, fraction) for fraction in metrics.fractions},
        same_accuracy=_same_accuracy(metrics),
        checkpoint_examples=min(metrics.config["checkpoint_examples"], tests),
        steps=_steps(metrics),
        settings=_settings(metrics),
        finalists=_finalists(metrics),
        num_compared=sum(len(compared(metrics, c, CONVENTIONAL)) for c in cells(metrics) if c.arm != BASELINE),
        chance=chance_of_false_verdict(len(metrics.seeds)),
        test_error=max((math.sqrt(p * (1 - p) / tests) for p in reached), default=0.0),
    )


def verdict(metrics: MixTrainingMetrics) -> str:
    """What MixTraining gains, at which cost, and how far that can be believed, in three sentences."""
    return sentences(TEMPLATE, **_context(metrics))


def _context(metrics: MixTrainingMetrics) -> dict[str, Any]:
    """What the verdict's sentences and the table under them are about."""
    found = {name: compared(metrics, *pair) for name, pair in QUESTIONS.items()}
    ended = {run.arm for run in metrics.runs if not run.failure}
    return {
        "metrics": metrics,
        "noun": NOUNS[metrics.domain],
        "paper_speed_up": PAPER_SPEED_UP,
        "compared": found,
        "at": {name: _by_verdict(pairs) for name, pairs in found.items()},
        "failed": _failed(metrics),
        "absent": [md.code(arm) for arm in (MIXED, BASELINE) if arm not in ended],
        "trade_off": _trade_off(found["own"], found["cheaper"]),
        "cost": _cost(metrics, found["own"]),
        "unreached": _unreached(found["own"]),
        "reached": [
            f"{_percent_spread(share)} at {md.percent(pair.fraction)}{_some(share)}"
            for pair in found["own"]
            if (share := same_accuracy(pair.ours, pair.theirs)).num_reached
        ],
        "unmatched": [
            f"{md.code(c.arm)} got {share:.2f} times the FLOPs at {md.percent(f)}" for c, f, share in unmatched(metrics)
        ],
        "better": _better_references(metrics),
        "money": _money(metrics, found["own"]),
    }


def _by_verdict(pairs: Iterable[Compared]) -> dict[str, str]:
    """The fractions with each verdict, "one seed" included, as `10% (44.0% against 44.3%: -0.36 ± 0.06 points)`."""
    found: dict[str, list[str]] = {"wins": [], "ties": [], "loses": [], "one seed": []}
    for pair in pairs:
        place = f"{md.percent(pair.fraction)} ({pair.levels}: {md.points(pair.difference)} points)"
        found[pair.difference.verdict or "one seed"].append(place)
    return {word: md.listing(places) for word, places in found.items()}


def _failed(metrics: MixTrainingMetrics) -> list[str]:
    return [
        f"{md.code(Cell(run.arm, run.budget).name)} at {md.percent(run.fraction)}, seed {run.seed} "
        f"({run.failure.phase} phase, step {run.failure.step:,})"
        for run in failed_runs(metrics)
        if run.failure
    ]


def _trade_off(own: Iterable[Compared], cheaper: Iterable[Compared]) -> dict[str, list[str]]:
    """Where the paper's trade-off is "missed" and "met", by the own schedule or else by the cheaper one.

    One seed meets nothing.
    """
    found: dict[str, list[str]] = {"missed": [], "met": []}
    others = {pair.fraction: pair for pair in cheaper}
    for pair in own:
        place, other = md.percent(pair.fraction), others.get(pair.fraction)
        if pair.short and other and not other.short and other.difference.verdict:
            by = f"by {md.code(CHEAPER.name)}, {other.faster:.2f} times as fast; not by its own schedule"
            found["met"].append(f"{place} ({by})")
        elif pair.short:
            found["missed"].append(f"{place} ({', '.join(pair.short)})")
        elif pair.difference.verdict:
            found["met"].append(place)
    return found


def _cost(metrics: MixTrainingMetrics, own: Sequence[Compared]) -> dict[str, Any] | None:
    """FLOPs and time of MixTraining with its own schedule against SSL then SL."""
    if not own:
        return None
    faster = [pair.faster for pair in own]
    return {
        "flops": md.number_range(1 / times_cheaper(pair.ours, pair.theirs, "flops") for pair in own),
        "faster": md.number_range(faster),
        "rounds": md.number_range(end for pair in own for end in speed_range(metrics, pair.ours, pair.theirs)),
        "nowhere": max(faster) <= 1,
        "everywhere": min(faster) > 1,
    }


def _unreached(own: Iterable[Compared]) -> list[str]:
    found = []
    for pair in own:
        share = same_accuracy(pair.ours, pair.theirs)
        count, short = len(share.per_seed), len(share.per_seed) - share.num_reached
        if short:
            found.append(md.percent(pair.fraction) + (f" in {short} of {count} seeds" if count > 1 else ""))
    return found


def _better_references(metrics: MixTrainingMetrics) -> list[str]:
    """References that do no worse than MixTraining with the most compute it got."""
    better = []
    for reference in metrics.references:
        found = (cell_runs(metrics, cell, reference.fraction) for cell in (MATCHED, SCHEDULE))
        runs: Runs = next(filter(None, found), {})
        if runs and reference.accuracy >= (reached := accuracy(runs).mean):
            better.append(
                f"{md.plain(reference.name)} at {md.percent(reference.fraction)} "
                f"({100 * reference.accuracy:.1f}% against {100 * reached:.1f}%)"
            )
    return better


def _money(metrics: MixTrainingMetrics, own: Iterable[Compared]) -> list[str]:
    """What a training costs with a price per hour, and what it costs up to the same accuracy."""
    price = metrics.price_per_hour
    if price is None:
        return []
    found = []
    for _, ours, theirs, _ in own:
        line = f"{_price(values(ours, 'seconds'), price)} instead of {_price(values(theirs, 'seconds'), price)}"
        # checkpoints are counted in FLOPs, so their seconds are those of a FLOP of that run, on average
        reached = [
            (flops * run.seconds / run.flops, own_flops * theirs[seed].seconds / theirs[seed].flops)
            for seed, run in ours.items()
            if (flops := flops_to_accuracy(run, theirs[seed].accuracy)) is not None
            and (own_flops := flops_to_accuracy(theirs[seed], theirs[seed].accuracy)) is not None
        ]
        to_same = ""
        if reached:
            cost, own_cost = (_price(seconds, price) for seconds in zip(*reached, strict=True))
            to_same = f" ({cost} instead of {own_cost} up to the same accuracy)"
        found.append(f"{line} at {md.percent(next(iter(ours.values())).fraction)}{to_same}")
    return found


def _price(seconds: Sequence[float], price_per_hour: float) -> str:
    money = sum(seconds) / len(seconds) / 3600 * price_per_hour
    return f"{money:,.2f}" if money >= 1 else f"{money:#.2g}"


# ---------------------------------------------------------------- tables


def _accuracies(metrics: MixTrainingMetrics, fraction: float) -> str:
    header = ["arm", "accuracy", "less `ssl_then_sl`, points", "verdict", "test loss, nats", "FLOPs"]
    header += ["times less FLOPs", "seconds", "times as fast", "epochs SSL / joint / SL"]
    return md.table(header, [row for cell in cells(metrics) if (row := _accuracy_row(metrics, cell, fraction))])


def _accuracy_row(metrics: MixTrainingMetrics, cell: Cell, fraction: float) -> list[str]:
    """One line of the table; empty where the cell has no run of this fraction."""
    runs, seeds = cell_runs(metrics, cell, fraction), len(metrics.seeds)
    failed = [run for run in failed_runs(metrics) if (run.arm, run.budget, run.fraction) == (*cell, fraction)]
    if not runs and not failed:
        return []
    few = f" ({len(runs)} of {md.plural(seeds, 'seed')})" * (len(runs) < seeds)
    name = md.code(cell.name) + few + f" **{len(failed)} failed**" * bool(failed)
    if not runs:
        return [name, *[""] * 9]
    flops, seconds, loss = (sum(values(runs, key)) / len(runs) for key in ("flops", "seconds", "test_loss"))
    against = ["", "", "1", "1"] if cell.arm == BASELINE else _against_baseline(metrics, cell, fraction)
    epochs = next(iter(runs.values())).epochs
    return [
        name,
        md.percent_mean_std(accuracy(runs)),
        *against[:2],
        f"{loss:.3f}",
        md.si_count(flops),
        against[2],
        f"{seconds:.0f}" if seconds >= 10 else f"{seconds:.2g}",
        against[3],
        " / ".join(f"{epochs[phase]:g}" for phase in ("ssl", "joint", "sl")),
    ]


def _against_baseline(metrics: MixTrainingMetrics, cell: Cell, fraction: float) -> list[str]:
    """Difference in accuracy, its verdict, and the speed-up in FLOPs and in seconds."""
    for pair in compared(metrics, cell, CONVENTIONAL):
        if pair.fraction == fraction:
            low, high = speed_range(metrics, pair.ours, pair.theirs)
            flops, difference = times_cheaper(pair.ours, pair.theirs, "flops"), pair.difference
            faster = f"{pair.faster:.2f} ({low:.2f} to {high:.2f})"
            return [md.points(difference), difference.verdict or "one seed", f"{flops:.2f}", faster]
    return [""] * 4


def _same_accuracy(metrics: MixTrainingMetrics) -> str:
    """`ssl_then_sl` first, which is the yardstick: read off as the others are."""
    rows = []
    for fraction in metrics.fractions:
        found = [(c, pair) for c in cells(metrics) if (pair := paired_runs(metrics, c, CONVENTIONAL).get(fraction))]
        for cell, pair in sorted(found, key=lambda each: each[0].arm != BASELINE):
            shares = share_of_all_flops(*pair), same_accuracy(*pair)
            told = [_percent_spread(share) if share.num_reached else "not reached" for share in shares]
            reached = f"{shares[1].num_reached} of {len(shares[1].per_seed)}"
            rows.append([md.code(cell.name), md.percent(fraction), *told, reached])
    header = ["arm", "training data", "of all FLOPs of `ssl_then_sl`", "of those to the same accuracy"]
    return md.table([*header, "seeds that reach it"], rows) if len(rows) > len(metrics.fractions) else ""


def _steps(metrics: MixTrainingMetrics) -> list[list[str]]:
    """Of each kind of step its name, milliseconds, GFLOPs, and both relative to SL."""
    sl = metrics.steps.get("sl")
    return [
        [
            kind,
            f"{step.ms:.3g} ({step.ms_low:.3g} to {step.ms_high:.3g})",
            f"{step.flops / 1e9:.3g}",
            f"{step.ms / sl.ms:.2f}" if sl else "",
            f"{step.flops / sl.flops:.2f}" if sl else "",
        ]
        for kind, step in metrics.steps.items()
    ]


def _settings(metrics: MixTrainingMetrics) -> str:
    """Peak learning rates by phase, and the shares of the tokens that are hidden: a line per arm."""
    header = ["arm", "peak learning rate, SSL and joint", "peak learning rate, SL", "hidden in SSL", "hidden in joint"]
    rows = []
    for arm, used in metrics.arms.items():
        rate = f"{used.learning_rate:g}"
        rates = ["", rate] if used.sl_learning_rate is None else [rate, f"{used.sl_learning_rate:g}"]
        hidden = ["" if share is None else md.percent(share) for share in (used.ssl_mask, used.joint_mask)]
        rows.append([md.code(arm), *rates, *hidden])
    return md.table(header, rows)


def _finalists(metrics: MixTrainingMetrics) -> str:
    """The last rung of the search; those that were chosen are marked."""
    if metrics.tuning is None:
        return ""
    last = max(trial.rung for trial in metrics.tuning.trials)
    rows = []
    for trial in (trial for trial in metrics.tuning.trials if trial.rung == last):
        named = {name: value for name, value in vars(trial.settings).items() if value is not None}
        told = ", ".join(f"{md.code(name)} {md.plain(str(value))}" for name, value in named.items())
        chosen = "yes" if trial.settings == metrics.arms[trial.arm] else ""
        reached = f"{100 * trial.accuracy:.1f}"
        rows.append([md.code(trial.arm), told, f"{trial.epochs:g}", md.si_count(trial.flops), reached, chosen])
    return md.table(["arm", "settings", "epochs", "FLOPs", "validation accuracy, %", "chosen"], rows)


def summary_table(metrics: MixTrainingMetrics) -> str:
    """A line per fraction, with accuracies, verdicts against `ssl_then_sl` and costs."""
    header = ["data, model, share of the data", "`ssl_then_sl`", "`mixtraining`", "times as fast", "same accuracy at"]
    extra = [CHEAPER] * (metrics.times_cheaper is not None) + [MATCHED, LABELS_ONLY]
    rows = []
    for fraction in metrics.fractions:
        faster = same = ""
        if pair := paired_runs(metrics, SCHEDULE, CONVENTIONAL).get(fraction):
            faster, same = f"{times_cheaper(*pair, 'seconds'):.2f}", _share_of_flops(same_accuracy(*pair))
        rows.append(
            [
                f"{md.code(metrics.dataset.name)}, {metrics.model.name}, {md.percent(fraction)}",
                *(_level(metrics, cell, fraction) for cell in (CONVENTIONAL, SCHEDULE)),
                faster,
                same,
                *(_level(metrics, cell, fraction) for cell in extra),
            ]
        )
    return md.table(header + [f"{md.code(cell.arm)}, {cell.budget}" for cell in extra], rows)


def _level(metrics: MixTrainingMetrics, cell: Cell, fraction: float) -> str:
    """Accuracy of a cell, with its verdict against `ssl_then_sl`."""
    runs = cell_runs(metrics, cell, fraction)
    if not runs:
        return ""
    pair = paired_runs(metrics, cell, CONVENTIONAL).get(fraction)
    word = accuracy_difference(*pair).verdict if pair and cell.arm != BASELINE else None
    return md.percent_mean_std(accuracy(runs)) + (f" ({f'**{word}**' if word == 'loses' else word})" if word else "")


def _share_of_flops(found: CostShare) -> str:
    return f"{_percent_spread(found)} of the FLOPs{_some(found)}" if found.num_reached else "**not reached**"


def _percent_spread(found: CostShare) -> str:
    """Mean and standard deviation over the seeds that reached it."""
    return md.percent_mean_std(summary([share for share in found.per_seed if share is not None]))


def _some(found: CostShare) -> str:
    count = len(found.per_seed)
    return f" ({found.num_reached} of {count} seeds)" * (found.num_reached < count)


def _share_name(metrics: MixTrainingMetrics, fraction: float) -> str:
    examples = dict(zip(metrics.fractions, metrics.examples, strict=True))[fraction]
    return f"{md.percent(fraction)} of the training data ({md.plural(examples, NOUNS[metrics.domain])})"


def write(folder: Path, results: Results) -> None:
    """report.md, report.html, summary.md and the figures, also of reconstructions.npz where that lies in `folder`."""
    metrics, pictures = results[""], None
    if (folder / PICTURES).exists():
        with np.load(folder / PICTURES, allow_pickle=False) as file:
            pictures = {name: file[name] for name in file.files}
    write_report(folder, mixtraining_report(metrics, pictures))
    write_text(folder / "summary.md", summary_table(metrics) + "\n")


QUESTION = Question("mixtraining", MixTrainingMetrics, write, from_stages=from_stages, problems=problems)
