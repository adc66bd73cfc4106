"""What the trainings of the arms saw of each source, drawn."""

import itertools
import math

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from experiments.reporting.figures import OTHER_COLORS, ReportFigure, styled
from experiments.text_mixture.results import Monitors


@styled
def source_loss_figure(monitors: Monitors, max_sources: int = 8, columns: int = 3) -> ReportFigure:
    """Training loss of each source's windows over the run: one panel per arm, one line per source, mean over seeds.

    Args:
        monitors: what the trainings of all arms saw.
        max_sources: those with the largest share in any arm are drawn.
        columns: panels beside each other.
    """
    arms = monitors.arms
    share = {
        source: max(np.mean([run.sampled[source] for run in runs]) for runs in arms.values())
        for source in next(iter(arms.values()))[0].sampled
    }
    shown = sorted(share, key=lambda source: -share[source])[:max_sources]
    colors = dict(zip(shown, itertools.cycle(("#0072B2", "#E69F00", *OTHER_COLORS)), strict=False))
    down = -(-len(arms) // columns)
    figure = ReportFigure(figsize=(2.0 + 1.9 * min(columns, len(arms)), 0.6 + 1.5 * down))
    panels = figure.subplots(down, min(columns, len(arms)), sharex=True, sharey=True, squeeze=False).flat
    for axes in panels[len(arms) :]:
        axes.set_visible(False)
    for axes, (arm, runs) in zip(panels, arms.items(), strict=False):
        for source in shown:
            seeds_RxS = np.array([run.bits_per_byte[source] for run in runs], np.float64)  # None becomes NaN
            drawn_R = np.isfinite(seeds_RxS).any(1)
            if drawn_R.any():
                line_S = np.ma.masked_invalid(seeds_RxS).mean(0).filled(math.nan)
                axes.plot(monitors.steps, line_S, color=colors[source], marker=".", markersize=3)
        axes.set_title(arm)
        axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    figure.supxlabel("steps")
    figure.supylabel("training loss, bits per byte")
    handles = [Line2D([], [], color=colors[name], label=name.replace("$", r"\$")) for name in shown]
    figure.legend(handles=handles, loc="outside right center")
    return figure
