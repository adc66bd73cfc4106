"""metrics.json of the experiment that joins both papers: the record, and how it follows from the stages.

Axes: S seeds, N labeled windows of all tasks, K sources.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from experiments.harness.data_sets import text_record
from experiments.harness.run_record import run_fields, worst_certificate
from experiments.harness.stages import Product, Stages, read_stage
from experiments.mixed_mixtraining.config import ARMS, MIXTURES, SSL_ARMS, SUBJECT
from experiments.mixed_mixtraining.plan import Plan, config_record
from experiments.reporting.json_files import typed
from experiments.reporting.schema import (
    Certificate,
    Comparison,
    DataSet,
    MadeBy,
    Note,
    RunRecord,
    Weights,
    mean_weights,
    paired,
)
from mixmin_jax.mixture.baselines.rules import natural_weights, uniform_weights
from mixmin_jax.stats.comparison import Summary, summary


@dataclasses.dataclass(frozen=True)
class Task:
    """Windows of each class to train and to test on."""

    classes: tuple[str, ...]
    labels_per_class: int
    test: int
    shared_documents_left_out: int
    documents: dict[str, int]


@dataclasses.dataclass(frozen=True)
class Curve:
    """Mean training losses over stretches of steps; None where a phase has no such loss."""

    step: tuple[float, ...]
    phase: tuple[int, ...]
    ssl: tuple[float | None, ...]
    sl: tuple[float | None, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arm:
    """What one arm reached, and on what."""

    accuracy: Summary  # share of test windows, mean over tasks
    accuracy_per_task: tuple[Summary, ...]
    test_loss: Summary  # nats, mean over tasks
    steps: dict[str, int]  # by phase
    wall_seconds: Summary
    curves: tuple[Curve, ...]  # by seed
    epochs: dict[str, float] | None = None  # how often self-supervision reads each source, mean over seeds
    weights: Weights | None = None  # of arms with a mixture of their own
    weights_per_seed: tuple[Weights, ...] = ()
    proxy_loss: Summary | None = None  # of the mixture of proxies on the labeled windows, nats per byte

    def derived(self) -> Self:
        reached = np.mean([task.per_seed for task in self.accuracy_per_task], axis=0)
        weights = mean_weights(self.weights_per_seed) if self.weights_per_seed else None
        return dataclasses.replace(self, accuracy=summary(reached), weights=weights)


@dataclasses.dataclass(frozen=True)
class Reference:
    """Another model on the same labels."""

    task: int
    name: str
    accuracy: Summary


@dataclasses.dataclass(frozen=True)
class Overlap:
    """How many documents of the classes share at least `threshold` of their n-grams with each source."""

    ngram: int
    threshold: float
    documents: int
    sources: dict[str, int]


@dataclasses.dataclass(frozen=True)
class Flops:
    """Costs of one seed: all proxies with their scoring, a training of each arm, a step of each phase."""

    proxies: float
    step: dict[str, float]
    arms: dict[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Model:
    """The trained model, with its number of parameters."""

    name: str
    parameters: int
    encoder_parameters: int


@dataclasses.dataclass(frozen=True)
class Source:
    """Size of a source."""

    documents: int
    bytes: int
    windows: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixedMetrics(RunRecord):
    """All numbers of a run."""

    tasks: tuple[Task, ...]
    data: dict[str, Source]
    arms: dict[str, Arm]
    comparisons: dict[str, Comparison] = dataclasses.field(default_factory=dict)  # accuracy of SUBJECT less the arm's
    references: tuple[Reference, ...]
    mixmin: Certificate
    overlap: Overlap
    flops: Flops
    model: Model
    source_notes: dict[str, Note]

    def derived(self) -> Self:
        ours = self.arms[SUBJECT].accuracy
        comparisons = {
            arm: Comparison.of(paired(ours, found.accuracy), "higher", decides=len(self.seeds) > 1)
            for arm, found in self.arms.items()
            if arm != SUBJECT
        }
        flops = {
            arm: float(sum(count * self.flops.step[phase] for phase, count in found.steps.items()))
            for arm, found in self.arms.items()
        }
        return dataclasses.replace(self, comparisons=comparisons, flops=dataclasses.replace(self.flops, arms=flops))


@dataclasses.dataclass(frozen=True)
class SeedResult:
    """What the stages of one seed found."""

    seed: int
    solution: Product  # of MixMin
    weights: Mapping[str, np.ndarray]  # by arm of MIXTURES
    proxy_loss: Mapping[str, float]  # by arm of MIXTURES, nats per byte
    runs: Mapping[str, Product]  # by arm
    references: Sequence[Product]  # by task: {name: test accuracy}


def mixtures(solution: Product, windows_K: np.ndarray) -> dict[str, np.ndarray]:
    """The weights of each arm of MIXTURES."""
    found = (natural_weights(windows_K), uniform_weights(len(windows_K)), np.array(solution["weights"]))
    return dict(zip(MIXTURES, found, strict=True))


def seed_result(seed: int, product: Callable[[str], Product], windows_K: np.ndarray, num_tasks: int) -> SeedResult:
    """What one seed found; `product` gives what a stage made, by its name."""
    solution, scores = product(f"weights-seed{seed}"), product(f"scores-seed{seed}")
    weights = mixtures(solution, windows_K)
    return SeedResult(
        seed,
        solution,
        weights,
        {arm: _proxy_loss(w_K, scores["document_DxM"], scores["bytes_D"]) for arm, w_K in weights.items()},
        {arm: product(f"{arm}-seed{seed}") for arm in ARMS},
        [product(f"reference-{number}-seed{seed}") for number in range(num_tasks)],
    )


def build_metrics(
    plan: Plan, results: Sequence[SeedResult], overlap: Product, stages: Stages, made_by: MadeBy
) -> MixedMetrics:
    """The numbers of the seeds that are done, with all that they rest on."""
    config = plan.config
    data = {
        corpus.name: Source(corpus.num_documents, corpus.num_bytes, int(windows))
        for corpus, windows in zip(plan.sources, plan.store.windows_K, strict=True)
    }
    tasks = tuple(
        Task(
            classes=task.classes,
            labels_per_class=len(examples) // len(task.classes),
            test=len(task.test),
            shared_documents_left_out=task.num_shared,
            documents={corpus.name: corpus.num_documents for corpus in task.corpora},
        )
        for task, examples in zip(plan.tasks, plan.labelled(0), strict=True)
    )
    return MixedMetrics(
        experiment="mixed_mixtraining",
        demonstration=config.demonstration,
        complete=len(results) == config.seeds,
        seeds=tuple(result.seed for result in results),
        config=config_record(config),
        identity=plan.identity,
        tasks=tasks,
        data=data,
        overlap=typed(overlap, Overlap, "the stage overlap"),
        flops=Flops(plan.proxy_flops, {str(phase): cost for phase, cost in plan.step_flops.items()}),
        model=Model(config.model, sum(plan.parameters.values()), plan.parameters["encoder"]),
        source_notes={name: Note(**dataclasses.asdict(note)) for name, note in plan.notes.items()},
        **run_fields(config, stages.records, made_by, _data_sets(plan)),
        **numbers(results, data),
    ).derived()


def _data_sets(plan: Plan) -> list[DataSet]:
    """What the run reads, source by source and class by class."""
    field = None if plan.config.demonstration else plan.config.field
    classes = [(number, corpus) for number, task in enumerate(plan.tasks) for corpus in task.corpora]
    return [
        *(text_record("source", corpus, field) for corpus in plan.sources),
        *(text_record(f"class of task {number}", corpus, field) for number, corpus in classes),
    ]


def numbers(results: Sequence[SeedResult], data: Mapping[str, Source]) -> dict[str, Any]:
    """The fields of `MixedMetrics` that follow from the seeds' stages, by name."""
    tasks = range(len(results[0].references))
    return {
        "arms": {arm: _arm(arm, results, data) for arm in ARMS},
        "references": tuple(
            Reference(number, name, summary([float(result.references[number][name]) for result in results]))
            for number in tasks
            for name in results[0].references[number]
        ),
        "mixmin": worst_certificate({result.seed: result.solution for result in results}),
    }


