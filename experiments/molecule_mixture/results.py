"""metrics.json of one target: the record, and how it follows from the stages.

Axes: T a target's test molecules, A assays, S seeds, R resamples.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from experiments.harness.data_sets import table_record
from experiments.harness.run_record import run_fields, worst_certificate
from experiments.harness.stages import Stages, read_stage
from experiments.molecule_mixture.plan import (
    GROWTH_ARMS,
    MIXED_ARMS,
    SOLVED_ARMS,
    Plan,
    Target,
    config_record,
    growth_arm,
    identity,
)
from experiments.molecule_mixture.stages import LearnerChoice, ModelCounts, SeedResult, TargetRows, weights_stage
from experiments.reporting.schema import Certificate, MadeBy, RunRecord, Verdict, Weights, mean_weights
from mixmin_jax.data.molecules.cleaning import Unparsable
from mixmin_jax.stats.comparison import (
    RANDOM_MIXTURE,
    Fidelity,
    Point,
    RowFidelity,
    Summary,
    fidelity,
    interval_verdict,
    summary,
)
from mixmin_jax.stats.paired_bootstrap import bootstrap_difference, resampled_metric
from mixmin_jax.stats.prediction_metrics import CLASSIFICATION_METRICS, REGRESSION_METRICS, Metric, evaluate

NUM_RESAMPLES = 1000
ROWS = "molecule"  # what a row of the fidelity is
# (arm, other): what the report compares, the first less the second
COMPARED = (
    *(("mixmin", arm) for arm in ("own", "natural", "uniform", "random_search")),
    ("mixmin_own", "own"),
    ("mixmin_own", "natural_own"),
    ("mixmin_own", "mixmin"),
    ("mixmin_own", "multitask"),
    ("mixmin_own", "nearest"),
)


@dataclasses.dataclass(frozen=True)
class Arm:
    """What one arm reached on the test molecules, and the mixture that it was trained on, if any."""

    scores: dict[Metric, Summary]
    test_loss: Summary  # of the trained models
    predicted_loss: Summary | None  # of the mixture of proxies
    weights: Weights | None  # mean over seeds; assays without weight are left out; None: trained on no mixture
    weights_per_seed: tuple[Weights, ...]

    def derived(self) -> Self:
        if self.weights is None:
            return self
        return dataclasses.replace(self, weights=mean_weights(self.weights_per_seed))


@dataclasses.dataclass(frozen=True)
class Compared:
    """`arm` less `other` in one metric, mean over seeds, with the interval of `bootstrap_difference`."""

    arm: str
    other: str
    metric: Metric
    mean: float
    lower: float
    upper: float
    confidence: float
    verdict: Verdict | None  # None: one of the arms learned nothing, which decides nothing
    p_value: float | None = None  # two-sided; None: of a version that recorded none


@dataclasses.dataclass(frozen=True)
class Growth:
    """An arm that has a random set of the sources only; its score in each metric, by seed."""

    sources: int
    arm: str
    scores: dict[Metric, tuple[float, ...]]


@dataclasses.dataclass(frozen=True)
class MoleculeFidelity:
    """The rank correlations of `comparison.fidelity`, with its points as columns: there are hundreds of them."""

    correlations: RowFidelity
    seed: tuple[int, ...]
    label: tuple[str, ...]
    size: tuple[str, ...]
    reached: tuple[float, ...]
    predicted: tuple[float, ...]

    @classmethod
    def of(cls, points: Sequence[Point]) -> "MoleculeFidelity":
        return cls(
            fidelity(points).rows[ROWS],
            seed=tuple(point.seed for point in points),
            label=tuple(point.label for point in points),
            size=tuple(point.size for point in points),
            reached=tuple(point.reached for point in points),
            predicted=tuple(point.predicted[ROWS] for point in points),
        )

    def whole(self) -> Fidelity:
        """With its points one by one, as figures want them."""
        predicted = ({ROWS: value} for value in self.predicted)
        return fidelity([*map(Point, self.seed, self.label, self.size, self.reached, predicted)])

    def derived(self) -> "MoleculeFidelity":
        return MoleculeFidelity.of(self.whole().points)


@dataclasses.dataclass(frozen=True)
class Cost:
    """Trainings of one seed for all targets together; one is a training on all training molecules."""

    proxies: float
    random_mixtures: float
    arms: float
    targets: int
    folds: int
    random_mixtures_per_target: int
    flops_per_model: float | None  # None: trees


@dataclasses.dataclass(frozen=True)
class Collapsed:
    """Models that learned nothing, even when trained again: constant, or worse than the base rate in training.

    sources: proxies that took no part, in any seed; that of the target itself is one of them, for `mixmin_own`.
    arms: each with its seed, as in `own (seed 1)`.
    flat: sources whose proxies learned something of their training molecules, and nothing that holds for others, in any
        seed: calibrated, they are constant. They take part.
    """

    sources: tuple[str, ...] = ()
    arms: tuple[str, ...] = ()
    flat: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Counts:
    """Molecules of the target assay; measured values have no positives."""

    molecules: int
    positives: int | None

    @property
    def size(self) -> int:
        """The positives; of measured values, the molecules."""
        return self.molecules if self.positives is None else self.positives


@dataclasses.dataclass(frozen=True)
class Data:
    """What was read, what was left out, and how large the target and its sources are."""

    table: str
    rows: int
    salts: int
    duplicates: int
    conflicts: int
    molecules: int
    train_molecules: int
    test_molecules: int
    assays: int
    target_train: Counts
    target_test: Counts
    sources: dict[str, int]  # training molecules of each source
    shared: dict[str, int]  # of these, the target's
    unparsable: tuple[Unparsable, ...]
    unusable_assays: dict[str, str]  # with the reason
    ignored_columns: dict[str, str]
    leaks: dict[str, str] = dataclasses.field(default_factory=dict)  # assays that nearly copy the target, with why


@dataclasses.dataclass(frozen=True, kw_only=True)
class MoleculeMetrics(RunRecord):
    """What a run found for one target; `complete` says whether all seeds are in it."""

    target: str
    task: Literal["classification", "regression"]
    learner: str
    balanced: bool
    calibrated: bool
    loss: str  # its unit
    metrics: tuple[Metric, ...]  # the first decides
    arms: dict[str, Arm]
    resamples: int
    comparisons: tuple[Compared, ...]
    growth: tuple[Growth, ...]  # with fewer than all sources
    solved: dict[str, Certificate]
    fidelity: dict[str, MoleculeFidelity]  # of the first metric, and of the loss
    cost: Cost
    data: Data
    choice: LearnerChoice | None = None
    models: ModelCounts | None = None  # of all seeds and targets; None: not recorded
    collapsed: Collapsed = Collapsed()

    def derived(self) -> Self:
        def judged(found: Compared) -> Compared:
            a_S, b_S = (self.arms[arm].scores[found.metric].per_seed for arm in (found.arm, found.other))
            mean = float(np.mean(np.subtract(a_S, b_S)))
            word = interval_verdict(mean, found.lower, found.upper, matters=self.matters)
            return dataclasses.replace(found, mean=mean, verdict=found.verdict and word)

        return dataclasses.replace(self, comparisons=tuple(map(judged, self.comparisons)))

    def compared(self, arm: str, other: str, metric: Metric | None = None) -> Compared:
        """The comparison of two arms, in the first metric by default."""
        wanted = (arm, other, metric or self.metrics[0])
        return next(found for found in self.comparisons if (found.arm, found.other, found.metric) == wanted)

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The arms that are compared, the first less the second."""
        return tuple(dict.fromkeys((found.arm, found.other) for found in self.comparisons))

    def grown(self) -> dict[int, dict[str, tuple[float, ...]]]:
        """The first metric by number of sources, arm and seed; the last number is all of them."""
        metric = self.metrics[0]
        found: dict[int, dict[str, tuple[float, ...]]] = {}
        for point in self.growth:
            found.setdefault(point.sources, {})[point.arm] = point.scores[metric]
        everything = {arm: self.arms[arm].scores[metric].per_seed for arm in GROWTH_ARMS}
        return found | {len(self.data.sources): everything}


