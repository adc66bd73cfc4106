"""Several processes read one mixture: each its shards of every large source, which then lie in the store of documents.

The store must be in a folder that all processes see. Otherwise, each reads everything.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import jax

from experiments.harness.processes import is_first, several, together
from mixmin_jax.data.text.reading import Limits, Reading, is_shared, join_parts, read_part
from mixmin_jax.data.text.shards import expand, find_shards, stem
from mixmin_jax.data.text.sources import list_sources
from mixmin_jax.data.text.stored_documents import store_folder
from mixmin_jax.data.tfds_builders import TFDS_PREFIX


def share_reading(
    sources: Sequence[str], targets: Sequence[str], field: str, limits: Limits, info: Path | None = None
) -> None:
    """Read large sources and targets with all processes, so that `read_text` finds them in the store.

    What is kept is what one process would keep. Raises InputError as `read_text` does.
    """
    if not several() or not sources:
        return
    with together():
        readings = large_readings(sources, targets, field, limits, info)
        read_parts(readings, jax.process_index(), jax.process_count())
    with together():
        missing = [reading.name for reading in readings if is_first() and not join_parts(reading, jax.process_count())]
    if missing:
        print(
            f"every process reads all of {', '.join(missing)}: {store_folder()} is not a folder that all processes see;"
            " set XDG_CACHE_HOME to one",
            file=sys.stderr,
        )


def large_readings(
    sources: Sequence[str], targets: Sequence[str], field: str, limits: Limits, info: Path | None
) -> list[Reading]:
    """What is worth to be shared, and is not in the store."""
    listed = list_sources(*sources, info=info)
    places = [(name, listed.places[name], listed.fields.get(name, field)) for name in listed.allowed]
    places += [(stem(expand(target)), target, field) for target in targets if not target.startswith(TFDS_PREFIX)]
    found = [
        Reading(name, find_shards(place), its_field, limits)
        for name, place, its_field in places
        if not str(place).startswith(TFDS_PREFIX)
    ]
    return [reading for reading in found if is_shared(reading)]


def read_parts(readings: Sequence[Reading], process: int, processes: int) -> None:
    """Read the shards of one process. Where a source begins follows from those before, so that single files spread."""
    begin = 0
    for reading in readings:
        read_part(reading, (process - begin) % processes, processes)
        begin += len(reading.shards.files)