def from_stages(metrics: MixedMetrics, stages: Path) -> MixedMetrics | None:
    """The record with what its stages say in their place; None where one is missing."""

    def product(name: str) -> Product:
        return read_stage(stages / f"{name}.npz")[0]

    windows_K = np.array([source.windows for source in metrics.data.values()])
    try:
        results = [seed_result(seed, product, windows_K, len(metrics.tasks)) for seed in metrics.seeds]
        overlap = typed(product("overlap"), Overlap, "the stage overlap")
    except FileNotFoundError:
        return None
    return dataclasses.replace(metrics, overlap=overlap, **numbers(results, metrics.data))


def _arm(arm: str, results: Sequence[SeedResult], data: Mapping[str, Source]) -> Arm:
    runs = [result.runs[arm] for result in results]
    own = arm in MIXTURES
    epochs = None
    if arm in SSL_ARMS:
        windows_K = np.array([source.windows for source in data.values()])
        # the labeled windows are the last source that is drawn from
        epochs_SxK = np.array([run["draws"] for run in runs])[:, :-1] / windows_K
        epochs = _named(epochs_SxK.mean(0), data)
    per_task = tuple(summary(reached) for reached in zip(*(run["accuracies"] for run in runs), strict=True))
    return Arm(
        accuracy=per_task[0],
        accuracy_per_task=per_task,
        test_loss=summary([float(np.mean(run["test_losses"])) for run in runs]),
        steps=runs[0]["steps"],
        wall_seconds=summary([run["wall_seconds"] for run in runs]),
        curves=tuple(typed(run["curve"], Curve, f"the stage of {arm}") for run in runs),
        epochs=epochs,
        weights_per_seed=tuple(_named(result.weights[arm], data) for result in results) if own else (),
        proxy_loss=summary([result.proxy_loss[arm] for result in results]) if own else None,
    ).derived()


def _proxy_loss(weights_K: np.ndarray, logp_NxK: np.ndarray, bytes_N: np.ndarray) -> float:
    with np.errstate(divide="ignore"):
        mixed_N = np.logaddexp.reduce(logp_NxK + np.log(weights_K), axis=1)
    return float(-mixed_N.sum() / bytes_N.sum())


def _named(values_K: np.ndarray, names: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in zip(names, values_K, strict=True)}
