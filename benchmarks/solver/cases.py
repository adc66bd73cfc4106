"""The problems that solvers are timed on: log-likelihoods of N examples under K sources, from fixed seeds.

Axes: N examples, K sources.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

_FRESH = (
    *("text-2000x7", "text-20000x22", "classifiers-20000x100", "classifiers-20000x1000", "classifiers-5000x3000"),
)
QUICK_CELLS = 100_000  # N K of the cases that --quick runs, at most


class Data(NamedTuple):
    """What every method is given."""

    logp_NxK: np.ndarray  # nats
    v_N: np.ndarray | None  # example weights; 1/N each if None

    @property
    def normalized_N(self) -> np.ndarray:
        """Example weights that sum to 1: the same optimum, and the same relative gap."""
        n = len(self.logp_NxK)
        return np.full(n, 1 / n) if self.v_N is None else self.v_N / self.v_N.sum()


@dataclasses.dataclass(frozen=True)
class Case:
    """One problem."""

    name: str
    what: str
    n: int
    k: int
    make: Callable[[np.random.Generator, int, int], np.ndarray | Data]
    seed: int = 0

    @property
    def fresh(self) -> bool:
        """Whether methods are also timed in fresh processes."""
        return self.name in _FRESH

    @property
    def quick(self) -> bool:
        return self.n * self.k <= QUICK_CELLS

    def data(self) -> Data:
        """The same numbers each time."""
        made = self.make(np.random.default_rng(self.seed), self.n, self.k)
        return made if isinstance(made, Data) else Data(made, None)


def text(rng: np.random.Generator, n: int, k: int) -> np.ndarray:
    """Documents of 50 to 2000 tokens; sources differ by quality and by two topics, hundreds of nats in all."""
    length_Nx1, strength_Nx1 = rng.integers(50, 2000, (n, 1)), rng.exponential(1, (n, 1))
    topics_NxK = 0.1 * rng.normal(size=(n, 2)) @ rng.normal(size=(2, k)) + 0.02 * rng.normal(size=(n, k))
    advantage_NxK = 0.05 * rng.normal(size=(1, k)) + strength_Nx1 * topics_NxK  # nats per token
    return -2.5 * length_Nx1 + 50 * rng.normal(size=(n, 1)) + length_Nx1 * advantage_NxK


def documents(rng: np.random.Generator, n: int, k: int) -> Data:
    """Documents of 10 to 10 000 tokens, log-normal; weighted as the mean of each one's nats per token."""
    length_N = np.clip(rng.lognormal(np.log(300), 1.5, n), 10, 10_000).astype(int)
    length_Nx1 = length_N[:, None]
    advantage_NxK = 0.05 * rng.normal(size=(1, k)) + 0.05 * rng.normal(size=(n, k))  # nats per token
    per_token_NxK = -3 + 0.3 * rng.normal(size=(n, 1)) + advantage_NxK
    logp_NxK = length_Nx1 * per_token_NxK + np.sqrt(length_Nx1) * rng.normal(size=(n, k))
    return Data(logp_NxK, 1 / (n * length_N))


def scales(rng: np.random.Generator, n: int, k: int) -> np.ndarray:
    """A sample of two normals under k normals of mean 0 and scales 0.1 to 10, neighbors much alike."""
    scale_K = np.geomspace(0.1, 10, k)
    x_Nx1 = rng.normal(size=(n, 1)) * np.where(rng.random((n, 1)) < 0.5, 1, 4)
    return -0.5 * (x_Nx1 / scale_K) ** 2 - np.log(scale_K)


def classifiers(rng: np.random.Generator, n: int, k: int) -> np.ndarray:
    """Log-probabilities that k classifiers of different quality give to the true one of 8 classes."""
    logp_NxK = np.empty((n, k))
    for source in range(k):
        logits_Nx8 = 1.5 * rng.normal(size=(n, 8))
        logits_Nx8[:, 0] += rng.uniform(0.5, 2.5)
        logp_NxK[:, source] = logits_Nx8[:, 0] - np.log(np.exp(logits_Nx8).sum(axis=1))
    return logp_NxK


def near_duplicates(rng: np.random.Generator, n: int, k: int) -> np.ndarray:
    """Pairs of classifiers that differ by a ten thousandth of a nat."""
    base_NxK = np.repeat(classifiers(rng, n, -(-k // 2)), 2, axis=1)[:, :k]
    return base_NxK + 1e-4 * rng.normal(size=(n, k))


def zero_cells(rng: np.random.Generator, n: int, k: int) -> np.ndarray:
    """Classifiers, each of which excludes half of the examples, beside one poor one that excludes none."""
    logp_NxK = classifiers(rng, n, k)
    logp_NxK[rng.random((n, k)) < 0.5] = -np.inf
    logp_NxK[:, 0] = -7
    return logp_NxK


def tokens(rng: np.random.Generator, n: int, k: int) -> np.ndarray:
    """A row per token: log-probabilities that k language models give to it, much alike."""
    surprise_Nx1 = rng.exponential(2.5, (n, 1))
    return -surprise_Nx1 * np.exp(0.1 * rng.normal(size=(1, k)) + 0.3 * rng.normal(size=(n, k)))


CASES = {
    case.name: case
    for case in (
        Case("text-2000x7", "text-like, hundreds of nats of spread", 2_000, 7, text),
        Case("text-20000x22", "text-like, hundreds of nats of spread", 20_000, 22, text),
        Case("documents-20000x15", "lengths of 10 to 10 000 tokens, weights 1/(N length)", 20_000, 15, documents),
        Case("zero-cells-5000x20", "half of all likelihoods 0", 5_000, 20, zero_cells),
        Case("scales-20000x20", "normals of 20 scales", 20_000, 20, scales),
        Case("near-duplicates-20000x40", "pairs of sources 1e-4 nats apart", 20_000, 40, near_duplicates),
        Case("classifiers-20000x100", "classifiers of different quality", 20_000, 100, classifiers),
        Case("classifiers-100000x100", "the same with N K^2 = 1e9", 100_000, 100, classifiers),
        Case("classifiers-5000x500", "500 sources", 5_000, 500, classifiers),
        Case("classifiers-20000x1000", "1000 sources", 20_000, 1000, classifiers),
        Case("classifiers-5000x3000", "3000 sources", 5_000, 3000, classifiers),
        Case("tokens-1000000x10", "a row per token", 1_000_000, 10, tokens),
    )
}
