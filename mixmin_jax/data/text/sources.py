"""The sources of a mixture, from wherever they are: files, folders, TFDS."""

from collections.abc import Sequence
from pathlib import Path

from mixmin_jax.data.text.documents import SUFFIXES, Corpus, listing, read_corpus, stem
from mixmin_jax.data.tfds import TFDS_PREFIX, read_tfds
from mixmin_jax.errors import InputError

SOURCE_NOTES = "sources.toml"  # licences and notes beside the sources, not a source


def read_any(spec: str | Path, name: str | None = None, field: str = "text") -> Corpus:
    """A corpus from a path (`read_corpus`) or from a TFDS data set `tfds:NAME:FIELD` (`tfds.read_tfds`)."""
    if str(spec).startswith(TFDS_PREFIX):
        return read_tfds(str(spec), name)
    return read_corpus(spec, name, field)


def read_sources(*specs: str | Path, field: str = "text") -> tuple[Corpus, ...]:
    """All sources of a mixture, sorted by name: those in one folder, or one for each of several paths and tfds: specs.

    Every visible entry of a single folder is a source (`sources.toml` aside), named by its stem.

    Raises InputError for a missing folder, fewer than two sources, two sources of one name, two sources with the same
    documents, and whatever `read_any` refuses.
    """
    entries: list[str | Path] = list(specs)
    if len(specs) == 1 and not str(specs[0]).startswith(TFDS_PREFIX):
        folder = Path(specs[0])
        if not folder.exists():
            raise InputError(f"{folder}: no such folder of sources")
        if folder.is_dir():
            entries = [entry for entry in listing(folder) if entry.name != SOURCE_NOTES]
            if not entries:
                raise InputError(
                    f"{folder}: holds no sources; put a file ({', '.join(SUFFIXES)}) or folder there for each"
                )
    if len(entries) < 2:
        found = f"only {entries[0]} was given" if entries else "none was given"
        raise InputError(f"mixing needs at least two sources, {found}")
    paths = [Path(entry) for entry in entries if not str(entry).startswith(TFDS_PREFIX)]
    _refuse_repeats([stem(path) for path in paths], paths)  # before anything large is read
    corpora = sorted((read_any(entry, field=field) for entry in entries), key=lambda corpus: corpus.name)
    _refuse_repeats([corpus.name for corpus in corpora], [corpus.origin for corpus in corpora])
    refuse_identical(corpora)
    return tuple(corpora)


def refuse_identical(corpora: Sequence[Corpus]) -> None:
    """InputError if two corpora hold the same documents: a source given twice, or a source that is also the target."""
    seen: dict[str, Corpus] = {}
    for corpus in corpora:
        other = seen.setdefault(corpus.fingerprint, corpus)
        if other is not corpus:
            raise InputError(
                f"{other.name} ({other.origin}) and {corpus.name} ({corpus.origin}) hold the same documents; "
                "remove one of them"
            )


def _refuse_repeats(names: list[str], places: Sequence[Path | str]) -> None:
    seen: dict[str, Path | str] = {}
    for name, place in zip(names, places, strict=True):
        if name in seen:
            raise InputError(f"two sources are named {name!r}: {seen[name]} and {place}; rename one")
        seen[name] = place
