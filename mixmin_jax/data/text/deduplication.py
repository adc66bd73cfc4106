"""Remove documents that repeat a target from the sources, so that no mixture gains by leakage."""

import dataclasses
from collections.abc import Mapping, Sequence

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
    kept = {source.name: list(range(source.num_documents)) for source in sources}
    matches_of: list[list[Match]] = [[] for _ in targets]
    suspects = list(sources)  # sources to search: all, then those that lost documents
    while suspects:
        repeats = set()
        for target, matches in zip(targets, matches_of, strict=True):
            for match in find_overlap(target, suspects, words, threshold).matches:
                documents = tuple(kept[match.source][i] for i in match.source_documents)
                matches.append(dataclasses.replace(match, source_documents=documents))
                repeats |= {(match.source, i) for i in documents}
        suspects = []
        for source in sources:
            rest = [i for i in kept[source.name] if (source.name, i) not in repeats]
            if len(rest) == len(kept[source.name]):
                continue
            if not rest:
                where = f"{source.name} ({source.origin})"
                raise InputError(f"every document of the source {where} repeats the target: leave the source out")
            kept[source.name] = rest
            suspects.append(source.take(rest))
    dropped = {s.name: tuple(sorted(set(range(s.num_documents)).difference(kept[s.name]))) for s in sources}
    overlaps = (
        Overlap(target.name, tuple(kept), words, threshold, tuple(matches))
        for target, matches in zip(targets, matches_of, strict=True)
    )
    left = (source.take(kept[source.name]) if dropped[source.name] else source for source in sources)
    return Deduplicated(tuple(left), dropped, tuple(overlaps))
