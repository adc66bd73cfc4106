"""Reports of the molecule experiment, from its records; the words stand in the templates `molecule_*.md.jinja`."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.harness.question import Question, Results
from experiments.harness.result_files import write_index, write_report, write_text
from experiments.molecule_mixture.figures import METRIC_NAMES, gains_figure, growth_figure, molecule_figures
from experiments.molecule_mixture.results import COMPARED, Compared, MoleculeMetrics, from_stages, problems
from experiments.reporting import markdown as md
from experiments.reporting.render import Report, report, sentences
from experiments.reporting.schema import Verdict
from mixmin_jax.stats.comparison import summary

BASELINES = ("own", "natural", "uniform", "random_search")
VERDICTS: tuple[Verdict, ...] = ("wins", "ties", "loses")
TOP_SOURCES = 12
PUBLISHED_GAIN = (0.03, 0.15)  # in average precision, with XGBoost: abstract of arXiv:2502.10510


def molecule_report(metrics: MoleculeMetrics) -> Report:
    """The report on one target."""
    of_target = [shared / metrics.data.target_train.molecules for shared in metrics.data.shared.values()]
    return report(
        "molecule_mixture",
        f"How to mix {len(metrics.data.sources)} assays for {md.code(metrics.target)}",
        molecule_figures(metrics),
        **_verdict(metrics),
        names=METRIC_NAMES,
        pairs=COMPARED,
        weights=_weights(metrics),
        used=np.mean([sum(w > 1e-3 for w in seed.values()) for seed in metrics.arms["mixmin"].weights_per_seed]),
        overlap=f"{min(of_target):.0%} to {max(of_target):.0%} (median {np.median(of_target):.0%})",
        growth=_growth(metrics) if metrics.growth else "",
    )


def conclusion(metrics: MoleculeMetrics) -> str:
    """The report's first paragraph."""
    return sentences("molecule_mixture", **_verdict(metrics))


def _verdict(metrics: MoleculeMetrics) -> dict[str, Any]:
    """What the rules of the first paragraph read."""
    metric = metrics.metrics[0]
    found = [metrics.compared("mixmin", other) for other in BASELINES]
    return {
        "metrics": metrics,
        "metric": metric,
        "name": METRIC_NAMES[metric],
        "interval": _interval,
        "unsolved": [md.code(arm) for arm, solved in metrics.solved.items() if not solved.converged],
        "wins": [f"{md.code(c.other)} ({_interval(c)})" for c in found if c.verdict == "wins"],
        "ties": [md.code(c.other) for c in found if c.verdict == "ties"],
        "loses": [f"{md.code(c.other)} ({_interval(c)})" for c in found if c.verdict == "loses"],
        "together": metrics.compared("mixmin_own", "own"),
        "control": metrics.compared("mixmin_own", "natural_own"),
        "best": max(metrics.arms, key=lambda arm: metrics.arms[arm].scores[metric].mean),
    }


def _interval(found: Compared) -> str:
    return f"{found.mean:+.3f}, {found.lower:+.3f} to {found.upper:+.3f}"


def _weights(metrics: MoleculeMetrics) -> str:
    """The sources with the largest weights in the solved arms, and the others together."""
    data = metrics.data
    weights = {arm: metrics.arms[arm].weights for arm in ("mixmin", "mixmin_own", "random_search", "natural")}
    everything = {*data.sources, *(name for found in weights.values() for name in found)}
    largest = {name: max(weights[arm].get(name, 0) for arm in metrics.solved) for name in everything}
    order = sorted(everything, key=lambda name: (-largest[name], name))
    top = [name for name in order if largest[name] > 0][:TOP_SOURCES]
    rows = []
    for name in top:
        size, shared = data.sources.get(name), data.shared.get(name)
        about = ["", "", ""]
        if size is not None and shared is not None:
            about = [f"{shared / data.target_train.molecules:.0%}", f"{shared / max(size, 1):.0%}", f"{size:,}"]
        own = " (the target)" * (name == metrics.target)
        rows.append([md.code(name) + own, *(f"{found.get(name, 0):.3f}" for found in weights.values()), *about])
    if len(order) > len(top):
        rest = [sum(found.get(name, 0) for name in order if name not in top) for found in weights.values()]
        rows.append([f"{len(order) - len(top)} others", *(f"{share:.3f}" for share in rest), "", "", ""])
    header = ["source", *map(md.code, weights), "target's molecules in it", "its molecules in the target", "molecules"]
    return md.table(header, rows)


def _growth(metrics: MoleculeMetrics) -> str:
    grown = metrics.grown()
    rows = [
        [str(number), *(md.mean_std(summary(values)) for values in arms.values())] for number, arms in grown.items()
    ]
    return md.table(["sources", *map(md.code, grown[len(metrics.data.sources)])], rows)


# All targets together ---------------------------------------------------------------------------------------------


