"""Figures for notebooks: weights with their intervals, the gap by iteration, predictions against what was reached.

Each function draws on the axes that it is given, or on those of a new figure, and returns them. It shows and saves
nothing.

Axes: K sources, P points.
"""

import textwrap
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import ArrayLike
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from mixmin_jax.errors import InputError
from mixmin_jax.mixture.checks import as_float64, checked_whole
from mixmin_jax.mixture.display import by_size, shown_name
from mixmin_jax.mixture.inference.bootstrap import Bootstrap
from mixmin_jax.mixture.solution import Solution
from mixmin_jax.stats.comparison import stratified_spearman


def weights(found: Solution | Bootstrap, *, max_sources: int = 30, ax: Axes | None = None) -> Axes:
    """A bar per source, the largest weight on top; with a `Bootstrap`, a line from end to end of each interval.

    Args:
        found: from `solve` or `bootstrap`.
        max_sources: most bars, at least 2. Beyond, the smallest weights are summed in one bar: "471 others". Its
            interval is that of their sum.
        ax: where to draw; default: a new figure.

    Returns:
        The axes.

    Raises:
        InputError: another result than those two, or fewer than 2 bars.
    """
    if not isinstance(found, Solution | Bootstrap):
        raise InputError(f"plot.weights draws a Solution or a Bootstrap; got {type(found).__name__}")
    max_sources = checked_whole(max_sources, "max_sources", 2)
    resampled, solution = (found, found.solution) if isinstance(found, Bootstrap) else (None, found)
    weights_K = solution.weights
    order = by_size(weights_K, (resampled.lower, resampled.upper) if resampled else None)
    many = len(order) > max_sources
    bars = [[k] for k in order[: max_sources - 1 if many else None]] + ([order[max_sources - 1 :]] if many else [])
    names = [shown_name(found.sources, bar[0]) if len(bar) == 1 else f"{len(bar)} others" for bar in bars]
    height = np.arange(len(bars))
    if ax is None:
        ax = _new_axes(1.2 + 0.22 * len(bars))
    ax.barh(height, [weights_K[bar].sum() for bar in bars])
    ax.set_xlabel("weight")
    if resampled:
        tail = (1 - resampled.level) / 2
        ends = [np.quantile(resampled.weights[:, bar].sum(axis=1), [tail, 1 - tail]) for bar in bars]
        ax.hlines(height, *zip(*ends, strict=True), color=plt.rcParams["text.color"])
        ax.set_xlabel(f"weight, with {100 * resampled.level:g} % interval")
    ax.set_yticks(height, names, parse_math=False)
    ax.set(xlim=(0, None), ylim=(len(bars) - 0.4, -0.6))
    return _warn(ax, found.status, found.converged)


def gap(solution: Solution, *, ax: Axes | None = None) -> Axes:
    """The certified gap at the start and after each iteration, on a log scale, and the goal as a dashed line.

    A gap of 0 lies below every log scale: the line leaves the axes at the bottom.

    Args:
        solution: from `solve`.
        ax: where to draw; default: a new figure. Several solutions can share axes.

    Returns:
        The axes.

    Raises:
        InputError: not a `Solution`.
    """
    if not isinstance(solution, Solution):
        raise InputError(f"plot.gap draws a Solution; got {type(solution).__name__}")
    ax = _new_axes() if ax is None else ax
    label = f"{solution.method}, at the end {solution.gap:.2g}"
    line = ax.plot(solution.gap_history, "o-", markersize=3, label=label)[0]
    ax.axhline(solution.goal, linestyle="--", linewidth=1, color=line.get_color(), label=f"goal {solution.goal:.2g}")
    if solution.goal > 0:
        ax.set_yscale("log")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    ax.set(xlabel="iteration", ylabel="gap, in the units of the loss")
    ax.legend()
    return _warn(ax, solution.status, solution.converged)


def prediction(
    predicted: ArrayLike, reached: ArrayLike, *, labels: Sequence[str] | None = None, ax: Axes | None = None
) -> Axes:
    """A point per mixture: the loss that was predicted, and the loss that training reached.

    The diagonal is where both are equal. Spearman's rank correlation stands in the title, unless there are
    fewer than six points.

    Args:
        predicted, reached: P numbers each.
        labels: a text beside each point.
        ax: where to draw; default: a new figure.

    Returns:
        The axes.

    Raises:
        InputError: not P finite numbers each, or not P labels.
    """
    predicted_P, reached_P = as_float64(predicted, "predicted"), as_float64(reached, "reached")
    texts = [""] * predicted_P.size if labels is None else labels
    if predicted_P.ndim != 1 or reached_P.shape != predicted_P.shape or len(texts) != len(predicted_P):
        shapes = f"{predicted_P.shape}, {reached_P.shape}" + ("" if labels is None else f" and {len(labels)} labels")
        raise InputError(f"plot.prediction takes one predicted and one reached number per point; got {shapes}")
    if not (both_2xP := np.stack([predicted_P, reached_P])).size or not np.isfinite(both_2xP).all():
        raise InputError("plot.prediction needs at least one point, and finite numbers; leave other points out")
    ax = _new_axes() if ax is None else ax
    ends = [both_2xP.min(), both_2xP.max()]
    ax.plot(ends, ends, "--", linewidth=1, color="gray", zorder=1)
    ax.scatter(predicted_P, reached_P)
    for x, y, text in zip(predicted_P, reached_P, texts, strict=True):
        if text:
            ax.annotate(text, (x, y), (4, 4), textcoords="offset points", fontsize="small", parse_math=False)
    found = stratified_spearman(predicted_P, reached_P, [0] * len(predicted_P))
    rho = "not defined" if found.spearman is None else f"{found.spearman:.2f}"
    title = f"Spearman {rho}, n = {found.n}" if found.enough else f"n = {len(predicted_P)}: too few to rank"
    ax.set(xlabel="predicted", ylabel="reached", title=title)
    return ax


def _new_axes(height: float = 3.6) -> Axes:
    return plt.subplots(figsize=(5.4, height), layout="constrained")[1]


def _warn(ax: Axes, status: str, converged: bool | np.ndarray) -> Axes:
    """The axes, with the status above if a solve did not converge."""
    if not np.all(converged):
        ax.set_title(textwrap.fill(status, 60), fontsize="small", parse_math=False)
    return ax
