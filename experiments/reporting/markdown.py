"""Numbers, names and quotations as Markdown: what every report needs, and what templates know as filters."""

import html
import math
from collections.abc import Iterable, Mapping, Sequence

from mixmin_jax.stats.comparison import Difference, RankCorrelation, Summary


def decimals(sizes: Iterable[float]) -> int:
    """Decimals, 3 to 6, with which none of these looks like 0; with differences, what they are of looks different."""
    smallest = min((abs(size) for size in sizes if size), default=1.0)
    return min(max(math.ceil(-math.log10(smallest)), 3), 6)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table: the first column to the left, numbers to the right."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def mean_std(summary: Summary, digits: int = 3) -> str:
    """`2.735 ± 0.029`: mean and standard deviation over seeds; the mean alone for one seed."""
    return f"{summary.mean:.{digits}f}" + (f" ± {summary.std:.{digits}f}" if summary.std is not None else "")


def plus_minus(difference: Difference, digits: int = 3, signed: bool = False) -> str:
    """`0.1198 ± 0.0094`: size of a difference and its standard error; with its sign if `signed`.

    It has one decimal more than the `digits` of what is compared.
    """
    mean = f"{difference.mean:+.{digits + 1}f}" if signed else f"{abs(difference.mean):.{digits + 1}f}"
    error = difference.standard_error
    return mean + (f" ± {error:.{digits + 1}f}" if error is not None else " (error unknown)")


def percent_mean_std(summary: Summary, digits: int = 3) -> str:
    """`49.9 ± 0.3%`: mean and standard deviation of shares, of which `digits` decimals are shown."""
    std = f" ± {100 * summary.std:.{digits - 2}f}" if summary.std is not None else ""
    return f"{100 * summary.mean:.{digits - 2}f}{std}%"


def percent(share: float) -> str:
    """A round share without zeros behind it: `10%`, `12.5%`."""
    return f"{100 * share:.4g}%"


def number_range(values: Iterable[float]) -> str:
    """`1.21 to 1.34`: the least and the largest, with two decimals; one number where they look the same."""
    found = sorted(values)
    low, high = f"{found[0]:.2f}", f"{found[-1]:.2f}"
    return low if low == high else f"{low} to {high}"


def points(difference: Difference, digits: int = 3) -> str:
    """`+0.68 ± 0.21`: a difference of shares, in percentage points, with its standard error.

    It has one decimal more than shares with `digits` decimals.
    """
    error = difference.standard_error
    shown = f"{100 * difference.mean:+.{digits - 1}f}"
    return shown + (f" ± {100 * error:.{digits - 1}f}" if error is not None else "")


def spearman(found: RankCorrelation) -> str:
    """A rank correlation, or why there is none."""
    if not found.enough:
        return "too few points"
    return "undefined" if found.spearman is None else f"{found.spearman:.2f}"


def correlation(found: RankCorrelation) -> str:
    """`0.80 (n = 42)`: a rank correlation with its n."""
    return f"{spearman(found)} (n = {found.n})"


def si_count(value: int | float) -> str:
    """A count with three digits and an SI prefix: 1234567 -> 1.23 M."""
    for prefix in ("", "k", "M", "G", "T", "P", "E", "Z"):
        if abs(value) < 999.5:
            return f"{value:.3g} {prefix}".rstrip()
        value /= 1000
    return f"{value:.3g} Y"


def share(ratio: float) -> str:
    """A share in percent, with two decimals below one percent; "3.5 times" where it is 2 or more."""
    if 0 < ratio < 0.00005:
        return "less than 0.01%"
    if 0 < ratio < 0.01:
        return f"{ratio:.2%}"
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


def weights(arm: str, weight_of: Mapping[str, float], most: int = 8) -> str:
    """The largest weights of a mixture in a line for a terminal, the rest counted."""
    used = sorted(((w, name) for name, w in weight_of.items() if w >= 0.0005), key=lambda item: (-item[0], item[1]))
    shown = ", ".join(f"{' '.join(name.split())} {weight:.3f}" for weight, name in used[:most])
    more = [f"{len(used) - most} more with {sum(w for w, _ in used[most:]):.3f} in all"] if len(used) > most else []
    unused = len(weight_of) - len(used)
    none = [f"less than 0.0005 for {plural(unused, 'other')}"] if unused else []
    return f"Weights of {code(arm)}: {'; '.join([shown, *more, *none])}."


def code(name: str) -> str:
    """A name in code type, on one line, inside tables too."""
    return "`" + " ".join(name.splitlines()).replace("`", "'").replace("|", "\\|") + "`"


def plain(text: str) -> str:
    """Text from a data set, on one line and without effect as Markdown or HTML."""
    escaped = html.escape(" ".join(text.split()), quote=False)
    return "".join("\\" + char if char in "\\`*_[]|~$" else char for char in escaped)
