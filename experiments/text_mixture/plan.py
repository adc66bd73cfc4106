"""What a run of the text experiment will do and what that costs, checked before anything is computed."""

import dataclasses
import functools
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import Mesh

from experiments.harness.devices import models_mesh, whole_mesh
from experiments.harness.language_model_stages import scoring_flops, training_flops
from experiments.harness.processes import several
from experiments.reporting.markdown import plural, share_of, si_count
from experiments.text_mixture.config import TextMixture
from experiments.text_mixture.data import Care, Target
from mixmin_jax.data.mixing import max_draws
from mixmin_jax.data.text.documents import Corpus
from mixmin_jax.data.text.tokens import TokenStore, build_store
from mixmin_jax.errors import InputError
from mixmin_jax.mixture.baselines.random_search import random_mixtures
from mixmin_jax.mixture.baselines.regmix import MIN_RUNS_FOR_TREES, RegmixModel
from mixmin_jax.mixture.baselines.rules import fit_under_caps, natural_weights, uniform_weights
from mixmin_jax.training.language_model import LanguageModelRun, num_parameters
from mixmin_jax.training.proxies import MAX_DEVICE_TOKENS

SHARED_ARMS = ("uniform", "natural")  # the same for every target: trained once, scored on all
OWN_ARMS = ("mixmin", "mixmin_token", "random_search", "regmix")
ARMS = ("mixmin", "mixmin_token", "uniform", "natural", "random_search", "regmix")  # the order of every report
SOLVED_ARMS = ("mixmin", "mixmin_token")  # their weights come from the solver
COMBINED = "combined"  # the arm of --combine: one mixture for all targets
Role = Literal["proxy", "target"]  # of a trained model


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """Everything that the stages need; made without computing anything."""

    config: TextMixture
    sources: tuple[Corpus, ...]
    targets: tuple[Target, ...]
    store: TokenStore
    care: Care

    @property
    def names(self) -> tuple[str, ...]:
        return self.store.names

    @property
    def arms(self) -> tuple[str, ...]:
        """Every arm of a target, in the order of every report."""
        return ARMS if self.config.combine is None else (*ARMS, COMBINED)

    @property
    def num_random(self) -> int:
        return self.config.regmix_runs or len(self.names)

    @property
    def regmix_model(self) -> RegmixModel:
        return "boosted_trees" if self.num_random >= MIN_RUNS_FOR_TREES else "linear"

    @property
    def tokens_on(self) -> str:
        if self.config.tokens_on != "auto":
            return self.config.tokens_on
        return "device" if len(self.store.tokens) <= MAX_DEVICE_TOKENS and not several() else "host"

    def run(self, role: Role) -> LanguageModelRun:
        return self.config.proxy if role == "proxy" else self.config.model

    @functools.cached_property
    def inputs(self) -> dict[str, Any]:
        """What every stage depends on, as JSON."""
        return {"sources": {corpus.name: corpus.fingerprint for corpus in self.sources}, "length": self.store.length}

    def mesh(self, num_models: int) -> Mesh:
        return models_mesh(self.config, num_models)

    # Mixtures that do not depend on any proxy -------------------------------------------------------------------

    @property
    def upper_bounds_K(self) -> np.ndarray | None:
        """The largest weight that --max-epochs leaves each source in a target run."""
        if self.config.max_epochs is None:
            return None
        return np.minimum(max_draws(self.store.windows_K, self.config.max_epochs) / self.config.model.num_windows, 1.0)

    @property
    def natural_K(self) -> np.ndarray:
        return self._capped(natural_weights(self.store.windows_K))

    @property
    def uniform_K(self) -> np.ndarray:
        return self._capped(uniform_weights(len(self.names)))

    def _capped(self, weights_K: np.ndarray) -> np.ndarray:
        return weights_K if self.upper_bounds_K is None else fit_under_caps(weights_K, self.upper_bounds_K)

    def random_RxK(self, seed: int) -> np.ndarray:
        """The random mixtures of one seed, for random_search and regmix."""
        least = 1 / self.config.proxy.num_windows  # a smaller weight draws nothing
        return random_mixtures(
            self.num_random, self.store.windows_K, seed, minimum=least, upper_bounds_K=self.upper_bounds_K
        )

    # Costs in FLOPs -----------------------------------------------------------------------------------------------

    def training_flops(self, role: Role) -> float:
        """One model."""
        return training_flops(self.run(role))

    def scoring_flops(self, role: Role, documents: list[bytes]) -> float:
        """One model's forward passes over some documents."""
        return scoring_flops(self.run(role), documents)

    def flops_of(self, target: Target) -> dict[str, float]:
        """One target: what finding weights costs in one seed, one target run, and everything in all seeds."""
        fit, test = (self.scoring_flops("proxy", target.documents(part)) for part in ("fit", "test"))
        proxy, model = self.training_flops("proxy"), self.training_flops("target")
        num_proxies = len(self.names) + self.num_random
        arms = len(self.arms) * (model + self.scoring_flops("target", target.documents("test")))
        return {
            "proxies": len(self.names) * (proxy + fit),
            "random_mixtures": self.num_random * (proxy + fit),
            "target": model,
            "total": self.config.seeds * (num_proxies * (proxy + fit + test) + arms),
        }

    @functools.cached_property
    def flops_in_all(self) -> float:
        """Everything, with what several targets share counted once."""
        num_proxies, more = len(self.names) + self.num_random, len(self.targets) - 1
        shared = len(self.arms) - len(OWN_ARMS)
        twice = num_proxies * self.training_flops("proxy") + shared * self.training_flops("target")
        return sum(self.flops_of(target)["total"] for target in self.targets) - more * self.config.seeds * twice


