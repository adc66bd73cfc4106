"""The options of MixTraining on images, and presets of them."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from experiments.harness.paths import Place
from experiments.mixtraining.config import MixTrainingOptions
from mixmin_jax.data.images.sources import DIGITS
from mixmin_jax.errors import InputError
from mixmin_jax.models.encoder import EncoderConfig
from mixmin_jax.models.vision_transformer import MICRO, MICRO_DECODER, TINY, TINY_DECODER

SIZES = {
    "nano": (EncoderConfig(64, 2, 2), EncoderConfig(32, 1, 2)),
    "micro": (MICRO, MICRO_DECODER),
    "tiny": (TINY, TINY_DECODER),
}


@dataclasses.dataclass(frozen=True)
class ImageMixTraining(MixTrainingOptions):
    """Compare supervised training, "pretrain, then fine-tune" and MixTraining on images.

    With no arguments: a demonstration on scikit-learn's handwritten digits. Presets: digits (minutes on a laptop),
    micro (a small vision transformer for CPUs), tiny (ViT-Tiny on an accelerator; not yet run by anyone).
    """

    out: Path = Path("runs/image_mixtraining")
    """Folder for the results."""
    dataset: Place = DIGITS
    """digits, folder:PATH (a folder or a tar archive with train/<class>/ and test/<class>/, TinyImageNet's layout, or a
    folder per class) or tfds:NAME."""
    unlabeled: Place | None = None
    """Images without labels, for self-supervision alone: a folder, a tar archive or tfds:NAME[@SPLIT]. By default what
    --dataset has under `unlabeled`, `unlabelled` or `unsup`, beside `train` or in it; none leaves that out."""
    follow_links: bool = False
    """Follow links in a folder of images also to files outside of it, and to folders."""
    image_size: int | None = None
    """Resize images to this many pixels square (needed where they differ in size)."""
    model: Literal["nano", "micro", "tiny", "file"] = "nano"
    """Vision transformers 64 wide and 2 deep, 96 wide and 4 deep, and ViT-Tiny (192 wide, 12 deep); or of the size of
    that in --init."""
    init: Path | None = None
    """A pretrained vision transformer in timm's or Hugging Face's naming (MAE, DINO, DeiT): .safetensors, .npz or .pth.
    All arms but `sl` start from its encoder. It adds the arm `finetune`, which is `sl` from that start, and the
    references `frozen` and `k_nn`, which do not train the encoder."""
    init_normalization: Literal["imagenet", "half"] | None = None
    """How its model normalizes pixels, where no config.json beside the file says so: by ImageNet's mean and deviation
    (DeiT, MAE, DINO), or to [-1, 1] (Google's ViT, augreg in timm)."""
    patch_size: int = 2
    """Pixels of a patch's side; divides the image size."""
    pool: Literal["mean", "cls"] = "mean"
    """What the classification head reads: the mean of the patches' features, or the class token's."""
    bfloat16: bool = False
    """Compute in bfloat16; parameters and losses stay float32."""
    padding: int | None = None
    """Random shifts of up to this many pixels; by default an eighth of the image, and none for digits."""
    flip: bool | None = None
    """Random horizontal flips; by default for all data but digits."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.init is None and (self.model == "file" or self.init_normalization):
            raise InputError("--model file and --init-normalization describe the file of --init: give it")

    @property
    def demonstration(self) -> bool:
        return self.dataset == DIGITS


PRESETS: Mapping[str, ImageMixTraining] = {
    "digits": ImageMixTraining(  # rates and epochs by trying on a fifth of the training images
        patch_size=4,
        ssl_epochs=30,
        sl_epochs=30,
        batch_size=32,
        learning_rate=2e-3,
        sl_learning_rate=2e-3,
        scratch_learning_rate=2e-3,
    ),
    "micro": ImageMixTraining(
        model="micro",
        patch_size=4,
        image_size=24,
        fractions=(0.1, 0.25),
        seeds=3,
        ssl_epochs=10,
        sl_epochs=10,
    ),
    "tiny": ImageMixTraining(
        model="tiny",
        patch_size=4,
        fractions=(0.1, 0.25, 1.0),
        seeds=3,
        ssl_epochs=50,
        sl_epochs=50,
        batch_size=256,
        bfloat16=True,
    ),
}
