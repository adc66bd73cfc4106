"""Models that compile in a moment, with random parameters."""

import functools

import jax
import numpy as np

from mixmin_jax.models.encoder import EncoderConfig
from mixmin_jax.models.text_encoder import TextEncoderConfig
from mixmin_jax.models.vision_transformer import VisionConfig
from mixmin_jax.trained.kinds import inputs_of, learner_of
from mixmin_jax.trained.model import TrainedModel

SMALL = EncoderConfig(width=8, depth=1, heads=2)
IMAGES = VisionConfig(8, 4, 1, (3,), SMALL, SMALL)
TEXT = TextEncoderConfig(length=12, classes=(3,), encoder=SMALL, decoder=SMALL, pool="cls")


@functools.cache
def params_of(config):
    return jax.device_get(jax.jit(learner_of(config).init)(jax.random.key(0)))


def small_model(config, **changes):
    return TrainedModel(config, tuple("abc"), params_of(config), **{"temperature": 1.3, **changes})


def some_inputs(config, count):
    return np.random.default_rng(0).integers(0, 256, inputs_of(config, count).shape, np.uint8)
