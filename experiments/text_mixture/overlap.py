"""Near-duplicates of a target in the sources, as stages."""

from typing import Any

from experiments.harness.stages import Product, Running, Stages
from experiments.text_mixture.data import NGRAM_SHARE, NGRAM_WORDS, Target
from experiments.text_mixture.plan import Plan
from mixmin_jax.data.text.overlap import Match, find_overlap


def overlap_stage(plan: Plan, target: Target, stages: Stages) -> Product:
    """Near-duplicates of the target's documents in the sources: all of them, the largest share first.

    With --drop-duplicates nothing is left to find, and `dropped` has what was found before: the documents that each
    source lost, and this target's part in that (`matches`); all counted as they were read.
    """
    inputs = {
        corpus.name: {
            "source": corpus.fingerprint,
            "target": target.corpus.fingerprint,
            "words": NGRAM_WORDS,
            "share": NGRAM_SHARE,
        }
        for corpus in plan.sources
    }

    def compute(_stage: Running, missing: list[str]) -> list[Product]:
        corpora = [corpus for corpus in plan.sources if corpus.name in missing]
        overlap = find_overlap(target.corpus, corpora, words=NGRAM_WORDS, threshold=NGRAM_SHARE)
        return [
            {
                "repeated": overlap.num_matched[source],
                "matches": [_match_record(match) for match in overlap.matches if match.source == source],
            }
            for source in missing
        ]

    each = dict(stages.run_each(f"overlap-{target.name}", inputs, compute, target=target.name))
    matches = [match for source in plan.names for match in each[source]["matches"]]
    product = {
        "ngram": NGRAM_WORDS,
        "threshold": NGRAM_SHARE,
        "sources": {source: each[source]["repeated"] for source in plan.names},
        "matches": sorted(matches, key=lambda match: (-match["share"], match["document"], match["source"])),
    }
    found = plan.care.deduplicated
    if found is None:
        return product
    (own,) = (overlap for overlap in found.overlaps if overlap.target == target.name)
    dropped = {
        "sources": {name: list(documents) for name, documents in found.dropped.items()},
        "matches": [_match_record(match) for match in own.matches],
    }
    return product | {"dropped": dropped}


def _match_record(match: Match) -> dict[str, Any]:
    return {
        "document": match.target_document,
        "source": match.source,
        "share": match.share,
        "source_documents": list(match.source_documents),
        "excerpt": match.excerpt,
    }
