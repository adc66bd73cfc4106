"""From files and folders to inputs of a model, a batch at a time.

Axes: N inputs, W windows of a document, L bytes of a window, S image side, C channels.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mixmin_jax.data.files import refuse_odd_name
from mixmin_jax.data.images.folders import SUFFIXES
from mixmin_jax.data.series.sources import SeriesReading, read_one_file
from mixmin_jax.data.text.formats import Unusable, read_shard
from mixmin_jax.data.text.shards import Shard, find_shards, stem
from mixmin_jax.errors import InputError, list_some
from mixmin_jax.trained.inputs import prepare_series, read_image, read_windows
from mixmin_jax.trained.model import TrainedModel


class File(NamedTuple):
    """A file to predict."""

    path: str
    label: str  # what the folder that was given calls it: the first name in it, or the name of a file's folder
    shard: Shard | None = None  # of text


class Example(NamedTuple):
    """One thing to predict."""

    file: File
    document: int  # number in its file, also of a series, from 0 on; 0 for images
    inputs: np.ndarray | str  # 1xSxSxC, WxL of a document, or 1xSxC of a series; or why there is none
    label: str | None = None  # of a series that is judged


def find_files(kind: str, given: Sequence[Path]) -> list[File]:
    """The files to predict, in order. Raises InputError for a path that is missing, or a folder without such files."""
    find = {"images": _images, "text": _texts, "series": _series}[kind]
    files = [file for path in given for file in find(path)]
    for file in files:
        refuse_odd_name(file.path)
    return files


def _images(path: Path) -> Iterator[File]:
    if not path.is_dir():
        if not path.is_file():
            raise InputError(f"{path}: {'no file' if path.exists() else 'no such file or folder'}")
        yield File(str(path), path.absolute().parent.name)
        return
    found = sorted(entry for entry in path.rglob("*") if entry.name.lower().endswith(SUFFIXES) and entry.is_file())
    inside = {entry: entry.relative_to(path).parts for entry in found}
    images = [entry for entry, parts in inside.items() if not any(part.startswith(".") for part in parts)]
    if not images:
        raise InputError(f"{path}: no image in it; known are {', '.join(SUFFIXES)}")
    for entry in images:
        yield File(str(entry), inside[entry][0] if len(inside[entry]) > 1 else path.resolve().name)


def _series(path: Path) -> Iterator[File]:
    if not path.is_file():
        raise InputError(f"{path}: {'name its files of series' if path.exists() else 'no such file'}")
    yield File(str(path), path.stem)


def _texts(path: Path) -> Iterator[File]:
    for shard in find_shards(path).files:
        place = Path(shard.place)
        inside = place.relative_to(path).parts[0] if shard.name else place.name
        yield File(shard.place, stem(path / inside if shard.name else place), shard)


def image_examples(model: TrainedModel, files: Sequence[File], convert: bool, batch_size: int) -> Iterator[Example]:
    """The images, read by threads, a batch ahead at most."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for first in range(0, len(files), batch_size):
            part = files[first : first + batch_size]
            read = pool.map(lambda file: read_image(model, Path(file.path), convert), part)
            for file, found in zip(part, read, strict=True):
                yield Example(file, 0, found if isinstance(found, str) else found[None])


def text_examples(model: TrainedModel, files: Sequence[File], field: str) -> Iterator[Example]:
    """The documents of all files; a file of many is read as a stream."""
    for file in files:
        assert file.shard is not None
        for number, item in enumerate(read_shard(file.shard, field)):
            if isinstance(item, Unusable):
                yield Example(file, number, f"{item.where.removeprefix(', ')}: {item.reason}".removeprefix(": "))
                continue
            windows_WxL = read_windows(model, item)
            short = f"document {number}: {len(item)} bytes, and the model reads windows of {windows_WxL.shape[1]}"
            yield Example(file, number, windows_WxL if len(windows_WxL) else short)


def series_examples(
    model: TrainedModel, files: Sequence[File], reading: SeriesReading, judged: bool
) -> Iterator[Example]:
    """The series of all files. Raises InputError for a label that the model does not know, if they are judged."""
    for file in files:
        raw = read_one_file(Path(file.path), reading, judged)
        for number, (one_TxC, label) in enumerate(zip(raw.series, raw.labels, strict=True)):
            if judged and label not in model.classes:
                raise InputError(
                    f"{raw.place(number)}: --labels-from-files: {label} is no class of the model, which knows"
                    f" {list_some(model.classes)}"
                )
            found = prepare_series(model, one_TxC, raw.places[number])
            yield Example(file, number, found if isinstance(found, str) else found[None], label if judged else None)


def batches(examples: Iterator[Example], most: int) -> Iterator[list[Example]]:
    """Examples in lists of `most` inputs or a little more; those without inputs count as one."""
    batch: list[Example] = []
    total = 0
    for example in examples:
        batch.append(example)
        total += 1 if isinstance(example.inputs, str) else len(example.inputs)
        if total >= most:
            yield batch
            batch, total = [], 0
    if batch:
        yield batch
