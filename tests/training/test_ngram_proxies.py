"""Scores of targets under one n-gram model per source."""

import numpy as np

from mixmin_jax.data.text.tokens import SEPARATOR, join_documents
from mixmin_jax.models.ngram import count_ngrams, log_likelihoods
from mixmin_jax.training.ngram_proxies import ngram_operations, ngram_scores

SOURCES = [[b"one two three", b"two"], [b"zwei drei", b"eins zwei"]]
TARGETS = {"a": [b"one", b"drei one"], "b": [b"two"]}


def test_scores_are_those_of_each_model_alone_for_every_byte_in_order():
    told = []
    scores = ngram_scores(SOURCES, TARGETS, orders=(1, 3), on_source=lambda *done: told.append(done))
    assert told == [(1, 2), (2, 2)] and list(scores) == ["a", "b"]
    for name, documents in TARGETS.items():
        tokens = join_documents(documents)
        assert scores[name].shape == (2, sum(map(len, documents)), 2)
        for k, source in enumerate(SOURCES):
            for o, order in enumerate((1, 3)):
                alone = log_likelihoods(count_ngrams(join_documents(source), order), tokens)
                np.testing.assert_array_equal(scores[name][o, :, k], alone[-1, tokens != SEPARATOR])


def test_each_text_is_most_likely_under_its_own_source():
    (english,) = ngram_scores(SOURCES, {"a": [b"two three"]}, orders=(3,))["a"].sum(1)
    assert english[0] > english[1] + 5


def test_operations_are_those_of_sorting_and_of_searching():
    assert ngram_operations([1024], 0, 2) == 1024 * (10 + 2 * 12)
    assert ngram_operations([1024, 256], 100, 3) - ngram_operations([1024, 256], 0, 3) == 100 * 3 * (20 + 10 + 16 + 10)
