"""Times reading and plain decompression side by side, each call in a fresh process."""

import functools
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.reading import shards
from benchmarks.reading.fresh import TARGET, Fresh, fresh, fresh_store
from benchmarks.reading.records import DryRun, KindRecord, Settings
from benchmarks.records import Times, times
from benchmarks.timing import Call, Stopped, Timing, side_by_side
from mixmin_jax.errors import InputError


def measure(settings: Settings) -> tuple[dict[str, KindRecord], DryRun]:
    """Make the sources in a temporary folder, and read them. Raises InputError if a process fails."""
    with tempfile.TemporaryDirectory() as folder:
        sources = Path(folder, "sources")
        made = shards.make(sources, settings.gigabytes)
        shards.make_target(Path(folder, TARGET))
        calls: dict[tuple[str, str], Call[Fresh]] = {}
        for kind in made:
            place = sources / kind.replace(".", "_")
            for what in ("plain", "reading"):
                run: Any = functools.partial(fresh_store, what, place, kind, settings.source_bytes)
                calls[kind, what] = Call(run, own_seconds=lambda found: found.seconds)
        timings = side_by_side(calls, settings.repeats, settings.budget)
        kinds = {}
        for kind, (count, text_bytes, file_bytes) in made.items():
            reading, plain = (_timing(timings[kind, what]) for what in ("reading", "plain"))
            pair = Times(**times(plain)), Times(**times(reading))
            kinds[kind] = KindRecord(count, text_bytes, file_bytes, *pair, reading.last.memory)
        store = Path(folder, "store")
        try:
            first, again = (fresh("dry_run", sources, "", settings.source_bytes, store) for _ in range(2))
        except Stopped as stop:
            raise InputError(f"a dry run failed: {stop}") from stop
    return kinds, DryRun(first.seconds, again.seconds, first.memory)


def _timing(timing: Timing[Fresh] | Stopped) -> Timing[Fresh]:
    if isinstance(timing, Stopped):
        raise InputError(f"a process that reads failed: {timing}")
    return timing
