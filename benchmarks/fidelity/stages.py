"""All that is computed: the ground truth, proxies of every kind, runs on random mixtures, and mixtures that were found.

Axes: M mixtures, K sources, D documents, N bytes of all documents, O orders.
"""

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np

from benchmarks.fidelity.data import World
from experiments.harness.language_model_stages import Models, score_models, scoring_flops, train_models, training_flops
from experiments.harness.stages import Product, Running, Stages
from experiments.text_mixture.data import Target
from mixmin_jax.data.text.documents import Corpus
from mixmin_jax.data.text.tokens import build_store
from mixmin_jax.models.transformer import TransformerConfig
from mixmin_jax.training.language_model import LanguageModelRun
from mixmin_jax.training.mesh import make_mesh, source_devices
from mixmin_jax.training.ngram_proxies import ngram_scores

TOGETHER = 8  # models trained in one program
TRUTH_SEEDS = 2  # of uniform and natural: what another seed changes is the noise of one run


@dataclasses.dataclass(frozen=True)
class Trained:
    """Trained proxies, and whether each source was subsampled so that it repeats as in the target run."""

    run: LanguageModelRun
    matched: bool

    @property
    def name(self) -> str:
        size, tokens = self.run.model, self.run.num_windows * self.run.sequence_length
        return (
            f"transformer {size.width}x{size.depth}, {tokens / 1e3:.0f}k tokens, rate {self.run.learning_rate:g}"
            + ", repeats matched" * self.matched
        )


@dataclasses.dataclass(frozen=True)
class Counted:
    """n-grams of each source's text, all of it or some of it."""

    limit: int | None  # bytes of a source; None for all

    @property
    def name(self) -> str:
        return "n-grams of " + ("all text" if self.limit is None else f"{self.limit / 1e6:g} MB at most")


@dataclasses.dataclass(frozen=True, eq=False)
class Truth:
    """The loss that training reached on each mixture, in nats of each test document, by target."""

    weights_MxK: np.ndarray
    nats_MxD: dict[str, np.ndarray]


class WorldStages:
    """The stages of one world; each product is found again if it was computed before."""

    def __init__(self, world: World, stages: Stages) -> None:
        self.world, self._stages = world, stages
        self._sources = {corpus.name: corpus.fingerprint for corpus in world.sources}

    def truth(self, run: LanguageModelRun, name: str, weights_MxK: np.ndarray, seed: int = 0) -> Truth:
        """Train the target model on every mixture, and score the test parts of all targets."""
        nats: dict[str, list[np.ndarray]] = {target.name: [] for target in self.world.targets}
        for first in range(0, len(weights_MxK), TOGETHER):
            part = f"{name}-{first // TOGETHER}" if len(weights_MxK) > TOGETHER else name
            models = self._train(part, run, self.world.sources, weights_MxK[first : first + TOGETHER], seed)
            for target in self.world.targets:
                nats[target.name].append(-self._score(part, models, target, "test")["document_DxM"].T)
        return Truth(weights_MxK, {target: np.concatenate(found) for target, found in nats.items()})

    def random_runs(self, run: LanguageModelRun, weights_MxK: np.ndarray) -> dict[str, np.ndarray]:
        """The fit part's loss of a small model trained on each mixture, in nats per byte, by target."""
        losses: dict[str, list[np.ndarray]] = {target.name: [] for target in self.world.targets}
        tokens = run.num_windows * run.sequence_length
        for first in range(0, len(weights_MxK), TOGETHER):
            part = f"random-{tokens}-{first // TOGETHER}"
            models = self._train(part, run, self.world.sources, weights_MxK[first : first + TOGETHER], seed=2)
            for target in self.world.targets:
                scored = self._score(part, models, target, "fit")
                losses[target.name].append(-scored["document_DxM"].sum(0) / scored["bytes_D"].sum())
        return {target: np.concatenate(found) for target, found in losses.items()}

    def trained(self, kind: Trained, target_tokens: int) -> dict[str, np.ndarray]:
        """token_NxK of the fit part of each target, in nats, under one trained proxy per source."""
        share = kind.run.num_windows * kind.run.sequence_length / target_tokens if kind.matched else 1.0
        name = "proxies-" + kind.name.replace(" ", "-").replace(",", "")
        models = self._train(name, kind.run, self.world.limited(share), np.eye(len(self.world.names)), seed=1)
        scored = (self._score(name, models, target, "fit", tokens=True) for target in self.world.targets)
        return {target.name: found["token_NxM"] for target, found in zip(self.world.targets, scored, strict=True)}

    def counted(self, kind: Counted, orders: Sequence[int]) -> dict[str, np.ndarray]:
        """token_OxNxK of the fit part of each target, in nats, under the n-grams of each source."""
        sources = self.world.sources if kind.limit is None else self.world.limited(1.0, kind.limit)
        targets = {target.name: target.documents("fit") for target in self.world.targets}

        def compute(stage: Running) -> Product:
            return dict(ngram_scores([corpus.documents for corpus in sources], targets, orders, stage.advance))

        inputs = {
            "sources": {corpus.name: corpus.fingerprint for corpus in sources},
            "targets": {target.name: [target.corpus.fingerprint, target.fit.tolist()] for target in self.world.targets},
            "orders": list(orders),
        }
        return self._stages.run(f"{self.world.name}-ngrams-{kind.limit or 'all'}", inputs, compute)

    def seconds(self, *parts: str) -> float:
        """Of all stages of this world whose names contain one of `parts`."""
        found = {name: record.seconds for name, record in self._stages.records.items()}
        own = (seconds for name, seconds in found.items() if any(f"{self.world.name}-{part}" in name for part in parts))
        return sum(own)

    def _train(
        self, name: str, run: LanguageModelRun, sources: Sequence[Corpus], weights_MxK: np.ndarray, seed: int
    ) -> Models:
        store = build_store([c.name for c in sources], [c.documents for c in sources], run.sequence_length)
        labels = tuple(f"{name}, model {m}" for m in range(len(weights_MxK)))
        inputs = {"sources": {corpus.name: corpus.fingerprint for corpus in sources}, "seed": seed}
        mesh = make_mesh(source_devices(len(weights_MxK), jax.device_count()))
        full = f"{self.world.name}-{name}"
        key = jax.random.key(seed)
        return train_models(self._stages, full, run, store, weights_MxK, key, inputs, labels=labels, mesh=mesh)

    def _score(self, name: str, models: Models, target: Target, part: str, tokens: bool = False) -> Product:
        return score_models(
            self._stages,
            f"{self.world.name}-{name}-score-{target.name}",
            models,
            target.documents(part),
            {"target": target.corpus.fingerprint, "documents": getattr(target, part).tolist()},
            tokens=tokens,
            mesh=make_mesh(source_devices(len(models.draws_MxK), jax.device_count())),
        )


def search_flops(run: LanguageModelRun, num_models: int, target: Target) -> float:
    """Training and scoring the fit part of one target, for all models of a search."""
    return num_models * (training_flops(run) + scoring_flops(run, target.documents("fit")))


def small_run(tokens: int, learning_rate: float = 6e-3, width: int = 64, depth: int = 2) -> LanguageModelRun:
    """A proxy of the size of the experiment's."""
    return LanguageModelRun(TransformerConfig(width, depth, 4), tokens=tokens, learning_rate=learning_rate)
