"""Figures of the molecule experiment, from its metrics.json alone, in the manner of `figures`."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

from experiments.molecule_mixture.runs import METRIC_NAMES, Metrics, comparison
from experiments.reporting.figures import (
    ARM_COLOURS,
    ReportFigure,
    arm_colours,
    fidelity_figure,
    gap_figure,
    loss_figure,
    styled,
    weights_figure,
)


def molecule_figures(metrics: Metrics) -> dict[str, ReportFigure]:
    """The figures of one target by file name.  `growth.png` needs two numbers of sources."""
    arms, metric = metrics["arms"], metrics["metrics"][0]
    gaps = {  # each in units of its own tolerance, which depends on the number of rows
        arm: [[None if gap is None else gap / metrics["solved"][arm]["tolerance"] for gap in seed] for seed in seeds]
        for arm, seeds in metrics["gap_history"].items()
    }
    found = {
        "weights.png": weights_figure(_full_weights(arms)),
        "scores.png": loss_figure(
            {arm: result[metric]["per_seed"] for arm, result in arms.items()},
            f"{METRIC_NAMES[metric]} on the test molecules",
            better="higher",
        ),
        "gap.png": gap_figure(gaps, 1.0, "gap / tolerance"),
        "fidelity.png": fidelity_figure(metrics["fidelity"][metric], ("molecule",), METRIC_NAMES[metric]),
    }
    if len({point["sources"] for point in metrics["growth"]}) > 1:
        found["growth.png"] = growth_figure([metrics])
    return found


def _full_weights(arms: Metrics) -> dict[str, list[dict[str, float]]]:
    """Weights of every source that any arm but `own` uses; arms that give all the same are left out of the names."""
    shown = {arm: result["weights_per_seed"] for arm, result in arms.items() if arm not in ("own", "uniform")}
    names = list(dict.fromkeys(name for seeds in shown.values() for seed in seeds for name in seed))
    return {arm: [{name: seed.get(name, 0.0) for name in names} for seed in seeds] for arm, seeds in shown.items()}


@styled
def growth_figure(runs: Sequence[Metrics]) -> ReportFigure:
    """The first metric against the number of source assays, a panel per target: a dot per seed, a line at the mean.

    Args:
        runs: metrics.json of every target.  The target's own data alone is a dashed line.
    """
    metric = runs[0]["metrics"][0]
    across = min(5, len(runs))
    down = -(-len(runs) // across)
    figure = ReportFigure(figsize=(1.2 + 1.75 * across if len(runs) > 1 else 4.6, 0.9 + 1.7 * down))
    panels = figure.subplots(down, across, squeeze=False)
    for axes in panels.flat[len(runs) :]:
        axes.set_visible(False)
    for axes, metrics in zip(panels.flat, runs, strict=False):
        _draw_growth(axes, metrics, metric)
        if len(runs) > 1:
            axes.set_title(_short(metrics["target"]), fontsize=6.5)
    figure.supxlabel("number of source assays")
    figure.supylabel(METRIC_NAMES[metric])
    handles, labels = panels.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center")
    return figure


def _draw_growth(axes: Axes, metrics: Metrics, metric: str) -> None:
    points = metrics["growth"]
    arms = list(dict.fromkeys(point["arm"] for point in points))
    for arm, colour in arm_colours(arms).items():
        mine = [point for point in points if point["arm"] == arm]
        numbers = [point["sources"] for point in mine]
        for point in mine:
            values = point[metric]["per_seed"]
            axes.plot(np.full(len(values), point["sources"]), values, "o", color=colour, markersize=2, alpha=0.6)
        axes.plot(numbers, [point[metric]["mean"] for point in mine], color=colour, label=arm)
    own = metrics["arms"]["own"][metric]["mean"]
    axes.axhline(own, color=ARM_COLOURS["own"], linestyle="--", linewidth=1, label="own")
    numbers = sorted({point["sources"] for point in points})
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(numbers))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([str(number) for number in numbers])
    axes.margins(x=0.1)


@styled
def gains_figure(runs: Sequence[Metrics]) -> ReportFigure:
    """What `mixmin` gains over each other arm, a panel per arm, a line per target: the difference with its interval.

    Args:
        runs: metrics.json of every target, in the order of the lines.
    """
    metric = runs[0]["metrics"][0]
    pairs = list(dict.fromkeys((c["arm"], c["other"]) for c in runs[0]["comparisons"]))
    figure = ReportFigure(figsize=(2.2 + 1.35 * len(pairs), 0.9 + 0.19 * max(len(runs), 3)))
    panels = figure.subplots(1, len(pairs), sharey=True, squeeze=False)[0]
    for axes, (arm, other) in zip(panels, pairs, strict=True):
        for row, metrics in enumerate(runs):
            found = comparison(metrics, arm, other, metric)
            colour = "#707070" if found["verdict"] == "ties" else ARM_COLOURS[arm if found["mean"] > 0 else other]
            axes.plot([found["lower"], found["upper"]], [row, row], color=colour, linewidth=1.2)
            axes.plot(found["mean"], row, "o", color=colour, markersize=3.5)
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_title(f"{arm}\nless {other}", fontsize=7.5)
        axes.grid(axis="y", visible=False)
        axes.tick_params(length=0)
    panels[0].set(
        yticks=range(len(runs)),
        yticklabels=[_short(metrics["target"]) for metrics in runs],
        ylim=(len(runs) - 0.5, -0.5),
    )
    figure.supxlabel(f"difference in {METRIC_NAMES[metric]}; intervals of 95 % over test molecules")
    return figure


def _short(name: str, length: int = 30) -> str:
    """A title, with dollar signs that begin no formula."""
    return (name if len(name) <= length else f"{name[: length - 1]}…").replace("$", r"\$")
