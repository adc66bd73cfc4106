"""Figures from plain data, for reports, papers and notebooks.

Every function returns a `ReportFigure`, which a notebook displays and `figure_png` turns into PNG, the same bytes for
the same data. pyplot is not used and matplotlib's settings are the user's again when a function returns.
"""

import io
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from experiments.reporting import markdown as md
from experiments.reporting.glyphs import show_all_characters
from mixmin_jax.stats.comparison import RANDOM_MIXTURE, Fidelity, RankCorrelation

# Okabe and Ito's palette, told apart by most color-blind readers; baselines that need no training are gray.
ARM_COLORS = {
    "mixmin": "#0072B2",
    "mixmin_token": "#56B4E9",
    "uniform": "#A6A6A6",
    "natural": "#5F5F5F",
    "random_search": "#E69F00",
    "regmix": "#D55E00",
    "mixmin_own": "#56B4E9",
    "own": "#D55E00",
    "natural_own": "#8C6BB1",
}
OTHER_COLORS = ("#009E73", "#CC79A7", "#882255", "#999933", "#332288", "#44AA99")

_STYLE = {key: value for key, value in matplotlib.rcParamsDefault.items() if "backend" not in key}
_STYLE |= matplotlib.rc_params_from_file(Path(__file__).with_name("figures.mplstyle"), use_default_template=False)
styled = matplotlib.rc_context(_STYLE)  # as a decorator: settings hold inside the call only


class ReportFigure(Figure):
    """A figure that notebooks display without pyplot."""

    def _repr_png_(self) -> bytes:
        return figure_png(self)


def figure_png(figure: Figure) -> bytes:
    """The figure as PNG, 150 dots per inch, without the version of matplotlib in it."""
    return _saved(figure, "png", {"Software": None})


def figure_svg(figure: Figure) -> bytes:
    """The figure as SVG, text as outlines: the same bytes for the same data."""
    return _saved(figure, "svg", {"Date": None, "Creator": None})


