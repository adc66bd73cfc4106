"""A small store of three sources that differ, and a small run."""

import pytest

from mixmin_jax.data.text.tokens import build_store
from mixmin_jax.models.transformer import TransformerConfig
from mixmin_jax.training.language_model import LanguageModelRun


@pytest.fixture(scope="session")
def run():
    return LanguageModelRun(
        TransformerConfig(width=8, depth=1, heads=1), tokens=6 * 2 * 8, sequence_length=8, batch_size=2
    )


@pytest.fixture(scope="session")
def store():
    texts = [[b"abcdefgh" * 8] * 3, [b"the cat sat on the mat. " * 5], [bytes(range(48, 90)) * 3] * 2]
    return build_store(["letters", "cat", "ascii"], texts, length=8)
