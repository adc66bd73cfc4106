"""The sources of a mixture, from files, folders, URLs and TFDS."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from mixmin_jax.data.files import list_folder
from mixmin_jax.data.text.documents import WHOLE, Corpus, Limits, read_corpus
from mixmin_jax.data.text.shards import KNOWN, expand, is_no_data, is_url, stem
from mixmin_jax.data.text.source_notes import (
    SOURCE_NOTES,
    SourceNote,
    SourcePlace,
    allowed_names,
    find_source_file,
    find_source_notes,
    read_source_places,
)
from mixmin_jax.data.text.tfds_text import read_tfds
from mixmin_jax.data.tfds_builders import TFDS_PREFIX, default_name
from mixmin_jax.errors import InputError, list_some, read_each


def read_any(
    spec: str | Path,
    name: str | None = None,
    field: str = "text",
    limits: Limits = WHOLE,
    quality_field: str | None = None,
) -> Corpus:
    """A corpus from a path or URL (`read_corpus`) or a TFDS data set `tfds:NAME:FIELD` (`tfds_text.read_tfds`)."""
    if not str(spec).startswith(TFDS_PREFIX):
        return read_corpus(spec, name, field, limits, quality_field)
    if quality_field is not None:
        raise InputError(f"{spec}: no quality can be read from TFDS; leave out the quality field, or give files")
    return read_tfds(str(spec), name, limits=limits)


@dataclasses.dataclass(frozen=True)
class Listed:
    """The sources that were given, before any of them is read."""

    places: Mapping[str, str | Path]  # of each by name, sorted
    fields: Mapping[str, str]  # that hold their text, where sources.toml says so
    notes: dict[str, SourceNote]  # on all of them; empty without a sources.toml
    left_out: tuple[Path, ...]  # what lies beside them

    @property
    def allowed(self) -> tuple[str, ...]:
        """Those that may be used."""
        return allowed_names(list(self.places), self.notes)


def list_sources(*specs: str | Path, info: Path | None = None) -> Listed:
    """The sources of a mixture. Arguments and errors are those of `read_sources`."""
    file = find_source_file(specs, info)
    places = read_source_places(file) if file else {}
    entries, left_out = _entries(specs, file, places)
    if len(entries) < 2:
        found = f"only {entries[0][1]} was given" if entries else "none was given"
        raise InputError(f"mixing needs at least two sources, {found}")
    seen: dict[str, str | Path] = {}
    for name, entry in entries:
        if name in seen:
            raise InputError(
                f"two sources are named {name!r}: {seen[name]} and {entry}; rename one, or give both names in a"
                f" {SOURCE_NOTES}: [NAME] and below it path = ..."
            )
        seen[name] = entry
    notes = find_source_notes(sorted(seen), specs, info)
    allowed_names(list(seen), notes)  # for its errors
    fields = {name: place.field for name, place in places.items() if place.field is not None}
    return Listed(dict(sorted(seen.items())), fields, notes, tuple(left_out))


def read_sources(
    *specs: str | Path,
    field: str = "text",
    limits: Limits = WHOLE,
    info: Path | None = None,
    quality_field: str | None = None,
) -> tuple[Corpus, ...]:
    """All sources of a mixture that may be used, sorted by name. The others are not read, and need not be there.

    A `sources.toml` (see `source_notes`) may say where the sources lie, which field holds the text of each, and which
    may not be used.

    Args:
        specs: one folder, each visible entry of which is a source with its stem as name (except `sources.toml` and what
            is no data); or several paths, URLs and tfds: specs, one per source; or a `.toml` that lists the sources.
        field: the field or column that holds the text.
        limits: how much is read of each, and what is kept.
        info: a file in place of `sources.toml`.
        quality_field: holds a number for each document of every source (`read_corpus`).

    Raises:
        InputError: a missing folder, fewer than two sources, two sources with the same name or the same documents;
            notes that are wrong, or allow fewer than two; a path on the command line and another one in the notes;
            errors of `read_any`, of all sources at once.
    """
    listed = list_sources(*specs, info=info)

    def read(name: str) -> Corpus:
        return read_any(listed.places[name], name, listed.fields.get(name, field), limits, quality_field)

    corpora = read_each(listed.allowed, read)
    if listed.left_out:
        notice = f"left out, as no data: {list_some([str(path) for path in listed.left_out])}"
        corpora[0] = dataclasses.replace(corpora[0], notices=(notice, *corpora[0].notices))
    refuse_identical(corpora)
    return tuple(corpora)


def _entries(
    specs: Sequence[str | Path], file: Path | None, places: Mapping[str, SourcePlace]
) -> tuple[list[tuple[str, str | Path]], list[Path]]:
    """The sources by name, and what lies beside them."""
    if len(specs) != 1 or str(specs[0]).startswith(TFDS_PREFIX) or is_url(specs[0]):
        given = [(_name(entry), entry) for entry in specs]
        for name, entry in given:
            if name in places and places[name].path is not None:
                raise InputError(
                    f"{file}, [{name}]: its path is {places[name].path}, but {entry} is given too: leave out one of the"
                    f" two, or give --sources {file}"
                )
        return given, []
    folder = Path(expand(specs[0]))
    is_list = folder.suffix.lower() == ".toml"
    folder = folder.parent if is_list else folder
    if not folder.exists():
        raise InputError(f"{folder}: no such folder of sources")
    if not folder.is_dir():
        return [(stem(folder), folder)], []
    entries = [entry for entry in list_folder(folder) if entry.name != SOURCE_NOTES]
    left_out = [entry for entry in entries if is_no_data(entry.name)]
    found: list[tuple[str, str | Path]] = [(stem(entry), entry) for entry in entries if entry not in left_out]
    if is_list or any(place.path for place in places.values()):
        lying = dict(found)
        for name, place in places.items():
            if place.path is None and name not in lying:
                raise InputError(f"{file}, [{name}]: no path, and nothing of this name lies in {folder}")
        return [(name, place.path or lying[name]) for name, place in places.items()], []
    if not found:
        raise InputError(f"{folder}: holds no sources; put a file ({KNOWN}) or folder there for each")
    return found, left_out


def _name(spec: str | Path) -> str:
    if str(spec).startswith(TFDS_PREFIX):
        return default_name(str(spec))
    return stem(str(spec) if is_url(spec) else expand(spec))


def refuse_identical(corpora: Sequence[Corpus]) -> None:
    """Raise InputError if two corpora hold the same documents: a source given twice, or a source that is the target."""
    seen: dict[str, Corpus] = {}
    pairs = [(seen.setdefault(corpus.fingerprint, corpus), corpus) for corpus in corpora]
    if wrong := [
        f"{a.name} ({a.origin}) and {b.name} ({b.origin}) hold the same documents; remove one of them"
        for a, b in pairs
        if a is not b
    ]:
        raise InputError(*wrong)
