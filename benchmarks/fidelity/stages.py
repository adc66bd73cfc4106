"""All that is computed: the ground truth, proxies of every kind, runs on random mixtures, and mixtures that were found.

Axes: M mixtures, K sources, D documents, N bytes of all documents, O orders.
"""

import math
from collections.abc import Sequence

import jax
import numpy as np

from benchmarks.fidelity.data import World
from benchmarks.fidelity.settings import Counted, Trained
from experiments.harness.language_model_stages import Models, score_models, train_models
from experiments.harness.stages import Product, Running, Stages
from experiments.text_mixture.data import Target
from mixmin_jax.data.text.documents import Corpus
from mixmin_jax.data.text.tokens import build_store
from mixmin_jax.training.language_model import LanguageModelRun
from mixmin_jax.training.mesh import make_mesh, source_devices
from mixmin_jax.training.ngram_proxies import ngram_scores

TOGETHER = 8  # models trained in one program


class WorldStages:
    """The stages of one world; each product is found again if it was computed before."""

    def __init__(self, world: World, stages: Stages) -> None:
        self.world, self._stages = world, stages
        self._sources = {corpus.name: corpus.fingerprint for corpus in world.sources}

    def reached(
        self, run: LanguageModelRun, name: str, weights_MxK: np.ndarray, seed: int = 0
    ) -> dict[str, np.ndarray]:
        """Train the target model on every mixture: the test loss of each, in bits per byte, by target."""
        bits: dict[str, list[np.ndarray]] = {target.name: [] for target in self.world.targets}
        for first in range(0, len(weights_MxK), TOGETHER):
            part = f"{name}-{first // TOGETHER}" if len(weights_MxK) > TOGETHER else name
            models = self._train(part, run, self.world.sources, weights_MxK[first : first + TOGETHER], seed)
            for target in self.world.targets:
                bits[target.name].append(_bits(self._score(part, models, target, "test")))
        return {target: np.concatenate(found) for target, found in bits.items()}

    def random_runs(self, run: LanguageModelRun, weights_MxK: np.ndarray) -> dict[str, np.ndarray]:
        """The fit part's loss of a small model trained on each mixture, in bits per byte, by target."""
        losses: dict[str, list[np.ndarray]] = {target.name: [] for target in self.world.targets}
        tokens = run.num_windows * run.sequence_length
        for first in range(0, len(weights_MxK), TOGETHER):
            part = f"random-{tokens}-{first // TOGETHER}"
            models = self._train(part, run, self.world.sources, weights_MxK[first : first + TOGETHER], seed=2)
            for target in self.world.targets:
                losses[target.name].append(_bits(self._score(part, models, target, "fit")))
        return {target: np.concatenate(found) for target, found in losses.items()}

    def trained(self, kind: Trained, target_tokens: int) -> dict[str, np.ndarray]:
        """token_NxK of the fit part of each target, in nats, under one trained proxy per source."""
        share = kind.tokens / target_tokens if kind.matched else 1.0
        name = self.stage_name(kind)
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
        return self._stages.run(f"{self.world.name}-{self.stage_name(kind)}", inputs, compute)

    @staticmethod
    def stage_name(kind: Counted | Trained) -> str:
        """Of the proxies, in this world."""
        return "-".join(kind.name.replace(",", "").split())

    def seconds(self, name: str) -> float:
        """Of training and scoring under this name, whenever that was."""
        full = f"{self.world.name}-{name}"
        names = {full} | {f"{full}-score-{target.name}" for target in self.world.targets}
        return sum(record.seconds for stage, record in self._stages.records.items() if stage in names)

    def _train(
        self, name: str, run: LanguageModelRun, sources: Sequence[Corpus], weights_MxK: np.ndarray, seed: int
    ) -> Models:
        store = build_store([c.name for c in sources], [c.documents for c in sources], run.sequence_length)
        labels = tuple(f"{name}, model {m}" for m in range(len(weights_MxK)))
        inputs = {"sources": {corpus.name: corpus.fingerprint for corpus in sources}, "seed": seed}
        mesh = make_mesh(source_devices(len(weights_MxK), jax.device_count()))
        full, key = f"{self.world.name}-{name}", jax.random.key(seed)
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


def _bits(scored: Product) -> np.ndarray:
    """Loss of each model in bits per byte."""
    return -scored["document_DxM"].sum(0) / (math.log(2) * scored["bytes_D"].sum())
