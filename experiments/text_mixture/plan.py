"""What a run of the text experiment will do and what that costs, checked before anything is computed."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from jax.sharding import Mesh

from experiments.harness.devices import models_mesh, whole_mesh
from experiments.harness.processes import several
from experiments.text_mixture.config import ALL_ARMS, TextMixture
from experiments.text_mixture.data import Care, Target, read_compared
from mixmin_jax.data.hash_order import hash_order
from mixmin_jax.data.mixing import max_draws
from mixmin_jax.data.text.documents import Corpus
from mixmin_jax.data.text.tokens import TokenStore, build_store
from mixmin_jax.errors import InputError
from mixmin_jax.mixture.baselines.random_search import random_mixtures
from mixmin_jax.mixture.baselines.regmix import MIN_RUNS_FOR_TREES, RegmixModel
from mixmin_jax.mixture.baselines.rules import fit_under_caps, natural_weights, uniform_weights, unimax_weights
from mixmin_jax.training.language_model import LanguageModelRun
from mixmin_jax.training.proxies import MAX_DEVICE_TOKENS

RULES = ("uniform", "natural", "unimax")  # the same for every target: trained once, scored on all
PUBLISHED, PUBLISHED_ROWS = ("mixmin_document", "mixmin_token"), ("document", "token")  # of transformer proxies
SEARCHERS = ("random_search", "regmix", "olmix", "mde")  # from runs on random mixtures
SOLVED_ARMS = ("mixmin", *PUBLISHED)  # their weights come from the solver
COMBINED = "combined"  # the arm of --combine: one mixture for all targets
UNIMAX_EPOCHS = 4.0  # most repetitions; repeats are worth almost new text so far (arXiv:2305.16264)
LADDER = (16, 4, 1)  # --proxy auto: transformers of the proxy's tokens divided by these, after n-grams
Role = Literal["proxy", "random", "target"]  # of a trained model


@dataclasses.dataclass(frozen=True)
class Rung:
    """Proxies that weights can be found with."""

    run: LanguageModelRun | None  # None: n-grams
    matched: bool = True  # whether a transformer reads as little of a source as repeats it as the target run will

    @property
    def name(self) -> str:
        """In the names of stages."""
        return "ngrams" if self.run is None else f"proxies-{self.run.tokens}" + "-matched" * self.matched

    @property
    def kind(self) -> Literal["ngram", "transformer"]:
        return "ngram" if self.run is None else "transformer"


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """Everything that the stages need; made without computing anything."""

    config: TextMixture
    sources: tuple[Corpus, ...]
    targets: tuple[Target, ...]
    store: TokenStore
    care: Care
    compared: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)  # mixtures of --compare

    @property
    def names(self) -> tuple[str, ...]:
        return self.store.names

    @property
    def arms(self) -> tuple[str, ...]:
        """Every arm of a target, in the order of every report."""
        chosen = tuple(arm for arm in ALL_ARMS if arm in self.config.arms)
        return (*chosen, *self.compared, *([COMBINED] if self.config.combine and chosen else []))

    @property
    def shared_arms(self) -> tuple[str, ...]:
        """Those that are the same for every target."""
        return tuple(arm for arm in self.arms if arm in RULES or arm in self.compared)

    @property
    def own_arms(self) -> tuple[str, ...]:
        """Those whose weights follow from the target."""
        return tuple(arm for arm in self.arms if arm in SOLVED_ARMS or arm in SEARCHERS)

    @property
    def rungs(self) -> tuple[Rung, ...]:
        """The proxies for `mixmin`, the cheapest first; only --proxy auto has several, and may not reach the last."""
        proxy = self.config.proxy_model
        one_batch = proxy.batch_size * proxy.sequence_length
        steps = [dataclasses.replace(proxy, tokens=max(proxy.tokens // divisor, one_batch)) for divisor in LADDER]
        rungs = {"ngram": (None,), "transformer": (proxy,), "auto": (None, *steps)}[self.config.proxy]
        return tuple(map(Rung, rungs))

    @property
    def trains_proxies(self) -> bool:
        """Whether an arm needs the transformer proxies of the papers, which read whole sources."""
        return bool({*PUBLISHED, "mde"} & {*self.arms})

    @property
    def num_random(self) -> int:
        return self.config.regmix_runs if {*SEARCHERS} & {*self.arms} else 0

    @property
    def regmix_model(self) -> RegmixModel:
        return "boosted_trees" if self.num_random >= MIN_RUNS_FOR_TREES else "linear"

    @property
    def tokens_on(self) -> str:
        if self.config.tokens_on != "auto":
            return self.config.tokens_on
        return "device" if len(self.store.tokens) <= MAX_DEVICE_TOKENS and not several() else "host"

    def run(self, role: Role) -> LanguageModelRun:
        """Runs on random mixtures have the size of the proxies, and all together their compute."""
        proxy = self.config.proxy_model
        if role != "random":
            return proxy if role == "proxy" else self.config.model
        tokens = proxy.tokens * len(self.names) // max(self.num_random, 1)
        return dataclasses.replace(proxy, tokens=max(tokens, proxy.batch_size * proxy.sequence_length))

    def proxy_store(self, run: LanguageModelRun) -> TokenStore:
        """What a transformer proxy reads: of each source the share of the target run that it trains for.

        So text repeats as often as in the target run (arXiv:2606.07597). Sources keep at least one window.
        """
        length, share = run.sequence_length, run.tokens / self.target_tokens
        wanted_K = np.minimum(share * self.sizes_K, [corpus.num_bytes for corpus in self.sources])
        wanted_K = np.maximum(wanted_K, length + 1).astype(int)
        parts = [_sample(corpus, size) for corpus, size in zip(self.sources, wanted_K.tolist(), strict=True)]
        return build_store(self.names, parts, length)

    @functools.cached_property
    def inputs(self) -> dict[str, Any]:
        """What every stage depends on, as JSON."""
        return {"sources": {corpus.name: corpus.fingerprint for corpus in self.sources}, "length": self.store.length}

    def mesh(self, num_models: int) -> Mesh:
        return models_mesh(self.config, num_models)

    # Mixtures that do not depend on any proxy -------------------------------------------------------------------

    @property
    def target_tokens(self) -> int:
        """Of the run that the weights are for."""
        return self.config.target_tokens or self.config.model.num_windows * self.config.model.sequence_length

    @property
    def sizes_K(self) -> np.ndarray:
        """Tokens of each source: `tokens` in sources.toml, or what was counted; not only what is kept."""
        stated = self._stated_tokens
        if not any(stated):
            sizes = [corpus.size for corpus in self.sources]
            tokens_K = np.array([size.bytes + size.documents for size in sizes])
            return tokens_K // self.store.length * float(self.store.length)
        if None in stated:
            missing = self.names[stated.index(None)]
            raise InputError(f"sources.toml has tokens for some sources only: add those of {missing!r}")
        return np.array(stated, np.float64)

    @property
    def _stated_tokens(self) -> list[int | None]:
        notes = [self.care.notes.get(name) for name in self.names]
        return [note.tokens if note else None for note in notes]

    @property
    def is_real_run(self) -> bool:
        """Whether the target model is the run that the weights are for, so that caps hold in its draws as well."""
        sampled = any(corpus.whole for corpus in self.sources)
        return self.config.target_tokens is None and not any(self._stated_tokens) and not sampled

    @property
    def upper_bounds_K(self) -> np.ndarray | None:
        """The largest weight that --max-epochs leaves each source in the run that the weights are for."""
        if self.config.max_epochs is None:
            return None
        if not self.is_real_run:
            return np.minimum(self.config.max_epochs * self.sizes_K / self.target_tokens, 1.0)
        return np.minimum(max_draws(self.store.windows_K, self.config.max_epochs) / self.config.model.num_windows, 1.0)

    def rule_K(self, arm: str) -> np.ndarray:
        """The weights of an arm that needs no proxies."""
        if arm in self.compared:
            return self.compared[arm]
        if arm == "unimax":
            weights_K = unimax_weights(self.sizes_K, self.target_tokens, UNIMAX_EPOCHS)
        else:
            weights_K = natural_weights(self.sizes_K) if arm == "natural" else uniform_weights(len(self.names))
        return self._capped(weights_K)

    def _capped(self, weights_K: np.ndarray) -> np.ndarray:
        return weights_K if self.upper_bounds_K is None else fit_under_caps(weights_K, self.upper_bounds_K)

    def random_RxK(self, seed: int) -> np.ndarray:
        """The random mixtures of one seed, for random_search and regmix."""
        least = 1 / self.run("random").num_windows  # a smaller weight draws nothing
        return random_mixtures(self.num_random, self.sizes_K, seed, minimum=least, upper_bounds_K=self.upper_bounds_K)


def make_plan(
    config: TextMixture, sources: tuple[Corpus, ...], targets: tuple[Target, ...], care: Care | None = None
) -> Plan:
    """Everything that can be found wrong before compute is spent is an InputError here."""
    store = build_store([c.name for c in sources], [c.documents for c in sources], config.model.sequence_length)
    compared = read_compared(
        config.compare, store.names, (*ALL_ARMS, COMBINED, "none", "recommended", "sources", "unit")
    )
    plan = Plan(config, sources, targets, store, care or Care(), compared)
    natural_weights(plan.sizes_K)  # for its errors
    if plan.tokens_on == "device" and len(store.tokens) > MAX_DEVICE_TOKENS:
        raise InputError(f"{len(store.tokens)} tokens are too many for --tokens-on device: use host, or auto")
    whole_mesh(config)  # refuses what is not there
    bounds_K = plan.upper_bounds_K
    if bounds_K is not None and bounds_K.sum() < 1:
        raise InputError(
            f"--max-epochs {config.max_epochs:g} allows at most {bounds_K.sum():.2f} of the target run's windows in"
            f" total: raise it, add text, or lower --model.tokens ({config.model.tokens})"
        )
    for name, weights_K in compared.items():
        if bounds_K is None:
            break
        over_K = weights_K - bounds_K
        if over_K.max() > 1e-9:
            source = int(over_K.argmax())
            raise InputError(
                f"--compare {name}: the weight of {plan.names[source]!r} is {weights_K[source]:.3f}, but --max-epochs"
                f" {config.max_epochs:g} allows {bounds_K[source]:.3f}: leave out one of the two"
            )
    try:
        for seed in range(config.seeds if plan.num_random else 0):
            plan.random_RxK(seed)
    except InputError as error:
        raise InputError(
            f"random mixtures: {error} (raise --max-epochs or --proxy-model.tokens, or lower --regmix-runs)"
        ) from error
    return plan


def _sample(corpus: Corpus, num_bytes: int) -> list[bytes]:
    """Random documents of so many bytes; the last of them is cut off where they exceed that."""
    documents, room = list[bytes](), num_bytes
    for index in hash_order(range(corpus.num_documents), corpus.fingerprint):
        if room <= 0:
            break
        documents.append(corpus.documents[index][:room])
        room -= len(documents[-1])
    return documents
