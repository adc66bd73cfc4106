"""Builders that the tests of the benchmarks share."""

from pathlib import Path

from benchmarks.timing import Timing
from experiments.harness.result_files import read_result
from experiments.reporting.schema import MadeBy

ROOT = Path(__file__).parent.parent.parent
MADE_BY = MadeBy("python -m benchmarks.toy", "1 x toy", None, {})


def timing(*seconds, first=9.0, memory=2_000_000, last=None):
    return Timing(first, seconds, memory, False, last)


def cells(report):
    """The rows of every table of a report, headers included."""
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in report.splitlines() if line.startswith("|")]


def quick_run(benchmark, config, kind, capsys, *arguments):
    """The record that a quick run writes, with its report beside it, and the lines that it prints."""
    benchmark.main(config, *arguments)
    printed = capsys.readouterr().out.splitlines()
    path = config.stem(benchmark.__package__.split(".")[-1], whole=True).with_suffix(".json")
    record = read_result(path, kind)
    assert record.summary == printed[-1] and record.made_by.device in printed[0]
    assert record.made_by.versions["jax"] and record.made_by.command
    for suffix, content in benchmark.report(record).items():
        assert path.with_suffix(suffix).read_bytes() == (content.encode() if suffix == ".md" else content)
    return record, printed
