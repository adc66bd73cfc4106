"""The figure of the benchmark of solvers."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.lines import Line2D

from experiments.reporting.figures import ARM_COLORS, OTHER_COLORS, ReportFigure, styled


@styled
def gap_time_figure(
    points: Mapping[str, Mapping[str, tuple[Sequence[float], float | None]]], tolerance: float, columns: int = 4
) -> ReportFigure:
    """The gap that each method ends with against the time that it takes, both on log scales: one panel per case.

    Args:
        points: {case: {method: (seconds of each call, relative gap)}}; a dot stands at the median, a line reaches from
            the shortest to the longest call.
        tolerance: the gap that counts as solved; drawn as a dashed line.
        columns: panels beside each other.

    Lower and further left is better. Gaps of 0 are drawn on the lower edge; methods without a finite gap (None), or
    with one above 1, as a cross on the upper edge.
    """
    names = list(dict.fromkeys(method for methods in points.values() for method in methods))
    # arms may share a color; methods that do must not share a marker as well
    different = dict.fromkeys((*ARM_COLORS.values(), *OTHER_COLORS))
    colors = dict(zip(names, itertools.cycle(different), strict=False))
    markers = dict(zip(names, itertools.cycle("osD^v"), strict=False))
    gaps = [gap for methods in points.values() for _, gap in methods.values() if gap]
    lower, upper = 0.3 * min([*gaps, tolerance]), 3.0
    across = min(columns, len(points))
    down = -(-len(points) // across)
    figure = ReportFigure(figsize=(1.9 + 2.1 * across, 0.6 + 1.7 * down))
    panels = figure.subplots(down, across, sharey=True, squeeze=False)
    for axes in panels.flat[len(points) :]:
        axes.set_visible(False)
    for axes, (case, methods) in zip(panels.flat, points.items(), strict=False):
        for method, (seconds, gap) in methods.items():
            lost = gap is None or gap > 1
            height = upper / 1.5 if gap is None or gap > 1 else max(gap, 1.3 * lower)
            style: dict[str, Any] = {"color": colors[method], "clip_on": False}
            axes.plot([min(seconds), max(seconds)], [height, height], linewidth=1, **style)
            axes.plot(np.median(seconds), height, "x" if lost else markers[method], markersize=4.5, **style)
        axes.axhline(tolerance, color="black", linewidth=0.8, linestyle="--")
        axes.set(xscale="log", yscale="log", ylim=(lower, upper))
        axes.set_title(case)
    figure.supxlabel("seconds, without compilation")
    figure.supylabel("relative gap")
    handles = [
        Line2D([], [], linestyle="", marker=markers[name], color=colors[name], markersize=4.5, label=name)
        for name in names
    ]
    handles.append(Line2D([], [], color="black", linewidth=0.8, linestyle="--", label=f"tolerance {tolerance:.0e}"))
    figure.legend(handles=handles, loc="outside right center")
    return figure
