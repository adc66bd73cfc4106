"""What the benchmark of solvers says: a table per case on the screen, a table over all, a figure, and one line."""

import math
from collections.abc import Iterable, Sequence

from benchmarks.solver.methods import OURS, TOLERANCE
from benchmarks.solver.records import CaseRecord, Result, SolverRecord, TimesFaster
from benchmarks.tables import aligned_table, or_blank
from experiments.reporting import markdown as md
from experiments.reporting.figures import figure_png, gap_time_figure

LARGE = 1e9  # multiply-adds (N K^2): time over floor is judged from here on, where products outweigh fixed costs
WITHIN = 3.0  # time over floor that counts as near the machine's limit
_DEFAULT = OURS[0].name
_NAMES = {"reference": "the published loop"}


def report(record: SolverRecord) -> dict[str, str | bytes]:
    """The report's files by suffix; none where nothing but streaming was measured."""
    if not record.cases:
        return {}
    points = {
        case.name: {name: (result.seconds, result.relative_gap) for name, result in case.results.items()}
        for case in record.cases
    }
    return {
        ".png": figure_png(gap_time_figure(points, record.tolerance)),
        ".md": f"{markdown_table(record.cases)}\n",
    }


def case_table(case: CaseRecord) -> str:
    """One case: a line per method."""
    header = ["method", "ms", "min", "max", "compile s", "iter.", "gap", "MB", "/ floor", "note"]
    rows = [_row(name, result) for name, result in case.results.items()]
    unmeasured = [f"{name}: {why}" for name, why in case.unmeasured.items()]
    head = f"{case.name}: {case.what}; N K^2 = {case.work:.2g}"
    return "\n".join([head, aligned_table(header, rows), *unmeasured])


def _row(name: str, result: Result) -> list[str]:
    spread = result.median_seconds, min(result.seconds), max(result.seconds)
    return [
        name,
        *(_digits(1e3 * seconds) for seconds in spread),
        or_blank(result.compile_seconds, ".1f", "-"),
        or_blank(result.iterations, "d", "-"),
        or_blank(result.relative_gap, ".0e", "none"),
        "-" if result.memory_bytes is None else _digits(result.memory_bytes / 1e6),
        or_blank(result.time_over_floor, ".1f", "-"),
        result.note,
    ]


def _digits(value: float) -> str:
    """Three digits, without an exponent."""
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}" if value > 0 else "0"


def _two_digits(value: float) -> str:
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"


def _span(numbers: Iterable[float]) -> str:
    """'3.1 to 45'; '3.1' where both ends read the same."""
    values = list(numbers)
    return " to ".join(dict.fromkeys([_two_digits(min(values)), _two_digits(max(values))]))


def _rivals(cases: Sequence[CaseRecord]) -> list[str]:
    return list(dict.fromkeys(name for case in cases for name in case.times_faster))


def markdown_table(cases: Sequence[CaseRecord]) -> str:
    """A line per case: what our default method takes, and how many times longer the rivals take.

    In brackets: the rival stopped short of the gap, which favors it. "diverged": its weights are worthless.
    """

    def times(found: TimesFaster | None) -> str:
        if found is None or found.lost:
            return "-" if found is None else "diverged"
        text = _two_digits(found.median)
        return text if found.equal_gap else f"[{text}]"

    def own(result: Result | None) -> list[str]:
        if result is None:
            return ["-"] * 3
        gap, floor = or_blank(result.relative_gap, ".0e", "none"), or_blank(result.time_over_floor, ".1f", "-")
        return [f"{_digits(1e3 * result.median_seconds)} ms", gap, floor]

    rivals = _rivals(cases)
    header = ["case", md.code(_DEFAULT), "gap", "over floor", *(_NAMES.get(rival, rival) for rival in rivals)]
    rows = [
        [md.code(case.name), *own(case.results.get(_DEFAULT)), *(times(case.times_faster.get(name)) for name in rivals)]
        for case in cases
    ]
    return md.table(header, rows)


def summary(cases: Sequence[CaseRecord]) -> str:
    """In one line: what our default method reached, how it compares with each rival, and how far the floor is."""
    own = [(case, case.results.get(_DEFAULT)) for case in cases]
    missed = [case.name for case, result in own if not (result and result.reached)]
    where = f"in {len(cases) - len(missed)} (not in {', '.join(missed)})" if missed else "in all"
    parts = [f"{len(cases)} case{'s' * (len(cases) != 1)}", f"{_DEFAULT} reaches gap {TOLERANCE:g} {where}"]
    if rivals := _rivals(cases):
        found = {rival: [case.times_faster[rival] for case in cases if rival in case.times_faster] for rival in rivals}
        against = ", ".join(_against(rival, ratios) for rival, ratios in found.items())
        parts.append(f"times faster at equal gap [than a rival that stops short of it]: {against}")
    over = [(case.work, result.time_over_floor) for case, result in own if result and result.time_over_floor]
    if over:
        parts.append(f"time over floor {_span(ratio for _, ratio in over)}")
    if large := [ratio for work, ratio in over if work >= LARGE]:
        verdict = "within" if max(large) <= WITHIN else "not within"
        parts[-1] += f", where N K^2 >= {LARGE:.0e}: {_span(large)}, {verdict} {WITHIN:g}"
    return "; ".join(parts)


def _against(rival: str, ratios: Sequence[TimesFaster]) -> str:
    """'mixsqp (default) 12 to 40 [8.1]', and in how many cases the rival has no answer."""
    equal = [ratio.median for ratio in ratios if ratio.equal_gap]
    short = [ratio.median for ratio in ratios if not ratio.equal_gap and not ratio.lost]
    lost = sum(ratio.lost for ratio in ratios)
    text = _NAMES.get(rival, rival)
    text += f" {_span(equal)}" if equal else ""
    text += f" [{_span(short)}]" if short else ""
    return text + (f" ({lost} diverged)" if lost else "")
