"""Rows: chunks of documents, each the sum of its tokens."""

import numpy as np
import pytest

from mixmin_jax.errors import InputError
from mixmin_jax.mixture.rows import rows

LOGP_NxK = np.random.default_rng(0).normal(-3, 1, size=(12, 2)).astype(np.float32)
TOKENS_D = np.array([5, 1, 6])


@pytest.mark.parametrize(
    ("length", "tokens", "documents"),
    [
        (1, [1] * 12, [0] * 5 + [1] + [2] * 6),
        (2, [2, 2, 1, 1, 2, 2, 2], [0, 0, 0, 1, 2, 2, 2]),
        (5, [5, 1, 5, 1], [0, 1, 2, 2]),
        (6, [5, 1, 6], [0, 1, 2]),
        (99, [5, 1, 6], [0, 1, 2]),
        (None, [5, 1, 6], [0, 1, 2]),
    ],
)
def test_a_row_is_the_sum_of_its_tokens_and_never_crosses_a_document(length, tokens, documents):
    found = rows(LOGP_NxK, TOKENS_D, length)
    assert (found.tokens_R.tolist(), found.document_R.tolist()) == (tokens, documents)
    parts = np.split(LOGP_NxK.astype(np.float64), np.cumsum(tokens)[:-1])
    np.testing.assert_allclose(found.logp_RxK, [part.sum(0) for part in parts], rtol=1e-14)


@pytest.mark.parametrize(
    ("tokens", "length", "why"),
    [
        ([5, 7], 0, "at least one token, not 0"),
        ([5, 0, 7], 2, "document 1 has no token"),
        ([5, 6], 2, "have 11 tokens, the log-likelihoods 12"),
    ],
)
def test_what_makes_no_rows_is_refused(tokens, length, why):
    with pytest.raises(InputError, match=why):
        rows(LOGP_NxK, np.array(tokens), length)
