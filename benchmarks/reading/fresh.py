"""Reads, decompresses or plans a run in a fresh process, which says how long that took and its largest memory.

python -m benchmarks.reading.fresh KIND FOLDER WHAT        # one such process; `fresh` starts it
"""

import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Literal, NamedTuple

from benchmarks.machine import peak_memory
from benchmarks.reading.shards import plain
from benchmarks.timing import Stopped

What = Literal["plain", "reading", "dry_run"]
TARGET = "target.jsonl"  # beside the folder of sources


class Fresh(NamedTuple):
    seconds: float  # without starting and importing
    memory: int | None  # bytes at the peak, in all; None where the system does not tell


def fresh(what: What, folder: Path, kind: str, source_bytes: int, store: Path) -> Fresh:
    """Do it in another process, which keeps samples of sources in `store`. Raises Stopped if it fails."""
    command = [sys.executable, "-m", __spec__.name, what, str(folder), kind, str(source_bytes)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"XDG_CACHE_HOME": str(store), "JAX_PLATFORMS": "cpu"}
    )
    if done.returncode:
        raise Stopped((done.stderr.splitlines() or ["no message"])[-1])
    return Fresh(*json.loads(done.stdout.splitlines()[-1]))


def fresh_store(what: What, folder: Path, kind: str, source_bytes: int) -> Fresh:
    """The same with nothing kept from earlier."""
    with tempfile.TemporaryDirectory() as store:
        return fresh(what, folder, kind, source_bytes, Path(store))


def _do(what: str, folder: Path, kind: str, source_bytes: int) -> float:
    if what == "plain":
        start = time.perf_counter()
        for path in sorted(folder.iterdir()):
            plain(path, kind)
    elif what == "reading":
        from mixmin_jax.data.text.documents import Limits, read_corpus

        start = time.perf_counter()
        read_corpus(folder, limits=Limits(max_bytes=source_bytes))
    else:
        from experiments.text_mixture.__main__ import main
        from experiments.text_mixture.config import TextMixture

        target = str(folder.parent / TARGET)
        start = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            main(TextMixture(sources=(str(folder),), target=(target,), source_bytes=source_bytes, dry_run=True))
    return time.perf_counter() - start


if __name__ == "__main__":
    what, place, kind, size = sys.argv[1:]
    print(json.dumps([_do(what, Path(place), kind, int(size)), peak_memory()]))
