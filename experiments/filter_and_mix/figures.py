"""The figures of the experiment that filters and mixes: how strong the prior is, and what each bucket is worth."""

import numpy as np

from experiments.filter_and_mix.results import FilterMetrics
from experiments.reporting.figures import ReportFigure, styled


@styled
def strength_figure(metrics: FilterMetrics) -> ReportFigure:
    """The loss on documents left out at each strength of the prior, with standard errors."""
    curve = metrics.strengths
    figure = ReportFigure(figsize=(4.6, 2.6))
    axes = figure.subplots()
    excess_J = np.array([np.nan if value is None else value for value in curve.excess])
    errors_J = np.array([np.nan if value is None else value for value in curve.standard_errors])
    axes.errorbar(curve.strengths, excess_J, errors_J, color="#0072B2", marker="o", markersize=4, capsize=2)
    axes.axvline(curve.strength, color="black", linewidth=0.8, linestyle="--", label="chosen")
    axes.set(xscale="log", xlabel="strength of the prior, nats per byte", ylabel="excess, bits per byte")
    axes.legend()
    return figure


@styled
def rates_figure(metrics: FilterMetrics) -> ReportFigure:
    """How many times as often as in natural proportions each bucket is read: a line for each source."""
    sources = metrics.sources
    figure = ReportFigure(figsize=(5.2, 0.9 + 0.34 * len(sources)))
    axes = figure.subplots()
    for row, source in enumerate(sources):
        mine = [bucket for bucket in metrics.buckets.values() if bucket.source == source]
        for bucket in mine:
            rate = max(bucket.rate, 0.03)
            color = "#0072B2" if bucket.weight else "none"
            size = 12 + 500 * bucket.natural
            axes.scatter(rate, row, s=size, color=color, edgecolor="#0072B2", linewidth=0.8, alpha=0.6)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set(xscale="log", xlabel="times its natural share (hollow: left out)", ylim=(len(sources) - 0.4, -0.6))
    axes.set_yticks(range(len(sources)), [source.replace("$", r"\$") for source in sources])
    axes.grid(axis="y", visible=False)
    return figure
