"""The options of MixTraining on time series, and presets of them."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from experiments.harness.paths import Place
from experiments.mixtraining.config import MixTrainingOptions
from mixmin_jax.data.series.series_files import Axes
from mixmin_jax.data.series.series_sets import Missing
from mixmin_jax.data.series.sources import MADE, SeriesReading
from mixmin_jax.errors import InputError
from mixmin_jax.models.encoder import EncoderConfig

SeriesSize = Literal["nano", "micro"]
SIZES: Mapping[SeriesSize, tuple[EncoderConfig, EncoderConfig]] = {
    "nano": (EncoderConfig(64, 2, 2), EncoderConfig(32, 1, 2)),
    "micro": (EncoderConfig(96, 4, 3), EncoderConfig(64, 1, 2)),
}


@dataclasses.dataclass(frozen=True)
class SeriesMixTraining(MixTrainingOptions):
    """Compare supervised training, "pretrain, then fine-tune" and MixTraining on time series.

    With no arguments: a demonstration on made-up series of eight classes. Presets: demo (minutes on a laptop), micro
    (a larger model, three seeds; not yet run by anyone).
    """

    out: Path = Path("runs/series_mixtraining")
    """Folder for the results."""
    ssl_mask: float = 0.4
    """Share of the patches hidden in an SSL step (0.4 as in PatchTST)."""
    dataset: Place = MADE
    """made, folder:PATH (NAME_TRAIN and NAME_TEST files), file:PATH (.ts, .tsv, .txt, .npz, .parquet) or aeon:NAME, the
    archive's data sets that the package aeon carries."""
    length: int | None = None
    """Resample series to this many steps by linear interpolation (needed where they differ in length)."""
    missing: Missing = "refuse"
    """Missing values: refuse them, or fill gaps linearly."""
    axes: Axes | None = None
    """The order of three axes in an .npz file: series, steps and channels (NSC), or with channels before steps."""
    label_column: str | None = None
    """The column of labels in a .parquet file."""
    model: SeriesSize = "nano"
    """Transformers 64 wide and 2 deep, and 96 wide and 4 deep."""
    patch_length: int = 8
    """Steps of a patch; divides the length."""
    normalize: Literal["channels", "series"] = "channels"
    """Scale to mean 0 and variance 1: each channel over all training examples, or each series by itself, which then
    loses its level and scale."""
    pool: Literal["mean", "cls"] = "mean"
    """What the classification head reads: the mean of the patches' features, or the class token's."""
    shift: int = 0
    """Random shifts of training series by up to this many steps."""
    jitter: float = 0.0
    """Standard deviation of noise on training series, where 1 is the standard deviation of a channel."""
    bfloat16: bool = False
    """Compute in bfloat16; parameters and losses stay float32."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.jitter < float("inf"):
            raise InputError(f"--jitter must be at least 0, not {self.jitter}")

    @property
    def demonstration(self) -> bool:
        return self.dataset == MADE

    @property
    def reading(self) -> SeriesReading:
        return SeriesReading(self.length, self.missing, self.axes, self.label_column)


PRESETS: Mapping[str, SeriesMixTraining] = {
    "demo": SeriesMixTraining(
        shift=16,
        joint_mask=0.25,
        batch_size=32,
        learning_rate=2e-3,
        sl_learning_rate=2e-3,
        scratch_learning_rate=2e-3,
    ),
    "micro": SeriesMixTraining(model="micro", fractions=(0.1, 0.25, 1.0), seeds=3),
}
