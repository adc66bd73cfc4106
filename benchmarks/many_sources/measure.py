"""Makes sources of text, and finds weights of their buckets, each size in a fresh process."""

import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from benchmarks.many_sources import fresh
from benchmarks.many_sources.records import Case, Settings
from benchmarks.reading.shards import made_up_texts
from experiments.filter_and_mix.results import FilterMetrics
from experiments.harness.result_files import read_result
from mixmin_jax.errors import InputError

PER_SOURCE = 10  # buckets of a source, by quality
TARGET_BYTES = 400_000  # half of them to fit weights on
TARGET_SOURCES = 5  # that the target's text is like


def measure(settings: Settings) -> tuple[Case, ...]:
    """One case for each number of buckets. Raises InputError if a process fails."""
    return tuple(_case(number, settings.bucket_bytes) for number in settings.buckets)


def _case(num_buckets: int, bucket_bytes: int) -> Case:
    sources = max(num_buckets // PER_SOURCE, 2)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text_bytes = _make(folder, sources, num_buckets * bucket_bytes // sources)
        command = [sys.executable, "-m", fresh.__name__, str(folder), f"quality:{num_buckets // sources}"]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"JAX_PLATFORMS": "cpu"})
        if done.returncode:
            raise InputError(f"{num_buckets} buckets failed: {(done.stderr.splitlines() or ['no message'])[-1]}")
        seconds, memory = json.loads(done.stdout.splitlines()[-1])
        metrics = read_result(folder / "out" / "target" / "metrics.json", FilterMetrics)
    return Case(
        sources=sources,
        buckets=len(metrics.buckets),
        text_bytes=text_bytes,
        seconds=seconds,
        stages={stage.removesuffix("-target"): took for stage, took in metrics.seconds.items()},
        memory_bytes=memory,
        kept=len(metrics.kept),
        gap=metrics.solved.gap,
        tolerance=metrics.solved.tolerance,
    )


def _make(folder: Path, num_sources: int, source_bytes: int) -> int:
    """Sources, each of its own words, and a target of text like that of some of them. Returns the sources' bytes."""
    (folder / "sources").mkdir()
    target = list[str]()
    likened = min(TARGET_SOURCES, num_sources)
    for seed in range(num_sources):
        texts, size = made_up_texts(seed, source_bytes + TARGET_BYTES), 0
        own = list[str]()
        while size < source_bytes:
            own.append(next(texts))
            size += len(own[-1])
        _write(folder / "sources" / f"source{seed}.jsonl", own)
        if seed < likened:
            target += itertools.islice(texts, TARGET_BYTES // likened // len(own[0]))
    _write(folder / "target.jsonl", target)
    return sum(path.stat().st_size for path in (folder / "sources").iterdir())


def _write(path: Path, texts: Iterable[str]) -> None:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
