"""What the benchmark of MixTraining measures: models, data, kinds of step, pipelines.

Axes: N images, S image side, C channels, B batch.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from mixmin_jax.data.epochs import batch_rows
from mixmin_jax.data.images.augmentation import crop_and_flip
from mixmin_jax.models.vision_transformer import TINY, TINY_DECODER, VisionConfig
from mixmin_jax.training.learners import image_learner
from mixmin_jax.training.mixtraining import Batch, Fetch, Labeled
from mixmin_jax.training.schedule import Phase, Schedule

ModelName = Literal["micro", "tiny"]
CLASSES = 10
MODELS: Mapping[ModelName, VisionConfig] = {
    "micro": VisionConfig(24, 4, 3, (CLASSES,)),
    "tiny": VisionConfig(32, 4, 3, (CLASSES,), TINY, TINY_DECODER),
}
BATCH_SIZES: Mapping[ModelName, int] = {"micro": 128, "tiny": 256}
SSL_MASK = 0.75  # share of hidden patches in SSL steps and in the SSL pass of two: that of masked autoencoders
EPOCHS = 4  # of each objective in a pipeline: the least with whole epochs at every mix ratio below


class Variant(NamedTuple):
    """How a joint step encodes its batch."""

    mask_ratio: float
    mask_tokens: bool = False  # the encoder sees hidden patches as mask tokens
    two_passes: bool = False  # the visible patches for SSL, and all patches once more for SL

    def arguments(self, config: VisionConfig) -> dict[str, Any]:
        """What tells `make_step` how joint steps go."""
        learner = image_learner(config, self.mask_ratio, self.mask_tokens)
        return {"joint": learner, "two_passes": self.two_passes}


VISIBLE, TWO_PASSES = Variant(0.5), Variant(SSL_MASK, two_passes=True)


class Kind(NamedTuple):
    """A kind of step."""

    phase: Phase
    variant: Variant = VISIBLE  # matters to joint steps only


KINDS: Mapping[str, Kind] = {
    "ssl": Kind("ssl"),
    "sl": Kind("sl"),
    "joint_visible_0.25": Kind("joint", Variant(0.25)),
    "joint_visible_0.5": Kind("joint", VISIBLE),
    "joint_visible_0.75": Kind("joint", Variant(0.75)),
    "joint_all_tokens_0.5": Kind("joint", Variant(0.5, mask_tokens=True)),
    "joint_two_passes": Kind("joint", TWO_PASSES),
}


class Pipeline(NamedTuple):
    """A way to train from new parameters to a classifier."""

    schedule: Schedule
    variant: Variant = VISIBLE


BASELINE = "ssl_then_sl"
PIPELINES: Mapping[str, Pipeline] = {
    BASELINE: Pipeline(Schedule(EPOCHS, EPOCHS)),
    "mixtraining_0.25": Pipeline(Schedule(EPOCHS, EPOCHS, 0.25)),
    "mixtraining_0.5": Pipeline(Schedule(EPOCHS, EPOCHS, 0.5)),
    "mixtraining_1": Pipeline(Schedule(EPOCHS, EPOCHS, 1.0)),
    "mixtraining_two_passes_0.5": Pipeline(Schedule(EPOCHS, EPOCHS, 0.5), TWO_PASSES),
    "sl": Pipeline(Schedule(0, EPOCHS)),
}


def kind_of(phase: Phase, variant: Variant) -> str:
    """The name in `KINDS` of the steps of a phase."""
    return next(
        name for name, kind in KINDS.items() if kind.phase == phase and (phase != "joint" or kind.variant == variant)
    )


def sized(model: VisionConfig, quick: bool, bfloat16: bool) -> VisionConfig:
    """The model in the type to compute in; a quick run halves the depth of its encoder."""
    depth = max(1, model.encoder.depth // 2) if quick else model.encoder.depth
    encoder = dataclasses.replace(model.encoder, depth=depth, bfloat16=bfloat16)
    return dataclasses.replace(model, encoder=encoder, decoder=dataclasses.replace(model.decoder, bfloat16=bfloat16))


def chosen(quick: bool) -> tuple[dict[str, Kind], dict[str, Pipeline]]:
    """The kinds of step and the pipelines to measure; a quick run takes those that share one program."""
    kinds = {name: kind for name, kind in KINDS.items() if not quick or kind.variant == VISIBLE}
    pipelines = {name: pipeline for name, pipeline in PIPELINES.items() if not quick or pipeline.variant == VISIBLE}
    return kinds, pipelines


def random_data(config: VisionConfig, num_images: int, key: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(key of the order, images_NxSxSxC in uint8, labels_N): noise, because no step's time depends on it."""
    order_key, image_key, label_key = jax.random.split(key, 3)
    shape = num_images, config.image_size, config.image_size, config.channels
    images_NxSxSxC = jax.random.bits(image_key, shape, jnp.uint8)
    return order_key, images_NxSxSxC, jax.random.randint(label_key, (num_images,), 0, config.classes[0])


def epoch_fetch(batch_size: int) -> Fetch:
    """Batches of shuffled epochs, cropped and mirrored at random, as in training."""

    def fetch(
        step: jax.Array, key: jax.Array, order_key: jax.Array, images_NxSxSxC: jax.Array, labels_N: jax.Array
    ) -> Batch:
        rows_B = batch_rows(step, batch_size, len(labels_N), order_key)
        return Batch((Labeled(crop_and_flip(key, images_NxSxSxC[rows_B], 4, True), labels_N[rows_B]),))

    return fetch