def from_stages(metrics: MoleculeMetrics, stages: Path) -> MoleculeMetrics | None:
    """The record with weights and certificates from the stages; None where one is missing."""
    paths = [stages / f"{weights_stage(metrics.target, seed)}.npz" for seed in metrics.seeds]
    if not all(path.exists() for path in paths):
        return None
    products = [read_stage(path)[0] for path in paths]
    arms = dict(metrics.arms)
    for arm in (*SOLVED_ARMS, "random_search"):
        weights = tuple(product["weights"][arm] for product in products)
        arms[arm] = dataclasses.replace(arms[arm], weights_per_seed=weights)
    solutions = {seed: product["solutions"] for seed, product in zip(metrics.seeds, products, strict=True)}
    return dataclasses.replace(metrics, arms=arms, solved=_solved(solutions))


def _solved(solutions: Mapping[int, Mapping[str, Any]]) -> dict[str, Certificate]:
    """The certificate of each solved arm, from those of all seeds."""
    return {arm: worst_certificate({seed: found[arm] for seed, found in solutions.items()}) for arm in SOLVED_ARMS}


def problems(metrics: MoleculeMetrics, folder: Path) -> list[str]:
    """Intervals of which the ends are exchanged."""
    del folder
    return [
        f"{found.arm} less {found.other}, {found.metric}: the interval is upside down"
        for found in metrics.comparisons
        if found.lower > found.upper
    ]


