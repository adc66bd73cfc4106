"""What a run of the molecule experiment will do and what that costs, checked before anything is trained.

Axes: A assays, K sources of a target, R random mixtures, M models.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.harness.devices import whole_mesh
from experiments.harness.machine_rate import product_rate
from experiments.harness.options import numbers_of
from experiments.harness.progress import duration
from experiments.harness.result_files import file_name
from experiments.molecule_mixture.config import LEAST_IN_FOLD, MoleculeMixture
from experiments.molecule_mixture.data import Split, choose_sources, choose_targets
from experiments.reporting.render import report
from experiments.reporting.schema import Weights
from mixmin_jax.data.molecules.features import num_features
from mixmin_jax.errors import list_some
from mixmin_jax.mixture.baselines.random_search import random_mixtures
from mixmin_jax.mixture.baselines.rules import natural_weights, uniform_weights
from mixmin_jax.training import logistic_learner, mlp_learner, multitask
from mixmin_jax.training.boosted_trees import TreeLearner, has_xgboost
from mixmin_jax.training.logistic_learner import LogisticLearner
from mixmin_jax.training.mlp_learner import MlpLearner
from mixmin_jax.training.weighted_examples import Learner, Loss

SOLVED_ARMS = ("mixmin", "mixmin_own")  # weights from the solver: over the other assays; with the target's own data too
MIXED_ARMS = (*SOLVED_ARMS, "own", "natural", "uniform", "random_search", "natural_own")  # trained on a mixture
GROWTH_ARMS = ("mixmin", "natural")  # trained on smaller sets of sources too
CHOICE_ASSAYS = 24  # by which a learner is chosen

TRAINING_SHARE = 0.5  # of the FLOP/s of products of matrices that training reaches, measured on 2 cores
NAMES_SHOWN = 40  # columns of one kind that the plan names; it counts the others
FEW_TO_TEST = 20  # positives of a target in the test part below which the plan calls intervals rough


@dataclasses.dataclass(frozen=True)
class Target:
    """A target assay and its sources, as columns."""

    name: str
    file_name: str  # the name, fit for a file or folder
    column: int
    sources: tuple[str, ...]
    source_columns: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """Everything that the stages need; made without training anything."""

    config: MoleculeMixture
    split: Split
    targets: tuple[Target, ...]

    @functools.cached_property
    def learners(self) -> dict[str, Learner]:
        """What may train proxies and target models, by name: one, or several to choose from."""
        config, mesh = self.config, whole_mesh(self.config)
        learners: dict[str, Learner] = {
            "logistic": LogisticLearner(config.logistic, self.loss, mesh, config.max_bytes),
            "perceptron": MlpLearner(config.perceptron, self.loss, mesh, config.max_bytes, config.on_nonfinite),
            "trees": TreeLearner(config.trees, self.loss),
        }
        if config.learner != "auto":
            return {config.learner: learners[config.learner]}
        if config.is_spread or not has_xgboost():
            del learners["trees"]
        return learners

    @functools.cached_property
    def choice_columns(self) -> np.ndarray:
        """The assays by which a learner is chosen: sources, at equal distances in the order of their rarer class."""
        sources = np.unique(np.concatenate([target.source_columns for target in self.targets]))
        order = sources[np.argsort(self.split.train_counts.min(0)[sources], kind="stable")]
        number = min(len(order), CHOICE_ASSAYS)
        return np.sort(order[np.linspace(0, len(order) - 1, number).round().astype(int)])

    @property
    def other_arms(self) -> tuple[str, ...]:
        """Arms that no mixture is behind."""
        return ("multitask", "nearest") if self.config.task == "classification" else ("multitask",)

    @property
    def arms(self) -> tuple[str, ...]:
        """The order of every report."""
        return (*MIXED_ARMS, *self.other_arms)

    @property
    def loss(self) -> Loss:
        return "cross_entropy" if self.config.task == "classification" else "squared_error"

    @functools.cached_property
    def proxy_columns(self) -> np.ndarray:
        """The assays that get a proxy: every target and every source."""
        return np.unique([a for t in self.targets for a in (t.column, *t.source_columns)])

    @property
    def numbers_of_sources(self) -> tuple[int, ...]:
        """Sizes of the smaller sets of sources; all targets have as many sources, or one less."""
        fewest = min(len(target.sources) for target in self.targets)
        return tuple(sorted({number for number in self.config.numbers_of_sources if number < fewest}))

    @property
    def num_random(self) -> int:
        """Random mixtures per target; one source has one mixture."""
        if all(len(target.sources) == 1 for target in self.targets):
            return 1
        shared = math.ceil(len(self.proxy_columns) / len(self.targets))
        return self.config.random_mixtures or max(shared, 2)

    @property
    def train_N(self) -> np.ndarray:
        return ~self.split.is_test_N

    @functools.cached_property
    def num_features(self) -> int:
        """Bits that models see of a molecule."""
        return num_features(self.config.fingerprints, self.config.bits)

    @functools.cached_property
    def sizes_A(self) -> np.ndarray:
        """Training molecules of every assay."""
        return np.isfinite(self.split.values_NxA[self.train_N]).sum(0)

    # Mixtures that do not depend on any proxy -------------------------------------------------------------------

    def over_assays(self, columns: int | np.ndarray, weights: float | np.ndarray) -> np.ndarray:
        """Weights of one or several columns as weights of all assays."""
        weights_A = np.zeros(len(self.split.names))
        weights_A[columns] = weights
        return weights_A

    def named(self, weights_A: np.ndarray) -> Weights:
        """Weights of all assays by name, without those that are 0."""
        return {name: float(w) for name, w in zip(self.split.names, weights_A, strict=True) if w != 0}

    def of_named(self, weights: Weights) -> np.ndarray:
        """The weights of all assays that `named` gave."""
        return np.array([weights.get(name, 0.0) for name in self.split.names])

    def natural_A(self, columns_K: np.ndarray) -> np.ndarray:
        return self.over_assays(columns_K, natural_weights(self.sizes_A[columns_K]))

    def random_RxA(self, target: Target, seed: int) -> np.ndarray:
        """The random mixtures of one target and seed."""
        columns_K = target.source_columns
        if len(columns_K) == 1:
            return np.repeat(self.over_assays(columns_K, 1.0)[None], self.num_random, axis=0)
        drawn_RxK = random_mixtures(self.num_random, self.sizes_A[columns_K], _seed(seed, target.column, 0), minimum=0)
        return np.stack([self.over_assays(columns_K, weights_K) for weights_K in drawn_RxK])

    def subset(self, target: Target, seed: int, number: int) -> np.ndarray:
        """The columns of a random subset of the sources; smaller ones lie inside larger ones."""
        order = np.random.default_rng(_seed(seed, target.column, 1)).permutation(target.source_columns)
        return np.sort(order[:number])

    def weights_of_models(self, target: Target, seed: int, solved: Mapping[str, Weights]) -> dict[str, np.ndarray]:
        """Weights of every model that is trained for a target: the arms, then those with fewer sources."""
        own_A, natural_A = self.over_assays(target.column, 1.0), self.natural_A(target.source_columns)
        fixed = {
            "own": own_A,
            "natural": natural_A,
            "uniform": self.over_assays(target.source_columns, uniform_weights(len(target.sources))),
            "natural_own": (own_A + natural_A) / 2,  # what `mixmin_own` must beat
        }
        weights = {arm: fixed[arm] if arm in fixed else self.of_named(solved[arm]) for arm in MIXED_ARMS}
        for number in self.numbers_of_sources:
            mixmin, natural = (growth_arm(arm, number) for arm in GROWTH_ARMS)
            weights[mixmin] = self.of_named(solved[mixmin])
            weights[natural] = self.natural_A(self.subset(target, seed, number))
        return weights

    # Costs in models, each of which reads the training molecules as often as a full training ----------------------

    @property
    def crossfit_cost(self) -> float:
        """One proxy of every fold."""
        return float(self.config.folds - 1)

    @property
    def num_arms(self) -> int:
        """Models trained on all training molecules, per target and seed."""
        return len(MIXED_ARMS) + len(GROWTH_ARMS) * len(self.numbers_of_sources)

    @property
    def models(self) -> dict[str, float]:
        """Trainings of each kind in one seed, in units of one training on all training molecules."""
        return {
            "proxies": len(self.proxy_columns) * self.crossfit_cost,
            "random_mixtures": len(self.targets) * self.num_random * self.crossfit_cost,
            "arms": float(len(self.targets) * self.num_arms),
        }

    @property
    def cost_in_all(self) -> float:
        """Of all seeds, and of choosing the learner; without `multitask_flops`."""
        tried = len(self.learners) * len(self.choice_columns) if len(self.learners) > 1 else 0
        return self.config.seeds * sum(self.models.values()) + tried * self.crossfit_cost

    def flops_per_model(self, learner: str) -> float | None:
        """One training on all training molecules; None where the learner cannot tell."""
        return self.learners[learner].flops(int(self.train_N.sum()), self.num_features, 1)

    @property
    def multitask_flops(self) -> float:
        """Of the networks on all assays, of all seeds."""
        sizes = int(self.train_N.sum()), len(self.train_N), self.num_features, len(self.proxy_columns)
        return self.config.seeds * multitask.training_flops(self.config.multitask, *sizes)

    # What columns are taken for -----------------------------------------------------------------------------------

    @property
    def sources(self) -> list[str]:
        """The assays that are sources and no targets."""
        targets, used = [target.name for target in self.targets], {name for t in self.targets for name in t.sources}
        return [name for name in self.split.names if name in used and name not in targets]

    @property
    def neither(self) -> dict[str, list[str]]:
        """The assays that are neither source nor target, by the reason, each with its numbers."""
        used = {name for target in self.targets for name in (target.name, *target.sources)}
        leaks = {name for target in self.targets for name in self.split.leaks(target.name)}
        reasons = {name: self.split.unusable.get(name) for name in self.split.names if name not in used}
        most = "molecules" if self.config.task == "regression" else "molecules of their rarer class"
        beyond = f"--sources {self.config.sources} takes those with more {most}"
        return _grouped(
            {name: why or ("nearly a copy of a target" if name in leaks else beyond) for name, why in reasons.items()}
        )

    @property
    def no_targets(self) -> dict[str, list[str]]:
        """The sources that can be no targets, by the reason, each with its numbers."""
        reasons = {name: self.split.unfit_as_target(name) for name in self.sources}
        return _grouped({name: why for name, why in reasons.items() if why})

    @property
    def rough(self) -> list[str]:
        """The targets with so few test molecules of a class that their intervals are rough."""
        fewest_A = self.split.test_counts.min(0)
        return [target.name for target in self.targets if fewest_A[target.column] < FEW_TO_TEST]


def make_plan(split: Split) -> Plan:
    """Everything that can be found wrong before compute is spent is an InputError here."""
    column_of = {name: a for a, name in enumerate(split.names)}
    targets = []
    for name in choose_targets(split):
        sources = choose_sources(split, name)
        columns_K = np.array([column_of[source] for source in sources])
        targets.append(Target(name, file_name(name), column_of[name], sources, columns_K))
    plan = Plan(split.config, split, tuple(targets))
    for target, seed in itertools.product(plan.targets, range(plan.config.seeds)):
        plan.random_RxA(target, seed)
    sizes = len(plan.proxy_columns), len(split.is_test_N), plan.num_features
    room = whole_mesh(plan.config).shape["source"], plan.config.max_bytes
    if "logistic" in plan.learners:
        logistic_learner.models_at_once(*sizes, *room)
    if "perceptron" in plan.learners:
        mlp_learner.models_at_once(plan.config.perceptron, *sizes, *room)
    return plan


def growth_arm(arm: str, number: int) -> str:
    """The name of an arm that has `number` sources only."""
    return f"{arm}-{number}"


def _seed(*parts: int) -> int:
    """One seed from several numbers."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def _grouped(reasons: Mapping[str, str]) -> dict[str, list[str]]:
    """Names by the first part of their reason; with each the rest, which is in brackets."""
    groups: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        kind, bracket, numbers = reason.partition(" (")
        groups.setdefault(kind, []).append(f"{name}{bracket}{numbers}")
    return groups


