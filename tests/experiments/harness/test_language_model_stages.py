"""Proxies as stages of each source: what trains together makes no difference but rounding."""

import jax
import numpy as np

from experiments.harness.language_model_stages import score_proxies, train_proxies
from mixmin_jax.data.text.tokens import build_store
from mixmin_jax.models.transformer import TransformerConfig
from mixmin_jax.training.language_model import LanguageModelRun
from mixmin_jax.training.mesh import make_mesh
from tests.experiments.harness.test_stages import Stages
from tests.experiments.made_up_text import WORDS, sentences

RUN = LanguageModelRun(TransformerConfig(8, 1, 1), tokens=20 * 2 * 16, sequence_length=16, batch_size=2)
TARGET = [text.encode() for text in sentences(WORDS["digits"], 5, 9)]


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
