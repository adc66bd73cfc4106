"""metrics.json of the experiment that joins both papers: the record, and how it follows from the stages.

Axes: S seeds, N labeled windows of all tasks, K sources.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from experiments.harness.data_sets import text_record
from experiments.harness.run_record import run_fields, worst_certificate
from experiments.harness.stages import Product, Stages, read_stage
from experiments.mixed_mixtraining.config import ARMS, MIXTURES, SSL_ARMS, SUBJECT
from experiments.mixed_mixtraining.plan import Plan, config_record
from experiments.mixtraining.results import Curve
from experiments.reporting.json_files import typed
from experiments.reporting.schema import (
    SHARE_OF_TOKENS,
    Certificate,
    Comparison,
    DataSet,
    MadeBy,
    Note,
    RunRecord,
    Unlearned,
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
    unlearned: tuple[Unlearned, ...] = ()
    weights_unit: str | None = None  # what weights are shares of; None: not known, as in older records

    def derived(self) -> Self:
        ours = self.arms[SUBJECT].accuracy
        comparisons = {
            arm: Comparison.of(
                paired(ours, found.accuracy), "higher", matters=self.matters, decides=len(self.seeds) > 1
            )
            for arm, found in self.arms.items()
            if arm != SUBJECT
        }
        flops = {
            arm: float(sum(count * self.flops.step[phase] for phase, count in found.steps.items()))
            for arm, found in self.arms.items()
        }
        return dataclasses.replace(self, comparisons=comparisons, flops=dataclasses.replace(self.flops, arms=flops))


def mixtures(solution: Product, windows_K: np.ndarray) -> dict[str, np.ndarray]:
    """The weights of each arm of MIXTURES; `solution` is what the stage of MixMin's weights made."""
    found = (natural_weights(windows_K), uniform_weights(len(windows_K)), np.array(solution["weights"]))
    return dict(zip(MIXTURES, found, strict=True))


def build_metrics(
    plan: Plan, seeds: Sequence[int], products: Mapping[str, Product], stages: Stages, made_by: MadeBy
) -> MixedMetrics:
    """The numbers of the seeds that are done, from what their stages made, by name."""
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
        for task, examples in zip(plan.tasks, plan.labeled(0), strict=True)
    )
    return MixedMetrics(
        experiment="mixed_mixtraining",
        demonstration=config.demonstration,
        complete=len(seeds) == config.seeds,
        seeds=tuple(seeds),
        config=config_record(config),
        identity=plan.identity,
        tasks=tasks,
        data=data,
        flops=Flops(plan.proxy_flops, {str(phase): cost for phase, cost in plan.step_flops.items()}),
        model=Model(*(plan.model_record[key] for key in ("name", "parameters", "encoder_parameters"))),
        source_notes={name: Note(**dataclasses.asdict(note)) for name, note in plan.notes.items()},
        weights_unit=SHARE_OF_TOKENS,
        **run_fields(config, stages.records, made_by, _data_sets(plan)),
        **_from_products(products.__getitem__, seeds, data, len(tasks)),
    ).derived()


def _data_sets(plan: Plan) -> list[DataSet]:
    """What the run reads, source by source and class by class."""
    field = None if plan.config.demonstration else plan.config.field
    classes = [(number, corpus) for number, task in enumerate(plan.tasks) for corpus in task.corpora]
    return [
        *(text_record("source", corpus, field) for corpus in plan.sources),
        *(text_record(f"class of task {number}", corpus, field) for number, corpus in classes),
    ]


def from_stages(metrics: MixedMetrics, stages: Path) -> MixedMetrics | None:
    """The record with what its stages say in their place; None where one is missing."""

    @functools.cache
    def product(name: str) -> Product:
        return read_stage(stages / f"{name}.npz")[0]

    try:
        found = _from_products(product, metrics.seeds, metrics.data, len(metrics.tasks))
    except FileNotFoundError:
        return None
    return dataclasses.replace(metrics, **found)


def _from_products(
    product: Callable[[str], Product], seeds: Sequence[int], data: Mapping[str, Source], num_tasks: int
) -> dict[str, Any]:
    """The fields of `MixedMetrics` that follow from stages; `product` gives what a stage made, by its name."""
    windows_K = np.array([source.windows for source in data.values()])
    solutions = {seed: dict(product(f"weights-seed{seed}")) for seed in seeds}
    unlearned = [solution.pop("unlearned", []) for solution in solutions.values()]  # none in older ones
    weights = [mixtures(solution, windows_K) for solution in solutions.values()]

    def arm_of(arm: str) -> Arm:
        runs = [product(f"{arm}-seed{seed}") for seed in seeds]
        per_task = tuple(summary(reached) for reached in zip(*(run["accuracies"] for run in runs), strict=True))
        found = Arm(
            accuracy=per_task[0],  # `derived` takes the mean
            accuracy_per_task=per_task,
            test_loss=summary([float(np.mean(run["test_losses"])) for run in runs]),
            steps=runs[0]["steps"],
            wall_seconds=summary([run["wall_seconds"] for run in runs]),
            curves=tuple(typed(run["curve"], Curve, f"the stage of {arm}") for run in runs),
        )
        if arm in SSL_ARMS:
            # the labeled windows are the last source that is drawn from
            epochs_SxK = np.array([run["draws"] for run in runs])[:, :-1] / windows_K
            found = dataclasses.replace(found, epochs=_named(epochs_SxK.mean(0), data))
        if arm in MIXTURES:
            scores = [product(f"scores-seed{seed}") for seed in seeds]
            losses = [
                _proxy_loss(w[arm], s["document_DxM"], s["bytes_D"]) for w, s in zip(weights, scores, strict=True)
            ]
            named = tuple(_named(w[arm], data) for w in weights)
            found = dataclasses.replace(found, weights_per_seed=named, proxy_loss=summary(losses))
        return found.derived()

    references = [[product(f"reference-{number}-seed{seed}") for seed in seeds] for number in range(num_tasks)]
    return {
        "arms": {arm: arm_of(arm) for arm in ARMS},
        "references": tuple(
            Reference(number, name, summary([reached[name] for reached in per_seed]))
            for number, per_seed in enumerate(references)
            for name in per_seed[0]
        ),
        "mixmin": worst_certificate(solutions),
        "unlearned": tuple(typed(one, Unlearned, "the stage of weights") for records in unlearned for one in records),
        "overlap": typed(product("overlap"), Overlap, "the stage overlap"),
    }


def _proxy_loss(weights_K: np.ndarray, logp_NxK: np.ndarray, bytes_N: np.ndarray) -> float:
    with np.errstate(divide="ignore"):
        mixed_N = np.logaddexp.reduce(logp_NxK + np.log(weights_K), axis=1)
    return float(-mixed_N.sum() / bytes_N.sum())


def _named(values_K: np.ndarray, names: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in zip(names, values_K, strict=True)}
