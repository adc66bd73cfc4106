"""What the benchmark of many sources says: a table, and one line in the end."""

from benchmarks.many_sources.records import ManySourcesRecord
from benchmarks.tables import or_blank, render


def report(record: ManySourcesRecord) -> dict[str, str | bytes]:
    """The report's file by its suffix."""
    stages = list(dict.fromkeys(stage for case in record.cases for stage in case.stages))
    return {".md": render("many_sources_benchmark", record=record, stages=stages)}


def summary(record: ManySourcesRecord) -> str:
    """In one line: seconds and memory of each size."""

    def memory(bytes_: int | None) -> str:
        return or_blank(bytes_ and bytes_ / 1e9, ".2g", "?")

    found = (f"{case.buckets} buckets {case.seconds:.0f} s and {memory(case.memory_bytes)} GB" for case in record.cases)
    return f"many_sources, {record.settings.bucket_bytes / 1e3:g} kB each: {', '.join(found)}"
