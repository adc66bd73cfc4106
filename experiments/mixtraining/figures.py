"""Figures of the MixTraining experiments, images and text alike, in the manner of `figures`: same data, same bytes.

Axes: E examples, H x W x C pixels and channels.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter, FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from experiments.mixtraining.config import FINETUNE
from experiments.mixtraining.results import BASELINE, MIXED, SUPERVISED, Curve, MixTrainingMetrics, Run
from experiments.mixtraining.runs import Cell, accuracy, accuracy_curve, cell_runs, cells
from experiments.reporting.figures import ReportFigure, arm_colors, styled
from mixmin_jax.errors import InputError

ARM_COLORS = {MIXED: "#0072B2", BASELINE: "#D55E00", SUPERVISED: "#5F5F5F", FINETUNE: "#009E73"}
MARKERS = {MIXED: "o", BASELINE: "s", SUPERVISED: "^", FINETUNE: "v"}
PHASES = ("SSL", "joint", "SL")  # in the order of every run
PHASE_COLORS = ("#DCE9F5", "#DDF0E4", "#FBE9D3")
LINES = {"schedule": "-", "cheaper": ":", "matched": "--", "labeled": "-."}  # by budget
HALF_FILLED = {
    budget: {"fillstyle": side, "markerfacecoloralt": "white"}
    for budget, side in (("cheaper", "left"), ("labeled", "bottom"))
}
PROBE_LINES: dict[str, Any] = {"linear probe": "-", "k-NN": "--"}
REFERENCE_LINES: tuple[Any, ...] = (":", "--", "-.", (0, (1, 3)))


def mixtraining_figures(
    metrics: MixTrainingMetrics, reconstructions: Mapping[str, np.ndarray] | None = None
) -> dict[str, ReportFigure]:
    """The figures of a MixTraining experiment by file name, from its metrics.json and, of images, reconstructions.npz.

    `accuracy_fraction.png` needs two fractions or more, and `reconstructions.png` needs `reconstructions`.
    """
    found = {"accuracy_compute.png": accuracy_compute_figure(metrics), "curves.png": learning_curves_figure(metrics)}
    if len(metrics.fractions) > 1:
        found["accuracy_fraction.png"] = accuracy_fraction_figure(metrics)
    if reconstructions is not None:
        found["reconstructions.png"] = reconstructions_figure(reconstructions)
    return found


@styled
def accuracy_compute_figure(metrics: MixTrainingMetrics, columns: int = 3) -> ReportFigure:
    """Test accuracy against the FLOPs of training: a panel per fraction.

    A marker stands at the mean over seeds, filled for the arm's own schedule, hollow for matched compute, half filled
    for less and for SSL on labeled examples alone, with one standard deviation each way; thin lines are the checkpoints
    of single runs, horizontal ones the references. Checkpoints far below every end are cut off, so that the ends can be
    told apart.
    """
    across = min(columns, len(metrics.fractions))
    down = -(-len(metrics.fractions) // across)
    figure = ReportFigure(figsize=(2.2 + 2.5 * across, 0.5 + 2.4 * down))
    panels = figure.subplots(down, across, squeeze=False)
    for axes in panels.flat[len(metrics.fractions) :]:
        axes.set_visible(False)
    styles = _cell_styles(metrics)
    names = list(dict.fromkeys(reference.name for reference in metrics.references))
    lines: dict[str, dict[str, Any]] = {
        name: {"color": "black", "linewidth": 0.9, "linestyle": line}
        for name, line in zip(names, itertools.cycle(REFERENCE_LINES), strict=False)
    }
    for axes, fraction in zip(panels.flat, metrics.fractions, strict=False):
        references = [reference for reference in metrics.references if reference.fraction == fraction]
        ends = [100 * reference.accuracy for reference in references]
        for cell, style in styles.items():
            thin = {"color": style["color"], "linestyle": LINES[cell.budget], "linewidth": 0.6, "alpha": 0.5}
            runs = cell_runs(metrics, cell, fraction)
            for run in runs:
                flops, reached = accuracy_curve(run)
                axes.plot(flops, 100 * np.array(reached), zorder=1.5, **thin)
                ends.append(100 * run.accuracy)
            if runs:
                _draw_means(axes, {float(np.mean([run.flops for run in runs])): runs}, linestyle="", **style)
        for reference in references:
            axes.axhline(100 * reference.accuracy, zorder=1, **lines[reference.name])
        axes.set_title(f"{100 * fraction:g}% of {metrics.whole}")
        if ends:
            axes.set_ylim(bottom=min(ends) - max(1.0, 0.2 * (max(ends) - min(ends))))
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter(EngFormatter())
        axes.yaxis.set_major_locator(MaxNLocator(6))
    figure.supxlabel("FLOPs of training")
    figure.supylabel("test accuracy, %")
    lines = {"checkpoints of a run": {"color": "#707070", "linewidth": 0.6}} | lines
    handles = [Line2D([], [], label=name, **style) for name, style in lines.items()]
    figure.legend(handles=_cell_handles(styles) + handles, loc="outside right center")
    return figure


@styled
def accuracy_fraction_figure(metrics: MixTrainingMetrics) -> ReportFigure:
    """Test accuracy against the fraction: mean over seeds, one standard deviation each way."""
    figure = ReportFigure(figsize=(5.6, 2.9))
    axes = figure.subplots()
    styles = _cell_styles(metrics)
    for cell, style in styles.items():
        found = {fraction: cell_runs(metrics, cell, fraction) for fraction in sorted(metrics.fractions)}
        found = {fraction: runs for fraction, runs in found.items() if runs}
        if found:
            _draw_means(axes, found, linestyle=LINES[cell.budget], linewidth=1.2, **style)
    axes.set(xscale="log", xlabel=f"share of {metrics.whole}", ylabel="test accuracy, %")
    axes.xaxis.set_major_locator(FixedLocator(metrics.fractions))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda fraction, _: f"{100 * fraction:g}%"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(MaxNLocator(6))
    figure.legend(handles=_cell_handles(styles), loc="outside right center")
    return figure


@styled
def learning_curves_figure(metrics: MixTrainingMetrics) -> ReportFigure:
    """Training losses against the step, phases shaded: a column per arm, SSL loss above, SL loss below.

    The arms' own schedules at the largest fraction and the first seed are shown, runs that failed included. If any of
    them was probed, a third row has the test accuracies of its probes.
    """
    first = ("schedule", max(metrics.fractions), metrics.seeds[0])
    shown = {run.arm: run for run in metrics.runs if (run.budget, run.fraction, run.seed) == first}
    arms = [arm for arm in metrics.arms if arm in shown] or list(metrics.arms)[:1]
    probed = any(run.probes for run in shown.values())
    figure = ReportFigure(figsize=(1.6 + 2.1 * len(arms), 3.6 + 1.6 * probed))
    panels = figure.subplots(2 + probed, len(arms), sharex=True, sharey="row", squeeze=False)
    colors = arm_colors(metrics.arms, ARM_COLORS)
    for column, arm in enumerate(arms):
        curve = shown[arm].curve if arm in shown else Curve((), (), (), ())
        step = np.array(curve.step, np.float64)
        panels[0][column].set_title(arm)
        for axes, name in zip(panels[:2, column], ("ssl", "sl"), strict=True):
            loss = np.array([np.nan if value is None else value for value in getattr(curve, name)], np.float64)
            _shade_phases(axes, shown[arm].steps if arm in shown else {})
            axes.plot(step, loss, "o-", color=colors[arm], markersize=1.8, markeredgewidth=0)
            axes.grid(axis="x", visible=False)
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
            if not np.isfinite(loss).any():
                axes.text(0.5, 0.5, "not computed", transform=axes.transAxes, ha="center", va="center", color="#707070")
        if probed:
            _draw_probes(panels[2][column], shown.get(arm), colors[arm])
    panels[0][0].set_xlim(left=0)
    panels[0][0].set_ylabel("SSL loss")
    panels[1][0].set_ylabel("SL loss, nats")
    if probed:
        panels[2][0].set_ylabel("probe, %")
    figure.supxlabel("step")
    phases: list[Any] = [Patch(facecolor=color, label=name) for name, color in zip(PHASES, PHASE_COLORS, strict=True)]
    lines = [Line2D([], [], color="#707070", linestyle=line, label=name) for name, line in PROBE_LINES.items()]
    figure.legend(
        handles=phases + lines * probed,
        title="phase",
        loc="outside right center",
    )
    return figure


@styled
def reconstructions_figure(arrays: Mapping[str, np.ndarray]) -> ReportFigure:
    """Test images, what an encoder saw of them, and what its decoder made of that: a column per image.

    Args:
        arrays: what reconstructions.npz holds: `original_ExHxWxC`, `masked_ExHxWxC` and `reconstructed_ExHxWxC` in
            uint8, the `mask_ratio`, and the `arm` of the encoder.

    Raises:
        InputError: arrays that are not uint8 or not of one shape with 1 or 3 channels.
    """
    rows = {
        "original": arrays["original_ExHxWxC"],
        f"{float(arrays['mask_ratio']):.0%} hidden": arrays["masked_ExHxWxC"],
        "reconstructed": arrays["reconstructed_ExHxWxC"],
    }
    shape = rows["original"].shape
    if any(row.shape != shape or row.dtype != np.uint8 for row in rows.values()) or shape[3:] not in [(1,), (3,)]:
        found = [f"{row.dtype} {row.shape}" for row in rows.values()]
        raise InputError(f"reconstructions must be uint8 of one shape E x H x W x 1 or 3; got {', '.join(found)}")
    figure = ReportFigure(figsize=(1.0 + 0.8 * shape[0], 2.8))
    panels = figure.subplots(3, shape[0], squeeze=False)
    for line, (name, images_ExHxWxC) in zip(panels, rows.items(), strict=True):
        for axes, image_HxWxC in zip(line, images_ExHxWxC, strict=True):
            image = image_HxWxC[..., 0] if shape[3] == 1 else image_HxWxC
            axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axes.grid(visible=False)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        line[0].set_ylabel(name, rotation="horizontal", ha="right", va="center")
    figure.suptitle(str(arrays["arm"]))
    return figure


def _cell_styles(metrics: MixTrainingMetrics) -> dict[Cell, dict[str, Any]]:
    colors = arm_colors(metrics.arms, ARM_COLORS)
    return {
        cell: {
            "color": colors[cell.arm],
            "marker": MARKERS.get(cell.arm, "D"),
            "markerfacecolor": "white" if cell.budget == "matched" else colors[cell.arm],
            **HALF_FILLED.get(cell.budget, {}),
        }
        for cell in cells(metrics)
    }


def _cell_handles(styles: Mapping[Cell, Mapping[str, Any]]) -> list[Line2D]:
    return [Line2D([], [], linestyle="", markersize=5.5, label=cell.name, **style) for cell, style in styles.items()]


def _draw_means(axes: Axes, runs: Mapping[float, Sequence[Run]], **style: Any) -> None:
    """Mean accuracy of the runs at each x, in percent, with one standard deviation each way where there is one."""
    found = [accuracy(at) for at in runs.values()]
    std = [np.nan if each.std is None else 100 * each.std for each in found]
    means = [100 * each.mean for each in found]
    axes.errorbar(list(runs), means, std, markersize=5.5, elinewidth=1.2, capsize=2, **style)


def _draw_probes(axes: Axes, run: Run | None, color: str) -> None:
    """Test accuracy of the probes of a run, over its phases."""
    if run is None:
        return
    _shade_phases(axes, run.steps)
    if run.probes:
        for (name, line), values in zip(PROBE_LINES.items(), (run.probes.linear, run.probes.k_nn), strict=True):
            axes.plot(run.probes.step, 100 * np.array(values), line, marker=".", color=color, label=name)
    axes.grid(axis="x", visible=False)


def _shade_phases(axes: Axes, steps: Mapping[str, int]) -> None:
    """From the number of steps of each phase: points of a curve lie inside their stretch, not at its border."""
    edges = np.cumsum([0, *(steps.get(phase.lower(), 0) for phase in PHASES)])
    for (start, end), color in zip(itertools.pairwise(edges.tolist()), PHASE_COLORS, strict=True):
        if end > start:
            axes.axvspan(start, end, color=color, linewidth=0, zorder=0)
