"""The kinds of model that a folder can hold: each has a configuration, a learner and a shape of input."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mixmin_jax.errors import InputError
from mixmin_jax.models.series_encoder import SeriesEncoderConfig
from mixmin_jax.models.text_encoder import TextEncoderConfig
from mixmin_jax.models.vision_transformer import VisionConfig
from mixmin_jax.training.learners import image_learner, series_learner, text_learner
from mixmin_jax.training.losses import Learner

Config = VisionConfig | TextEncoderConfig | SeriesEncoderConfig


class Kind(NamedTuple):
    """What tells one kind of model from another."""

    config: type[Config]
    learner: Callable[..., Learner]  # (config, mask ratio, joint_only=...)
    input_shape: Callable[[Any], tuple[int, ...]]  # of one input
    dtype: Any = jnp.uint8  # of inputs


KINDS: Mapping[str, Kind] = {
    "images": Kind(VisionConfig, image_learner, lambda config: 2 * (config.image_size,) + (config.channels,)),
    "text": Kind(TextEncoderConfig, text_learner, lambda config: (config.length,)),
    "series": Kind(SeriesEncoderConfig, series_learner, lambda config: (config.length, config.channels), jnp.float32),
}


def kind_of(config: Config) -> str:
    """The name of a configuration's kind. Raises InputError for a configuration of none."""
    for name, kind in KINDS.items():
        if type(config) is kind.config:
            return name
    known = ", ".join(kind.config.__name__ for kind in KINDS.values())
    raise InputError(f"a {type(config).__name__} is no configuration of a model; known are {known}")


def learner_of(config: Config) -> Learner:
    """The learner that encodes whole inputs."""
    return KINDS[kind_of(config)].learner(config, 0.0, joint_only=True)


def shapes_of(config: Config) -> Any:
    """The tree of parameters, as shapes and types."""
    return jax.eval_shape(learner_of(config).init, jax.random.key(0))


def inputs_of(config: Config, batch: Any) -> jax.ShapeDtypeStruct:
    """Shape and type of a batch of inputs."""
    kind = KINDS[kind_of(config)]
    return jax.ShapeDtypeStruct((batch, *kind.input_shape(config)), kind.dtype)
