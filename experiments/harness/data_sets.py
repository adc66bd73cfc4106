"""The data sets of a run as records for its result files: what was read, and how to read it again.

A record holds `role` (what the run used it for), `name`, `place` (path or name as given), `reader` and `options` (how
to read it again), `counts`, `bytes` and `sha256`.  Paths are relative to the folder where the run was started.

    reader              place                           bytes and sha256 are of
    text                a file, a folder or tfds:...    the documents, in order (`Corpus.fingerprint`)
    installed text      where it came from              the same
    images              as `read_images` takes it       pixels, and pixels with labels (`ImageSet.fingerprint`)
    file                a path                          the file
    bundled molecules   where it came from              RDKit's file
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.harness.result_files import file_fingerprint
from mixmin_jax.data.images.folders import FOLDER_PREFIX
from mixmin_jax.data.images.image_sets import Images
from mixmin_jax.data.images.sources import read_images
from mixmin_jax.data.molecules.assay_tables import AssayTable
from mixmin_jax.data.text.documents import Corpus
from mixmin_jax.data.text.installed_text import installed_sources, installed_target
from mixmin_jax.data.text.sources import read_any
from mixmin_jax.data.tfds_builders import TFDS_PREFIX

Record = dict[str, Any]
Loaded = dict[tuple[str, ...], Any]  # what `read_again` has read


def text_record(role: str, corpus: Corpus, field: str | None) -> Record:
    """Of documents; `field` is the one that JSON lines were read from, None for text of the Python installation."""
    options = {} if field is None else {"field": field}
    return _record(role, corpus.name, corpus.origin, "installed text" if field is None else "text", options) | {
        "counts": {"documents": corpus.num_documents, "empty_documents_skipped": corpus.num_skipped},
        "bytes": corpus.num_bytes,
        "sha256": corpus.fingerprint,
    }


def image_records(images: Images, spec: str, size: int | None) -> list[Record]:
    """Of a training and a test set; `spec` and `size` are what `read_images` was given."""
    return [
        _record(f"images to {'train' if part == 'train' else 'test'} on", found.name, spec, "images", options)
        | {
            "counts": {"images": found.num_images, "skipped": found.num_skipped},
            "bytes": found.images_NxHxWxC.nbytes,
            "sha256": found.fingerprint,
        }
        for part, found in (("train", images.train), ("test", images.test))
        for options in [{"size": size, "part": part}]
    ]


def table_record(table: AssayTable, path: Path | None) -> Record:
    """Of a table of assays; `path` is None for the molecules that RDKit ships."""
    name, reader = ("molecules that RDKit ships", "bundled molecules") if path is None else (path.name, "file")
    counts = {"rows": len(table.smiles), "assays": len(table.assays)}
    return _record("assays", name, table.origin if path is None else str(path), reader, {}) | {
        "counts": counts,
        "bytes": table.fingerprint["bytes"],
        "sha256": table.fingerprint["sha256"],
    }


def file_record(role: str, path: Path, counts: Mapping[str, int]) -> Record:
    """Of a file as it is."""
    return _record(role, path.name, str(path), "file", {}) | {"counts": dict(counts)} | file_fingerprint(path)


def path_of(record: Mapping[str, Any]) -> Path | None:
    """Where the data set lies; None for one that comes with a package or from TFDS."""
    place, reader = record["place"], record["reader"]
    if reader == "images":
        return Path(place.removeprefix(FOLDER_PREFIX)) if place.startswith(FOLDER_PREFIX) else None
    return Path(place) if reader in ("text", "file") and not place.startswith(TFDS_PREFIX) else None


def read_again(record: Mapping[str, Any], loaded: Loaded) -> Record:
    """What `counts`, `bytes` and `sha256` are now; counts that need more than one look are left out.

    `loaded` keeps what several records share, from call to call.

    Raises InputError or OSError for a data set that is not there or cannot be read, ValueError for an unknown reader.
    """
    place, reader, options = record["place"], record["reader"], record["options"]
    if reader == "text":
        return text_record(record["role"], read_any(place, record["name"], options["field"]), options["field"])
    if reader == "installed text":
        corpora: Sequence[Corpus] = _once(loaded, (reader,), lambda: (*installed_sources(), installed_target()))
        return text_record(record["role"], {corpus.name: corpus for corpus in corpora}[record["name"]], None)
    if reader == "images":
        size = options["size"]
        images = _once(loaded, (reader, place, str(size)), lambda: image_records(read_images(place, size), place, size))
        return next(found for found in images if found["options"]["part"] == options["part"])
    if reader == "bundled molecules":
        from mixmin_jax.data.molecules.bundled import bundled_assays  # needs RDKit, an extra

        return table_record(bundled_assays(), None)
    if reader == "file":
        return file_record(record["role"], Path(place), {})
    raise ValueError(f"no reader is called {reader!r}")


def _record(role: str, name: str, place: str, reader: str, options: Mapping[str, Any]) -> Record:
    return {"role": role, "name": name, "place": place, "reader": reader, "options": dict(options)}


def _once(loaded: Loaded, key: tuple[str, ...], load: Any) -> Any:
    if key not in loaded:
        loaded[key] = load()
    return loaded[key]
