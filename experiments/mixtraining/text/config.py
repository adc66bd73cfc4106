"""The options of MixTraining on text, and presets of them."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from experiments.harness.paths import Place
from experiments.mixtraining.config import MixTrainingOptions
from experiments.mixtraining.text.model import TextSize


@dataclasses.dataclass(frozen=True)
class TextMixTraining(MixTrainingOptions):
    """Compare supervised training, "pretrain, then fine-tune" and MixTraining on text.

    The task: which of the sources is a window of text from? With no arguments: a demonstration on text that every
    Python installation carries. Presets: demo (minutes on a laptop), micro (a larger model
    and more text; not yet run by anyone).
    """

    out: Path = Path("runs/text_mixtraining")
    """Folder for the results."""
    sources: tuple[Place, ...] = ()
    """The classes: a folder with one file or folder per source (docs/own-data.md lists the formats), or
    several paths and TFDS data sets (tfds:NAME:FIELD[@SPLIT]), one per source."""
    unlabeled: tuple[Place, ...] | None = None
    """Text without labels, for self-supervision alone: files and folders as sources are, or tfds:NAME:FIELD[@SPLIT]. By
    default the source called `unlabeled`, `unlabelled` or `unsup`; none leaves that out."""
    unlabeled_windows: int | None = None
    """Windows of unlabeled text, at most; by default all."""
    field: str = "text"
    """The field of JSON lines that holds the text."""
    ssl_mask: float = 0.5
    """Share of the bytes hidden in an SSL step."""
    length: int = 64
    """Bytes of a window."""
    windows: int = 120
    """Windows of each class to train on, at most: all classes get the same number."""
    test_windows: int = 250
    """Windows of each class to test on, at most."""
    test_fraction: float = 0.3
    """Share of each source's documents that is tested on, and on nothing else."""
    split_seed: int = 0
    """Seed of the split into documents to train, validate and test on, and of the choice of windows."""
    model: TextSize = "nano"
    """Transformers 64 wide and 2 deep, and 96 wide and 4 deep."""
    pool: Literal["mean", "cls"] = "mean"
    """What the classification head reads: the mean of the bytes' features, or the class token's."""
    bfloat16: bool = False
    """Compute in bfloat16; parameters and losses stay float32."""

    @property
    def demonstration(self) -> bool:
        return not self.sources


PRESETS: Mapping[str, TextMixTraining] = {
    "demo": TextMixTraining(ssl_epochs=8, sl_epochs=8),
    "micro": TextMixTraining(model="micro", length=128, windows=1000, test_windows=500, fractions=(0.1, 0.25), seeds=3),
}
