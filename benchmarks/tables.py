"""Reports from the templates of `experiments.reporting`, with tables whose columns line up on a screen too."""

import re
from collections.abc import Sequence
from typing import Any

from benchmarks.records import Times
from experiments.reporting import markdown as md
from experiments.reporting.render import report


def render(template: str, first: int = 0, rest: int = 0, aligned: bool = True, **context: Any) -> str:
    """What a template makes of a context; its tables are made by `aligned_table`, if they are to be aligned."""

    def align(table: re.Match[str]) -> str:
        header, _, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in table[0].splitlines())
        return aligned_table(header, rows, first, rest) + "\n"

    def times(found: Times, per_second: float = 1e3, form: str = ".2f") -> str:
        return " | ".join(time_cells(found, per_second, form))

    text = report(template, "", {}, times=times, or_blank=or_blank, **context).markdown
    return text if not aligned else re.sub(r"(?:^\|.*\n)+", align, text, flags=re.MULTILINE)


def aligned_table(header: Sequence[str], rows: Sequence[Sequence[str]], first: int = 0, rest: int = 0) -> str:
    """`markdown.table` with its cells filled up; `first` and `rest` are the least widths of the columns."""
    least = [first, *[rest] * (len(header) - 1)]
    widths = [max(width, *map(len, column)) for width, *column in zip(least, header, *rows, strict=True)]

    def filled(cells: Sequence[str]) -> list[str]:
        name, *values = zip(cells, widths, strict=True)
        return [name[0].ljust(name[1]), *(value.rjust(width) for value, width in values)]

    return md.table(filled(header), map(filled, rows))


def time_cells(times: Times, per_second: float = 1e3, form: str = ".2f") -> list[str]:
    """Median, shortest and longest; in milliseconds, unless a second has another number of units."""
    return [format(per_second * seconds, form) for seconds in times.spread]


def or_blank(value: float | None, form: str, blank: str = "") -> str:
    """A number, if there is one."""
    return blank if value is None else format(value, form)
