"""What goes into the mixture and into natural proportions: languages, repeats, personal data, licenses.

Axes: K buckets, S sources, L languages, P kinds of personal data.
"""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float

from experiments.filter_and_mix.cutting import Cutting
from mixmin_jax.data.text.languages import languages
from mixmin_jax.data.text.near_duplicates import near_duplicates
from mixmin_jax.data.text.personal_data import personal_data

DOCUMENTS = 4000  # at most, over all buckets, whose language is looked at
BYTES = 16_000_000  # at most, over all buckets, that are searched for repeats; for personal data a quarter
LEAST_SHARE = 0.001  # of a language that is listed


@dataclasses.dataclass(frozen=True)
class Pair:
    """A number of natural proportions, and of the mixture."""

    natural: float
    mixture: float


@dataclasses.dataclass(frozen=True)
class Contents:
    """Shares of bytes, from samples of every bucket."""

    languages: dict[str, Pair]
    by_script: bool  # no classifier was installed: these are scripts
    repeated: Pair  # near-duplicates of earlier documents of their bucket
    repeated_across: dict[str, dict[str, int]]  # documents of a source that have near-duplicates in another
    personal: dict[str, Pair]  # occurrences in a million bytes
    licences: dict[str, Pair]
    documents: int  # that were searched for repeats


def look_into(cutting: Cutting) -> dict[str, Any]:
    """What every bucket holds, as JSON: the product of a stage."""
    parts, count = cutting.parts, len(cutting.names)
    spoken = languages(parts, max_documents=max(DOCUMENTS // count, 5))
    repeats = near_duplicates(parts, max_bytes=BYTES // count)
    personal = personal_data(parts, max_bytes=BYTES // 4 // count)
    owner_KxS = np.equal.outer(cutting.owner_K, np.arange(len(cutting.sources))).astype(int)
    return {
        "languages": list(spoken.languages),
        "by_script": spoken.by_script,
        "share_KxL": spoken.share_GxL,
        "repeated_K": repeats.share_of_bytes_G,
        "across_SxS": owner_KxS.T @ repeats.count_GxG @ owner_KxS,
        "kinds": list(personal.kinds),
        "rate_KxP": personal.rate_GxP,
        "documents": int(repeats.num_documents_G.sum()),
    }


def contents(
    found: dict[str, Any], cutting: Cutting, weight_K: Float[np.ndarray, " K"], licences: dict[str, str]
) -> Contents:
    """Of natural proportions and of a mixture.

    Args:
        found: by `look_into`.
        cutting: the buckets.
        weight_K: the mixture.
        licences: of each source.
    """
    both_2xK = np.stack([cutting.tokens_K / cutting.tokens_K.sum(), weight_K])

    def pairs(names: list[str], value_KxV: np.ndarray) -> dict[str, Pair]:
        return {name: Pair(*map(float, pair)) for name, pair in zip(names, (both_2xK @ value_KxV).T, strict=True)}

    names = [source.name for source in cutting.sources]
    spoken = pairs(found["languages"], found["share_KxL"])
    kinds = list(dict.fromkeys(licences[name] for name in names))
    licence_KxV = np.array([[licences[owner] == kind for kind in kinds] for owner in cutting.owners], float)
    return Contents(
        languages={n: pair for n, pair in spoken.items() if max(pair.natural, pair.mixture) >= LEAST_SHARE},
        by_script=found["by_script"],
        repeated=pairs(["repeated"], found["repeated_K"][:, None])["repeated"],
        repeated_across={
            one: {other: int(n) for other, n in zip(names, row, strict=True) if other != one and n}
            for one, row in zip(names, found["across_SxS"], strict=True)
        },
        personal=pairs(found["kinds"], found["rate_KxP"]),
        licences=pairs(kinds, licence_KxV),
        documents=found["documents"],
    )
