"""The data sets of a run as records for its result files: what was read, and how to read it again.

In a `DataSet`, `place` is the path or name as given, and paths are relative to the folder where the run was started.
`reader` and `options` say how to read it again:

    reader              place                           bytes and sha256 are of
    text                a file, a folder, a URL, tfds:  the documents, in order (`Corpus.fingerprint`)
    installed text      where it came from              the same
    images              as `read_images` takes it       pixels, and pixels with labels (`ImageSet.fingerprint`)
    series              as `read_series` takes it       values, and values with labels (`SeriesSet.fingerprint`)
    file                a path                          the file
    bundled molecules   where it came from              RDKit's file
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from experiments.harness.result_files import file_fingerprint
from experiments.reporting.schema import DataSet
from mixmin_jax.data.images.folders import FOLDER_PREFIX
from mixmin_jax.data.images.image_sets import Images
from mixmin_jax.data.images.sources import read_images
from mixmin_jax.data.molecules.assay_tables import AssayTable
from mixmin_jax.data.series.series_sets import SeriesSets
from mixmin_jax.data.series.sources import FILE_PREFIX, SeriesReading, read_series
from mixmin_jax.data.text.documents import Corpus
from mixmin_jax.data.text.installed_text import installed_sources, installed_target
from mixmin_jax.data.text.reading import MAX_UNREADABLE, Limits
from mixmin_jax.data.text.shards import is_url
from mixmin_jax.data.text.sources import read_any
from mixmin_jax.data.tfds_builders import TFDS_PREFIX
from mixmin_jax.errors import InputError

Loaded = dict[tuple[str, ...], Any]  # what `read_again` has read


def text_record(role: str, corpus: Corpus, field: str | None) -> DataSet:
    """Of documents; `field` is the one that text was read from, None for text of the Python installation."""
    reader, options = "text", dict[str, Any](field=corpus.field or field)
    if field is None:
        reader, options = "installed text", {}
    if corpus.limits.max_unreadable != MAX_UNREADABLE:
        options["max_unreadable"] = corpus.limits.max_unreadable
    counts = {"documents": corpus.num_documents, "empty_documents_skipped": corpus.num_skipped}
    if corpus.whole:
        options |= {"source_bytes": corpus.limits.max_bytes, "seed": corpus.limits.seed}
        counts |= {"documents_in_all": corpus.whole.documents, "bytes_in_all": corpus.whole.bytes}
    return DataSet(role, corpus.name, corpus.origin, reader, options, counts, corpus.num_bytes, corpus.fingerprint)


def image_records(
    images: Images, spec: str, size: int | None, *, unlabeled: str | None = None, follow_links: bool = False
) -> list[DataSet]:
    """Of a training and a test set, and of images without labels; all else is what `read_images` was given."""
    given: dict[str, Any] = {} if unlabeled is None else {"unlabeled": unlabeled}
    given |= {"follow_links": True} if follow_links else {}
    sets = {"train": images.train, "test": images.test}
    sets |= {"unlabeled": images.unlabeled} if images.unlabeled else {}
    return [
        DataSet(
            role="images without labels" if part == "unlabeled" else f"images to {part} on",
            name=found.name,
            place=spec,
            reader="images",
            options={"size": size, "part": part} | given,
            counts={"images": found.num_images, "skipped": found.num_skipped},
            bytes=found.images_NxHxWxC.nbytes,
            sha256=found.fingerprint,
        )
        for part, found in sets.items()
    ]


def series_records(series: SeriesSets, spec: str, reading: SeriesReading) -> list[DataSet]:
    """Of a training and a test set; `spec` and `reading` are what `read_series` was given."""
    return [
        DataSet(
            role=f"series to {part} on",
            name=found.name,
            place=spec,
            reader="series",
            options={**vars(reading), "part": part},
            counts={"series": found.num_series},
            bytes=found.series_NxSxC.nbytes,
            sha256=found.fingerprint,
        )
        for part, found in (("train", series.train), ("test", series.test))
    ]


def table_record(table: AssayTable, path: Path | None) -> DataSet:
    """Of a table of assays; `path` is None for the molecules that RDKit ships."""
    name, place, reader = "molecules that RDKit ships", table.origin, "bundled molecules"
    if path is not None:
        name, place, reader = path.name, str(path), "file"
    counts = {"rows": len(table.smiles), "assays": len(table.assays)}
    return DataSet("assays", name, place, reader, {}, counts, **table.fingerprint)


def file_record(role: str, path: Path, counts: Mapping[str, int]) -> DataSet:
    """Of a file as it is."""
    return DataSet(role, path.name, str(path), "file", {}, dict(counts), **file_fingerprint(path))


def path_of(record: DataSet) -> Path | None:
    """Where the data set lies; None for one that comes with a package or from TFDS."""
    if record.reader == "images":
        in_folder = record.place.startswith(FOLDER_PREFIX)
        return Path(record.place.removeprefix(FOLDER_PREFIX)) if in_folder else None
    if record.reader == "series":
        found = re.match(f"({FOLDER_PREFIX}|{FILE_PREFIX})(.+)", record.place)
        return Path(found[2]) if found else None
    elsewhere = record.place.startswith(TFDS_PREFIX) or is_url(record.place)
    on_disk = record.reader in ("text", "file") and not elsewhere
    return Path(record.place) if on_disk else None


def lacks_secrets(record: DataSet) -> bool:
    """Whether a part of its URL was left out of the record."""
    return is_url(record.place) and ("://...@" in record.place or record.place.endswith("?..."))


def read_again(record: DataSet, loaded: Loaded) -> DataSet:
    """The record with `counts`, `bytes` and `sha256` of today; a file's `counts` stay, which its bytes determine.

    `loaded` keeps what several records share, from call to call.

    Raises InputError or OSError for a data set that is not there or cannot be read, ValueError for an unknown reader.
    """
    place, reader, options = record.place, record.reader, record.options
    if reader in ("text", "installed text"):
        return text_record(record.role, corpus_again(record, loaded), options.get("field"))
    if reader == "images":
        size = options["size"]
        given = {name: options[name] for name in ("unlabeled", "follow_links") if name in options}
        images = _once(
            loaded,
            (reader, place, str(size), str(given)),
            lambda: image_records(read_images(place, size, **given), place, size, **given),
        )
        return next(found for found in images if found.options["part"] == options["part"])
    if reader == "series":
        how = SeriesReading(**{name: value for name, value in options.items() if name != "part"})
        key = (reader, place, str(how))
        series = _once(loaded, key, lambda: series_records(read_series(place, how), place, how))
        return next(found for found in series if found.options["part"] == options["part"])
    if reader == "bundled molecules":
        from mixmin_jax.data.molecules.bundled import bundled_assays  # needs RDKit, an extra

        return table_record(bundled_assays(), None)
    if reader == "file":
        return dataclasses.replace(record, **file_fingerprint(Path(place)))
    raise ValueError(f"no reader is called {reader!r}")


def corpus_again(record: DataSet, loaded: Loaded) -> Corpus:
    """The documents of a text. Arguments and errors are those of `read_again`."""
    options = record.options
    if lacks_secrets(record):
        raise InputError(
            f"{record.place}: it cannot be read again, because the query or the user of the URL is not on record"
        )
    if record.reader == "text":
        unreadable = options.get("max_unreadable", MAX_UNREADABLE)
        limits = Limits(unreadable, options.get("source_bytes"), options.get("seed", 0))
        return read_any(record.place, record.name, options["field"], limits)
    corpora = _once(loaded, (record.reader,), lambda: (*installed_sources(), installed_target()))
    return {corpus.name: corpus for corpus in corpora}[record.name]


def _once(loaded: Loaded, key: tuple[str, ...], load: Callable[[], Any]) -> Any:
    if key not in loaded:
        loaded[key] = load()
    return loaded[key]
