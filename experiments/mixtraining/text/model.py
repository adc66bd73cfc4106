"""The sizes of the transformer over bytes, by name."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Literal

from mixmin_jax.models.encoder import EncoderConfig
from mixmin_jax.models.text_encoder import TextEncoderConfig
from mixmin_jax.training.learners import text_learner
from mixmin_jax.training.mixtraining import Learner

TextSize = Literal["nano", "micro"]
SIZES: Mapping[TextSize, tuple[EncoderConfig, EncoderConfig]] = {
    "nano": (EncoderConfig(64, 2, 2), EncoderConfig(32, 1, 2)),
    "micro": (EncoderConfig(96, 4, 3), EncoderConfig(64, 1, 2)),
}


def text_model(
    size: TextSize, length: int, classes: tuple[int, ...], pool: Literal["mean", "cls"], bfloat16: bool
) -> TextEncoderConfig:
    """The model of a named size."""
    encoder, decoder = (dataclasses.replace(part, bfloat16=bfloat16) for part in SIZES[size])
    return TextEncoderConfig(length=length, classes=classes, encoder=encoder, decoder=decoder, pool=pool)


@functools.cache  # the same objects, so that their programs are compiled once
def cached_learner(model: TextEncoderConfig, mask: float, mask_tokens: bool, joint_only: bool) -> Learner:
    return text_learner(model, mask, mask_tokens, joint_only=joint_only)
