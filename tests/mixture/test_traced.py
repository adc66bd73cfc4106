"""The traced form: the same answer under jit and vmap, and derivatives against finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixmin_jax import InputError, cross_entropy, solve, solve_traced, squared_error
from tests.mixture import problems
from tests.mixture.problems import CONSTRAINTS, K

N = 16
LOGP = problems.classifiers(N, K)
V = np.random.default_rng(0).uniform(0.2, 1, N) / N
COST = np.random.default_rng(1).normal(size=K)
STEP = 1e-5


def central_differences(function, x):
    slopes = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        step = np.zeros(x.shape)
        step[index] = STEP
        slopes[index] = (function(x + step) - function(x - step)) / (2 * STEP)
    return slopes


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("constraint", ["simplex", "all"])
def test_derivatives_by_log_likelihoods_and_weights(constraint):
    @jax.jit
    def outcome(logp_NxK, v_N):
        # Far below the default tolerance, as differences of answers are compared.
        s = solve_traced(cross_entropy(logp_NxK, v_N), tolerance=1e-24, **CONSTRAINTS[constraint])
        return COST @ s.weights + 0.3 * s.loss + 0.7 * s.penalty

    by_logp, by_v = jax.grad(outcome, argnums=(0, 1))(LOGP, V)
    np.testing.assert_allclose(by_v, central_differences(lambda v: outcome(LOGP, v), V), atol=1e-6)
    np.testing.assert_allclose(
        by_logp[:4], central_differences(lambda x: outcome(np.concatenate([x, LOGP[4:]]), V), LOGP[:4]), atol=1e-6
    )
    tangent = np.random.default_rng(2).normal(size=N)
    _, forward = jax.jvp(lambda v: outcome(LOGP, v), (V,), (tangent,))
    np.testing.assert_allclose(forward, by_v @ tangent, rtol=1e-9)


@pytest.mark.usefixtures("x64")
def test_derivative_of_a_row_of_weight_zero():
    v_N = V.copy()
    v_N[0] = 0.0

    @jax.jit
    def outcome(v_N):
        return COST @ solve_traced(cross_entropy(LOGP, v_N), tolerance=1e-24).weights

    ahead = (outcome(v_N + STEP * np.eye(N)[0]) - outcome(v_N)) / STEP
    np.testing.assert_allclose(jax.grad(outcome)(v_N)[0], ahead, rtol=1e-3)


@pytest.mark.usefixtures("x64")
def test_derivatives_by_caps_prior_and_predictions():
    caps = np.array([0.3, 0.2, 0.25, 0.9, 0.9, 0.15])

    @jax.jit
    def by_caps(caps):
        return COST @ solve_traced(cross_entropy(LOGP), upper_bounds=caps, tolerance=1e-24).weights

    slopes = jax.grad(by_caps)(caps)
    np.testing.assert_allclose(slopes, central_differences(by_caps, caps), atol=1e-6)
    assert np.abs(slopes).max() > 0.1  # some cap binds

    @jax.jit
    def by_strength(s):
        return solve_traced(cross_entropy(LOGP), prior=problems.PRIOR, prior_strength=s, tolerance=1e-24).weights @ COST

    np.testing.assert_allclose(jax.grad(by_strength)(0.2), central_differences(by_strength, np.array(0.2)), atol=1e-6)
    yhat, y = problems.predictions()

    @jax.jit
    def by_targets(y):
        return solve_traced(squared_error(yhat, y), tolerance=1e-24).weights @ COST

    np.testing.assert_allclose(
        jax.grad(by_targets)(y)[:3],
        central_differences(lambda x: by_targets(jnp.concatenate([x, y[3:]])), y[:3]),
        atol=1e-6,
    )


@pytest.mark.usefixtures("x64")
def test_vmap_gives_what_single_solves_give():
    batch = np.stack([LOGP, 0.5 * LOGP, 3 * LOGP])
    together = jax.jit(jax.vmap(lambda logp_NxK: solve_traced(cross_entropy(logp_NxK), tolerance=1e-12)))(batch)
    assert together.converged.all() and together.iterations.shape == (3,)
    for logp_NxK, weights_K in zip(batch, together.weights, strict=True):
        np.testing.assert_allclose(weights_K, solve(cross_entropy(logp_NxK), tolerance=1e-12).weights, atol=1e-8)


def test_single_precision_says_what_it_reaches():
    logp_NxK = jnp.asarray(problems.text(300.0), jnp.float32)
    single = jax.jit(lambda x: solve_traced(cross_entropy(x)))(logp_NxK)
    assert single.weights.dtype == jnp.float32 and single.converged and single.gap <= 1e-5
    double = solve(cross_entropy(np.asarray(logp_NxK)))
    assert single.loss - double.loss < 1e-3  # a float32 of about 2000 resolves 1e-4


def test_a_prior_of_zero_is_refused():
    with pytest.raises(InputError, match="above 0 for every source"):
        solve_traced(cross_entropy(LOGP), prior=np.eye(K)[0], prior_strength=1.0)
