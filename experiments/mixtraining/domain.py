"""What the arms of a MixTraining experiment need to know of their domain, and its accuracy.

Axes: N training examples, M examples that are evaluated, B batch, A classes.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from experiments.reporting.schema import DataSet
from mixmin_jax.models.encoder import Pool, pooled
from mixmin_jax.models.pretrained import Pretrained
from mixmin_jax.models.series_encoder import SeriesEncoderConfig
from mixmin_jax.models.text_encoder import TextEncoderConfig
from mixmin_jax.models.vision_transformer import VisionConfig
from mixmin_jax.trained.model import TrainedModel
from mixmin_jax.training.language_model import num_parameters
from mixmin_jax.training.mesh import gathered, over_batch, put
from mixmin_jax.training.mixtraining import Fetch, Learner

PyTree = Any
Features = Callable[[PyTree, Any], jax.Array]  # (params, inputs) -> features_BxD that the classification head reads
_AT_ONCE = 500  # examples in one evaluation step


@dataclasses.dataclass(frozen=True, eq=False)
class Labels:
    """Examples with one label each; every leaf of `inputs` has the examples as its leading axis."""

    inputs: np.ndarray
    labels_N: np.ndarray

    def __len__(self) -> int:
        return len(self.labels_N)

    def take(self, rows: np.ndarray) -> "Labels":
        return Labels(self.inputs[rows], self.labels_N[rows])

    def spread(self, count: int) -> "Labels":
        """`count` examples evenly over all, or all if there are fewer: of every class, also where those are sorted."""
        return self.take(np.linspace(0, len(self) - 1, min(count, len(self))).astype(int))


def unchanged(key: jax.Array, inputs: PyTree) -> PyTree:
    """The augmentation of examples that have none."""
    del key
    return inputs


@dataclasses.dataclass(frozen=True, eq=False)
class Domain:
    """A data set and a model family.

    learner(mask, mask_tokens, joint_only): the learner that hides `mask` of the tokens, as `learners.image_learner` has
        it. The same arguments give the same object, so that programs are compiled once.
    fetch(step, key, data_key, inputs, labels): the batch of a step.
    augment(key, inputs): what `fetch` does to the inputs of a batch, for batches that SSL shares with no labels.
    unlabeled: inputs without labels, of the shape of those to train on.
    notices: what the plan says of the data.
    """

    name: Literal["images", "text", "series"]
    train: Labels  # without the validation part
    validation: Labels
    test: Labels
    classes: tuple[str, ...]
    learner: Callable[[float, bool, bool], Learner]
    fetch: Fetch
    dataset: Mapping[str, Any]  # for metrics.json; tells data sets apart, so it holds a fingerprint
    model: Mapping[str, Any]  # for metrics.json
    data_sets: Sequence[DataSet]
    references: Callable[[Labels, Labels], Mapping[str, float]]  # (train, test) -> accuracy of other models
    augment: Callable[[jax.Array, PyTree], PyTree] = unchanged
    unlabeled: np.ndarray | None = None
    notices: tuple[str, ...] = ()
    # (parameters, temperature) -> what the folder `model` holds; None for models that no folder can hold
    as_model: Callable[[PyTree, float], TrainedModel] | None = None
    features: Features | None = None  # compiled; None: there are no probes
    start: Pretrained | None = None  # the encoder that all arms but `sl` start from

    def initial(self, arm: str) -> Mapping[str, PyTree] | None:
        """The parts of the parameters that an arm starts from; None if it starts from scratch."""
        return None if self.start is None or arm == "sl" else {"encoder": self.start.params}


def pooled_features(learner: Learner, pool: Pool) -> Features:
    """What the classification head of an image, text or series learner reads, with nothing hidden."""
    return jax.jit(lambda params, inputs: pooled(learner.encode(params, inputs, None), pool))


def model_record(
    name: str, model: VisionConfig | TextEncoderConfig | SeriesEncoderConfig, learner: Learner
) -> dict[str, Any]:
    """The entry `model` of metrics.json."""
    parts = {part: num_parameters(tree) for part, tree in jax.eval_shape(learner.init, jax.random.key(0)).items()}
    return {
        "name": name,
        "parameters": sum(parts.values()),
        "encoder_parameters": parts["encoder"],
        "width": model.encoder.width,
        "depth": model.encoder.depth,
        "heads": model.encoder.heads,
        "patch_size": getattr(model, "patch_size", getattr(model, "patch_length", None)),
    }


def accuracy(
    learner: Learner, params: PyTree, examples: Labels, mesh: Mesh | None = None, task: int = 0
) -> tuple[float, float]:
    """The share of examples that the head of a task gets right, and their mean cross-entropy in nats.

    With a mesh, that of `params`, the examples are split over its `data` axis.
    """
    correct, nats = 0.0, 0.0
    for count, inputs, labels_B in batches(examples, mesh):
        right_B, nats_B = gathered(_judged(learner, task, params, inputs, labels_B))
        correct += float(right_B[:count].sum())
        nats += float(nats_B[:count].sum(dtype=np.float64))
    return correct / len(examples), nats / len(examples)


def batches(examples: Labels, mesh: Mesh | None = None) -> Iterator[tuple[int, Any, Any]]:
    """Examples in parts of one size: how many, their inputs and labels, the last part filled up.

    With a mesh, they are split over its `data` axis.
    """
    size = min(_AT_ONCE, len(examples))
    if mesh is not None:
        size = -(-size // mesh.shape["data"]) * mesh.shape["data"]
    for first in range(0, len(examples), size):
        part = examples.take(np.arange(first, min(first + size, len(examples))))
        filled = np.pad(part.inputs, [(0, size - len(part))] + [(0, 0)] * (part.inputs.ndim - 1), mode="edge")
        rows = filled, np.pad(part.labels_N, (0, size - len(part)))
        yield len(part), *(rows if mesh is None else put(rows, over_batch(mesh)))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _judged(
    learner: Learner, task: int, params: PyTree, inputs: jax.Array, labels_B: jax.Array
) -> tuple[jax.Array, jax.Array]:
    logits_BxA = learner.sl_logits(params, learner.encode(params, inputs, None), task)
    logp_BxA = jax.nn.log_softmax(logits_BxA)
    nats_B = -jnp.take_along_axis(logp_BxA, labels_B[:, None].astype(jnp.int32), axis=1)[:, 0]
    return jnp.argmax(logits_BxA, axis=1) == labels_B, nats_B
