"""metrics.json of a MixTraining experiment: the record, how it follows from the stages, and what makes two the same."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from experiments.harness.options import numbers_of
from experiments.harness.stages import Product, read_stage
from experiments.mixtraining.config import Arm, ArmSettings, Budget, Final, Variant
from experiments.mixtraining.plan import Study, stage_name
from experiments.mixtraining.trial import numbers
from experiments.reporting.json_files import to_builtins, typed
from experiments.reporting.schema import RunRecord
from mixmin_jax.models.pretrained import Taken

MIXED, BASELINE, SUPERVISED = "mixtraining", "ssl_then_sl", "sl"
OTHER_SSL = "ssl_of_ssl_then_sl"  # kind of step, where the search gave that arm another mask than mixtraining's
JOINT_LABELED = "joint_labeled"  # kind of step: joint as in this run, without a pool for SSL

# Options that say which runs there are, or act on a run through its settings and epochs, which its stage knows.
_NOT_OF_A_STAGE = (
    "fractions", "label_fractions", "seeds", "matched", "times_cheaper", "tune", "tune_trials", "ssl_epochs",
    "sl_epochs", "learning_rate", "sl_learning_rate", "scratch_learning_rate", "mix_ratio", "ssl_mask", "joint_mask",
    "alpha", "alpha_start", "alpha_end",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Unlabeled:
    """Examples without labels; `copies_of_test` were left out."""

    origin: str
    examples: int
    copies_of_test: int
    skipped: int
    fingerprint: str


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Numbers of examples; `skipped` could not be read, and the first of them are named."""

    name: str
    origin: str
    classes: tuple[str, ...]
    train: int
    validation: int
    test: int
    skipped: int
    shape: tuple[int, ...] | None  # of images
    fingerprint: str
    skipped_files: tuple[str, ...] = ()
    unlabeled: Unlabeled | None = None


@dataclasses.dataclass(frozen=True)
class Model:
    """The trained model, with its numbers of parameters."""

    name: str
    parameters: int
    encoder_parameters: int
    width: int
    depth: int
    heads: int
    patch_size: int | None


@dataclasses.dataclass(frozen=True)
class StepCost:
    """A step of one kind: its FLOPs, and the median and range of its milliseconds."""

    flops: float
    ms: float
    ms_low: float
    ms_high: float


