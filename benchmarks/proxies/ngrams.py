"""What the benchmark of proxies counts: n-grams of made-up text, beside a transformer per source and a public tool.

Axes: K sources, M models (K), N bytes of the scored text.
"""

import dataclasses
import importlib.util
from collections.abc import Callable
from typing import ClassVar, Literal, NamedTuple, get_args

import numpy as np
from jax import device_count, random

from benchmarks.proxies.cases import CaseName, Outputs
from experiments.harness.language_model_stages import scoring_flops
from experiments.text_mixture.config import DEMO_PROXY
from mixmin_jax.data.text.tokens import build_store
from mixmin_jax.training.language_model import LanguageModelRun, training_flops
from mixmin_jax.training.mesh import make_mesh, source_devices
from mixmin_jax.training.ngram_proxies import ngram_operations, ngram_scores
from mixmin_jax.training.proxies import train_on_mixtures
from mixmin_jax.training.scoring import score_documents

WORDS = 20_000  # of the vocabulary of all sources
DOCUMENT = 2000  # bytes
SMALL = 250_000  # bytes of a source: above, a tool in Python takes minutes

NgramRival = Literal["counting_alone", "transformers", "nltk"]
WHAT = {
    "ngrams": "one n-gram model per source, counted and read by this library's compiled functions",
    "counting_alone": "the same without reading: the rest of `ngrams` is the time that scoring takes",
    "transformers": "one transformer per source in one program, trained and read as the text experiment does it",
    "nltk": "`nltk.lm.WittenBellInterpolated`, the same smoothing in plain Python",
}


class NgramData(NamedTuple):
    sources: list[list[bytes]]
    scored: list[bytes]  # one text in the words of each source, equally long, one after the other


@dataclasses.dataclass(frozen=True)
class NgramCase:
    """One byte n-gram model per source, and the likelihood of a text under each."""

    base: ClassVar[str] = "ngrams"
    rivals: ClassVar[tuple[str, ...]] = get_args(NgramRival)
    sources: int
    source_bytes: int
    order: int
    scored_bytes: int
    run: LanguageModelRun = DEMO_PROXY
    seed: int = 0

    @property
    def name(self) -> CaseName:
        return "ngrams_large" if self.source_bytes > SMALL else "ngrams"

    @property
    def num_models(self) -> int:
        return self.sources

    @property
    def what(self) -> str:
        model = self.run.model
        return (
            f"{self.sources} sources of {self.source_bytes} bytes; n-grams of {self.order} bytes;"
            f" {self.scored_bytes} bytes read by each model; transformers {model.width} wide and {model.depth} deep on"
            f" {self.run.num_windows * self.run.sequence_length} bytes each"
        )

    def data(self) -> NgramData:
        """Documents of words by Zipf's law, in an order of words that is each source's own."""
        rng = np.random.default_rng(self.seed)
        lengths = rng.integers(2, 12, WORDS)
        letters = rng.choice(26, lengths.sum(), p=rng.dirichlet(np.ones(26))).astype(np.uint8) + ord("a")
        words = np.array([part.tobytes() for part in np.split(letters, np.cumsum(lengths)[:-1])], object)
        frequency = 1 / np.arange(1, WORDS + 1)

        def text(size: int, ranked: np.ndarray) -> list[bytes]:
            drawn = rng.choice(ranked, size // 4, p=frequency / frequency.sum())
            whole = b" ".join(drawn)[:size]
            return [whole[first : first + DOCUMENT] for first in range(0, len(whole), DOCUMENT)]

        ranks = [rng.permutation(words) for _ in range(self.sources)]
        sources = [text(self.source_bytes, ranked) for ranked in ranks]
        own = self.scored_bytes // self.sources
        return NgramData(sources, [document for ranked in ranks for document in text(own, ranked)])

    def quality(self, data: NgramData, outputs: Outputs) -> dict[str, float]:
        """The loss in nats per byte of each source's model on the text in its words, if it was read."""
        own = np.repeat(np.arange(self.sources), self.scored_bytes // self.sources)
        if len(outputs) != len(own):
            return {}
        return {"loss": float(-np.mean(outputs[np.arange(len(own)), own]))}

    def nothing_learned(self, data: NgramData) -> dict[str, float]:
        return {"loss": float(np.log(256))}

    def methods(self, data: NgramData) -> dict[str, tuple[Callable[[], Outputs], float | None] | str]:
        """By name: a call that gives log p of each byte under each model, and its FLOPs; or why there is none."""
        first = [data.scored[0][:1]]
        size = sum(map(len, data.scored))
        sizes = [sum(map(len, documents)) for documents in data.sources]
        operations = ngram_operations(sizes, size, self.order)
        found: dict[str, tuple[Callable[[], Outputs], float | None] | str] = {
            "ngrams": (lambda: self._count(data, data.scored), operations),
            "counting_alone": (lambda: self._count(data, first), ngram_operations(sizes, 1, self.order)),
            "transformers": (
                lambda: self._transformers(data),
                self.num_models * (training_flops(self.run) + scoring_flops(self.run, data.scored)),
            ),
        }
        if self.source_bytes > SMALL:
            slow = "it would take minutes at this size"
            return found | {"transformers": "their time does not depend on the size of a source", "nltk": slow}
        if importlib.util.find_spec("nltk") is None:
            return found | {"nltk": "nltk is not installed: pip install nltk"}
        return found | {"nltk": (lambda: self._nltk(data), None)}

    def _count(self, data: NgramData, scored: list[bytes]) -> Outputs:
        return ngram_scores(data.sources, {"scored": scored}, (self.order,))["scored"][0]

    def _transformers(self, data: NgramData) -> Outputs:
        store = build_store(list(map(str, range(self.num_models))), data.sources, self.run.sequence_length)
        mesh = make_mesh(source_devices(self.num_models, device_count()))
        trained = train_on_mixtures(self.run, store, np.eye(self.num_models), random.key(self.seed), mesh=mesh)
        return score_documents(
            self.run.model, trained.params, data.scored, self.run.sequence_length, mesh=mesh
        ).logp_NxM

    def _nltk(self, data: NgramData) -> Outputs:
        from nltk.lm import WittenBellInterpolated
        from nltk.util import everygrams

        columns = []
        letters = [chr(byte) for byte in range(256)]
        for documents in data.sources:
            model = WittenBellInterpolated(self.order)
            texts = [document.decode("latin-1") for document in documents]
            model.fit([everygrams(list(text), max_len=self.order) for text in texts], letters)
            columns.append(
                [
                    model.unmasked_score(document[i], tuple(document[max(0, i - self.order + 1) : i]))
                    for document in (text.decode("latin-1") for text in data.scored)
                    for i in range(len(document))
                ]
            )
        with np.errstate(divide="ignore"):
            return np.log(np.array(columns)).T
