"""The record of the benchmark of MixTraining. FLOPs are those that XLA counts: batch, gradient and update."""

import dataclasses

from benchmarks.mixtraining.cases import BASELINE, ModelName
from benchmarks.mixtraining.convolutions import STEP_BY_STEP
from benchmarks.options import Rounds
from benchmarks.records import Ratio, Record, Times
from mixmin_jax.models.vision_transformer import VisionConfig
from mixmin_jax.training.schedule import Phase


@dataclasses.dataclass(frozen=True)
class Settings(Rounds):
    model: ModelName
    batch_size: int
    bfloat16: bool
    steps: int  # of a block, which is an epoch


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepRecord(Times):
    """A step of one kind, alone in its program: the time of a block over its steps."""

    phase: Phase
    flops: float
    images_per_second: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class PhaseRecord(Times):
    """A step in the program that holds all phases."""

    kind: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class PipelineRecord(Times):
    """A run over its supervised epochs: seconds and FLOPs of one epoch of each objective (`sl`: one supervised)."""

    mix_ratio: float
    epochs: dict[Phase, float]  # of the whole run
    flops: float
    seconds_of_steps: float  # the sum of the median times of its steps alone


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixTrainingRecord(Record):
    settings: Settings
    model: VisionConfig
    ssl_mask: float  # share of the patches that SSL steps hide
    steps: dict[str, StepRecord]  # by kind
    switch: dict[Phase, PhaseRecord]
    pipelines: dict[str, PipelineRecord]
    compile_seconds: dict[str, dict[str, float]]  # "alone" by kind of step, "switch" by kind of joint step
    convolutions: dict[str, Times] = dataclasses.field(default_factory=dict)  # a joint step of a small CNN, by loop

    @property
    def switch_over_alone(self) -> dict[Phase, Ratio]:
        """What a step costs inside the switch."""
        return {phase: found.over(self.steps[found.kind]) for phase, found in self.switch.items()}

    @property
    def speed_up(self) -> dict[str, Ratio]:
        """By pipeline: the baseline's time over its own."""
        return {name: self.pipelines[BASELINE].over(pipeline) for name, pipeline in self.pipelines.items()}

    @property
    def loop_over_step_by_step(self) -> dict[str, Ratio]:
        """What a step of the CNN costs in each loop, against one call a step."""
        return {name: found.over(self.convolutions[STEP_BY_STEP]) for name, found in self.convolutions.items()}
