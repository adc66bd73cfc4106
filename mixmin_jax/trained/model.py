"""A trained classifier as a value: what it is, its parameters, and pure functions of them.

Axes: N inputs, B batch, D width of the encoder, A classes.
"""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from mixmin_jax.data.series.series_sets import Missing
from mixmin_jax.errors import InputError
from mixmin_jax.models.encoder import pooled
from mixmin_jax.models.series_encoder import SeriesEncoderConfig
from mixmin_jax.trained.kinds import Config, kind_of, learner_of

PyTree = Any


class Outputs(NamedTuple):
    """What a model says of inputs."""

    probabilities_NxA: Float[np.ndarray, "N A"]
    embeddings_NxD: Float[np.ndarray, "N D"]


@dataclasses.dataclass(frozen=True)
class SeriesPreprocessing:
    """What training did to series before the model saw them: (x - mean) / deviation, and how files were read."""

    mean: tuple[float, ...]  # of each channel
    deviation: tuple[float, ...]
    resample: bool = False  # series of any length were resampled to the model's
    missing: Missing = "refuse"

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.deviation):
            raise InputError(f"means of {len(self.mean)} channels, and deviations of {len(self.deviation)}")
        if not (all(map(math.isfinite, self.mean)) and all(0 < one < math.inf for one in self.deviation)):
            raise InputError("the channels' means must be finite, and their deviations positive")


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedModel:
    """A trained encoder with one head, and what its predictions need beside the parameters.

    Its functions take the parameters as an argument, so they can be compiled, differentiated and mapped:
    `jax.jit(model.predict)(model.params, inputs)`. Inputs are images_BxSxSxC or bytes_BxL, uint8, or raw
    series_BxSxC, float32, as `mixmin_jax.trained.inputs` makes them of files.
    """

    config: Config  # of the encoder, the decoder and the head
    classes: tuple[str, ...]  # their names, in the order of the head's outputs
    params: PyTree  # {"encoder", "ssl", "sl"}; those of "ssl", the decoder, serve further training alone
    temperature: float = 1.0  # divides the logits, so that probabilities are calibrated
    resize: bool = False  # images of other sizes were cropped and resized in training; no other kind has a size
    series: SeriesPreprocessing | None = None  # None for other kinds, and for series that need no scaling

    def __post_init__(self) -> None:
        kind_of(self.config)
        if self.config.classes != (len(self.classes),):
            heads = ", ".join(map(str, self.config.classes))
            raise InputError(f"the model has heads for {heads} classes, and {len(self.classes)} are named")
        if len(set(self.classes)) < len(self.classes):
            raise InputError("two classes have one name")
        if not 0 < self.temperature < math.inf:
            raise InputError(f"the temperature must be positive, not {self.temperature}")
        if self.series is not None:
            if not isinstance(self.config, SeriesEncoderConfig):
                raise InputError(f"preprocessing of series, and the model is one of {self.kind}")
            if len(self.series.mean) != self.config.channels:
                raise InputError(f"the model has {self.config.channels} channels, and {len(self.series.mean)} means")

    @property
    def kind(self) -> str:
        """`images`, `text` or `series`."""
        return kind_of(self.config)

    def predict(self, params: PyTree, inputs: Shaped[Array, "B ..."]) -> Float[Array, "B A"]:
        """The probability of each class, softmax(logits / temperature)."""
        return _outputs(self.config, self.series, params, self.temperature, inputs)[0]

    def embed(self, params: PyTree, inputs: Shaped[Array, "B ..."]) -> Float[Array, "B D"]:
        """The features that the head reads: the encoder's output, pooled over tokens."""
        return _outputs(self.config, self.series, params, self.temperature, inputs)[1]

    def outputs(self, inputs_N: Shaped[np.ndarray, "N ..."], batch_size: int = 256) -> Outputs:
        """Both of any number of inputs, with `self.params`: one compiled batch after another."""
        size = max(min(batch_size, len(inputs_N)), 1)
        found = []
        for first in range(0, max(len(inputs_N), 1), size):
            part = inputs_N[first : first + size]
            filled = np.pad(part, [(0, size - len(part))] + [(0, 0)] * (part.ndim - 1))
            both = _compiled(self.config, self.series, self.params, self.temperature, filled)
            found.append([np.asarray(values)[: len(part)] for values in both])
        return Outputs(*map(np.concatenate, zip(*found, strict=True)))


def _outputs(
    config: Config, series: SeriesPreprocessing | None, params: PyTree, temperature: Any, inputs: Any
) -> tuple[jax.Array, jax.Array]:
    learner = learner_of(config)
    inputs = jnp.asarray(inputs)
    if series is not None:
        inputs = (inputs - jnp.array(series.mean)) / jnp.array(series.deviation)
    features = learner.encode(params, inputs, None)
    return jax.nn.softmax(learner.sl_logits(params, features, 0) / temperature), pooled(features, config.pool)


_compiled = functools.partial(jax.jit, static_argnums=(0, 1))(_outputs)
