"""Reports of the molecule experiment, from its records; the words stand in the templates `molecule_*.md.jinja`."""

import dataclasses
import functools
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats

from experiments.harness.question import Question, Results
from experiments.harness.result_files import write_index, write_report, write_text
from experiments.molecule_mixture.figures import METRIC_NAMES, gains_figure, growth_figure, molecule_figures
from experiments.molecule_mixture.plan import GROWTH_ARMS
from experiments.molecule_mixture.results import Compared, MoleculeMetrics, from_stages, problems
from experiments.reporting import markdown as md
from experiments.reporting.over_targets import COLUMNS, over_targets, over_targets_note
from experiments.reporting.render import Report, report, sentences
from mixmin_jax.stats.comparison import Difference, paired_difference, summary

BASELINES = ("own", "natural", "uniform", "random_search")
TOP_SOURCES = 12
SIZE_EDGES = (30, 100, 300)  # between groups of targets, in positives (regression: molecules) to train on
SIZE_PAIRS = (("mixmin", "natural"), ("mixmin", "own"), ("mixmin_own", "own"))
PUBLISHED_GAIN = (0.03, 0.15)  # in average precision, with XGBoost: abstract of arXiv:2502.10510


def molecule_report(metrics: MoleculeMetrics) -> Report:
    """The report on one target."""
    data = metrics.data
    of_target = [shared / data.target_train.molecules for shared in data.shared.values()]
    return report(
        "molecule_mixture",
        f"How to mix {len(data.sources)} assays for {md.code(metrics.target)}",
        molecule_figures(metrics),
        **_verdict(metrics),
        names=METRIC_NAMES,
        choice=_choice(metrics),
        **_largest_weights(metrics),
        used=np.mean([sum(w > 1e-3 for w in seed.values()) for seed in metrics.arms["mixmin"].weights_per_seed]),
        overlap=f"{min(of_target):.0%} to {max(of_target):.0%} (median {np.median(of_target):.0%})",
        summary=summary,
    )


def conclusion(metrics: MoleculeMetrics) -> str:
    """The report's first paragraph."""
    return sentences("molecule_mixture", **_verdict(metrics))


def _verdict(metrics: MoleculeMetrics) -> dict[str, Any]:
    """What the rules of the first paragraph read."""
    metric = metrics.metrics[0]
    found = [metrics.compared("mixmin", other) for other in BASELINES]
    decided = [found for found in metrics.comparisons if found.verdict in ("wins", "loses")]
    shown = md.decimals(end for c in decided for end in (c.mean, c.lower, c.upper))
    interval = functools.partial(_with_interval, digits=shown)
    return {
        "metrics": metrics,
        "digits": md.decimals(c.mean for c in decided),
        "metric": metric,
        "name": METRIC_NAMES[metric],
        "interval": interval,
        "unsolved": _unsolved(metrics),
        "wins": [f"{md.code(c.other)} ({interval(c)})" for c in found if c.verdict == "wins"],
        "ties": [md.code(c.other) for c in found if c.verdict == "ties"],
        "loses": [f"{md.code(c.other)} ({interval(c)})" for c in found if c.verdict == "loses"],
        "together": metrics.compared("mixmin_own", "own"),
        "control": metrics.compared("mixmin_own", "natural_own"),
        "collapsed": [f"{md.code(name)}{seed}" for name, seed in _seeds_apart(metrics.collapsed.arms)],
        "best": max(metrics.arms, key=lambda arm: metrics.arms[arm].scores[metric].mean),
    }


def _seeds_apart(arms: Sequence[str]) -> list[tuple[str, str]]:
    """`own (seed 1)` as its two parts."""
    return [(name, f" ({rest}") for name, rest in (arm.split(" (", 1) for arm in arms)]


def _choice(metrics: MoleculeMetrics) -> list[tuple[str, float, Difference | None]]:
    """Every learner that was tried: its mean loss, and how much more it is than that of the one that was taken."""
    if metrics.choice is None:
        return []
    losses, taken = metrics.choice.losses, metrics.choice.best
    ranked = sorted(losses, key=lambda learner: (learner != taken, float(np.mean(losses[learner]))))
    best = losses[taken]
    more = {learner: paired_difference(losses[learner], best) for learner in ranked[1:]}
    return [(learner, float(np.mean(losses[learner])), more.get(learner)) for learner in ranked]


def _unsolved(metrics: MoleculeMetrics) -> list[str]:
    return [md.code(arm) for arm, solved in metrics.solved.items() if not solved.converged]


def _with_interval(found: Compared, digits: int) -> str:
    return f"{found.mean:+.{digits}f}, {found.lower:+.{digits}f} to {found.upper:+.{digits}f}"


def _largest_weights(metrics: MoleculeMetrics) -> dict[str, Any]:
    """`weights` by arm, the `top` sources by solved weight, the `others`, and the `rest`: what these have, by arm."""
    weights = {arm: metrics.arms[arm].weights or {} for arm in ("mixmin", "mixmin_own", "random_search", "natural")}
    everything = {*metrics.data.sources, *(name for found in weights.values() for name in found)}
    largest = {name: max(weights[arm].get(name, 0) for arm in metrics.solved) for name in everything}
    order = sorted(everything, key=lambda name: (-largest[name], name))
    num_top = min(sum(weight > 0 for weight in largest.values()), TOP_SOURCES)
    top, others = order[:num_top], order[num_top:]
    rest = [sum(found.get(name, 0) for name in others) for found in weights.values()]
    return {"weights": weights, "top": top, "others": others, "rest": rest}


