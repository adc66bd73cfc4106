"""Made-up sources on disk: one for each kind of file, as many shards as make the size.

All shards of a source are links to one file: what is measured is decompressing and decoding, not the disk.
"""

import gzip
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import zstandard

_SHARD_BYTES = 1 << 25  # of text
_DOCUMENT_WORDS = 400
_NUM_WORDS = 20_000  # that differ


def made_up_texts(seed: int, num_bytes: int) -> Iterator[str]:
    """Documents of words that are as unevenly frequent as those of a language, so that they compress like one."""
    rng = np.random.default_rng(seed)
    letters, lengths = np.array([*"eeeettaaooinnshrdlucmfwypvbgkqjxz"]), rng.integers(2, 11, _NUM_WORDS)
    words = np.array(["".join(rng.choice(letters, length)) for length in lengths], object)
    share = 1 / np.arange(1, _NUM_WORDS + 1)
    made = 0
    while made < num_bytes:
        drawn = rng.choice(_NUM_WORDS, (256, _DOCUMENT_WORDS), p=share / share.sum())
        for row in drawn:
            text = " ".join(words[row])
            yield f"{text}.\n"
            made += len(text) + 2
            if made >= num_bytes:
                return


def _lines(texts: list[str]) -> bytes:
    records = ({"id": n, "text": text, "meta": {"url": f"https://x.org/{n}"}} for n, text in enumerate(texts))
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def _write_parquet(path: Path, texts: list[str]) -> None:
    table = pyarrow.table({"id": list(range(len(texts))), "text": texts})
    pyarrow.parquet.write_table(table, path, compression="zstd", row_group_size=4096)


_WRITERS: dict[str, Callable[[Path, list[str]], Any]] = {
    "jsonl.gz": lambda path, texts: path.write_bytes(gzip.compress(_lines(texts))),
    "jsonl.zst": lambda path, texts: path.write_bytes(zstandard.compress(_lines(texts), 3)),
    "parquet": _write_parquet,
}
KINDS = tuple(_WRITERS)


def plain(path: Path, kind: str) -> None:
    """Decompress a file, and nothing else."""
    if kind == "parquet":
        for _ in pyarrow.parquet.ParquetFile(path).iter_batches(1024, columns=["text"]):
            pass
        return
    with gzip.open(path) if kind == "jsonl.gz" else zstandard.open(path) as stream:
        while stream.read(1 << 20):
            pass


def make(folder: Path, gigabytes: float) -> dict[str, tuple[int, int, int]]:
    """Write a folder for each kind, with equally much text; by kind the shards, the bytes of text and of files."""
    made = {}
    for seed, kind in enumerate(KINDS):
        total = int(gigabytes * 1e9) // len(KINDS)
        count = max(round(total / _SHARD_BYTES), 1)
        texts = list(made_up_texts(seed, total // count))
        place = folder / kind.replace(".", "_")
        place.mkdir(parents=True)
        first = place / f"shard-00000.{kind}"
        _WRITERS[kind](first, texts)
        for number in range(1, count):
            path = place / f"shard-{number:05}.{kind}"
            try:
                os.link(first, path)
            except OSError:  # a file system without links
                shutil.copyfile(first, path)
        made[kind] = count, count * sum(map(len, texts)), count * first.stat().st_size
    return made


def make_target(path: Path) -> None:
    """A target for the plan of a run on these sources."""
    path.write_bytes(_lines(list(made_up_texts(len(KINDS), 200_000))))
