"""Cross-validation inside the training part, by which learners choose a penalty or when to stop, for each model.

Axes: N molecules, M models, F folds.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from mixmin_jax.training.weighted_examples import AnyArray, Loss, example_losses

NUM_FOLDS = 2


def random_folds(num_molecules: int, seed: int) -> Int[np.ndarray, " N"]:
    """Folds of equal size, drawn at random.

    On Tox21 and ToxCast, choices by them generalized better to new scaffolds than choices by folds of whole scaffolds,
    in which the largest scaffolds weigh too much.
    """
    return np.random.default_rng(seed).permutation(num_molecules) % NUM_FOLDS


def without_folds(weight_MxN: Float[AnyArray, "M N"], fold_N: Int[AnyArray, " N"]) -> Float[jax.Array, "MF N"]:
    """The weights of M F models: model m without fold f is row m F + f.

    Where nothing would be left, the model keeps the fold: its held-out loss says nothing then, but it can be trained.
    """
    weight_MxN, fold_N = jnp.asarray(weight_MxN), jnp.asarray(fold_N)
    left_MxFxN = weight_MxN[:, None] * (fold_N != jnp.arange(NUM_FOLDS)[:, None])
    left_MxFxN = jnp.where(left_MxFxN.any(-1, keepdims=True), left_MxFxN, weight_MxN[:, None])
    return left_MxFxN.reshape(-1, left_MxFxN.shape[-1])


def heldout_losses(
    score_MFxN: Float[AnyArray, "MF N"],
    target_MxN: Float[AnyArray, "M N"],
    weight_MxN: Float[AnyArray, "M N"],
    fold_N: Int[AnyArray, " N"],
    loss: Loss,
) -> Float[jax.Array, " M"]:
    """The mean loss of every model's own molecules, each under the model that was trained without its fold.

    Weights sum to 1.
    """
    score_MxFxN = score_MFxN.reshape(len(target_MxN), -1, score_MFxN.shape[-1])
    score_MxN = jnp.take_along_axis(score_MxFxN, fold_N[None, None], axis=1)[:, 0]
    return jnp.sum(weight_MxN * example_losses(score_MxN, target_MxN, loss), axis=1)