@styled
def _saved(figure: Figure, format: str, metadata: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    show_all_characters(figure)
    figure.savefig(buffer, format=format, metadata=metadata)
    figure.set_layout_engine("none")  # settled: the constrained layout would move on a little with every drawing
    return buffer.getvalue()


def arm_colors(arms: Iterable[str], usual: Mapping[str, str] = ARM_COLORS) -> dict[str, str]:
    """A color per arm: the usual one of a known arm, the next free one, in order, of any other."""
    free = itertools.cycle(OTHER_COLORS)
    return {arm: usual[arm] if arm in usual else next(free) for arm in arms}


@styled
def weights_figure(weights: Mapping[str, Sequence[Mapping[str, float]]], max_sources: int = 30) -> ReportFigure:
    """Weights of every arm: one panel per arm, one bar per source (mean over seeds), one dot per seed.

    Args:
        weights: {arm: [{source: weight} per seed]}; arms in the order of the panels.
        max_sources: the sources with the largest mean weight in any arm are shown, the others summed in one bar.
    """
    names = list(next(iter(weights.values()))[0])
    table = {arm: np.array([[seed[name] for name in names] for seed in seeds]) for arm, seeds in weights.items()}
    means_AxK = np.stack([w_SxK.mean(0) for w_SxK in table.values()])
    by_size = np.argsort(-means_AxK.max(0), kind="stable")
    rest = by_size[max_sources - 1 :] if len(names) > max_sources else by_size[:0]
    shown = [k for k in np.argsort(-means_AxK[0], kind="stable") if k not in rest]  # sorted by the first arm
    labels = [names[k].replace("$", r"\$") for k in shown] + ([f"{len(rest)} others"] if len(rest) else [])

    figure = ReportFigure(figsize=(1.3 + 1.25 * len(table), 0.7 + 0.19 * max(len(labels), 4)))
    panels = figure.subplots(1, len(table), sharex=True, sharey=True, squeeze=False)[0]
    height = np.arange(len(labels))
    for axes, (arm, w_SxK), color in zip(panels, table.items(), arm_colors(table).values(), strict=True):
        bars_SxB = w_SxK[:, shown]
        if len(rest):
            bars_SxB = np.concatenate([bars_SxB, w_SxK[:, rest].sum(1, keepdims=True)], 1)
        axes.barh(height, bars_SxB.mean(0), 0.72, color=color)
        if len(bars_SxB) > 1:
            dots_SxB = np.where(bars_SxB.max(0) < 2e-3, math.nan, bars_SxB)  # nothing to see where every seed says 0
            for bars_B in dots_SxB:
                axes.plot(bars_B, height, "o", color="black", markersize=2.4, markeredgewidth=0, clip_on=False)
        axes.set_title(arm)
        axes.grid(axis="y", visible=False)
        axes.tick_params(length=0)
        axes.xaxis.set_major_locator(MaxNLocator(2, steps=[1, 2, 2.5, 5, 10]))
    panels[0].set(yticks=height, yticklabels=labels, xlim=(0, None), ylim=(len(labels) - 0.4, -0.6))
    figure.supxlabel("weight" + ("; a dot per seed" if max(map(len, table.values())) > 1 else ""))
    return figure


@styled
def loss_figure(
    values: Mapping[str, Sequence[float]],
    label: str = "test loss, bits per byte",
    better: Literal["lower", "higher"] = "lower",
) -> ReportFigure:
    """One number per arm and seed (loss, accuracy): a dot per seed, a tick at the mean, a line of one std each way.

    Args:
        values: {arm: [value per seed]}; arms in the order of the rows, from the top.
        label: what the values are, with their unit.
        better: which direction is better; said on the axis.
    """
    figure = ReportFigure(figsize=(5.6, 0.75 + 0.27 * max(len(values), 2)))
    axes = figure.subplots()
    _draw_losses(axes, values)
    axes.set_xlabel(f"{label} ({better} is better)")
    return figure


@styled
def loss_panels_figure(
    values: Mapping[str, Mapping[str, Sequence[float]]], label: str = "test loss, bits per byte (lower is better)"
) -> ReportFigure:
    """`loss_figure` for several targets side by side: {target: {arm: [value per seed]}}, the same arms in each."""
    rows = max(map(len, values.values()))
    figure = ReportFigure(figsize=(1.2 + 2.9 * len(values), 0.95 + 0.27 * rows))
    panels = np.atleast_1d(figure.subplots(1, len(values), sharey=True))
    for axes, (target, arms) in zip(panels, values.items(), strict=True):
        _draw_losses(axes, arms)
        axes.set_title(target)
    figure.supxlabel(label)
    return figure


def _draw_losses(axes: Axes, values: Mapping[str, Sequence[float]]) -> None:
    for row, (arm, color) in enumerate(arm_colors(values).items()):
        value_S = np.asarray(values[arm], np.float64)
        mean, std = value_S.mean(), value_S.std(ddof=1) if len(value_S) > 1 else math.nan
        if len(value_S) > 1:
            axes.plot([mean - std, mean + std], [row, row], color=color, linewidth=4, alpha=0.35, solid_capstyle="butt")
        axes.plot(value_S, np.full(len(value_S), row), "o", color=color, markersize=4.5, markeredgewidth=0)
        axes.plot(mean, row, "|", color="black", markersize=12, markeredgewidth=1)
        text = f"{mean:.3f}" + (f" ± {std:.3f}" if len(value_S) > 1 else "")
        axes.annotate(text, (1.02, row), xycoords=("axes fraction", "data"), va="center")
    axes.set(yticks=range(len(values)), yticklabels=list(values), ylim=(len(values) - 0.4, -0.6))
    axes.margins(x=0.06)
    axes.tick_params(length=0)
    axes.grid(axis="y", visible=False)


@styled
def gap_figure(
    histories: Mapping[str, Sequence[Sequence[float | None]]],
    tolerance: float | None = None,
    label: str = "gap",
) -> ReportFigure:
    """The certified gap after each iteration, on a log scale: one color per arm or method, one line per seed.

    Args:
        histories: {arm or method: [[gap per iteration] per seed]}; the first gap is that of iteration 0.
        tolerance: where the solver stops, in the unit of the gaps; drawn as a dashed line.
        label: the quantity and its unit.

    Gaps that are 0 or, by rounding, less cannot stand on a log scale: they are drawn on its lower edge.
    """
    figure = ReportFigure(figsize=(5.0, 2.8))
    axes = figure.subplots()
    lines = [
        (arm, np.array([math.nan if gap is None else gap for gap in history], np.float64))
        for arm, seeds in histories.items()
        for history in seeds
    ]
    positive = [gap for _, gaps in lines for gap in gaps if 0 < gap < math.inf]
    floor = 0.3 * min(positive + ([tolerance] if tolerance else []), default=1e-16)
    colors, named = arm_colors(histories), set()
    for arm, gaps in lines:
        gaps = np.where(gaps <= 0, floor, gaps)
        size = 3 if len(gaps) <= 50 else 0
        style: dict[str, Any] = {"color": colors[arm], "marker": "o", "markersize": size}
        axes.plot(np.arange(len(gaps)), gaps, label=None if arm in named else arm, linewidth=1.1, alpha=0.85, **style)
        named.add(arm)
    if tolerance:
        axes.axhline(tolerance, color="black", linewidth=0.8, linestyle="--", label=f"tolerance {tolerance:.2g}")
    axes.set(yscale="log", xlabel="iteration", ylabel=label)
    axes.set_ylim(bottom=floor)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="x", visible=False)
    axes.legend(loc="upper right")
    return figure


