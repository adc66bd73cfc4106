"""What is trained: two sets of sources, all targets, and the mixtures whose losses are the ground truth.

Axes: K sources, M mixtures.
"""

import dataclasses

import numpy as np

from benchmarks.fidelity.settings import BUILT_IN, Settings
from experiments.text_mixture.data import Target, read_text, split_target
from mixmin_jax.data.text.documents import Corpus, take_bytes
from mixmin_jax.data.text.tokens import TokenStore, build_store
from mixmin_jax.mixture.baselines.random_search import random_mixtures
from mixmin_jax.mixture.baselines.rules import natural_weights, uniform_weights

GRID = 1e-3  # of random weights
BROAD = (8.0, 64.0)  # total concentration of mixtures around uniform; RegMix's own are 0.1 to 5: one or two sources


@dataclasses.dataclass(frozen=True)
class World:
    """Some sources and their mixtures; every target is predicted from every world."""

    name: str
    sources: tuple[Corpus, ...]
    targets: tuple[Target, ...]
    store: TokenStore
    mixtures_MxK: np.ndarray  # half as RegMix draws them, half around uniform
    rules_2xK: np.ndarray  # uniform, natural

    @property
    def names(self) -> tuple[str, ...]:
        return self.store.names

    def limited(self, share: float, most: float = np.inf) -> tuple[Corpus, ...]:
        """The sources with a share of their text each, of at most `most` bytes; random documents."""
        return tuple(_limited(corpus, min(share * corpus.num_bytes, most)) for corpus in self.sources)


def read_worlds(sources: tuple[str, ...], targets: tuple[str, ...], settings: Settings) -> tuple[World, ...]:
    """The sources that were given, if any, and the built-in ones; the targets are all of both."""
    built_in, built_in_targets = read_text((), ())
    given, given_targets = read_text(sources, targets) if sources or targets else ((), ())
    splits = tuple(
        split_target(target, 0.5, 0, settings.fit_bytes, settings.test_bytes)
        for target in given_targets + built_in_targets
    )
    worlds = {"given": given, BUILT_IN: built_in} if given else {BUILT_IN: built_in}
    return tuple(_world(name, corpora, splits, settings) for name, corpora in worlds.items())


def _world(name: str, sources: tuple[Corpus, ...], targets: tuple[Target, ...], settings: Settings) -> World:
    length = settings.model.sequence_length
    store = build_store([c.name for c in sources], [c.documents for c in sources], length)
    return World(name, sources, targets, store, draw_mixtures(store, settings.num_mixtures, seed=0), _rules(store))


def draw_mixtures(store: TokenStore, num: int, seed: int) -> np.ndarray:
    """Half of them sparse, as RegMix draws them; half broad, around uniform."""
    uniform_K = uniform_weights(len(store.names))
    sparse = random_mixtures(num // 2, store.windows_K, seed, minimum=GRID)
    broad = random_mixtures(num - num // 2, uniform_K, seed, strengths=BROAD, minimum=GRID)
    return np.concatenate([sparse, broad])


def _rules(store: TokenStore) -> np.ndarray:
    return np.stack([uniform_weights(len(store.names)), natural_weights(store.windows_K)])


def _limited(corpus: Corpus, num_bytes: float) -> Corpus:
    kept = take_bytes(corpus, np.arange(corpus.num_documents), int(num_bytes))
    return dataclasses.replace(corpus, documents=tuple(corpus.documents[i] for i in kept))
