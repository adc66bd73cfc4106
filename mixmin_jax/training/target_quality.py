"""How good documents are for a target, where the data brings no score of their quality.

    quality_d = min(rank of log p_target(d) / bytes_d,  rank of compressed bytes_d / bytes_d)

Ranks are shares of all documents, from 0 (the worst) to 1. log p_target is that of byte n-grams counted in the target:
low for what has nothing in common with it, such as other languages, tables of codes, garbled text. What repeats itself
(boilerplate, generated pages) compresses well, and may look like any target. The worse of both decides.

The likelihood is one side of DSIR's importance weights (Xie et al., arXiv:2302.03169), log p_target - log p_source. The
other side is left out: a source predicts its own noise no better than a target does, so the difference hides it.

Axes: D documents.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata

from mixmin_jax.data.text.quality import batches, compression_ratio
from mixmin_jax.data.text.tokens import join_documents
from mixmin_jax.models.ngram import count_ngrams
from mixmin_jax.training.ngram_proxies import ngram_score

BATCH = 1 << 24  # bytes of documents scored at a time, to bound memory


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
    counts, likelihoods, ratios = count_ngrams(join_documents(target), order), list[np.ndarray](), list[float]()
    for batch in batches(documents, BATCH):
        bytes_D = np.array([len(document) for document in batch])
        logp_N = ngram_score(counts, batch, (order,))[0]
        likelihoods.append(np.add.reduceat(logp_N, np.cumsum(bytes_D) - bytes_D, dtype=np.float64) / bytes_D)
        ratios += [compression_ratio(document) for document in batch]
        on_batch(len(ratios), len(documents))
    ranks = [rankdata(values, method="max") / len(documents) for values in (np.concatenate(likelihoods), ratios)]
    return np.minimum(*ranks)
