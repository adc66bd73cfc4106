"""How good documents are for a target, where the data brings no score of their quality.

    quality_d = min(rank of log p_target(d) / bytes_d,  rank of log p_all(d) / bytes_d,  rank of compressed_d / bytes_d)

Ranks are shares of all documents, from 0 (the worst) to 1. Each finds noise that the others miss, so the worst decides:

    log p_target    byte n-grams of the target: low for other scripts and for garbled text
    log p_all       those of the target and of all sources: low for what is like neither, such as a rare language. A
                    document is scored with the half of the sources in which it is not, so that it does not vouch for
                    itself, and neither do its copies.
    compressed      low for what repeats itself, such as boilerplate, which may look like any target

DSIR's importance weights (Xie et al., arXiv:2302.03169), log p_target - log p_source, are something else: a source
predicts its own noise no better than a target does, so the difference hides it.

Axes: D documents.
"""

import zlib
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import rankdata

from mixmin_jax.data.text.quality import batches, compression_ratio
from mixmin_jax.data.text.tokens import join_documents
from mixmin_jax.models.ngram import NgramCounts, count_ngrams
from mixmin_jax.training.ngram_proxies import ngram_score

BATCH = 1 << 24  # bytes of documents scored at a time, to bound memory
COUNTED = 1 << 22  # bytes of each half of the sources that are counted: enough for short n-grams, and bounds memory


def target_quality(
    documents: Sequence[bytes],
    target: Sequence[bytes],
    order: int = 3,
    on_batch: Callable[[int, int], None] = lambda done, of: None,
) -> Float[np.ndarray, " D"]:
    """The quality of each document, as above.

    Args:
        documents: of all sources together, as their ranks are compared.
        target: documents of the target that weights are fitted on.
        order: bytes of the longest n-grams.
        on_batch: called with how many documents are done, and of how many.

    Raises:
        InputError: an order out of range, or a target without text.
    """
    of_target = count_ngrams(join_documents(target), order)
    key_D = np.array([zlib.crc32(document) for document in documents])  # copies fall into the same half, in any order
    of_other_half = [
        count_ngrams(join_documents([*target, *_some(documents, np.flatnonzero(key_D % 2 != half), key_D)]), order)
        for half in (0, 1)
    ]
    values, done = list[np.ndarray](), 0
    for batch in batches(documents, BATCH):
        half_D = key_D[done : done + len(batch)] % 2
        measures = np.empty((3, len(batch)))
        measures[0] = _logp_per_byte(of_target, batch, order)
        for half, counts in enumerate(of_other_half):
            mine = np.flatnonzero(half_D == half)
            measures[1, mine] = _logp_per_byte(counts, [batch[index] for index in mine.tolist()], order)
        measures[2] = [compression_ratio(document) for document in batch]
        values.append(measures)
        done += len(batch)
        on_batch(done, len(documents))
    return rankdata(np.concatenate(values, axis=1), method="max", axis=1).min(axis=0) / len(documents)


def _some(documents: Sequence[bytes], chosen: Int[np.ndarray, " n"], key_D: Int[np.ndarray, " D"]) -> list[bytes]:
    """Documents of the smallest keys, up to `COUNTED` bytes."""
    some, held = list[bytes](), 0
    for index in chosen[np.argsort(key_D[chosen], kind="stable")]:
        held += len(documents[index])
        if held > COUNTED:
            break
        some.append(documents[index])
    return some


def _logp_per_byte(counts: NgramCounts, documents: Sequence[bytes], order: int) -> Float[np.ndarray, " D"]:
    bytes_D = np.array([len(document) for document in documents], int)
    if not len(bytes_D):
        return np.zeros(0)
    logp_N = ngram_score(counts, documents, (order,))[0]
    return np.add.reduceat(logp_N, np.cumsum(bytes_D) - bytes_D, dtype=np.float64) / bytes_D