# All targets together ---------------------------------------------------------------------------------------------


def molecule_gains(runs: Sequence[MoleculeMetrics]) -> str:
    """The tables of all targets: scores by arm, differences, and what the paper reports."""
    return report("molecule_gains", "", {}, **_of_all(runs)).markdown


def molecule_summary(runs: Sequence[MoleculeMetrics]) -> str:
    """summary.md: every target, and what mixing does on average."""
    seconds = {stage: found for metrics in runs for stage, found in metrics.seconds.items()}
    return report(
        "molecule_summary",
        "",
        {},
        **_of_all(runs),
        whole_run=dataclasses.replace(runs[0], seconds=seconds),
        unsolved=[md.code(metrics.target) for metrics in runs if _unsolved(metrics)],
        growth=_growth(runs),
        by_size=_by_size(runs),
        mean_and_interval=_mean_and_interval,
    ).markdown


def _of_all(runs: Sequence[MoleculeMetrics]) -> dict[str, Any]:
    """What the tables of all targets read."""
    metric = runs[0].metrics[0]
    differences = {pair: [metrics.compared(*pair) for metrics in runs] for pair in runs[0].pairs}
    return {
        "runs": runs,
        "digits": md.decimals(c.mean for pair in differences.values() for c in pair if c.verdict in ("wins", "loses")),
        "first": runs[0],
        "metric": metric,
        "name": METRIC_NAMES[metric],
        "means": {arm: np.mean([metrics.arms[arm].scores[metric].mean for metrics in runs]) for arm in runs[0].arms},
        "differences": differences,
        "gains": {pair: _gains(runs, pair) for pair in differences},
        "together": {
            pair: over_targets(found, runs[0].matters, higher_is_better=True) for pair, found in differences.items()
        },
        "columns": COLUMNS,
        "note": over_targets_note(len(runs), runs[0].matters, f"in {METRIC_NAMES[metric]}"),
        "mean_and_error": _mean_and_error,
        "published": PUBLISHED_GAIN,
    }


def _mean_and_error(values: Sequence[float]) -> str:
    if not values:
        return "left out"
    error = f" ± {np.std(values, ddof=1) / math.sqrt(len(values)):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):+.3f}{error}"


def _growth(runs: Sequence[MoleculeMetrics]) -> list[tuple[int, list[float], list[float]]]:
    """By number of sources, of which the last is all of them: each target's gain over `natural` and over `own`."""
    rows = []
    for found in zip(*(metrics.grown().items() for metrics in runs), strict=True):
        mixmin, natural = ([float(np.mean(arms[arm])) for _, arms in found] for arm in GROWTH_ARMS)
        own = [metrics.arms["own"].scores[metrics.metrics[0]].mean for metrics in runs]
        gains = [np.subtract(mixmin, others).tolist() for others in (natural, own)]
        rows.append((max(number for number, _ in found), *gains))
    return rows


def _by_size(runs: Sequence[MoleculeMetrics]) -> list[tuple[str, int, list[list[float]]]]:
    """By the target's amount of training data: in words, targets, and the gains of `SIZE_PAIRS`."""
    groups: dict[str, list[MoleculeMetrics]] = {}
    for low, high in itertools.pairwise((0, *SIZE_EDGES, math.inf)):
        words = f"fewer than {high}" if not low else f"{low} or more" if math.isinf(high) else f"{low} to {high - 1}"
        members = [metrics for metrics in runs if low <= metrics.data.target_train.size < high]
        groups |= {words: members} if members else {}
    return [(words, len(members), [_gains(members, pair) for pair in SIZE_PAIRS]) for words, members in groups.items()]


def _gains(runs: Sequence[MoleculeMetrics], pair: tuple[str, str]) -> list[float]:
    """The difference of two arms on each target, without targets on which one of them learned nothing."""
    return [found.mean for found in (metrics.compared(*pair) for metrics in runs) if found.verdict]


def _mean_and_interval(values: Sequence[float]) -> str:
    """The mean over targets with its interval of 95 % (Student's)."""
    if len(values) < 2:
        return f"{np.mean(values):+.3f}"
    half = scipy.stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values))
    return f"{np.mean(values):+.3f} ({np.mean(values) - half:+.3f} to {np.mean(values) + half:+.3f})"


def _write(folder: Path, results: Results) -> None:
    """All reports and figures; the summary has the targets in the order of their amount of data."""
    for name, metrics in results.items():
        write_report(folder / name, molecule_report(metrics))
    runs = dict(sorted(results.items(), key=lambda item: (item[1].data.target_train.size, item[1].target)))
    found = list(runs.values())
    figures = {"gains.png": gains_figure(found)} | ({"growth.png": growth_figure(found)} if found[0].growth else {})
    write_text(folder / "gains.md", molecule_gains(found))
    write_index(
        folder,
        f"Mixing assays: {md.plural(len(found), 'target')}",
        {name: conclusion(metrics) for name, metrics in runs.items()},
        molecule_summary(found).rstrip(),
        figures,
    )


QUESTION = Question(
    "molecule_mixture",
    MoleculeMetrics,
    _write,
    by_target=True,
    files=lambda metrics: {
        "weights.json": {arm: found.weights for arm, found in metrics.arms.items() if found.weights}
    },
    from_stages=from_stages,
    problems=problems,
)
