"""What the benchmark of proxies says: a table per case, and one line in the end."""

from benchmarks.proxies.records import ProxiesRecord
from benchmarks.tables import render

_MEASURES = {"log_loss": "log loss", "average_precision": "AP", "loss": "loss"}
_FIRST, _REST = 20, 11  # characters: the least widths of columns, so that those of all cases line up


def report(record: ProxiesRecord) -> dict[str, str | bytes]:
    """The report's file by its suffix: Markdown whose columns also line up on a screen."""
    timed = dict.fromkeys(name for case in record.cases for name in (*case.results, *case.stopped))
    return {".md": render("proxies_benchmark", _FIRST, _REST, record=record, timed=timed, measures=_MEASURES)}


def summary(record: ProxiesRecord) -> str:
    """In one line: how many times as long the rivals take."""
    parts = []
    for case in record.cases:
        one = case.results[case.base]
        rivals = [f"{name} {found.over(one)}" for name, found in case.results.items() if name != case.base]
        parts.append(
            f"{case.name}, {case.num_models} models by {case.base} {one.median_seconds:.3g} s, times as long:"
            f" {', '.join(rivals)}"
        )
    return f"proxies on {record.made_by.device}: {'; '.join(parts)}"
