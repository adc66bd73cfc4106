"""What a run will do and what that costs, checked before anything is computed."""

import dataclasses
import functools
from typing import Any

from jax.sharding import Mesh

from experiments.filter_and_mix.config import FilterAndMix
from experiments.filter_and_mix.data import Texts, read
from experiments.filter_and_mix.limits import limits_of
from experiments.harness.devices import models_mesh, whole_mesh
from experiments.harness.language_model_stages import scoring_flops, training_flops
from experiments.harness.options import numbers_of
from experiments.reporting.json_files import to_builtins
from experiments.reporting.markdown import plural, share_of, si_count
from experiments.text_mixture.data import Target
from mixmin_jax.data.text.tokens import build_store
from mixmin_jax.training.ngram_proxies import ngram_operations


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """Everything that the stages need."""

    config: FilterAndMix
    texts: Texts

    @property
    def target_tokens(self) -> int:
        """Of a target run."""
        return self.config.model.num_windows * self.config.model.sequence_length

    @functools.cached_property
    def inputs(self) -> dict[str, Any]:
        """What every stage depends on, as JSON."""
        return {"sources": {source.name: source.fingerprint for source in self.texts.sources}}

    @functools.cached_property
    def identity(self) -> dict[str, Any]:
        """What all numbers of a run follow from, as JSON."""
        elsewhere = (
            *("sources", "sources_info", "pile", "target", "field", "max_unreadable", "source_bytes"),
            *("drop_duplicates", "noise", "write_buckets", "price_per_hour"),
        )
        return numbers_of(to_builtins(self.config), elsewhere) | {
            "data": self.inputs["sources"],
            "noise": self.config.noise_share,
            "targets": {target.name: target.corpus.fingerprint for target in self.texts.targets},
        }

    def mesh(self, num_models: int) -> Mesh:
        return models_mesh(self.config, num_models)

    # Costs in FLOPs; of n-grams: operations ---------------------------------------------------------------------

    @property
    def target_flops(self) -> float:
        """One target run."""
        return training_flops(self.config.model)

    def quality_flops(self, target: Target) -> float:
        """Scoring all sources under the n-grams of the target."""
        fit, in_all = sum(map(len, target.documents("fit"))), sum(source.num_bytes for source in self.texts.sources)
        return 0.0 if self.config.quality_field else ngram_operations([fit], in_all, self.config.ngram_order)

    def scores_flops(self, target: Target, bytes_K: list[int]) -> float:
        """Counting the n-grams of some parts, and scoring the fit part of a target under each."""
        fit = sum(map(len, target.documents("fit")))
        return ngram_operations(bytes_K, fit, self.config.ngram_order)

    @property
    def flops_in_all(self) -> float:
        """Trainings and their scores."""
        arms = len(self.config.trained_arms) * self.config.seeds
        tests = [scoring_flops(self.config.model, target.documents("test")) for target in self.texts.targets]
        return arms * sum(self.target_flops + test for test in tests)


def make_plan(config: FilterAndMix) -> Plan:
    """Everything that can be found wrong before compute is spent is an InputError here."""
    texts = read(config)
    whole_mesh(config)  # refuses what is not there
    plan = Plan(config, texts)
    names = [source.name for source in texts.sources]
    store = build_store(names, [source.documents for source in texts.sources], config.model.sequence_length)
    # limits of sources are those of their buckets together
    limits_of(config, names, names, store.windows_K * float(store.length), texts.notes, plan.target_tokens).check()
    return plan


def describe_plan(plan: Plan) -> str:
    """The plan in words."""
    config, texts = plan.config, plan.texts
    lines = ["This is a demonstration: built-in text, small models."] if config.demonstration else []
    lines.append(f"Sources ({len(texts.sources)}), each cut by {config.buckets}:")
    for source in texts.sources:
        noise = int(texts.is_noise[source.name].sum())
        said = f", {plural(noise, 'document')} replaced by noise" if noise else ""
        lines.append(f"  {source.name:<20} {source.num_documents:>7} documents {source.num_bytes:>12} bytes{said}")
        lines += [f"    {notice}" for notice in source.notices]
    lines += [f"  {name:<20} left out: allowed = false" for name in texts.left_out]
    lines.append("Targets:")
    for target in texts.targets:
        fit = sum(map(len, target.documents("fit")))
        lines.append(
            f"  {target.name:<20} weights fitted on {len(target.fit)} documents ({fit} bytes), losses reported on"
            f" {len(target.test)} others"
        )
        lines += [f"    {notice}" for notice in target.corpus.notices]
    first = texts.targets[0]
    found = plan.quality_flops(first) + plan.scores_flops(first, [source.num_bytes for source in texts.sources])
    lines.append(
        f"Finding weights costs about {share_of(found / plan.target_flops, 'the FLOPs of one target run')} for each"
        " target."
    )
    arms = config.trained_arms
    if arms:
        lines.append(
            f"Target runs: {', '.join(arms)}; {plural(config.seeds, 'seed')}; {si_count(plan.target_tokens)} tokens and"
            f" {si_count(plan.target_flops)}FLOPs each, {si_count(plan.flops_in_all)}FLOPs in all."
        )
    return "\n".join(lines)
