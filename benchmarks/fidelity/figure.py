"""The figure of the benchmark of fidelity: what a prediction loses against what it costs."""

import itertools
from collections.abc import Mapping

from experiments.reporting.figures import OTHER_COLORS, ReportFigure, styled


@styled
def regret_figure(panels: Mapping[str, Mapping[str, tuple[float, float]]]) -> ReportFigure:
    """Regret against cost: one panel per group of targets, one marker per way to predict.

    Args:
        panels: {group: {way: (FLOPs as a share of a target run, regret in bits per byte)}}; the same ways in each.

    Lower and further left is better.
    """
    names = list(next(iter(panels.values())))
    colors = dict(zip(names, itertools.cycle(("#0072B2", "#E69F00", "#D55E00", *OTHER_COLORS)), strict=False))
    markers = dict(zip(names, itertools.cycle("osD^vPX*"), strict=False))
    figure = ReportFigure(figsize=(4.8 + 2.4 * len(panels), 3.6))
    axes_of = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
    for axes, (group, ways) in zip(axes_of, panels.items(), strict=True):
        for name, (share, regret) in ways.items():
            axes.plot(share, regret, markers[name], color=colors[name], markersize=5, label=name)
        axes.set_xscale("log")
        axes.set_title(group)
    figure.supxlabel("FLOPs of predicting, as a share of one target run")
    figure.supylabel("regret, bits per byte")
    figure.legend(*axes_of[0].get_legend_handles_labels(), loc="outside right center")
    return figure
