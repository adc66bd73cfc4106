"""The configuration of the experiment that joins MixMin and MixTraining, its arms and its presets."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import tyro

from experiments.harness.options import ManyModelsOptions
from experiments.harness.paths import Place
from experiments.mixtraining.config import ScheduleOptions
from experiments.mixtraining.text.model import TextSize
from mixmin_jax.errors import InputError
from mixmin_jax.models.transformer import TransformerConfig
from mixmin_jax.training.language_model import LanguageModelRun
from mixmin_jax.training.mixtraining import OptimizerSettings
from mixmin_jax.training.schedule import Schedule

SUBJECT = "mixmin"  # the arm that the others are compared with
CONVENTIONAL = "mixmin_ssl_then_sl"  # the mixture of `mixmin`, without joint steps
MIXTURES = ("natural", "uniform", SUBJECT)  # arms with a mixture of their own, that self-supervision reads
JOINT_ARMS = ("target_text", *MIXTURES)
SSL_ARMS = (*JOINT_ARMS[:-1], CONVENTIONAL, SUBJECT)
ARMS = ("sl", "sl_matched", *SSL_ARMS)  # the order of every report
DEMO_PROXY = LanguageModelRun(TransformerConfig(64, 2, 4), tokens=64_000, sequence_length=64, batch_size=8)


@dataclasses.dataclass(frozen=True)
class MixedMixTraining(ScheduleOptions, ManyModelsOptions):
    """MixMin picks the text of self-supervision for a task with few labels, MixTraining trains on both at once.

    The task: which class is a window of text from? With no arguments: a demonstration on text that every Python
    installation carries (three kinds of documentation are told apart; other kinds of text are the sources). Presets:
    demo (minutes on a laptop), small (hours on two cores; not yet run by anyone).
    """

    out: Path = Path("runs/mixed_mixtraining")
    """Folder for the results."""
    sources: tuple[Place, ...] = ()
    """Text without labels: a folder with one file or folder per source (docs/own-data.md lists the formats),
    or several paths and TFDS data sets (tfds:NAME:FIELD[@SPLIT]), one per source."""
    sources_info: Path | None = None
    """A TOML file with a table per source: licence, note, and allowed = false for a source that may not be used, which
    is left out. Default: sources.toml in the folder of sources, or beside the paths, if it is there."""
    task: tyro.conf.UseAppendAction[tuple[tuple[Place, ...], ...]] = ()
    """The classes of a task: files, folders or tfds: data sets, one per class, or a folder that holds one of each. Give
    the option again for a further task: each has a head of its own."""
    field: str = "text"
    """The field of JSON lines that holds the text."""
    seeds: int = 2
    """Repeat everything with seeds 0, 1, ...: labeled windows, proxies, weights, initial parameters and order."""
    labels: int = 50
    """Labeled windows of each class, at most: all classes of a task get the same number. MixMin sees these alone."""
    test_windows: int = 300
    """Windows of each class to test on, at most."""
    test_fraction: float = 0.5
    """Share of each class's documents that is tested on, and on nothing else."""
    split_seed: int = 0
    """Seed of that split."""
    proxy: LanguageModelRun = DEMO_PROXY
    """The cheap language model trained once per source. Its sequence length is that of all windows, in bytes."""
    method: Literal["auto", "interior_point", "active_set", "projected_gradient", "mirror_descent"] = "auto"
    """Solver for the weights; all are certified."""
    model: TextSize = "nano"
    """Encoders 64 wide and 2 deep, and 96 wide and 4 deep."""
    pool: Literal["mean", "cls"] = "mean"
    """What the classification heads read: the mean of the bytes' features, or the class token's."""
    bfloat16: bool = False
    """Compute in bfloat16; parameters and losses stay float32."""
    ssl_steps: int = 150
    """Steps that see text of the sources."""
    sl_steps: int = 100
    """Steps that see labels."""
    ssl_batch_size: int = 64
    """Windows of the sources in a step."""
    batch_size: int = 32
    """Labeled windows of each task in a step."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, count in {"labels": self.labels, "ssl-steps": self.ssl_steps, "sl-steps": self.sl_steps}.items():
            if count < 1:
                raise InputError(f"--{name} must be at least 1, not {count}")
        if bool(self.sources) != bool(self.task):
            given, missing = ("--sources", "--task") if self.sources else ("--task", "--sources")
            what = "the labels come from it" if self.sources else "self-supervision reads them"
            raise InputError(
                f"{given} is given without {missing}: {what}; give both, or neither for the built-in demonstration"
            )
        if self.schedule().joint_epochs == 0:
            raise InputError(
                f"--mix-ratio {self.mix_ratio} makes no joint step: raise it, or the steps (mixmin_ssl_then_sl is the"
                " arm without any)"
            )
        self.check_batches(
            proxy__batch_size=self.proxy.batch_size, ssl_batch_size=self.ssl_batch_size, batch_size=self.batch_size
        )
        _ = self.optimizer

    @property
    def demonstration(self) -> bool:
        return not self.sources

    @property
    def length(self) -> int:
        """Bytes of a window."""
        return self.proxy.sequence_length

    @property
    def optimizer(self) -> OptimizerSettings:
        return OptimizerSettings(weight_decay=self.weight_decay)

    def schedule(self) -> Schedule:
        """That of the arms with joint steps, in epochs of one step."""
        return Schedule(
            self.ssl_steps,
            self.sl_steps,
            self.mix_ratio,
            self.alphas,
            learning_rate=self.learning_rate,
            sl_learning_rate=self.sl_learning_rate,
            warmup_fraction=self.warmup_fraction,
        )


PRESETS: Mapping[str, MixedMixTraining] = {
    "demo": MixedMixTraining(),
    "small": MixedMixTraining(
        seeds=3,
        proxy=LanguageModelRun(TransformerConfig(64, 2, 4), tokens=384_000),
        model="micro",
        ssl_steps=2000,
        sl_steps=500,
    ),
}