def make_plan(
    config: TextMixture, sources: tuple[Corpus, ...], targets: tuple[Target, ...], care: Care | None = None
) -> Plan:
    """Everything that can be found wrong before compute is spent is an InputError here."""
    store = build_store([c.name for c in sources], [c.documents for c in sources], config.model.sequence_length)
    plan = Plan(config, sources, targets, store, care or Care())
    if plan.tokens_on == "device" and len(store.tokens) > MAX_DEVICE_TOKENS:
        raise InputError(f"{len(store.tokens)} tokens are too many for --tokens-on device: use host, or auto")
    whole_mesh(config)  # refuses what is not there
    bounds_K = plan.upper_bounds_K
    if bounds_K is not None and bounds_K.sum() < 1:
        raise InputError(
            f"--max-epochs {config.max_epochs:g} allows at most {bounds_K.sum():.2f} of the target run's windows in"
            f" total: raise it, add text, or lower --model.tokens ({config.model.tokens})"
        )
    try:
        for seed in range(config.seeds):
            plan.random_RxK(seed)
    except InputError as error:
        raise InputError(
            f"random mixtures: {error} (raise --max-epochs or --proxy.tokens, or lower --regmix-runs)"
        ) from error
    return plan


def describe_plan(plan: Plan) -> str:
    """The plan in words: data, models, stages with their tokens and FLOPs."""
    config = plan.config
    lines = ["This is a demonstration: built-in text, small models."] if config.demonstration else []
    lines.append(f"Sources ({len(plan.sources)}):")
    epochs_K = plan.uniform_K * config.model.num_windows / plan.store.windows_K
    for corpus, epochs in zip(plan.sources, epochs_K, strict=True):
        dropped = len(plan.care.deduplicated.dropped[corpus.name]) if plan.care.deduplicated else 0
        without = f" without {plural(dropped, 'near-duplicate')} of the target" if dropped else ""
        lines.append(f"  {_describe_corpus(corpus)}{without}; `uniform` asks for {epochs:.2f} epochs")
    lines += [f"  {name:<20} left out: allowed = false" for name in plan.care.left_out]
    lines.append("Targets:")
    for target in plan.targets:
        lines.append(
            f"  {_describe_corpus(target.corpus)}; weights fitted on {len(target.fit)},"
            f" losses reported on {len(target.test)} others"
        )
    arms = len(plan.arms) + len(OWN_ARMS) * (len(plan.targets) - 1)
    proxies = f"proxies ({len(plan.names)} sources, {plan.num_random} random mixtures)"
    lines.append(f"Training, {plural(config.seeds, 'seed')}:")
    rows: list[tuple[int, str, Role]] = [
        (len(plan.names) + plan.num_random, proxies, "proxy"),
        (arms, "target runs (arms)", "target"),
    ]
    for count, what, role in rows:
        run, flops = plan.run(role), plan.training_flops(role)
        size = num_parameters(jax.eval_shape(run.init, jax.random.key(0)).params)
        tokens = run.num_windows * run.sequence_length
        lines.append(
            f"  {count * config.seeds:>4} {what}: {si_count(size)} parameters, {si_count(tokens)} tokens and"
            f" {si_count(flops)}FLOPs each; {si_count(tokens * count * config.seeds)} tokens in all"
        )
    for target in plan.targets:
        flops_of = plan.flops_of(target)
        cost = share_of(flops_of["proxies"] / flops_of["target"], "the FLOPs of one target run")
        lines.append(f"Finding weights for {target.name} costs {cost}.")
    lines.append(f"In all {si_count(plan.flops_in_all)}FLOPs, scoring included.")
    return "\n".join(lines)


def _describe_corpus(corpus: Corpus) -> str:
    skipped = f" ({corpus.num_skipped} empty ones skipped)" if corpus.num_skipped else ""
    return f"{corpus.name:<20} {corpus.num_documents:>7} documents {corpus.num_bytes:>12} bytes{skipped}"
