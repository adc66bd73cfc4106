"""What the benchmark of reading says: a table, and one line in the end."""

from benchmarks.reading.records import ReadingRecord
from benchmarks.tables import or_blank, render


def report(record: ReadingRecord) -> dict[str, str | bytes]:
    """The report's file by its suffix: Markdown whose columns also line up on a screen."""
    return {".md": render("reading_benchmark", record=record)}


def summary(record: ReadingRecord) -> str:
    """In one line: how much longer than decompression reading takes, and the memory."""
    ratios = ", ".join(f"{kind} {found.ratio}" for kind, found in record.kinds.items())
    memory = [found.memory_bytes for found in record.kinds.values() if found.memory_bytes]
    most = or_blank(max(memory) / 1e6 if memory else None, ".0f", "?")
    dry = or_blank(record.dry_run.memory_bytes and record.dry_run.memory_bytes / 1e6, ".0f", "?")
    return (
        f"reading {record.settings.gigabytes:g} GB: time over plain decompression: {ratios}; memory {most} MB;"
        f" dry run {record.dry_run.seconds:.1f} s and {dry} MB, again {record.dry_run.seconds_again:.1f} s"
    )
