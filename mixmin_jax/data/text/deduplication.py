"""Sources without the documents that repeat a target: what a mixture gains is then not leakage."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from mixmin_jax.data.text.documents import Corpus
from mixmin_jax.data.text.overlap import Match, Overlap, find_overlap
from mixmin_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Deduplicated:
    """What is left of the sources, and what was taken out; indices are those of the documents that were given."""

    sources: tuple[Corpus, ...]
    dropped: Mapping[str, tuple[int, ...]]  # {source: documents}, sources that lost none included
    overlaps: tuple[Overlap, ...]  # of each target: all that was found, round after round


def drop_overlap(
    targets: Sequence[Corpus], sources: Sequence[Corpus], words: int = 13, threshold: float = 0.5
) -> Deduplicated:
    """Drop the documents of the sources that hold a target's, until `find_overlap` finds none.

    Each round drops `Match.source_documents`.  A target document that several source documents hold together can need
    more rounds: they go one after the other, the largest part first, until what is left is below the threshold.

    Raises InputError if nothing is left of a source, and what `find_overlap` raises.
    """
    kept_of = {source.name: np.arange(source.num_documents) for source in sources}
    matches_of: list[list[Match]] = [[] for _ in targets]
    left = {source.name: source for source in sources}
    suspects = list(sources)  # a source is searched again as long as it loses documents
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
