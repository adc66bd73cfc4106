"""--compress: the test accuracy of a trained model with fewer or coarser weights. Nothing is trained again."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.sharding import Mesh

from experiments.mixtraining.domain import Labels, accuracy
from mixmin_jax.training.compression import Compressed, dense_bytes, int8_weights, prune
from mixmin_jax.training.low_rank import Path, every_kernel
from mixmin_jax.training.mesh import put, replicated
from mixmin_jax.training.mixtraining import Learner

PyTree = Any


def in_encoder(path: Path) -> bool:
    """Kernels of the encoder. Those of heads start 5 times as small, so pruning would take them first."""
    return path[0] == "encoder" and every_kernel(path)


METHODS: Mapping[str, Callable[[PyTree], Compressed]] = {
    **{f"{s:.0%} pruned": functools.partial(prune, share=s, targets=in_encoder) for s in (0.5, 0.8, 0.9)},
    "int8": int8_weights,
}


def compressed_models(
    learner: Learner, params: PyTree, examples: Labels, mesh: Mesh | None = None
) -> list[dict[str, Any]]:
    """For each method the accuracy, and the bytes of encoder and heads as a share of those of the uncompressed model.

    The decoder of self-supervision is not compressed or counted: predictions do not need it.
    """
    held = jax.device_get(params)
    model = {part: held[part] for part in ("encoder", "sl")}
    found = []
    for name, method in METHODS.items():
        smaller = method(model)
        whole = held | smaller.params
        reached, _ = accuracy(learner, whole if mesh is None else put(whole, replicated(mesh)), examples, mesh)
        found.append({"method": name, "accuracy": reached, "share_of_bytes": smaller.bytes / dense_bytes(model)})
    return found
