"""Builders that the tests of the benchmarks share."""

from benchmarks.timing import Timing
from experiments.reporting.schema import MadeBy

MADE_BY = MadeBy("python -m benchmarks.toy", "1 x toy", None, {})


def timing(*seconds, first=9.0, memory=2_000_000, last=None):
    return Timing(first, seconds, memory, False, last)


def cells(report):
    """The rows of every table of a report, headers included."""
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in report.splitlines() if line.startswith("|")]


def columns_line_up(report):
    """Whether all rows of each table are equally wide; rulers do not count."""
    tables = [part.splitlines() for part in report.split("\n\n") if part.startswith("|")]
    return bool(tables) and all(len({len(line) for line in lines if "---" not in line}) == 1 for lines in tables)
