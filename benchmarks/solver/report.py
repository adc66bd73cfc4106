"""What the benchmark of solvers says: a table per case on the screen, a table over all, a figure, and one line."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from benchmarks.solver.figure import gap_time_figure
from benchmarks.solver.methods import OURS, TOLERANCE
from benchmarks.solver.records import CaseRecord, SolverRecord
from benchmarks.tables import render
from experiments.reporting.figures import figure_png

LARGE = 1e9  # multiply-adds (N K^2): time over floor is judged from here on, where products outweigh fixed costs
WITHIN = 3.0  # time over floor that counts as near the machine's limit
_DEFAULT = OURS[0].name
_OWN = {method.name for method in OURS}
_NAMES = {"reference": "the published loop"}


def report(record: SolverRecord) -> dict[str, str | bytes]:
    """The report's files by suffix; none where nothing but streaming was measured."""
    if not record.cases:
        return {}
    points = {
        case.name: {name: (result.spread, result.relative_gap) for name, result in case.results.items()}
        for case in record.cases
    }
    return {
        ".png": figure_png(gap_time_figure(points, record.tolerance)),
        ".md": markdown_table(record.cases),
    }


def case_table(case: CaseRecord) -> str:
    """One case: a line per method."""
    return render("solver_case", case=case, digits=_digits).rstrip()


def _digits(value: float) -> str:
    """Three digits, without an exponent."""
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}" if value > 0 else "0"


def _two_digits(value: float) -> str:
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"


class TimesFaster(NamedTuple):
    """A rival's time over that of our default method."""

    median: float
    equal_gap: bool  # both reached the tolerance; a rival that stops short of it is favored
    lost: bool  # the rival's weights are worthless: no finite gap, or one above 1

    @property
    def form(self) -> str:
        return "(diverged {})" if self.lost else "{}" if self.equal_gap else "[{}]"


def times_faster(case: CaseRecord) -> dict[str, TimesFaster]:
    """By rival; empty where our default method has no time."""
    own = case.results.get(_DEFAULT)
    return {
        name: TimesFaster(
            found.over(own).median,
            found.reached and own.reached,
            found.relative_gap is None or found.relative_gap > 1,
        )
        for name, found in case.results.items()
        if own and name not in _OWN
    }


def markdown_table(cases: Sequence[CaseRecord]) -> str:
    """A line per case: what our default method takes, and how many times longer the rivals take."""
    return render(
        "solver_benchmark",
        aligned=False,
        cases=cases,
        rivals=list(dict.fromkeys(name for case in cases for name in times_faster(case))),
        names=_NAMES,
        default=_DEFAULT,
        times_faster=times_faster,
        digits=_digits,
        two_digits=_two_digits,
    )


def summary(record: SolverRecord) -> str:
    """In one line: what the cases came to, and each stream of rows."""
    lines = [_of_cases(record.cases)] * bool(record.cases) + [str(streamed) for streamed in record.streaming]
    return f"solver: {'; '.join(lines)}"


def _of_cases(cases: Sequence[CaseRecord]) -> str:
    """In how many cases our default method reached the gap, and the ranges of the table's columns."""
    own = [(case.work, result) for case in cases if (result := case.results.get(_DEFAULT))]
    reached = sum(result.reached for _, result in own)
    parts = [f"{_DEFAULT} reaches gap {TOLERANCE:g} in {reached} of {len(cases)}"]
    found: dict[str, dict[str, list[float]]] = {}  # by rival and by the form in which its range is shown
    for rival, ratio in (pair for case in cases for pair in times_faster(case).items()):
        found.setdefault(_NAMES.get(rival, rival), {}).setdefault(ratio.form, []).append(ratio.median)
    spans = [
        " ".join([rival, *(form.format(_span(medians)) for form, medians in forms.items())])
        for rival, forms in found.items()
    ]
    parts += [f"times faster at equal gap [than a rival that stops short of it]: {', '.join(spans)}"] * bool(spans)
    over = [(work, result.time_over_floor) for work, result in own if result.time_over_floor]
    if large := [ratio for work, ratio in over if work >= LARGE]:
        verdict = "within" if max(large) <= WITHIN else "not within"
        parts.append(f"time over floor where N K^2 >= {LARGE:.0e}: {_span(large)}, {verdict} {WITHIN:g}")
    return "; ".join(parts)


def _span(values: Sequence[float]) -> str:
    """'3.1 to 45'; '3.1' where both ends read the same."""
    return " to ".join(dict.fromkeys([_two_digits(min(values)), _two_digits(max(values))]))
