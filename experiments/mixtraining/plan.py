"""What a MixTraining experiment runs: every arm under each budget, fraction and seed, as trials with a plan."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from experiments.mixtraining.config import ARMS, FINETUNE, Arm, ArmSettings, Budget, MixTrainingOptions, Variant
from experiments.mixtraining.domain import Domain, Labels
from experiments.mixtraining.trained_parts import with_trained_parts
from experiments.mixtraining.unlabeled import LABELED_ALONE, has_pool, notices, pool_fetch, pool_of, pool_size
from mixmin_jax.data.epochs import steps_per_epoch
from mixmin_jax.data.images.image_sets import stratified
from mixmin_jax.errors import InputError
from mixmin_jax.training.mixtraining import Fetch, Learner, OptimizerSettings, step_flops
from mixmin_jax.training.schedule import PHASES, Number, Phase, Segment, StepPlan, matched, total_flops

CELLS: tuple[tuple[Arm, Budget], ...] = (  # ssl_then_sl first: what the others are compared with
    ("ssl_then_sl", "schedule"),
    ("mixtraining", "schedule"),
    ("sl", "schedule"),
    ("mixtraining", "cheaper"),
    ("mixtraining", "matched"),
    ("sl", "matched"),
    ("ssl_then_sl", LABELED_ALONE),
    ("mixtraining", LABELED_ALONE),
)
START_CELLS: tuple[tuple[Arm, Budget], ...] = ((FINETUNE, "schedule"), (FINETUNE, "matched"))  # with a start


def stage_name(arm: Arm, budget: Budget, fraction: float, seed: int) -> str:
    """Of the stage that is a run."""
    return f"{arm}-{budget}-{fraction:g}-seed{seed}"


@dataclasses.dataclass(frozen=True, eq=False)
class Trial:
    """What determines a run, apart from its domain and the options that all runs share."""

    arm: Arm
    budget: Budget
    settings: ArmSettings
    fraction: float
    seed: int
    epochs: tuple[Segment, ...]
    plan: StepPlan
    num_pool: int | None = None  # examples that SSL sees, where they are others than SL's

    @property
    def name(self) -> str:
        return stage_name(self.arm, self.budget, self.fraction, self.seed)

    @property
    def inputs(self) -> dict[str, Any]:
        """The trial as JSON can hold it; runs that are the same have the same, whatever their budget is called."""
        found = {
            "arm": self.arm,
            "settings": self.settings.of(self.arm),
            "epochs": [list(segment) for segment in self.epochs],
            "fraction": self.fraction,
            "seed": self.seed,
        }
        ssl_sees = "labeled" if self.budget == LABELED_ALONE else self.num_pool
        return found if self.num_pool is None else found | {"ssl_examples": ssl_sees}


@dataclasses.dataclass(frozen=True, eq=False)
class Study:
    """A domain, and the options under which its arms are compared."""

    domain: Domain
    options: MixTrainingOptions
    _rows: dict[tuple[float, int], np.ndarray] = dataclasses.field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.options.final == FINETUNE and self.domain.start is None:
            raise InputError(f"--final {FINETUNE} starts from a pretrained model, and none is given with --init")

    @property
    def _times_cheaper(self) -> dict[Budget, float]:
        """What the FLOPs of ssl_then_sl are divided by, for the budgets that are asked for and are a share of them."""
        asked: dict[Budget, float] = {"matched": 1.0} if self.options.matched else {}
        asked |= {LABELED_ALONE: 1.0} if self.options.matched and self.has_pool else {}
        return asked | ({"cheaper": self.options.times_cheaper} if self.options.times_cheaper else {})

    @property
    def arms(self) -> tuple[Arm, ...]:
        return ARMS if self.domain.start is None else (*ARMS, FINETUNE)

    def rows(self, fraction: float, seed: int) -> np.ndarray:
        """Which training examples a fraction and seed has: as many of each class as the whole, in proportion."""
        if (fraction, seed) not in self._rows:
            labels_N, classes = self.domain.train.labels_N, self.domain.classes
            try:
                self._rows[fraction, seed] = stratified(labels_N, fraction, seed, classes)
            except InputError as error:
                raise InputError(f"--{self.options.shares_option}: {error}") from error
        return self._rows[fraction, seed]

    def subset(self, fraction: float, seed: int) -> Labels:
        return self.domain.train.take(self.rows(fraction, seed))

    @property
    def has_pool(self) -> bool:
        return has_pool(self.domain, self.options)

    @property
    def fetch(self) -> Fetch:
        return pool_fetch(self.options.batch_size, self.domain.augment) if self.has_pool else self.domain.fetch

    @property
    def notices(self) -> tuple[str, ...]:
        return notices(self.domain, self.options)

    def num_pool(self, fraction: float, seed: int) -> int | None:
        """How many examples SSL sees; None: those of SL."""
        return pool_size(self.domain, self.options, self.rows(fraction, seed)) if self.has_pool else None

    def data(self, fraction: float, seed: int, budget: Budget = "schedule") -> tuple[np.ndarray, ...]:
        """What `fetch` reads beside its keys: inputs, labels, and the pool if SSL sees one."""
        examples = self.subset(fraction, seed)
        data = examples.inputs, examples.labels_N
        if not self.has_pool or budget == LABELED_ALONE:
            return data
        return *data, pool_of(self.domain, self.options, self.rows(fraction, seed))

    def steps_per_epoch(self, fraction: float, seed: int) -> int:
        """Of a pass over all that SSL sees, for SSL and SL alike."""
        rows = self.num_pool(fraction, seed) or len(self.rows(fraction, seed))
        try:
            return steps_per_epoch(rows, self.options.batch_size)
        except InputError as error:
            place = f"--{self.options.shares_option} {fraction:g} of {len(self.domain.train):,} examples"
            raise InputError(f"{place}: {error}") from error

    def learners(self, settings: ArmSettings, joint: Variant | None = None) -> tuple[Learner, dict[str, Any]]:
        """The learner of SSL and SL steps, and what tells `train` and `step_flops` how joint steps go."""
        joint = joint or self.options.joint
        learner = self._learner(settings.ssl_mask, self.options.ssl_sees == "all_tokens", False)
        if joint == "two_passes":  # the reference: an SSL step and an SL step on one batch
            return learner, {"joint": learner, "two_passes": True}
        return learner, {"joint": self._learner(settings.joint_mask, joint == "all_tokens", True)}

    def _learner(self, mask: float, mask_tokens: bool, joint_only: bool) -> Learner:
        return with_trained_parts(self.domain.learner(mask, mask_tokens, joint_only), self.options.train)

    def step_flops(
        self, settings: ArmSettings, joint: Variant | None = None, budget: Budget = "schedule"
    ) -> dict[Phase, float]:
        """FLOPs of a step of each phase, which do not depend on how many examples there are."""
        learner, jointly = self.learners(settings, joint)
        train = self.domain.train
        pool = [train.inputs] if self.has_pool and budget != LABELED_ALONE else []
        shapes = tuple(jax.ShapeDtypeStruct(each.shape, each.dtype) for each in (train.inputs, train.labels_N, *pool))
        given = learner, self.fetch, self.options.optimizer, shapes
        return {phase: _step_flops(phase, *given, **(jointly if phase == "joint" else {})) for phase in PHASES}

    def cost(self, trial: Trial) -> float:
        """FLOPs of its training."""
        return total_flops(trial.plan, self.step_flops(trial.settings, budget=trial.budget))

    def trial(
        self,
        arm: Arm,
        settings: ArmSettings,
        fraction: float,
        seed: int,
        *,
        scale: float = 1.0,
        budget: Budget = "schedule",
        flops: float | None = None,
    ) -> Trial:
        """The run of an arm: `scale` times the epochs of each phase or, given `flops`, as many as cost that in all."""
        steps = self.steps_per_epoch(fraction, seed)
        schedule = settings.schedule(arm, self.options)
        segments = tuple(Segment(phase, _scaled(epochs, scale)) for phase, epochs in schedule.segments())
        if flops is not None:
            try:
                segments = matched(segments, steps, self.step_flops(settings, budget=budget), flops)
            except InputError as error:
                without = "leave out --times-cheaper" if budget == "cheaper" else "add --no-matched"
                raise InputError(
                    f"{budget} compute, {arm} at --{self.options.shares_option} {fraction:g}: {error}; give it more"
                    f" epochs, or {without}"
                ) from error
        plan, num_pool = schedule.plan(steps, segments), self.num_pool(fraction, seed)
        return Trial(arm, budget, settings, fraction, seed, segments, plan, num_pool)

    def trials(self, settings: Mapping[Arm, ArmSettings]) -> list[Trial]:
        """All runs in their order: seed by seed, so that the results of a seed are whole before the next begins."""
        found = []
        for seed in range(self.options.seeds):
            for fraction in self.options.shares:
                baseline = self.trial("ssl_then_sl", settings["ssl_then_sl"], fraction, seed)
                shares = {budget: self.cost(baseline) / times for budget, times in self._times_cheaper.items()}
                for arm, budget in CELLS if self.domain.start is None else (*CELLS, *START_CELLS):
                    if budget == "schedule" or budget in shares:
                        same = (arm, budget) == ("ssl_then_sl", LABELED_ALONE)  # whose steps cost the same
                        flops = None if same else shares.get(budget)
                        found.append(self.trial(arm, settings[arm], fraction, seed, budget=budget, flops=flops))
        return found


def _scaled(epochs: Number, scale: float) -> Number:
    """Exactly as many where that is a whole number."""
    scaled = epochs * scale
    return int(scaled) if float(scaled).is_integer() else scaled


@functools.lru_cache(maxsize=128)
def _step_flops(
    phase: Phase,
    learner: Learner,
    fetch: Fetch,
    optimizer: OptimizerSettings,
    shapes: tuple[jax.ShapeDtypeStruct, ...],
    joint: Learner | None = None,
    two_passes: bool = False,
) -> float:
    data = (jax.eval_shape(lambda: jax.random.key(0)), *shapes)
    return step_flops(learner, fetch, data, optimizer, joint=joint, two_passes=two_passes, phases=[phase])[phase]