def build_metrics(
    plan: Plan,
    target: Target,
    results: Sequence[SeedResult],
    learner: str,
    choice: LearnerChoice | None,
    stages: Stages,
    made_by: MadeBy,
) -> MoleculeMetrics:
    """The record of one target from the seeds that are done."""
    config, rows = plan.config, TargetRows(plan, target, plan.split.is_test_N)
    collapsed = {arm for result in results for arm in result.collapsed_arms}
    measures = config.task == "regression"
    metrics = REGRESSION_METRICS if measures else CLASSIFICATION_METRICS
    scores = {arm: np.stack([result.test_scores[arm] for result in results]) for arm in plan.arms}
    scaffold_T = plan.split.molecules.scaffold_N[rows.index_T]
    resampled = {
        metric: resampled_metric(scores, rows.value_T, metric, NUM_RESAMPLES, groups_N=scaffold_T) for metric in metrics
    }
    arms = {}
    for arm in plan.arms:
        is_mixed = arm in MIXED_ARMS
        weights = tuple(plan.named(result.weights[arm]) for result in results) if is_mixed else ()
        predicted = rows.losses(np.stack([result.predicted[arm] for result in results]).T) if is_mixed else None
        arms[arm] = Arm(
            scores={metric: summary(resampled[metric][arm][:, 0]) for metric in metrics},
            test_loss=summary(rows.losses(scores[arm].T)),
            predicted_loss=None if predicted is None else summary(predicted),
            weights=mean_weights(weights) if is_mixed else None,
            weights_per_seed=weights,
        )

    def scored(model: str, metric: Metric) -> tuple[float, ...]:
        return tuple(float(evaluate(metric, result.test_scores[model], rows.value_T)[0]) for result in results)

    return MoleculeMetrics(
        experiment="molecule_mixture",
        demonstration=config.demonstration,
        complete=len(results) == config.seeds,
        seeds=tuple(result.seed for result in results),
        config=config_record(config),
        identity=identity(plan),
        target=target.name,
        task=config.task,
        learner=learner,
        balanced=config.balanced,
        calibrated=config.calibrate,
        loss="mean squared error" if measures else f"nats per molecule{', classes alike' if config.balanced else ''}",
        metrics=metrics,
        arms=arms,
        resamples=NUM_RESAMPLES,
        comparisons=tuple(
            _compared(arm, other, metric, resampled[metric], config.matters, decides=not collapsed & {arm, other})
            for arm, other in COMPARED
            if other in plan.arms
            for metric in metrics
        ),
        growth=tuple(
            Growth(number, arm, {metric: scored(growth_arm(arm, number), metric) for metric in metrics})
            for number in plan.numbers_of_sources
            for arm in GROWTH_ARMS
        ),
        solved=_solved({result.seed: result.solutions for result in results}),
        fidelity={what: MoleculeFidelity.of(_points(rows, results, what)) for what in (metrics[0], "loss")},
        cost=Cost(
            **plan.models,
            targets=len(plan.targets),
            folds=config.folds,
            random_mixtures_per_target=plan.num_random,
            flops_per_model=plan.flops_per_model(learner),
        ),
        data=_data(plan, target),
        choice=choice,
        models=ModelCounts.over(result.models for result in results),
        collapsed=Collapsed(
            tuple(dict.fromkeys(name for result in results for name in result.collapsed_sources)),
            tuple(f"{arm} (seed {result.seed})" for result in results for arm in result.collapsed_arms),
            tuple(dict.fromkeys(name for result in results for name in result.flat_sources)),
        ),
        **run_fields(config, stages.records_of(target.name), made_by, [table_record(plan.split.table, config.assays)]),
    )


