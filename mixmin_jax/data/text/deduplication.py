"""Remove documents that repeat a target from the sources, so that no mixture gains by leakage."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from mixmin_jax.data.text.documents import Corpus
from mixmin_jax.data.text.overlap import Match, Overlap, find_overlap
from mixmin_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Deduplicated:
    """The sources without the dropped documents. Indices count the documents as given."""

    sources: tuple[Corpus, ...]
    dropped: Mapping[str, tuple[int, ...]]  # {source: documents}; empty tuples for sources that lost none
    overlaps: tuple[Overlap, ...]  # one per target: the matches of all rounds


def drop_overlap(
    targets: Sequence[Corpus], sources: Sequence[Corpus], words: int = 13, threshold: float = 0.5
) -> Deduplicated:
    """Drop source documents that repeat a target's, until `find_overlap` finds none.

    Each round drops `Match.source_documents`. If only several source documents together repeat a target document, they
    go one per round, the largest overlap first, until the rest is below the threshold.

    Args:
        targets, sources: the corpora.
        words, threshold: as in `find_overlap`.

    Raises:
        InputError: nothing is left of a source; errors of `find_overlap`.
    """
    kept_of = {source.name: np.arange(source.num_documents) for source in sources}
    matches_of: list[list[Match]] = [[] for _ in targets]
    left = {source.name: source for source in sources}
    suspects = list(sources)  # sources to search: all, then those that lost documents
    while suspects:
        overlaps = [find_overlap(target, suspects, words, threshold) for target in targets]
        for overlap, matches in zip(overlaps, matches_of, strict=True):
            matches += [_with_indices(match, kept_of[match.source]) for match in overlap.matches]
        searched, suspects = suspects, []
        for source in searched:
            repeats = sorted({i for overlap in overlaps for i in overlap.source_documents(source.name)})
            if repeats:
                is_kept = np.ones(source.num_documents, bool)
                is_kept[repeats] = False
                kept_of[source.name] = kept_of[source.name][is_kept]
                left[source.name] = _without(source, is_kept)
                suspects.append(left[source.name])
    dropped = {
        source.name: tuple(np.setdiff1d(np.arange(source.num_documents), kept_of[source.name]).tolist())
        for source in sources
    }
    names = tuple(left)
    found = (
        Overlap(target.name, names, words, threshold, tuple(matches))
        for target, matches in zip(targets, matches_of, strict=True)
    )
    return Deduplicated(tuple(left.values()), dropped, tuple(found))


def _without(source: Corpus, is_kept: np.ndarray) -> Corpus:
    if not is_kept.any():
        raise InputError(
            f"every document of the source {source.name} ({source.origin}) repeats the target: leave the source out"
        )
    documents = (document for document, keep in zip(source.documents, is_kept, strict=True) if keep)
    return dataclasses.replace(source, documents=tuple(documents))


def _with_indices(match: Match, kept: np.ndarray) -> Match:
    return dataclasses.replace(match, source_documents=tuple(kept[list(match.source_documents)].tolist()))