def describe_plan(plan: Plan) -> str:
    """The plan in words: columns, data, targets, models and their cost; it times this machine."""
    flops = {learner: plan.flops_per_model(learner) for learner in plan.learners}
    in_all = {learner: plan.cost_in_all * each + plan.multitask_flops for learner, each in flops.items() if each}
    rate = product_rate() * TRAINING_SHARE
    return report(
        "molecule_plan",
        "",
        {},
        plan=plan,
        config=plan.config,
        split=plan.split,
        times={learner: duration(each / rate) for learner, each in in_all.items()},
        some=lambda names: list_some(names, NAMES_SHOWN),
        few=FEW_TO_TEST,
        least_in_fold=LEAST_IN_FOLD,
        ignored=_grouped(plan.split.table.ignored),
    ).markdown.rstrip()


def identity(plan: Plan) -> dict[str, Any]:
    """What makes two runs the same: everything that the results depend on, and nothing else."""
    return config_record(plan.config, ("assays", "target", "num_targets", "max_bytes")) | {
        "table": plan.split.table.fingerprint,
        "targets": [target.name for target in plan.targets],
        "learners": list(plan.learners),  # to choose from: which are installed
    }


def config_record(config: MoleculeMixture, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """The configuration as JSON, with what is needed to run it again."""
    record = dataclasses.asdict(config)
    record["assays"] = None if config.assays is None else str(config.assays)
    record |= {"min_positives": config.least_to_train, "min_test_positives": config.least_to_test}
    learners = {"logistic", "perceptron", "trees"}
    unused = learners - {config.learner} if config.learner in learners else set()
    return numbers_of(record, (*unused, *without))
