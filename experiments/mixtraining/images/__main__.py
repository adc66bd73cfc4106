"""More accuracy for less compute? SSL and SL one after the other, against both in one phase, on images.

    python -m experiments.image_mixtraining                       demonstration on digits (under 5 minutes on two cores)
    python -m experiments.image_mixtraining --preset micro --dataset folder:PATH --fractions 0.1 0.25 --seeds 3 --tune

MixTraining (Li et al., arXiv:2502.19513) on a vision transformer with a masked-autoencoder decoder.
"""

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from experiments.harness.command_line import run
from experiments.harness.data_sets import image_records
from experiments.harness.devices import see_devices
from experiments.harness.processes import together
from experiments.mixtraining.config import MixTrainingOptions
from experiments.mixtraining.domain import Domain
from experiments.mixtraining.images.data import image_domain, image_fetch, reconstructions
from experiments.mixtraining.run import Reconstruct, run_experiment
from experiments.reporting.markdown import plural
from mixmin_jax.data.images.image_sets import Images
from mixmin_jax.data.images.sources import DIGITS, read_images
from mixmin_jax.errors import InputError, list_some
from mixmin_jax.models.encoder import EncoderConfig
from mixmin_jax.models.vision_transformer import MICRO, MICRO_DECODER, TINY, TINY_DECODER, VisionConfig

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
    dataset: str = DIGITS
    """digits, folder:PATH (a folder or a tar archive with train/<class>/ and test/<class>/, TinyImageNet's layout, or a
    folder per class) or tfds:NAME."""
    image_size: int | None = None
    """Resize images to this many pixels square (needed where they differ in size)."""
    model: Literal["nano", "micro", "tiny"] = "nano"
    """Vision transformers 64 wide and 2 deep, 96 wide and 4 deep, and ViT-Tiny (192 wide, 12 deep)."""
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


def read_domain(config: ImageMixTraining) -> tuple[Domain, Reconstruct]:
    """The data and the model that the options name, and what makes pictures of them."""
    images = read_images(config.dataset, config.image_size)
    tell_of_skipped(images)
    height, width, channels = images.train.images_NxHxWxC.shape[1:]
    if height != width:
        raise InputError(f"images are {height} x {width} and must be square here: give --image-size")
    encoder, decoder = (dataclasses.replace(size, bfloat16=config.bfloat16) for size in SIZES[config.model])
    classes = (len(images.train.classes),)
    model = VisionConfig(height, config.patch_size, channels, classes, encoder, decoder, config.pool)
    natural = config.dataset != DIGITS  # digits are centred, eight pixels wide, and no digit when mirrored
    padding = height // 8 * natural if config.padding is None else config.padding
    fetch = image_fetch(config.batch_size, padding, natural if config.flip is None else config.flip)
    records = image_records(images, config.dataset, config.image_size)
    domain = image_domain(images, model, config.model, fetch, config.validation_fraction, records)
    return domain, reconstructions(model, images.test, "mixtraining", config.ssl_sees == "all_tokens")


def main(config: ImageMixTraining) -> None:
    see_devices(config)
    with together():
        domain, reconstruct = read_domain(config)
    run_experiment("image_mixtraining", domain, config, demonstration=config.demonstration, reconstruct=reconstruct)


def tell_of_skipped(images: Images) -> None:
    """The first images that could not be read, on stderr."""
    if skipped := images.train.skipped + images.test.skipped:
        print(f"left out, because unreadable: {plural(len(skipped), 'image')}: {list_some(skipped)}", file=sys.stderr)


if __name__ == "__main__":
    run(ImageMixTraining, main, PRESETS)
