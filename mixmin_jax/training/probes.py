"""How good the features of a frozen encoder are: a linear probe, and nearest neighbors.

Axes: N training examples, M test examples, D features, k neighbors, A classes.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer

NEIGHBORS = 20  # as in DINO (Caron et al., arXiv:2104.14294), which finds it best
TEMPERATURE = 0.07  # as there
_AT_ONCE = 500  # test examples whose similarities are held at a time


def linear_probe(
    train_NxD: Float[np.ndarray, "N D"],
    labels_N: Integer[np.ndarray, " N"],
    test_MxD: Float[np.ndarray, "M D"],
    labels_M: Integer[np.ndarray, " M"],
) -> float:
    """Test accuracy of logistic regression on standardized features.

    Its penalty is |w|^2 D / 2, beside the sum over examples of the cross-entropies.

    Args:
        train_NxD, labels_N: features and classes to fit.
        test_MxD, labels_M: those to judge by.

    Returns:
        The share of the test examples that are classified correctly.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=1 / train_NxD.shape[1], tol=1e-3, max_iter=300))
    return float(model.fit(train_NxD, labels_N).score(test_MxD, labels_M))


def k_nn(
    train_NxD: Float[np.ndarray, "N D"],
    labels_N: Integer[np.ndarray, " N"],
    test_MxD: Float[np.ndarray, "M D"],
    labels_M: Integer[np.ndarray, " M"],
    neighbors: int = NEIGHBORS,
) -> float:
    """Test accuracy of the vote of the nearest training examples, by the cosine of their features.

        vote for class a = sum over neighbors i of class a of exp(cos(x, x_i) / 0.07)

    As in DINO (arXiv:2104.14294, appendix F.1) and before (Wu et al., arXiv:1805.01978).

    Args:
        train_NxD, labels_N: features and classes of those who vote.
        test_MxD, labels_M: those to judge by.
        neighbors: k; all of N, if there are fewer.

    Returns:
        The share of the test examples whose class gets the largest vote.
    """
    classes = int(max(labels_N.max(), labels_M.max())) + 1
    vote = functools.partial(_vote, _unit(train_NxD), jnp.asarray(labels_N), min(neighbors, len(labels_N)), classes)
    parts = range(0, len(test_MxD), _AT_ONCE)
    chosen_M = np.concatenate([np.asarray(vote(_unit(test_MxD[first : first + _AT_ONCE]))) for first in parts])
    return float((chosen_M == labels_M).mean())


@functools.partial(jax.jit, static_argnums=(2, 3))
def _vote(
    train_NxD: Float[Array, "N D"], labels_N: Integer[Array, " N"], neighbors: int, classes: int, test_MxD: Array
) -> Integer[Array, " M"]:
    cosine_Mxk, nearest_Mxk = jax.lax.top_k(test_MxD @ train_NxD.T, neighbors)
    weight_Mxk = jnp.exp((cosine_Mxk - 1) / TEMPERATURE)
    member_MxkxA = jax.nn.one_hot(labels_N[nearest_Mxk], classes)
    return jnp.argmax(jnp.einsum("mk,mka->ma", weight_Mxk, member_MxkxA), axis=1)


def _unit(features_NxD: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N D"]:
    return features_NxD / np.maximum(np.linalg.norm(features_NxD, axis=1, keepdims=True), 1e-12)