def _compared(
    arm: str, other: str, metric: Metric, scores: Mapping[str, np.ndarray], matters: float, decides: bool
) -> Compared:
    found = bootstrap_difference(scores[arm], scores[other])
    word = interval_verdict(found.mean, found.lower, found.upper, matters=matters) if decides else None
    return Compared(arm, other, metric, found.mean, found.lower, found.upper, found.confidence, word, found.p_value)


def _points(rows: TargetRows, results: Sequence[SeedResult], what: Any) -> list[Point]:
    """Predicted and reached, the loss or a metric, of every model trained on a mixture, on the test molecules."""

    def judge(score_T: np.ndarray) -> float:
        return float((rows.losses(score_T[:, None]) if what == "loss" else evaluate(what, score_T, rows.value_T))[0])

    def point(seed: int, label: str, size: str, scores: Iterable[np.ndarray], predicted_T: np.ndarray) -> Point:
        reached = float(np.mean([judge(score_T) for score_T in scores]))
        return Point(seed, label, size, reached, {ROWS: judge(predicted_T)})

    arms = [
        point(result.seed, arm, "all molecules", [result.test_scores[arm]], result.predicted[arm])
        for result in results
        for arm in MIXED_ARMS
        if arm not in result.collapsed_arms
    ]
    random = [
        point(result.seed, RANDOM_MIXTURE, "without a fold", score_FxT, predicted_T)
        for result in results
        for score_FxT, predicted_T in zip(result.random_scores_RxFxT, result.random_predicted_RxT, strict=True)
    ]
    return arms + random


def _data(plan: Plan, target: Target) -> Data:
    split, cleaning = plan.split, plan.split.molecules.cleaning
    is_measured_NxA = np.isfinite(split.values_NxA)
    shared_A = is_measured_NxA[plan.train_N & is_measured_NxA[:, target.column]].sum(0)
    sources = list(zip(target.sources, target.source_columns, strict=True))

    def counts(is_member_N: np.ndarray) -> Counts:
        positives, others = split.counts(is_member_N)[:, target.column].tolist()
        return Counts(positives, None) if plan.config.task == "regression" else Counts(positives + others, positives)

    return Data(
        table=split.table.origin,
        rows=cleaning.rows,
        salts=cleaning.salts,
        duplicates=cleaning.duplicates,
        conflicts=cleaning.conflicts,
        molecules=len(split.is_test_N),
        train_molecules=int(plan.train_N.sum()),
        test_molecules=int(split.is_test_N.sum()),
        assays=len(split.names),
        target_train=counts(plan.train_N),
        target_test=counts(split.is_test_N),
        sources={name: int(plan.sizes_A[a]) for name, a in sources},
        shared={name: int(shared_A[a]) for name, a in sources},
        unparsable=cleaning.unparsable,
        unusable_assays=dict(split.unusable),
        ignored_columns=dict(split.table.ignored),
        leaks=dict(split.leaks(target.name)),
    )
