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


def compiled(outcome):
    """(value and derivatives by all arguments, the value alone), from one program."""
    both = jax.jit(jax.value_and_grad(outcome, argnums=tuple(range(outcome.__code__.co_argcount))))
    return both, lambda *arguments: both(*arguments)[0]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("constraint", ["simplex", "all"])
def test_derivatives_by_log_likelihoods_and_weights(constraint):
    def outcome(logp_NxK, v_N):
        # Far below the default tolerance, as differences of answers are compared.
        s = solve_traced(cross_entropy(logp_NxK, v_N), tolerance=1e-24, **CONSTRAINTS[constraint])
        return COST @ s.weights + 0.3 * s.loss + 0.7 * s.penalty

    both, value = compiled(outcome)
    _, (by_logp, by_v) = both(LOGP, V)
    np.testing.assert_allclose(by_v, central_differences(lambda v: value(LOGP, v), V), atol=1e-6)
    np.testing.assert_allclose(
        by_logp[:4], central_differences(lambda x: value(np.concatenate([x, LOGP[4:]]), V), LOGP[:4]), atol=1e-6
    )
    tangent = np.random.default_rng(2).normal(size=N)
    forward = jax.jit(lambda v: jax.jvp(lambda v: outcome(LOGP, v), (v,), (tangent,))[1])(V)
    np.testing.assert_allclose(forward, by_v @ tangent, rtol=1e-9)


@pytest.mark.usefixtures("x64")
def test_derivative_of_a_row_of_weight_zero():
    v_N = V.copy()
    v_N[0] = 0.0

    def outcome(v_N):
        return COST @ solve_traced(cross_entropy(LOGP, v_N), tolerance=1e-24).weights

    both, value = compiled(outcome)
    ahead = (value(v_N + STEP * np.eye(N)[0]) - value(v_N)) / STEP
    np.testing.assert_allclose(both(v_N)[1][0][0], ahead, rtol=1e-3)


@pytest.mark.usefixtures("x64")
def test_derivatives_by_caps_prior_and_predictions():
    caps, strength = np.array([0.3, 0.2, 0.25, 0.9, 0.9, 0.15]), np.array(0.2)

    def by_bounds(caps, s):
        prior = {"prior": problems.PRIOR, "prior_strength": s}
        return COST @ solve_traced(cross_entropy(LOGP), upper_bounds=caps, tolerance=1e-24, **prior).weights

    both, value = compiled(by_bounds)
    _, (slopes, by_strength) = both(caps, strength)
    np.testing.assert_allclose(slopes, central_differences(lambda x: value(x, strength), caps), atol=1e-6)
    assert np.abs(slopes).max() > 0.1  # some cap binds
    np.testing.assert_allclose(by_strength, central_differences(lambda s: value(caps, s), strength), atol=1e-6)
    yhat, y = problems.predictions()

    def by_targets(y):
        return solve_traced(squared_error(yhat, y), tolerance=1e-24).weights @ COST

    both, value = compiled(by_targets)
    np.testing.assert_allclose(
        both(y)[1][0][:3], central_differences(lambda x: value(jnp.concatenate([x, y[3:]])), y[:3]), atol=1e-6
    )


@pytest.mark.slow
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
    assert abs(single.loss - double.loss) < 1e-3  # a float32 of about 2000 resolves 1e-4
    np.testing.assert_allclose(single.weights.sum(), 1, atol=1e-6)


def test_single_precision_of_host_arrays_keeps_what_differs_between_sources():
    far, near = (solve_traced(cross_entropy(LOGP - shift)) for shift in (1e8, 0.0))
    assert far.converged
    np.testing.assert_allclose(far.weights, near.weights, atol=1e-4)


@pytest.mark.slow
def test_bounds_that_leave_no_weights_do_not_converge():
    run = jax.jit(lambda cap: solve_traced(cross_entropy(LOGP), upper_bounds=cap))
    assert not run(0.1).converged and run(0.2).converged
    in_group = jax.jit(lambda cap: solve_traced(cross_entropy(LOGP), groups={(0, 1, 2): cap, (3, 4, 5): 0.5}))
    assert not in_group(0.4).converged and in_group(np.inf).converged


def test_example_weights_keep_their_precision_beside_coarse_log_likelihoods():
    v_N = problems.example_weights()[:N]
    run = jax.jit(lambda logp_NxK, v_N: solve_traced(cross_entropy(logp_NxK, v_N)))
    for coarse in (jnp.asarray(LOGP, jnp.bfloat16), np.round(LOGP).astype(np.int32)):
        expected = solve(cross_entropy(np.asarray(coarse, np.float64), v_N))
        found = run(coarse, v_N)
        assert found.converged
        np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-5)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"prior": np.eye(K)[0], "prior_strength": 1.0}, "for every source, but only columns 0 can"),
        ({"upper_bounds": {0: 0.0}, **CONSTRAINTS["prior"]}, "for every source, but only columns 1, 2"),
        ({"groups": {(0, 1): 0.0}, **CONSTRAINTS["prior"]}, "for every source, but only columns 2, 3"),
        ({"tolerance": -1.0}, "tolerance must be"),
        ({"max_iterations": 1.5}, "max_iterations must be"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(InputError, match=message):
        solve_traced(cross_entropy(LOGP), **options)
