"""The record of the benchmark of MixTraining. FLOPs are those that XLA counts: batch, gradient and update."""

import dataclasses

from benchmarks.mixtraining.cases import ModelName
from benchmarks.records import Record, Times
from benchmarks.timing import Ratio
from mixmin_jax.models.vision_transformer import VisionConfig
from mixmin_jax.training.schedule import Phase


@dataclasses.dataclass(frozen=True)
class Settings:
    model: ModelName
    batch_size: int
    bfloat16: bool
    steps: int  # of a block, which is an epoch
    repeats: int
    budget: float  # seconds


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
    switch_over_alone: Ratio


@dataclasses.dataclass(frozen=True, kw_only=True)
class SwitchRecord:
    phases: dict[Phase, PhaseRecord]
    sl_over_ssl: Ratio
    sl_over_ssl_alone: Ratio


@dataclasses.dataclass(frozen=True, kw_only=True)
class PipelineRecord(Times):
    """A run over its supervised epochs: seconds and FLOPs of one epoch of each objective (`sl`: one supervised)."""

    mix_ratio: float
    epochs: dict[Phase, float]  # of the whole run
    flops: float
    seconds_of_steps: float  # the sum of the median times of its steps alone
    whole_over_steps: float  # the measured time over that sum
    speed_up: Ratio  # the baseline's time over this pipeline's
    flops_speed_up: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompileSeconds:
    alone: dict[str, float]  # by kind of step
    switch: dict[str, float]  # by kind of joint step


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixTrainingRecord(Record):
    settings: Settings
    model: VisionConfig
    ssl_mask: float  # share of the patches that SSL steps hide
    steps: dict[str, StepRecord]
    switch: SwitchRecord
    pipelines: dict[str, PipelineRecord]
    compile_seconds: CompileSeconds
