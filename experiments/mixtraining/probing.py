"""Probes of an encoder in a MixTraining experiment: of a pretrained one before any training, and while SSL trains it.

Axes: N examples, D features.
"""

from typing import Any

import numpy as np
from jax.sharding import Mesh

from experiments.mixtraining.domain import Features, Labels, batches
from mixmin_jax.training.loop import BLOCK_STEPS
from mixmin_jax.training.mesh import gathered
from mixmin_jax.training.probes import k_nn, linear_probe
from mixmin_jax.training.schedule import SL, StepPlan


def probe(features: Features, params: Any, train: Labels, test: Labels, mesh: Mesh | None = None) -> dict[str, float]:
    """Test accuracy of a linear probe and of nearest neighbors on the features of the encoder as it is.

    With a mesh, that of `params`, the examples are split over its `data` axis.
    """
    found = features_of(features, params, train, mesh), train.labels_N, features_of(features, params, test, mesh)
    return {"linear": linear_probe(*found, test.labels_N), "k_nn": k_nn(*found, test.labels_N)}


def features_of(features: Features, params: Any, examples: Labels, mesh: Mesh | None = None) -> np.ndarray:
    """features_NxD of all examples, float32."""
    parts = [gathered(features(params, inputs))[:count] for count, inputs, _ in batches(examples, mesh)]
    return np.concatenate(parts).astype(np.float32)


def probe_steps(plan: StepPlan, count: int) -> list[int]:
    """Steps after which to probe: evenly over those that self-supervise, the last of them included."""
    supervised = np.flatnonzero(plan.phase != SL)
    if not count or not supervised.size:
        return []
    last = int(supervised[-1]) + 1
    return sorted({int(step) for step in np.linspace(0, last, count + 1)[1:] if step >= min(BLOCK_STEPS, last)})
