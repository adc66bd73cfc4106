"""Models that compile in a moment, with random parameters."""

import functools

import jax
import numpy as np

from mixmin_jax.models.encoder import EncoderConfig
from mixmin_jax.models.series_encoder import SeriesEncoderConfig
from mixmin_jax.models.text_encoder import TextEncoderConfig
from mixmin_jax.models.vision_transformer import VisionConfig
from mixmin_jax.trained.kinds import inputs_of, learner_of
from mixmin_jax.trained.model import SeriesPreprocessing, TrainedModel

SMALL = EncoderConfig(width=8, depth=1, heads=2)
IMAGES = VisionConfig(8, 4, 1, (3,), SMALL, SMALL)
TEXT = TextEncoderConfig(length=12, classes=(3,), encoder=SMALL, decoder=SMALL, pool="cls")
SERIES = SeriesEncoderConfig(length=8, patch_length=4, channels=2, classes=(3,), encoder=SMALL, decoder=SMALL)
SCALE = SeriesPreprocessing((100.0, -1.0), (50.0, 2.0), resample=True)


@functools.cache
def params_of(config):
    return jax.device_get(jax.jit(learner_of(config).init)(jax.random.key(0)))


def small_model(config, **changes):
    own = {"temperature": 1.3, "series": SCALE if config == SERIES else None}
    return TrainedModel(config, tuple("abc"), params_of(config), **{**own, **changes})


def some_inputs(config, count):
    like = inputs_of(config, count)
    return np.random.default_rng(0).integers(0, 256, like.shape, np.uint8).astype(like.dtype)
