"""A domain whose programs compile in a moment: made-up vectors, a linear encoder, and linear heads.

Axes: N examples, D numbers of an example, H hidden ones, B batch, F features, A classes.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from experiments.mixtraining.config import MixTrainingOptions
from experiments.mixtraining.domain import Domain, Labels
from mixmin_jax.data.epochs import batch_rows
from mixmin_jax.training.mixtraining import Batch, Labeled, Learner

D, F, A = 8, 6, 3
OPTIONS = MixTrainingOptions(
    fractions=(0.5, 1.0), ssl_epochs=4, sl_epochs=4, batch_size=8, learning_rate=1e-2, sl_learning_rate=1e-2,
    scratch_learning_rate=1e-2,
)  # fmt: skip


@functools.cache
def linear_learner(mask, mask_tokens, joint_only):
    """Hidden numbers are zeros; with `mask_tokens`, a learned number."""
    hidden = round(mask * D)

    def init(key):
        keys = jax.random.split(key, 3)
        scale = 0.3
        return {
            "encoder": {"up": {"kernel": scale * jax.random.normal(keys[0], (D, F))}, "mask": jnp.zeros(())},
            "ssl": {"kernel": scale * jax.random.normal(keys[1], (F, D))},
            "sl": {"kernel": scale * jax.random.normal(keys[2], (F, A))},
        }

    def hide(key, inputs_BxD):
        return jnp.argsort(jax.random.uniform(key, inputs_BxD.shape), axis=1)[:, :hidden]

    def encode(params, inputs_BxD, view_BxH):
        if view_BxH is not None:
            seen_BxD = jnp.ones_like(inputs_BxD).at[jnp.arange(len(view_BxH))[:, None], view_BxH].set(0)
            token = params["encoder"]["mask"] if mask_tokens else 0.0
            inputs_BxD = seen_BxD * inputs_BxD + (1 - seen_BxD) * token
        return jnp.tanh(inputs_BxD @ params["encoder"]["up"]["kernel"])

    def ssl_loss(params, features_BxF, inputs_BxD, view_BxH):
        error_BxD = features_BxF @ params["ssl"]["kernel"] - inputs_BxD
        return jnp.square(jnp.take_along_axis(error_BxD, view_BxH, axis=1)).mean()

    return Learner(init, hide, encode, ssl_loss, lambda params, features, task: features @ params["sl"]["kernel"])


def vectors(count, seed):
    """Vectors around a centre per class, sorted by class as folders of images are."""
    rng = np.random.default_rng(seed)
    labels_N = np.sort(np.arange(count) % A).astype(np.int32)
    centres = np.random.default_rng(0).normal(size=(A, D))
    return Labels((centres[labels_N] + 0.5 * rng.normal(size=(count, D))).astype(np.float32), labels_N)


@functools.cache
def linear_fetch(batch_size):
    def fetch(step, key, data_key, inputs_NxD, labels_N):
        rows_B = batch_rows(step, batch_size, len(labels_N), data_key)
        return Batch(sl=(Labeled(inputs_NxD[rows_B], labels_N[rows_B]),))

    return fetch


def linear_domain(batch_size, test=None, num_train=120):
    test = test or vectors(60, 3)
    return Domain(
        name="text",
        train=vectors(num_train, 1),
        validation=vectors(45, 2),
        test=test,
        classes=tuple("abc"),
        learner=linear_learner,
        fetch=linear_fetch(batch_size),
        dataset={
            "name": "vectors", "origin": "made up", "classes": list("abc"), "train": num_train, "validation": 45,
            "test": len(test), "skipped": 0, "shape": None, "fingerprint": str(test.labels_N.tobytes().hex()),
        },
        model={
            "name": "linear", "parameters": 115, "encoder_parameters": 49, "width": F, "depth": 1, "heads": 1,
            "patch_size": None,
        },
        data_sets=(),
        references=lambda train, test: {"the commonest class": float(np.bincount(test.labels_N).max() / len(test))},
    )  # fmt: skip
