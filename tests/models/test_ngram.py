"""The byte n-gram model against the same formula over dictionaries, and what follows from it."""

import math
from collections import Counter, defaultdict

import numpy as np
import pytest

from mixmin_jax.data.text.tokens import SEPARATOR, join_documents
from mixmin_jax.errors import InputError
from mixmin_jax.models import ngram

BEGIN = -1


def documents(seed, count, letters=3):
    rng = np.random.default_rng(seed)
    return [bytes((97 + rng.integers(letters, size=rng.integers(1, 30))).tolist()) for _ in range(count)]


def by_dictionaries(text, order):
    """p(c | h) for any history, from counts in dictionaries."""
    count, occurs, followers = Counter(), Counter(), defaultdict(set)
    for document in text:
        padded = [BEGIN] * order + list(document)
        for end in range(order, len(padded) + 1):
            for n in range(1, order + 1):
                context = tuple(padded[end - n + 1 : end])
                occurs[context] += n > 1 or end < len(padded)
                if end < len(padded):
                    count[context, padded[end]] += 1
                    followers[context].add(padded[end])

    def probability(history, byte):
        p = 1 / 256
        for n in range(1, order + 1):
            context = tuple(history[len(history) - n + 1 :])
            if types := len(followers[context]):
                p = (count[context, byte] + types * p) / (occurs[context] + types)
        return p

    return probability


def scored(text, query, order):
    tokens = join_documents(query)
    return ngram.log_likelihoods(ngram.count_ngrams(join_documents(text), order), tokens)[-1, tokens != SEPARATOR]


@pytest.mark.parametrize("order", [1, 2, 4, 7])
def test_probabilities_are_those_of_counts_in_dictionaries(order):
    text, query = documents(0, 40), documents(1, 10, letters=4)
    probability = by_dictionaries(text, order)
    expected = [
        math.log(probability([BEGIN] * order + list(document[:i]), document[i]))
        for document in query
        for i in range(len(document))
    ]
    np.testing.assert_allclose(scored(text, query, order), expected, rtol=1e-5)


def test_probabilities_sum_to_one_or_leave_the_end_of_the_document():
    text = [b"abcab", b"abd"]
    after = {
        history: np.exp(scored(text, [history + bytes([byte]) for byte in range(255)], 3).reshape(255, -1)[:, -1]).sum()
        for history in (b"a", b"xa", b"b")
    }
    unseen = 1 / 256 * 5 / (8 + 5)  # what the byte of separators would get; smaller still after a context
    assert 1 - unseen <= after[b"a"] <= 1 + 1e-6 and 1 - unseen <= after[b"xa"] <= 1 + 1e-6
    assert after[b"b"] < 1 - unseen  # `ab` ends a document


def test_what_a_document_holds_depends_on_no_other():
    text, query = documents(0, 20), documents(1, 6)
    together = scored(text, query, 5)
    np.testing.assert_array_equal(together, np.concatenate([scored(text, [document], 5) for document in query]))
    np.testing.assert_array_equal(scored(text[::-1], query, 5), together)


def test_queries_come_in_blocks_without_a_seam(monkeypatch):
    text, query = documents(0, 20), [b"".join(documents(1, 30))]
    whole = scored(text, query, 6)
    monkeypatch.setattr(ngram, "QUERY", 50)
    np.testing.assert_array_equal(scored(text, query, 6), whole)


def test_sizes_in_one_range_share_a_program():
    for count in (400, 410, 420):
        ngram.count_ngrams(join_documents([b"x" * count]), 2)
    compiled = ngram._count._cache_size()
    ngram.count_ngrams(join_documents([b"xy" * 250]), 2)
    assert ngram._count._cache_size() == compiled


def test_one_byte_can_be_counted_and_scored():
    (logp,) = scored([b"a"], [b"a"], 3)
    p = 1 / 256
    for _ in range(3):  # each context was seen once, with one byte after it
        p = (1 + p) / 2
    assert np.exp(logp) == pytest.approx(p, rel=1e-6)


def test_documents_are_separated_as_where_text_is_joined():
    assert ngram.SEPARATOR == SEPARATOR


def test_what_cannot_be_counted_is_refused():
    for order in (0, 8):
        with pytest.raises(InputError, match=f"order must be 1 to 7, not {order}"):
            ngram.count_ngrams(join_documents([b"text"]), order)
    with pytest.raises(InputError, match="no text to count"):
        ngram.count_ngrams(join_documents([b""]), 2)
    counts = ngram.count_ngrams(join_documents([b"text"]), 2)
    assert ngram.log_likelihoods(counts, np.zeros(0, np.uint8)).shape[1] == 0