@dataclasses.dataclass(frozen=True)
class Settings:
    """What `ArmSettings` says of an arm; None for what it has no use for."""

    learning_rate: float
    sl_learning_rate: float | None = None
    ssl_mask: float | None = None
    mix_ratio: float | None = None
    joint_mask: float | None = None
    alpha: str | None = None

    @property
    def given(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclasses.dataclass(frozen=True)
class Failure:
    """Where a loss or gradient was not finite; `too_many`: how many steps were skipped before."""

    phase: str
    step: int
    too_many: str | None = None


@dataclasses.dataclass(frozen=True)
class Curve:
    """Mean training losses over stretches of steps; None where a phase has no such loss."""

    step: tuple[float, ...]
    phase: tuple[int, ...]
    ssl: tuple[float | None, ...]
    sl: tuple[float | None, ...]


@dataclasses.dataclass(frozen=True)
class Checkpoints:
    """Test accuracy along a run, before its end."""

    step: tuple[int, ...]
    flops: tuple[float, ...]
    accuracy: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class CompressedModel:
    """A run's model with fewer or coarser weights; bytes are those of encoder and heads, relative to float32."""

    method: str
    accuracy: float
    share_of_bytes: float


@dataclasses.dataclass(frozen=True)
class Probes:
    """Test accuracy of a linear probe and of nearest neighbors on frozen features, while a run self-supervises."""

    step: tuple[int, ...]
    linear: tuple[float, ...]
    k_nn: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Run:
    """One training. `seconds`: its steps at their measured times; `wall_seconds`: with compilation and evaluation."""

    arm: Arm
    budget: Budget
    fraction: float
    seed: int
    learning_rate: float
    accuracy: float
    test_loss: float | None  # nats; None: not finite
    flops: float
    wall_seconds: float
    steps: dict[str, int]  # by phase
    epochs: dict[str, float]
    failure: Failure | None
    curve: Curve
    checkpoints: Checkpoints
    seconds: float = 0.0
    compressed: tuple[CompressedModel, ...] = ()  # with --compress
    probes: Probes | None = None


@dataclasses.dataclass(frozen=True)
class Reference:
    """Another model on the same examples."""

    name: str
    fraction: float
    accuracy: float


@dataclasses.dataclass(frozen=True)
class SearchTrial:
    """Settings that the search tried, for so many epochs, and their validation accuracy."""

    arm: Arm
    settings: Settings
    rung: int
    epochs: float
    accuracy: float
    flops: float
    failure: Failure | None


@dataclasses.dataclass(frozen=True)
class Search:
    """All trials of the search; `share_of_run`: its FLOPs by those of `ssl_then_sl` at the largest fraction."""

    trials: tuple[SearchTrial, ...]
    share_of_run: float
    flops: float = 0.0

    def derived(self) -> Self:
        return dataclasses.replace(self, flops=sum(trial.flops for trial in self.trials))


@dataclasses.dataclass(frozen=True)
class FinalModel:
    """The model in the folder `model`, trained once on all labeled data but the test part, and judged there.

    `asked` is --final. Calibration errors are expected ones of the predicted class; the second, with the temperature,
    is cross-fitted on the test part. With a failure there is no model, and the numbers are of its last good parameters.
    """

    asked: Final
    arm: Arm
    budget: Budget
    examples: int
    accuracy: float
    test_loss: float | None  # nats, without the temperature; None: not finite
    flops: float
    epochs: dict[str, float]  # by phase
    failure: Failure | None
    temperature: float = 1.0
    calibration_error: float | None = None
    calibration_error_after: float | None = None
    class_accuracy: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def cell(self) -> str:
        """The arm, and its budget unless that is its own schedule."""
        return self.arm if self.budget == "schedule" else f"{self.arm}, {self.budget}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixTrainingMetrics(RunRecord):
    """All numbers of a run."""

    domain: Literal["images", "text", "series"]
    dataset: Dataset
    model: Model
    fractions: tuple[float, ...]
    examples: tuple[int, ...]  # of each fraction
    joint: Variant
    times_cheaper: float | None
    arms: dict[Arm, Settings]
    runs: tuple[Run, ...]
    steps: dict[str, StepCost]  # by kind
    tuning: Search | None
    references: tuple[Reference, ...]
    price_per_hour: float | None
    ssl_examples: tuple[int, ...] | None = None  # that SSL sees, at each fraction; None: those with labels
    final: FinalModel | None = None
    start: Taken | None = None  # of a pretrained encoder: all arms but `sl` start from it

    @property
    def whole(self) -> str:
        """What a fraction is a share of, in words."""
        return "the labels" if self.config.get("label_fractions") else "the training data"

    def kind_of(self, phase: str, arm: str, budget: str = "schedule") -> str:
        """Which of the kinds of step in `steps` an arm's steps of a phase are."""
        if phase == "joint":
            return JOINT_LABELED if budget == "labeled" else f"joint_{self.joint}"
        return OTHER_SSL if phase == "ssl" and arm == BASELINE and OTHER_SSL in self.steps else phase

    def derived(self) -> Self:
        """FLOPs and seconds of each run are its steps times the cost of one."""

        def counted(run: Run) -> Run:
            kinds = {self.kind_of(phase, run.arm, run.budget): count for phase, count in run.steps.items() if count}
            costs = [(count, self.steps[kind]) for kind, count in kinds.items()]
            flops, ms = (float(sum(n * getattr(cost, unit) for n, cost in costs)) for unit in ("flops", "ms"))
            return dataclasses.replace(run, flops=flops, seconds=ms / 1000)

        return dataclasses.replace(self, runs=tuple(map(counted, self.runs)))


def identity(experiment: str, study: Study) -> dict[str, Any]:
    """What all numbers of a run follow from, as JSON can hold it."""
    options = numbers_of(to_builtins(study.options), ("price_per_hour", "final"))
    start: dict[str, Any] = {}
    if study.domain.start:  # the files beside the weights say more than these
        taken = study.domain.start.taken
        start = {"start": to_builtins([taken.sha256, taken.normalization, taken.encoder])}
    return {"experiment": experiment, "options": options, "data": dict(study.domain.dataset)} | start


def stage_inputs(experiment: str, study: Study) -> dict[str, Any]:
    """What each stage follows from beside its own inputs: so that more seeds or fractions keep those that are done."""
    whole = identity(experiment, study)
    options = {name: value for name, value in whole["options"].items() if name not in _NOT_OF_A_STAGE}
    return whole | {"options": options}


def settings_of(settings: ArmSettings, arm: Arm) -> Settings:
    return Settings(**settings.of(arm))


def run_of(product: Product, arm: Arm, budget: Budget, fraction: float, seed: int, learning_rate: float) -> Run:
    """One of the runs of metrics.json, but for its seconds, from what its stage made."""
    told = {"arm": arm, "budget": budget, "fraction": fraction, "seed": seed, "learning_rate": learning_rate}
    return typed(to_builtins(told | numbers(product)), Run, f"the stage {stage_name(arm, budget, fraction, seed)}")


def final_stage(arm: Arm, budget: Budget) -> str:
    """Of the stage that trains the final model."""
    return f"final-{arm}-{budget}"


def final_of(product: Product, arm: Arm, budget: Budget, asked: Final, examples: int) -> FinalModel:
    """The entry of metrics.json, from what its stage made."""
    known = {field.name for field in dataclasses.fields(FinalModel)}
    told = {name: value for name, value in numbers(product).items() if name in known}
    told |= {"arm": arm, "budget": budget, "asked": asked, "examples": examples}
    return typed(to_builtins(told), FinalModel, f"the stage {final_stage(arm, budget)}")


def shared_results(product: Callable[[str], Product], fractions: Sequence[float]) -> dict[str, Any]:
    """The fields of `MixTrainingMetrics` that follow from stages that runs share; `product` is what a stage made."""
    return {
        "steps": {kind: StepCost(**cost) for kind, cost in product("costs").items()},
        "references": tuple(
            Reference(name, fraction, reached)
            for fraction in fractions
            for name, reached in product(f"references-{fraction:g}").items()
        ),
    }


def from_stages(metrics: MixTrainingMetrics, stages: Path) -> MixTrainingMetrics | None:
    """The record with what its stages say in their place; None where one is missing."""

    def product(name: str) -> Product:
        return read_stage(stages / f"{name}.npz")[0]

    def again(run: Run) -> Run:
        cell = run.arm, run.budget, run.fraction, run.seed
        return run_of(product(stage_name(*cell)), *cell, run.learning_rate)

    def final_again(final: FinalModel) -> FinalModel:
        return final_of(
            product(final_stage(final.arm, final.budget)), final.arm, final.budget, final.asked, final.examples
        )

    try:
        runs, final = tuple(map(again, metrics.runs)), metrics.final and final_again(metrics.final)
        return dataclasses.replace(metrics, runs=runs, final=final, **shared_results(product, metrics.fractions))
    except FileNotFoundError:
        return None


def problems(metrics: MixTrainingMetrics, folder: Path) -> list[str]:
    """What is wrong beyond what `derived` computes again; nothing in the folder matters."""
    del folder
    wrong: list[str] = []
    seeds_of: dict[str, list[int]] = {}
    for run in metrics.runs:
        cell = f"{run.arm}, {run.budget}, {run.fraction:g}"
        seeds_of.setdefault(cell, []).append(run.seed)
        if not 0 <= run.accuracy <= 1:
            wrong.append(f"{cell}, seed {run.seed}: accuracy {run.accuracy}")
    expected = list(metrics.seeds)
    return wrong + [f"{cell} has the seeds {seeds}" for cell, seeds in seeds_of.items() if sorted(seeds) != expected]
