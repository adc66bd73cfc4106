"""The options of MixTraining on images with one thing changed at a time, and presets of them."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import tyro

from experiments.mixtraining.config import Final
from experiments.mixtraining.images.config import PRESETS, ImageMixTraining
from experiments.mixtraining.variants import CHANGES, Change
from mixmin_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class ImageMixTrainingVariants(ImageMixTraining):
    """MixTraining with one thing changed at a time, at one fraction of the data, judged on the validation part.

    Options are those of experiments.image_mixtraining but for those that have no use here (search, matched compute,
    evaluations along a run, probes, compression, a pretrained start, price, a final model, and the learning rate of the
    arm `sl`, which is none of the variants), which are refused.
    """

    out: Path = Path("runs/image_mixtraining_variants")
    """Folder for the results."""
    fractions: tuple[float, ...] = (0.25,)
    """The share of the training examples to train on: one."""
    changes: tuple[Change, ...] = CHANGES
    """What is changed, one thing at a time; the base and `ssl_then_sl` are always there."""
    matched: tyro.conf.Suppress[bool] = False
    tune: tyro.conf.Suppress[bool] = False
    tune_trials: tyro.conf.Suppress[int] = ImageMixTraining.tune_trials
    times_cheaper: tyro.conf.Suppress[float | None] = None
    checkpoints: tyro.conf.Suppress[int] = 0
    checkpoint_examples: tyro.conf.Suppress[int] = ImageMixTraining.checkpoint_examples
    scratch_learning_rate: tyro.conf.Suppress[float] = ImageMixTraining.scratch_learning_rate
    compress: tyro.conf.Suppress[bool] = False
    probe: tyro.conf.Suppress[bool] = False
    init: tyro.conf.Suppress[Path | None] = None
    init_normalization: tyro.conf.Suppress[Literal["imagenet", "half"] | None] = None
    price_per_hour: tyro.conf.Suppress[float | None] = None
    final: tyro.conf.Suppress[Final] = "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.shares) != 1:
            raise InputError(f"--{self.shares_option} must be one share here, not {' '.join(map(str, self.shares))}")
        if not self.changes or len(set(self.changes)) < len(self.changes):
            raise InputError(f"--changes takes some of {', '.join(CHANGES)}, each once; got {' '.join(self.changes)}")
        if self.tune or self.matched or self.final != "none":
            raise InputError("--tune, --matched and --final belong to experiments.image_mixtraining; leave them out")


VARIANT_PRESETS: Mapping[str, ImageMixTrainingVariants] = {  # those of the experiment, at their smallest fraction
    name: ImageMixTrainingVariants(
        **vars(config)
        | {
            "out": ImageMixTrainingVariants.out,
            "fractions": (min(config.fractions),),
            "matched": False,
            "checkpoints": 0,
            "final": "none",
        }
    )
    for name, config in PRESETS.items()
}
