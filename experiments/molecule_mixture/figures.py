"""Figures of the molecule experiment, from its records."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

from experiments.molecule_mixture.results import Arm, MoleculeMetrics
from experiments.reporting.figures import (
    ARM_COLORS,
    ReportFigure,
    arm_colors,
    fidelity_figure,
    gap_figure,
    loss_figure,
    styled,
    weights_figure,
)
from experiments.reporting.schema import Weights

METRIC_NAMES = {
    "average_precision": "average precision",
    "roc_auc": "ROC AUC",
    "spearman": "Spearman's rank correlation",
    "r_squared": "R²",
}


def molecule_figures(metrics: MoleculeMetrics) -> dict[str, ReportFigure]:
    """The figures of one target by file name. `growth.png` needs two numbers of sources."""
    metric = metrics.metrics[0]
    name = METRIC_NAMES[metric]
    gaps = {  # each in units of its own tolerance, which depends on the number of rows
        arm: [[None if gap is None else gap / solved.tolerance for gap in seed] for seed in solved.gap_history]
        for arm, solved in metrics.solved.items()
    }
    scores = {arm: found.scores[metric].per_seed for arm, found in metrics.arms.items()}
    growth = {"growth.png": growth_figure([metrics])} if metrics.growth else {}
    return growth | {
        "scores.png": loss_figure(scores, f"{name} on the test molecules", better="higher"),
        "weights.png": weights_figure(_full_weights(metrics.arms)),
        "gap.png": gap_figure(gaps, 1.0, "gap / tolerance"),
        "fidelity.png": fidelity_figure(metrics.fidelity[metric].whole(), unit=name),
    }


def _full_weights(arms: Mapping[str, Arm]) -> dict[str, list[Weights]]:
    """Weights of every source that any arm uses; without `own` and `uniform`, which give all sources the same."""
    mixed = {arm: found.weights_per_seed for arm, found in arms.items() if found.weights}
    shown = {arm: weights for arm, weights in mixed.items() if arm not in ("own", "uniform")}
    names = list(dict.fromkeys(name for seeds in shown.values() for seed in seeds for name in seed))
    return {arm: [{name: seed.get(name, 0.0) for name in names} for seed in seeds] for arm, seeds in shown.items()}


@styled
def growth_figure(runs: Sequence[MoleculeMetrics]) -> ReportFigure:
    """The first metric against the number of source assays, a panel per target: a dot per seed, a line at the mean.

    Args:
        runs: those of one run; a dashed line shows the target's own data alone.
    """
    across = min(5, len(runs))
    down = -(-len(runs) // across)
    figure = ReportFigure(figsize=(1.2 + 1.75 * across if len(runs) > 1 else 4.6, 0.9 + 1.7 * down))
    panels = figure.subplots(down, across, squeeze=False)
    for axes in panels.flat[len(runs) :]:
        axes.set_visible(False)
    for axes, metrics in zip(panels.flat, runs, strict=False):
        _draw_growth(axes, metrics)
        if len(runs) > 1:
            axes.set_title(_short(metrics.target), fontsize=6.5)
    figure.supxlabel("number of source assays")
    figure.supylabel(METRIC_NAMES[runs[0].metrics[0]])
    handles, labels = panels.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center")
    return figure


def _draw_growth(axes: Axes, metrics: MoleculeMetrics) -> None:
    grown = metrics.grown()
    numbers = list(grown)
    for arm, color in arm_colors(next(iter(grown.values()))).items():
        for number in numbers:
            values_S = grown[number][arm]
            axes.plot(np.full(len(values_S), number), values_S, "o", color=color, markersize=2, alpha=0.6)
        axes.plot(numbers, [np.mean(grown[number][arm]) for number in numbers], color=color, label=arm)
    own = metrics.arms["own"].scores[metrics.metrics[0]].mean
    axes.axhline(own, color=ARM_COLORS["own"], linestyle="--", linewidth=1, label="own")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(numbers))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([str(number) for number in numbers])
    axes.margins(x=0.1)


@styled
def gains_figure(runs: Sequence[MoleculeMetrics]) -> ReportFigure:
    """What `mixmin` gains over each other arm, a panel per arm, a line per target: the difference with its interval.

    Args:
        runs: those of one run, in the order of the lines.
    """
    pairs = runs[0].pairs
    figure = ReportFigure(figsize=(2.2 + 1.35 * len(pairs), 0.9 + 0.19 * max(len(runs), 3)))
    panels = figure.subplots(1, len(pairs), sharey=True, squeeze=False)[0]
    for axes, (arm, other) in zip(panels, pairs, strict=True):
        for row, metrics in enumerate(runs):
            found = metrics.compared(arm, other)
            color = "#707070" if found.verdict in ("ties", None) else ARM_COLORS[arm if found.mean > 0 else other]
            axes.plot([found.lower, found.upper], [row, row], color=color, linewidth=1.2)
            axes.plot(found.mean, row, "o", color=color, markersize=3.5)
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_title(f"{arm}\nless {other}", fontsize=7.5)
        axes.grid(axis="y", visible=False)
        axes.tick_params(length=0)
    panels[0].set(
        yticks=range(len(runs)),
        yticklabels=[_short(metrics.target) for metrics in runs],
        ylim=(len(runs) - 0.5, -0.5),
    )
    figure.supxlabel(f"difference in {METRIC_NAMES[runs[0].metrics[0]]}; intervals of 95 % over test molecules")
    return figure


def _short(name: str, length: int = 30) -> str:
    """A title, with dollar signs that begin no formula."""
    return (name if len(name) <= length else f"{name[: length - 1]}…").replace("$", r"\$")
