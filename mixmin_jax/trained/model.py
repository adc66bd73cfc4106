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
from jaxtyping import Array, Float, UInt8

from mixmin_jax.errors import InputError
from mixmin_jax.models.encoder import pooled
from mixmin_jax.trained.kinds import Config, kind_of, learner_of

PyTree = Any


class Outputs(NamedTuple):
    """What a model says of inputs."""

    probabilities_NxA: Float[np.ndarray, "N A"]
    embeddings_NxD: Float[np.ndarray, "N D"]


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedModel:
    """A trained encoder with one head, and what its predictions need beside the parameters.

    Its functions take the parameters as an argument, so they can be compiled, differentiated and mapped:
    `jax.jit(model.predict)(model.params, inputs)`. Inputs are images_BxSxSxC or bytes_BxL, uint8, as
    `mixmin_jax.trained.inputs` makes them of files.
    """

    config: Config  # of the encoder, the decoder and the head
    classes: tuple[str, ...]  # their names, in the order of the head's outputs
    params: PyTree  # {"encoder", "ssl", "sl"}; those of "ssl", the decoder, serve further training alone
    temperature: float = 1.0  # divides the logits, so that probabilities are calibrated
    resize: bool = False  # images of other sizes were cropped and resized in training; no other kind has a size

    def __post_init__(self) -> None:
        kind_of(self.config)
        if self.config.classes != (len(self.classes),):
            heads = ", ".join(map(str, self.config.classes))
            raise InputError(f"the model has heads for {heads} classes, and {len(self.classes)} are named")
        if len(set(self.classes)) < len(self.classes):
            raise InputError("two classes have one name")
        if not 0 < self.temperature < math.inf:
            raise InputError(f"the temperature must be positive, not {self.temperature}")

    @property
    def kind(self) -> str:
        """`images` or `text`."""
        return kind_of(self.config)

    def predict(self, params: PyTree, inputs: UInt8[Array, "B ..."]) -> Float[Array, "B A"]:
        """The probability of each class, softmax(logits / temperature)."""
        return _outputs(self.config, params, self.temperature, inputs)[0]

    def embed(self, params: PyTree, inputs: UInt8[Array, "B ..."]) -> Float[Array, "B D"]:
        """The features that the head reads: the encoder's output, pooled over tokens."""
        return _outputs(self.config, params, self.temperature, inputs)[1]

    def outputs(self, inputs_N: UInt8[np.ndarray, "N ..."], batch_size: int = 256) -> Outputs:
        """Both of any number of inputs, with `self.params`: one compiled batch after another."""
        size = max(min(batch_size, len(inputs_N)), 1)
        found = []
        for first in range(0, max(len(inputs_N), 1), size):
            part = inputs_N[first : first + size]
            filled = np.pad(part, [(0, size - len(part))] + [(0, 0)] * (part.ndim - 1))
            both = _compiled(self.config, self.params, self.temperature, filled)
            found.append([np.asarray(values)[: len(part)] for values in both])
        return Outputs(*map(np.concatenate, zip(*found, strict=True)))


def _outputs(config: Config, params: PyTree, temperature: Any, inputs: Any) -> tuple[jax.Array, jax.Array]:
    learner = learner_of(config)
    features = learner.encode(params, jnp.asarray(inputs), None)
    return jax.nn.softmax(learner.sl_logits(params, features, 0) / temperature), pooled(features, config.pool)


_compiled = functools.partial(jax.jit, static_argnums=0)(_outputs)
