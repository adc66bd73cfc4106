"""The sources of a mixture, from files, folders and TFDS."""

from collections.abc import Sequence
from pathlib import Path

from mixmin_jax.data.files import list_folder
from mixmin_jax.data.text.documents import SUFFIXES, Corpus, read_corpus, stem
from mixmin_jax.data.text.tfds_text import read_tfds
from mixmin_jax.data.tfds_builders import TFDS_PREFIX, default_name
from mixmin_jax.errors import InputError

SOURCE_NOTES = "sources.toml"  # the file of `source_notes` in a folder of sources; it is no source


def read_any(spec: str | Path, name: str | None = None, field: str = "text") -> Corpus:
    """A corpus from a path (`read_corpus`) or from a TFDS data set `tfds:NAME:FIELD` (`tfds_text.read_tfds`)."""
    if str(spec).startswith(TFDS_PREFIX):
        return read_tfds(str(spec), name)
    return read_corpus(spec, name, field)


def read_sources(*specs: str | Path, field: str = "text") -> tuple[Corpus, ...]:
    """All sources of a mixture, sorted by name.

    Args:
        specs: one folder, each visible entry of which is a source with its stem as name (except `sources.toml`); or
            several paths and tfds: specs, one per source.
        field: the field that holds the text in JSON lines.

    Raises:
        InputError: a missing folder, fewer than two sources, two sources with the same name or the same documents;
            errors of `read_any`.
    """
    entries: list[str | Path] = list(specs)
    if len(specs) == 1 and not str(specs[0]).startswith(TFDS_PREFIX):
        folder = Path(specs[0])
        if not folder.exists():
            raise InputError(f"{folder}: no such folder of sources")
        if folder.is_dir():
            entries = [entry for entry in list_folder(folder) if entry.name != SOURCE_NOTES]
            if not entries:
                raise InputError(
                    f"{folder}: holds no sources; put a file ({', '.join(SUFFIXES)}) or folder there for each"
                )
    if len(entries) < 2:
        found = f"only {entries[0]} was given" if entries else "none was given"
        raise InputError(f"mixing needs at least two sources, {found}")
    seen: dict[str, str | Path] = {}
    for entry in entries:  # before anything large is read
        name = default_name(str(entry)) if str(entry).startswith(TFDS_PREFIX) else stem(Path(entry))
        if name in seen:
            raise InputError(f"two sources are named {name!r}: {seen[name]} and {entry}; rename one")
        seen[name] = entry
    corpora = sorted((read_any(entry, field=field) for entry in entries), key=lambda corpus: corpus.name)
    refuse_identical(corpora)
    return tuple(corpora)


def refuse_identical(corpora: Sequence[Corpus]) -> None:
    """Raise InputError if two corpora hold the same documents: a source given twice, or a source that is the target."""
    seen: dict[str, Corpus] = {}
    for corpus in corpora:
        other = seen.setdefault(corpus.fingerprint, corpus)
        if other is not corpus:
            raise InputError(
                f"{other.name} ({other.origin}) and {corpus.name} ({corpus.origin}) hold the same documents; "
                "remove one of them"
            )
