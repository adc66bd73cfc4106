"""What a run that joins both papers will do and what that costs, checked before anything is computed.

Axes: K sources.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.harness.devices import whole_mesh
from experiments.harness.language_model_stages import scoring_flops, training_flops
from experiments.harness.options import numbers_of
from experiments.mixed_mixtraining.config import (
    ARMS,
    CONVENTIONAL,
    JOINT_ARMS,
    MIXTURES,
    SSL_ARMS,
    SUBJECT,
    MixedMixTraining,
)
from experiments.mixed_mixtraining.data import (
    Task,
    as_documents,
    device_store,
    labeled,
    mixed_fetch,
    read_text,
)
from experiments.mixtraining.domain import Labels, model_record
from experiments.mixtraining.text.model import cached_learner, text_model
from experiments.reporting.json_files import to_builtins
from experiments.reporting.render import report
from mixmin_jax.data.mixing import make_plan as plan_draws
from mixmin_jax.data.text.documents import Corpus
from mixmin_jax.data.text.source_notes import SourceNote
from mixmin_jax.data.text.tokens import TokenStore, build_store
from mixmin_jax.errors import InputError
from mixmin_jax.models.text_encoder import TextEncoderConfig
from mixmin_jax.training.mixtraining import Fetch, Labeled, Learner, step_flops
from mixmin_jax.training.schedule import SL, Phase, StepPlan, matched, phase_steps, total_flops


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """Everything that the stages need."""

    config: MixedMixTraining
    sources: tuple[Corpus, ...]
    tasks: tuple[Task, ...]
    store: TokenStore  # of the sources
    notes: Mapping[str, SourceNote]  # on all sources that were given, or empty

    @property
    def names(self) -> tuple[str, ...]:
        return self.store.names

    def labeled(self, seed: int) -> tuple[Labels, ...]:
        """The labeled windows of each task."""
        return tuple(labeled(task, self.config, seed) for task in self.tasks)

    # The model ----------------------------------------------------------------------------------------------------

    @functools.cached_property
    def model(self) -> TextEncoderConfig:
        classes = tuple(len(task.classes) for task in self.tasks)
        return text_model(self.config.model, self.config.length, classes, self.config.pool, self.config.bfloat16)

    @property
    def learner(self) -> Learner:
        """Of SSL and SL steps."""
        return cached_learner(self.model, self.config.ssl_mask, self.config.ssl_sees == "all_tokens", False)

    @property
    def joint(self) -> dict[str, Any]:
        """What tells `train` and `step_flops` how joint steps go."""
        two_passes = self.config.joint == "two_passes"  # an SSL step and an SL step, then
        seen = self.config.ssl_sees if two_passes else self.config.joint
        joint = cached_learner(self.model, self.config.joint_mask, seen == "all_tokens", True)
        return {"joint": joint, "two_passes": two_passes}

    @functools.cached_property
    def model_record(self) -> dict[str, Any]:
        """Name and numbers of parameters, among others."""
        return model_record(self.config.model, self.model, self.learner)

    # What each arm trains on --------------------------------------------------------------------------------------

    @property
    def fetch(self) -> Fetch:
        return mixed_fetch(self.config.batch_size, self.config.ssl_batch_size, self.config.length)

    def data(self, arm: str, weights_K: np.ndarray, examples: tuple[Labels, ...], seed: int) -> tuple[Any, ...]:
        """What `fetch` is given; the sources have `weights_K`, which counts where `mixture_of` the arm is one."""
        documents = [*(corpus.documents for corpus in self.sources), as_documents(examples)]
        store = build_store([*self.names, "labeled windows"], documents, self.config.length)  # a source more
        weights = np.append(np.zeros(len(weights_K)), 1.0) if arm == "target_text" else np.append(weights_K, 0.0)
        order_key, data_key = jax.random.split(jax.random.fold_in(jax.random.key(seed), 1))
        # an arm without self-supervision has the draws of `mixmin`, which it does not read
        num_steps = int((self.steps(arm if arm in SSL_ARMS else "mixmin").phase != SL).sum())
        draws = plan_draws(order_key, weights, store.windows_K, num_steps * self.config.ssl_batch_size)
        tasks = tuple(Labeled(task.inputs, jnp.asarray(task.labels_N)) for task in examples)
        return data_key, draws, *device_store(store), tasks

    def steps(self, arm: str) -> StepPlan:
        """The steps of an arm, with a schedule's epochs as steps.

        Those of JOINT_ARMS are the same; `sl` has all their steps with labels, `sl_matched` their FLOPs. CONVENTIONAL
        has their FLOPs as well, by SSL and then SL steps in the proportion that the schedule joins them from.
        """
        schedule = self.config.schedule()
        if arm in JOINT_ARMS:
            return schedule.plan(1)
        segments: Any = [("sl", self.config.sl_steps)]
        if arm == CONVENTIONAL:
            segments = dataclasses.replace(schedule, mix_ratio=0.0).segments()
        if arm != "sl":
            budget = total_flops(schedule.plan(1), self.step_flops)
            try:
                segments = matched(segments, 1, self.step_flops, budget)
            except InputError as error:
                raise InputError(f"matched compute, {arm}: {error}; raise --ssl-steps or --sl-steps") from error
        return schedule.plan(1, segments)

    # Costs in FLOPs -----------------------------------------------------------------------------------------------

    @functools.cached_property
    def step_flops(self) -> dict[Phase, float]:
        natural_K = self.store.windows_K / self.store.windows_K.sum()
        data = self.data("natural", natural_K, self.labeled(0), 0)
        return step_flops(self.learner, self.fetch, data, self.config.optimizer, **self.joint)

    def flops(self, arm: str) -> float:
        """One training."""
        return total_flops(self.steps(arm), self.step_flops)

    @functools.cached_property
    def proxy_flops(self) -> float:
        """Training the proxies of one seed and scoring the labeled windows with them."""
        one = training_flops(self.config.proxy) + scoring_flops(self.config.proxy, as_documents(self.labeled(0)))
        return len(self.names) * one

    @property
    def flops_in_all(self) -> float:
        return self.config.seeds * (self.proxy_flops + sum(map(self.flops, ARMS)))

    # Identity -----------------------------------------------------------------------------------------------------

    @functools.cached_property
    def source_inputs(self) -> dict[str, Any]:
        return {"sources": {corpus.name: corpus.fingerprint for corpus in self.sources}, "length": self.config.length}

    @functools.cached_property
    def identity(self) -> dict[str, Any]:
        """What all numbers of a run follow from, as JSON."""
        return config_record(self.config) | {
            "data": self.source_inputs["sources"],
            "tasks": [{corpus.name: corpus.fingerprint for corpus in task.corpora} for task in self.tasks],
        }


def mixture_of(arm: str) -> str | None:
    """Which of MIXTURES the self-supervision of an arm reads; None: no source."""
    return SUBJECT if arm == CONVENTIONAL else arm if arm in MIXTURES else None


def config_record(config: MixedMixTraining) -> dict[str, Any]:
    """The options that change numbers, as JSON."""
    return numbers_of(to_builtins(config), ("sources", "sources_info", "task", "field"))  # data by its hash


def make_plan(config: MixedMixTraining) -> Plan:
    """Everything that can be found wrong before compute is spent is an InputError here."""
    sources, tasks, notes = read_text(config)
    store = build_store([c.name for c in sources], [c.documents for c in sources], config.length)
    plan = Plan(config, sources, tasks, store, notes)
    whole_mesh(config)  # refuses what is not there
    _ = plan.flops_in_all  # lowers every kind of step, and plans the draws
    return plan


def describe_plan(plan: Plan) -> str:
    """The plan in words, for --dry-run and the top of a log."""
    arms = {arm: phase_steps(plan.steps(arm)) for arm in ARMS}
    return report("mixed_mixtraining_plan", "", {}, plan=plan, labeled=plan.labeled(0), arms=arms).markdown.strip()