@styled
def fidelity_figure(fidelity: Fidelity, unit: str = "bits per byte") -> ReportFigure:
    """The loss that the mixture of proxies predicts against the loss that training reached.

    A column per kind of row (document, token), one line of panels for the arms and one for the random mixtures: they
    are models of different size, at different levels of loss. n and the rank correlation inside seed and size stand
    above each panel, and those over all points above the figure.

    Args:
        fidelity: a column for each of its kinds of rows.
        unit: of the losses.
    """
    points, rows = fidelity.points, fidelity.rows
    arms = list(dict.fromkeys(point.label for point in points if point.label != RANDOM_MIXTURE))
    styles: dict[str, dict[str, Any]] = {
        arm: {"color": color, "markersize": 5, "markeredgecolor": "white"} for arm, color in arm_colors(arms).items()
    }
    styles[RANDOM_MIXTURE] = {"color": "none", "markersize": 4, "markeredgecolor": "black", "markeredgewidth": 0.8}
    groups = {"arms": arms, "random_mixtures": [RANDOM_MIXTURE]}
    present = [name for name, labels in groups.items() if any(point.label in labels for point in points)]
    width = max(4.5, 1.6 + 2.3 * len(rows))  # titles need more room above a single column
    figure = ReportFigure(figsize=(width, 0.3 + 2.2 * len(present)))
    panels = figure.subplots(len(present), len(rows), squeeze=False, sharey="row")
    for (line, name), (column, row) in itertools.product(enumerate(present), enumerate(rows)):
        axes: Axes = panels[line][column]
        for point in points:
            if point.label in groups[name]:
                axes.plot(point.predicted[row], point.reached, "o", **styles[point.label])
        axes.set_title(f"{name.replace('_', ' ')}, {row} rows\n{_correlation(getattr(rows[row], name))}")
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_locator(MaxNLocator(5))
    overall = "; ".join(f"{row} rows: {_correlation(found.all)}" for row, found in rows.items())
    figure.suptitle(f"all points, ranked inside each seed and model size\n{overall}")
    figure.supxlabel(f"predicted by the mixture of proxies, {unit}")
    figure.supylabel(f"reached after training, {unit}")
    labels = [label for name in present for label in groups[name]]
    handles = [Line2D([], [], linestyle="", marker="o", label=label, **styles[label]) for label in labels]
    figure.legend(handles=handles, loc="outside right center")
    return figure


def _correlation(found: RankCorrelation) -> str:
    name = "Spearman " if found.enough else ""
    return f"{name}{md.spearman(found)}, n = {found.n}"
