"""What a prompt and a notebook show of weights: a line of text, or an HTML table.

The HTML has no scripts, and no colors but the page's own: it can be read on light and on dark pages.

Axes: K sources.
"""

import html
import math

import numpy as np
from jaxtyping import Float, Int

from mixmin_jax.mixture.checks import SLACK

Sources = tuple[str, ...] | None
Interval = tuple[Float[np.ndarray, " K"], Float[np.ndarray, " K"]]  # lower and upper ends


def shown_name(sources: Sources, column: int) -> str:
    """The name of a source on one line, cut in its middle if it is long; "column 3" without names."""
    if sources is None:
        return f"column {column}"
    name = sources[column] if sources[column].isprintable() else repr(sources[column])
    return name if len(name) <= 40 else f"{name[:18]}...{name[-19:]}"


def by_size(weights_K: Float[np.ndarray, " K"], interval: Interval | None = None) -> Int[np.ndarray, " K"]:
    """The columns from the largest weight to the smallest; of equal weights, the larger upper end first."""
    return np.lexsort([-np.where(x_K > SLACK, x_K, 0) for x_K in (_reach(weights_K, interval), weights_K)])


def certificate(gap: float, penalty: float) -> str:
    """The gap in words."""
    if not math.isfinite(gap):
        return "Not known: by how much another allowed mixture may be better than this one."
    units = "loss + penalty" if penalty else "the loss"
    return f"No other allowed mixture is better than this one by more than {max(gap, 0):.2g}, in the units of {units}."


def text(weights_K: Float[np.ndarray, " K"], sources: Sources, interval: Interval | None = None, most: int = 5) -> str:
    """The largest weights by name, and a word on the others."""
    order, reach_K = by_size(weights_K, interval), _reach(weights_K, interval)
    listed = [k for k in order[:most] if reach_K[k] > SLACK]
    numbers = [" (".join(_numbers(k, weights_K, interval)) + (")" if interval else "") for k in listed]
    parts = [f"{shown_name(sources, k)}: {number}" for k, number in zip(listed, numbers, strict=True)]
    rest = _rest(order[len(listed) :], weights_K, interval)
    return ", ".join(parts) + (f", ... {rest}" if rest else "")


def table(
    weights_K: Float[np.ndarray, " K"],
    sources: Sources,
    interval: Interval | None = None,
    level: float = 0.0,
    most: int = 20,
) -> str:
    """The largest weights as an HTML table, with a bar each: of the weight, or from end to end of its interval."""
    order = by_size(weights_K, interval)
    heads = ["source", "weight", *([f"{100 * level:g} % interval"] if interval else []), ""]
    rows = []
    for k in order[:most]:
        start, end = (interval[0][k], interval[1][k]) if interval else (0.0, weights_K[k])
        place = f"margin-left:{100 * start:.1f}%;width:{100 * (end - start):.1f}%"
        bar = f'<div style="{place};height:0.7em;background:currentColor;opacity:0.5"></div>'
        cells = "".join(f"<td>{number}</td>" for number in _numbers(k, weights_K, interval))
        name = f'<td style="text-align:left">{html.escape(shown_name(sources, k))}</td>'
        rows.append(f'<tr>{name}{cells}<td><div style="width:10em">{bar}</div></td></tr>')
    if rest := _rest(order[most:], weights_K, interval):
        rows.append(f'<tr><td colspan="{len(heads)}" style="text-align:left">{rest}</td></tr>')
    head = "".join(f"<th>{title}</th>" for title in heads)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def page(*parts: str) -> str:
    """The parts in one element, in which Jupyter does not take text between dollar signs for formulas."""
    return f'<div class="tex2jax_ignore mathjax_ignore">{"".join(parts)}</div>'


def paragraph(text: str, warning: bool = False) -> str:
    """The text as HTML; a warning is bold, with a bar at its left."""
    if warning:
        return f'<p style="border-left:0.4em solid;padding-left:0.5em"><strong>{html.escape(text)}</strong></p>'
    return f"<p>{html.escape(text)}</p>"


def _numbers(k: int, weights_K: Float[np.ndarray, " K"], interval: Interval | None) -> list[str]:
    """The weight of a source and its interval, as text."""
    weight, *ends = (f"{0 if x_K[k] <= SLACK else x_K[k]:.3g}" for x_K in (weights_K, *(interval or ())))
    return [weight, " to ".join(ends)] if ends else [weight]


def _rest(columns: Int[np.ndarray, " J"], weights_K: Float[np.ndarray, " K"], interval: Interval | None) -> str:
    """A word on the sources that are not listed; empty if all are."""
    if not len(columns):
        return ""
    some = _reach(weights_K, interval)[columns].max() > SLACK
    weight = f"with a total weight of {weights_K[columns].sum():.2g}" if some else "without weight"
    return f"and {len(columns)} more {weight}"


def _reach(weights_K: Float[np.ndarray, " K"], interval: Interval | None) -> Float[np.ndarray, " K"]:
    """The largest value of a weight or of its interval."""
    return weights_K if interval is None else np.maximum(weights_K, interval[1])
