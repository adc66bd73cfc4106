"""Rows: chunks of documents, each the sum of its tokens."""

import numpy as np
import pytest

from mixmin_jax.errors import InputError
from mixmin_jax.mixture.rows import mixture_losses, row_length, rows

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


def test_losses_are_those_of_logaddexp_also_where_the_weight_is_elsewhere():
    found = rows(100 * LOGP_NxK, TOKENS_D, 5)  # hundreds of nats: the likelihoods of some rows underflow
    weights_MxK = np.array([[0.3, 0.7], [1.0, 0.0], [1e-300, 1.0]])
    with np.errstate(divide="ignore"):
        expected_M = [-np.logaddexp.reduce(found.logp_RxK + np.log(w_K), axis=1).sum() / 12 for w_K in weights_MxK]
    np.testing.assert_allclose(mixture_losses(found, weights_MxK), expected_M, rtol=1e-12)


def test_lengths_of_rows_in_words():
    assert [row_length(word) for word in ("token", "document", "64")] == [1, None, 64]
    for word in ("0", "-3", "1.5", "tokens", ""):
        with pytest.raises(InputError, match="a number of tokens from 1 on"):
            row_length(word)
