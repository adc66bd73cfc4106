"""Numbers, names and quotations as Markdown: what every report needs."""

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table: the first column to the left, numbers to the right."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def spread(summary: Mapping[str, Any]) -> str:
    """`mean ± std` of a `comparison.summary`; the mean alone where one value has no spread."""
    return f"{summary['mean']:.3f}" + (f" ± {summary['std']:.3f}" if summary["std"] is not None else "")


def plus_minus(difference: Mapping[str, Any], signed: bool = False) -> str:
    """`mean ± standard error` of a `comparison.Difference`; its size alone unless `signed`."""
    mean = f"{difference['mean']:+.4f}" if signed else f"{abs(difference['mean']):.4f}"
    error = difference["standard_error"]
    return mean + (f" ± {error:.4f}" if error is not None else " (error unknown)")


def spearman(value: float | None) -> str:
    """A rank correlation, or that there is none."""
    return "undefined" if value is None else f"{value:.2f}"


def correlation(result: Mapping[str, Any]) -> str:
    """A `comparison.RankCorrelation` with its n."""
    return f"{spearman(result['spearman'])} (n = {result['n']})"


def si_count(value: int | float) -> str:
    """A count with three digits and an SI prefix: 1234567 -> 1.23 M."""
    for prefix in ("", "k", "M", "G", "T", "P", "E", "Z"):
        if abs(value) < 999.5:
            return f"{value:.3g} {prefix}".rstrip()
        value /= 1000
    return f"{value:.3g} Y"


def share(ratio: float) -> str:
    """A share in percent; "3.5 times" where it is 2 or more."""
    return f"{ratio:.1%}" if ratio < 1.995 else f"{ratio:.3g} times"


def share_of(ratio: float, what: str) -> str:
    """`12.0% of one run`, or `3.5 times one run`."""
    return f"{share(ratio)} {what}" if share(ratio).endswith("times") else f"{share(ratio)} of {what}"


def plural(count: int, noun: str) -> str:
    """`one seed`, `3 seeds`."""
    return f"{'one' if count == 1 else format(count, ',')} {noun}{'' if count == 1 else 's'}"


def listing(items: Iterable[str]) -> str:
    """`a, b and c`; nothing for no items."""
    *first, last = list(items) or [""]
    return f"{', '.join(first)} and {last}" if first else last


def code(name: str) -> str:
    """A name in code type, inside tables too."""
    return "`" + name.replace("`", "'").replace("|", "\\|") + "`"


def plain(text: str) -> str:
    """Text from a data set, on one line and without effect as Markdown or HTML."""
    escaped = html.escape(" ".join(text.split()), quote=False)
    return "".join("\\" + char if char in "\\`*_[]|~$" else char for char in escaped)
