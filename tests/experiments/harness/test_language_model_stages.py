"""Proxies as stages of each source: what trains together makes no difference but rounding."""

import dataclasses

import jax
import numpy as np
import pytest

from experiments.harness.language_model_stages import score_proxies, train_proxies, unlearned_records
from mixmin_jax.data.text.tokens import build_store
from mixmin_jax.models.transformer import TransformerConfig
from mixmin_jax.training.language_model import LanguageModelRun
from mixmin_jax.training.mesh import make_mesh
from tests.experiments.harness.test_stages import Stages
from tests.experiments.made_up_text import WORDS, sentences

RUN = LanguageModelRun(TransformerConfig(8, 1, 1), tokens=20 * 2 * 16, sequence_length=16, batch_size=2)
TARGET = [text.encode() for text in sentences(WORDS["digits"], 5, 9)]


@pytest.mark.slow
def test_a_proxy_that_is_trained_alone_is_that_of_a_training_of_all_up_to_rounding(tmp_path):
    texts = [[text.encode() for text in sentences(words, 20, 0)] for words in WORDS.values()]
    store = build_store(tuple(WORDS), texts, 16)

    def logp(folder):
        stages = Stages(folder)
        inputs = {name: {"source": name} for name in WORDS}
        proxies = train_proxies(stages, "train", RUN, store, jax.random.key(0), inputs, mesh=lambda _: make_mesh(1))
        found = score_proxies(stages, "score", proxies, TARGET, {"target": "digits"}, mesh=lambda _: make_mesh(1))
        return {name: product["token_N"] for name, product in found.items()}

    together = logp(tmp_path)
    for place in ("train", "score"):
        (tmp_path / place / "lower.npz").unlink()
    again = logp(tmp_path)
    np.testing.assert_array_equal(again["upper"], together["upper"])  # was found
    np.testing.assert_allclose(again["lower"], together["lower"], rtol=1e-4)
    assert np.abs(together["lower"] - together["digits"]).max() > 0.1


def test_a_proxy_that_learned_less_than_frequencies_is_named(tmp_path):
    """Bytes of which each follows from the one before, and noise, which shows nothing but frequencies."""
    run = dataclasses.replace(RUN, tokens=60 * 2 * 16, learning_rate=0.03)
    noise = np.random.default_rng(0).integers(256, size=8000, dtype=np.uint8).tobytes()
    texts = {"cycle": bytes(range(32, 96)) * 30, "noise": noise, "back": bytes(range(96, 32, -1)) * 30}
    store = build_store(tuple(texts), [[text] for text in texts.values()], 16)
    inputs = {name: {"source": name} for name in texts}
    stages, mesh = Stages(tmp_path), lambda _: make_mesh(1)
    for _ in range(2):  # the second time, proxies are found
        proxies = train_proxies(stages, "train", run, store, jax.random.key(0), inputs, mesh=mesh)
        (record,) = unlearned_records("proxies", 0, proxies.learned)
        assert record.source == "noise" and record.then == "left out" and record.loss > record.frequencies
        assert record.frequencies == pytest.approx(8, abs=0.05) and "where these reach 7.9" in str(record)
