"""What the benchmark of solvers says: rows of a table, and one line in the end.

A result is what `solver.measure` makes of one method on one case; a case's record holds its results by method.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.solver.methods import OURS, TOLERANCE
from experiments.reporting import markdown as md

LARGE = 1e9  # N K^2 from which on time over floor is judged
WITHIN = 3.0  # and what it should be within
_NAMES = {"reference": "the published loop"}
_OWN = {method.name for method in OURS}
_HEAD = f"{'method':26}{'ms':>10}{'min':>9}{'max':>9}{'compile s':>11}{'iter.':>8}{'gap':>9}{'MB':>8}{'/ floor':>9}"


def case_table(case: Mapping[str, Any]) -> str:
    """One case: a line per method."""
    head = f"{case['name']}: {case['what']}; N K^2 = {case['n'] * case['k'] ** 2:.2g}"
    return "\n".join([head, f"  {_HEAD}", *(f"  {_row(name, result)}" for name, result in case["results"].items())])


def _row(name: str, result: Mapping[str, Any]) -> str:
    if result["status"] != "measured":
        return f"{name:26}{result['status']}: {result['reason']}"
    spread = [1e3 * f(result["seconds"]) for f in (min, max)]
    gap = "none" if result["relative_gap"] is None else f"{result['relative_gap']:.0e}"
    cells = (
        f"{name:26}",
        f"{_digits(1e3 * result['median_seconds']):>10}",
        *(f"{_digits(value):>9}" for value in spread),
        f"{_or_dash(result['compile_seconds'], '.1f'):>11}",
        f"{_or_dash(result['iterations'], 'd'):>8}",
        f"{gap:>9}",
        f"{'-' if result['memory_bytes'] is None else _digits(result['memory_bytes'] / 1e6):>8}",
        f"{_or_dash(result['time_over_floor'], '.1f'):>9}",
    )
    return "".join(cells) + (f"  {result['note']}" if result["note"] else "")


def _digits(value: float) -> str:
    """Three digits, without an exponent."""
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}" if value > 0 else "0"


def _or_dash(value: Any, form: str) -> str:
    return "-" if value is None else format(value, form)


def markdown_table(cases: Sequence[Mapping[str, Any]], method: str = OURS[0].name) -> str:
    """A line per case: what the method takes, and how many times longer the rivals take.

    In brackets: the rival stopped short of the gap, which flatters it. "diverged": its weights are worth nothing.
    """
    rivals = list(dict.fromkeys(name for case in cases for name in case["times_faster"] if name not in _OWN))

    def times(case: Mapping[str, Any], rival: str) -> str:
        found = case["times_faster"].get(rival)
        if found is None or found["lost"]:
            return "-" if found is None else "diverged"
        text = _digits_of_two(found["median"])
        return text if found["equal_gap"] else f"[{text}]"

    rows = []
    for case in cases:
        own = case["results"][method]
        floor = _or_dash(own["time_over_floor"], ".1f")
        gap = f"{own['relative_gap']:.0e}"
        cells = [md.code(case["name"]), f"{_digits(1e3 * own['median_seconds'])} ms", gap, floor]
        rows.append([*cells, *(times(case, rival) for rival in rivals)])
    header = ["case", f"`{method}`", "gap", "over floor", *(_NAMES.get(rival, rival) for rival in rivals)]
    return md.table(header, rows)


def summary(cases: Sequence[Mapping[str, Any]], method: str = OURS[0].name) -> str:
    """In one line: what the method reached, how it compares with each rival, and how far it is from the floor."""
    own = [case["results"][method] for case in cases]
    reached = [result["status"] == "measured" and result["reached"] for result in own]
    missed = [case["name"] for case, ok in zip(cases, reached, strict=True) if not ok]
    where = "in all" if not missed else f"in {sum(reached)} (not in {', '.join(missed)})"
    parts = [f"{len(cases)} case{'s' if len(cases) != 1 else ''}", f"{method} reaches gap {TOLERANCE:g} {where}"]
    rivals = list(dict.fromkeys(name for case in cases for name in case["times_faster"]))
    if rivals:
        against = (_against(name, [case["times_faster"].get(name) for case in cases]) for name in rivals)
        parts.append(f"times faster at equal gap [than a rival that stops short of it]: {', '.join(against)}")
    over = [(case["n"] * case["k"] ** 2, r.get("time_over_floor")) for case, r in zip(cases, own, strict=True)]
    over = [(work, ratio) for work, ratio in over if ratio is not None]
    if over:
        part = f"time over floor {_span(ratio for _, ratio in over)}"
        if large := [ratio for work, ratio in over if work >= LARGE]:
            verdict = "within" if max(large) <= WITHIN else "not within"
            part += f", where N K^2 >= {LARGE:.0e}: {_span(large)}, {verdict} {WITHIN:g}"
        parts.append(part)
    return "; ".join(parts)


def _against(rival: str, ratios: Sequence[Mapping[str, Any] | None]) -> str:
    """'mixsqp (default) 12 to 40 [8.1]', and in how many cases the rival has no answer."""
    known = [ratio for ratio in ratios if ratio]
    equal = [ratio["median"] for ratio in known if ratio["equal_gap"]]
    short = [ratio["median"] for ratio in known if not ratio["equal_gap"] and not ratio["lost"]]
    lost = sum(ratio["lost"] for ratio in known)
    text = _NAMES.get(rival, rival)
    text += f" {_span(equal)}" if equal else ""
    text += f" [{_span(short)}]" if short else ""
    return text + (f" ({lost} diverged)" if lost else "")


def _span(numbers: Iterable[float]) -> str:
    """'3.1 to 45'; '3.1' where the ends read the same."""
    values = list(numbers)
    low, high = _digits_of_two(min(values)), _digits_of_two(max(values))
    return low if low == high else f"{low} to {high}"


def _digits_of_two(value: float) -> str:
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"


def figure_points(cases: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, tuple[list[float], float | None]]]:
    """{case: {method: (seconds of each call, relative gap)}} of what was measured."""
    return {
        case["name"]: {
            name: (result["seconds"], result["relative_gap"])
            for name, result in case["results"].items()
            if result["status"] == "measured"
        }
        for case in cases
    }
