"""What a run of the text experiment will do and what that costs, before anything is computed."""

import dataclasses
import functools
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import Mesh

from experiments.text_mixture_config import TextMixture
from experiments.text_mixture_data import Target
from mixmin_jax.data.documents import Corpus
from mixmin_jax.data.tokens import TokenStore, build_store
from mixmin_jax.errors import InputError
from mixmin_jax.markdown import si_count
from mixmin_jax.mixture.baselines import fit_under_caps, natural_weights, uniform_weights
from mixmin_jax.training.language_model import LanguageModelRun, num_parameters, scoring_flops_per_row, training_flops
from mixmin_jax.training.mesh import make_mesh, source_devices
from mixmin_jax.training.scoring import count_windows

SHARED_ARMS = ("uniform", "natural")  # the same for every target: trained once, scored on all
OWN_ARMS = ("mixmin", "mixmin_token", "random_search", "regmix")
ARMS = ("mixmin", "mixmin_token", "uniform", "natural", "random_search", "regmix")  # the order of every report
LIGHTGBM_RUNS = 64  # with fewer random mixtures RegMix fits a linear model


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """Everything that the stages need; made without computing anything."""

    config: TextMixture
    sources: tuple[Corpus, ...]
    targets: tuple[Target, ...]
    store: TokenStore

    @property
    def names(self) -> tuple[str, ...]:
        return self.store.names

    @property
    def num_random(self) -> int:
        return self.config.regmix_runs or len(self.names)

    @property
    def regmix_model(self) -> Literal["linear", "lightgbm"]:
        return "lightgbm" if self.num_random >= LIGHTGBM_RUNS else "linear"

    @property
    def upper_bounds_K(self) -> np.ndarray | None:
        """The largest weight that --max-epochs leaves each source in a target run."""
        if self.config.max_epochs is None:
            return None
        draws_K = np.floor(self.config.max_epochs * self.store.windows_K)
        return np.minimum(draws_K / self.config.model.num_windows, 1.0)

    @property
    def natural_K(self) -> np.ndarray:
        return self._capped(natural_weights(self.store.windows_K))

    @property
    def uniform_K(self) -> np.ndarray:
        return self._capped(uniform_weights(len(self.names)))

    def _capped(self, weights_K: np.ndarray) -> np.ndarray:
        return weights_K if self.upper_bounds_K is None else fit_under_caps(weights_K, self.upper_bounds_K)

    def mesh(self, num_models: int) -> Mesh:
        data = self.config.mesh_data
        present = self.config.mesh_source or max(jax.device_count() // data, 1)
        return make_mesh(source_devices(num_models, present), data)

    @functools.cached_property
    def inputs(self) -> dict[str, Any]:
        """What every stage depends on, as JSON."""
        return {"sources": {corpus.name: corpus.fingerprint for corpus in self.sources}, "length": self.store.length}

    # Costs in FLOPs -----------------------------------------------------------------------------------------------

    @functools.cached_property
    def proxy_flops(self) -> float:
        return training_flops(self.config.proxy)

    @functools.cached_property
    def target_flops(self) -> float:
        return training_flops(self.config.model)

    def scoring_flops(self, run: LanguageModelRun, documents: list[bytes]) -> float:
        """One model's forward passes over some documents."""
        return count_windows(documents, run.sequence_length) * _row_flops(run)

    @functools.cached_property
    def flops_of_finding(self) -> dict[str, float]:
        """One seed, one target: training proxies or random mixtures and scoring them on the fit part."""
        fit = float(
            np.mean([self.scoring_flops(self.config.proxy, target.documents("fit")) for target in self.targets])
        )
        return {
            "proxies": len(self.names) * (self.proxy_flops + fit),
            "random_mixtures": self.num_random * (self.proxy_flops + fit),
        }

    @functools.cached_property
    def flops_in_all(self) -> float:
        config, models = self.config, len(self.names) + self.num_random
        one_seed = models * self.proxy_flops
        one_seed += (len(SHARED_ARMS) + len(OWN_ARMS) * len(self.targets)) * self.target_flops
        for target in self.targets:
            one_seed += models * self.scoring_flops(config.proxy, target.documents("fit") + target.documents("test"))
            one_seed += len(ARMS) * self.scoring_flops(config.model, target.documents("test"))
        return config.seeds * one_seed


@functools.lru_cache
def _row_flops(run: LanguageModelRun) -> float:
    return scoring_flops_per_row(run)


def make_plan(config: TextMixture, sources: tuple[Corpus, ...], targets: tuple[Target, ...]) -> Plan:
    """Raises InputError for a source shorter than a window, caps that leave too little, or missing devices."""
    store = build_store([c.name for c in sources], [c.documents for c in sources], config.model.sequence_length)
    plan = Plan(config, sources, targets, store)
    bounds_K = plan.upper_bounds_K
    if bounds_K is not None and bounds_K.sum() < 1:
        raise InputError(
            f"--max-epochs {config.max_epochs:g} allows at most {bounds_K.sum():.2f} of the target run's windows in"
            f" total: raise it, add text, or lower --model.tokens ({config.model.tokens})"
        )
    make_mesh(config.mesh_source or 1, config.mesh_data)  # refuses what is not there
    return plan


def describe_plan(plan: Plan) -> str:
    """The plan in words: data, models, stages with their tokens and FLOPs."""
    config = plan.config
    lines = ["This is a demonstration: built-in text, small models."] if config.demonstration else []
    lines.append(f"Sources ({len(plan.sources)}):")
    for corpus, windows in zip(plan.sources, plan.store.windows_K, strict=True):
        epochs = plan.uniform_K[plan.names.index(corpus.name)] * config.model.num_windows / windows
        lines.append(
            f"  {corpus.name:<20} {corpus.num_documents:>7} documents {corpus.num_bytes:>12} bytes;"
            f" `uniform` asks for {epochs:.2f} epochs"
        )
    lines.append("Targets:")
    for target in plan.targets:
        lines.append(
            f"  {target.name:<20} {target.corpus.num_documents:>7} documents {target.corpus.num_bytes:>12} bytes;"
            f" weights fitted on {len(target.fit)} documents, losses reported on {len(target.test)} others"
        )
    models = len(plan.names) + plan.num_random
    arms = len(SHARED_ARMS) + len(OWN_ARMS) * len(plan.targets)
    lines.append(f"Training, {config.seeds} seed{'s' * (config.seeds > 1)}:")
    for count, what, run in (
        (models, f"proxies ({len(plan.names)} sources, {plan.num_random} random mixtures)", config.proxy),
        (arms, "target runs (arms)", config.model),
    ):
        size = num_parameters(jax.eval_shape(run.init, jax.random.key(0)).params)
        tokens, flops = run.num_windows * run.sequence_length, training_flops(run)
        lines.append(
            f"  {count * config.seeds:>4} {what}: {si_count(size)} parameters, {si_count(tokens)} tokens and"
            f" {si_count(flops)}FLOPs each; {si_count(tokens * count * config.seeds)} tokens in all"
        )
    proxies = plan.flops_of_finding["proxies"]
    lines.append(f"Finding weights costs {proxies / plan.target_flops:.0%} of the FLOPs of one target run.")
    lines.append(f"In all {si_count(plan.flops_in_all)}FLOPs, scoring included.")
    return "\n".join(lines)