def molecule_gains(runs: Sequence[MoleculeMetrics]) -> str:
    """The tables of all targets: scores by arm, differences, and what the paper reports."""
    return report("molecule_gains", "", {}, **_gains(runs)).markdown


def molecule_summary(runs: Sequence[MoleculeMetrics]) -> str:
    """summary.md: every target, and what mixing does on average."""
    seconds = {stage: found for metrics in runs for stage, found in metrics.seconds.items()}
    return report(
        "molecule_summary",
        "",
        {},
        **_gains(runs),
        first=dataclasses.replace(runs[0], seconds=seconds),
        incomplete=not all(metrics.complete for metrics in runs),
        unsolved=[
            md.code(metrics.target) for metrics in runs if not all(found.converged for found in metrics.solved.values())
        ],
        growth=_growth_of_all(runs) if runs[0].growth else "",
    ).markdown


def _gains(runs: Sequence[MoleculeMetrics]) -> dict[str, str]:
    metric, arms = runs[0].metrics[0], list(runs[0].arms)
    means = [[metrics.arms[arm].scores[metric].mean for arm in arms] for metrics in runs]
    rows = [
        [md.code(metrics.target), f"{metrics.size} / {_test_size(metrics)}", *(f"{mean:.3f}" for mean in its)]
        for metrics, its in zip(runs, means, strict=True)
    ]
    rows.append(["mean", "", *(f"{mean:.3f}" for mean in np.mean(means, axis=0))])
    size = f"{'positives' if runs[0].task == 'classification' else 'molecules'}, train / test"
    differences = ["difference", "mean over targets", "smallest", "largest", *VERDICTS]
    return {
        "scores": md.table([METRIC_NAMES[metric], size, *map(md.code, arms)], rows),
        "differences": md.table(differences, [_gain_row(runs, arm, other) for arm, other in COMPARED]),
        "paper": _beside_the_paper(runs) if metric == "average_precision" else "",
    }


def _test_size(metrics: MoleculeMetrics) -> int:
    found = metrics.data.target_test
    return found.molecules if found.positives is None else found.positives


def _gain_row(runs: Sequence[MoleculeMetrics], arm: str, other: str) -> list[str]:
    found = [metrics.compared(arm, other) for metrics in runs]
    gains, verdicts = [compared.mean for compared in found], [compared.verdict for compared in found]
    name = f"{md.code(arm)} less {md.code(other)}"
    counts = [str(verdicts.count(verdict)) for verdict in VERDICTS]
    return [name, _mean_and_error(gains), f"{min(gains):+.3f}", f"{max(gains):+.3f}", *counts]


def _mean_and_error(values: Sequence[float]) -> str:
    error = f" ± {np.std(values, ddof=1) / math.sqrt(len(values)):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):+.3f}{error}"


def _growth_of_all(runs: Sequence[MoleculeMetrics]) -> str:
    """What `mixmin` gains with each number of sources, mean over targets; the last number is all of them."""
    rows = []
    for found in zip(*(metrics.grown().items() for metrics in runs), strict=True):
        gains = [np.mean(arms["mixmin"]) - np.mean(arms["natural"]) for _, arms in found]
        own = [metrics.arms["own"].scores[metrics.metrics[0]].mean for metrics in runs]
        over_own = [np.mean(arms["mixmin"]) - level for (_, arms), level in zip(found, own, strict=True)]
        rows.append([str(max(number for number, _ in found)), _mean_and_error(gains), _mean_and_error(over_own)])
    name = METRIC_NAMES[runs[0].metrics[0]]
    return md.table([f"sources, {name}", "`mixmin` less `natural`", "`mixmin` less `own`"], rows)


def _beside_the_paper(runs: Sequence[MoleculeMetrics]) -> str:
    (low, high), first = PUBLISHED_GAIN, runs[0]
    gains = [metrics.compared("mixmin", "natural").mean for metrics in runs]
    classes = "classes balanced" if first.balanced else "not balanced"
    here = f"`{md.plain(first.data.table)}`, {first.learner}, {first.config['split']} split, {classes}"
    rows = [
        ["paper's abstract: PCBA, XGBoost", f"{low:+.2f} to {high:+.2f}"],
        [f"here, over `natural`: {here}", f"{min(gains):+.3f} to {max(gains):+.3f}"],
    ]
    return md.table(["gain of MixMin in average precision", "over targets"], rows)


def _write(folder: Path, results: Results) -> None:
    """All reports and figures; the summary has the targets in the order of their amount of data."""
    for name, metrics in results.items():
        write_report(folder / name, molecule_report(metrics))
    runs = dict(sorted(results.items(), key=lambda item: (item[1].size, item[1].target)))
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
    files=lambda metrics: {"weights.json": {arm: found.weights for arm, found in metrics.arms.items()}},
    from_stages=from_stages,
    problems=problems,
)
