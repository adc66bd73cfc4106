"""Objectives: formulas, derivatives, and every way in which the arrays can be wrong."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixmin_jax import InputError, cross_entropy, squared_error
from mixmin_jax.mixture.objective import CrossEntropy
from tests.mixture import problems
from tests.mixture.problems import K, N

pytestmark = pytest.mark.usefixtures("x64")
MANY = 2**19 // K + 5000  # rows that stand in several blocks, the last of them not full
WEIGHTS = np.array([0.1, 0.2, 0.3, 0.0, 0.25, 0.15])


def evaluators():
    yhat, y = problems.predictions()
    long = problems.classifiers(MANY, K)
    return {
        "cross-entropy": cross_entropy(problems.classifiers(), problems.example_weights()),
        "zero cells": cross_entropy(problems.zero_cells()),
        "blocks": cross_entropy(long),
        "squared error": squared_error(yhat, y),
    }


def test_cross_entropy_is_the_formula():
    logp_NxK, v_N = problems.classifiers(), problems.example_weights()
    expected = -(v_N * np.log(np.exp(logp_NxK) @ WEIGHTS)).sum()
    weighted, plain = cross_entropy(logp_NxK, v_N).prepare(), cross_entropy(logp_NxK).prepare()
    np.testing.assert_allclose(weighted.value(WEIGHTS) + weighted.offset, expected, rtol=1e-13)
    expected = -np.log(np.exp(logp_NxK) @ WEIGHTS).mean()
    np.testing.assert_allclose(plain.value(WEIGHTS) + plain.offset, expected, rtol=1e-13)


def test_squared_error_is_the_formula():
    yhat, y = problems.predictions()
    expected = ((np.einsum("k,nkd->nd", WEIGHTS, yhat) - y) ** 2).sum(axis=1).mean()
    evaluator = squared_error(yhat, y).prepare()
    np.testing.assert_allclose(evaluator.value(WEIGHTS), expected, rtol=1e-12)
    np.testing.assert_allclose(evaluator.scale, ((y - y.mean(axis=0)) ** 2).sum(axis=1).mean(), rtol=1e-12)
    for constant in (1.0, 0.1):  # a constant target still has a scale, and 0.1 is one only up to rounding
        worst = ((yhat - constant) ** 2).sum(axis=2).mean(axis=0).max()
        np.testing.assert_allclose(squared_error(yhat, np.full_like(y, constant)).prepare().scale, worst, rtol=1e-12)


@pytest.mark.parametrize("num_rows", [1, 5000, MANY], ids=["row", "block", "blocks"])
@pytest.mark.parametrize("checked", [True, False], ids=["checked", "traced"])
def test_every_row_counts_once_in_whatever_block(num_rows, checked):
    logp_NxK, v_N = problems.classifiers(num_rows, K), np.random.default_rng(0).random(num_rows)
    objective = dataclasses.replace(cross_entropy(logp_NxK, v_N), finite=checked)
    evaluator = jax.jit(CrossEntropy.prepare)(objective)
    blocks, _, rows = evaluator.p_CxKxB.shape
    assert (blocks > 1 and blocks * rows > num_rows) if num_rows > 5000 else (blocks, rows) == (1, num_rows)
    p_NxK = np.exp(logp_NxK)
    np.testing.assert_allclose(evaluator.scale, v_N.sum(), rtol=1e-12)
    np.testing.assert_allclose(evaluator.value(WEIGHTS) + evaluator.offset, -v_N @ np.log(p_NxK @ WEIGHTS), rtol=1e-12)
    gradient_K = -(v_N / (p_NxK @ WEIGHTS)) @ p_NxK
    np.testing.assert_allclose(evaluator.value_and_gradient(WEIGHTS)[1], gradient_K, rtol=1e-12)


@pytest.mark.parametrize("name", evaluators())
def test_derivatives_agree_with_automatic_ones_at_zero_weights_too(name):
    evaluator = evaluators()[name].prepare()
    w_K = jnp.asarray(WEIGHTS)  # one weight is 0: jax.scipy.special.logsumexp(b=w) would have a gradient of 0 there
    value, gradient_K, curvature_KxK = evaluator.curvature(w_K)
    np.testing.assert_allclose(value, evaluator.value(w_K), rtol=1e-12)
    np.testing.assert_allclose(gradient_K, evaluator.value_and_gradient(w_K)[1], rtol=1e-12)
    np.testing.assert_allclose(gradient_K, jax.grad(evaluator.value)(w_K), rtol=1e-11)
    np.testing.assert_allclose(curvature_KxK, jax.hessian(evaluator.value)(w_K), rtol=1e-10)
    step = np.eye(K)[3] * 1e-7
    slope = (evaluator.value(w_K + step) - evaluator.value(w_K)) / 1e-7
    np.testing.assert_allclose(gradient_K[3], slope, rtol=1e-4)


def test_cross_entropy_is_homogeneous():
    evaluator = evaluators()["cross-entropy"].prepare()
    value, gradient_K = evaluator.value_and_gradient(jnp.asarray(WEIGHTS))
    np.testing.assert_allclose(WEIGHTS @ gradient_K, -evaluator.scale, rtol=1e-13)
    np.testing.assert_allclose(evaluator.value(3 * WEIGHTS), value - evaluator.scale * np.log(3), rtol=1e-13)


def test_outside_the_domain_the_value_is_infinite():
    evaluator = cross_entropy(problems.disjoint()).prepare()
    assert evaluator.value(np.eye(K)[0]) == np.inf
    one_row = np.zeros(N)
    one_row[0] = 1.0  # the other rows do not count
    assert np.isfinite(cross_entropy(problems.disjoint(), one_row).prepare().value(np.full(K, 1 / K)))


@pytest.mark.parametrize("value", [-np.inf, np.nan, np.inf])
def test_rows_of_weight_zero_may_hold_anything(value):
    v_N = problems.example_weights()  # 0 in row 3
    plain = cross_entropy(problems.classifiers(), v_N).prepare().curvature(jnp.asarray(WEIGHTS))
    odd = cross_entropy(broken(3, slice(None), value), v_N).prepare().curvature(jnp.asarray(WEIGHTS))
    jax.tree.map(np.testing.assert_array_equal, odd, plain)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.int32, jnp.float64])
def test_traced_arrays_keep_at_least_single_precision(dtype):
    @jax.jit
    def built(logp_NxK, v_N):
        return cross_entropy(logp_NxK, v_N)

    objective = built(jnp.asarray(problems.classifiers(), dtype), problems.example_weights())
    assert objective.logp_NxK.dtype == (jnp.float64 if dtype == jnp.float64 else jnp.float32)
    np.testing.assert_array_equal(objective.weights_N, problems.example_weights())
    error = jax.jit(squared_error)(jnp.ones((N, K), dtype), jnp.ones(N, dtype))
    assert error.residuals_NxKxD.dtype == objective.logp_NxK.dtype


def test_rounding_takes_large_constants_off_first():
    objective = cross_entropy(problems.classifiers() - 1e9)
    single = objective.rounded(jnp.float32).prepare()
    np.testing.assert_allclose(single.p_CxKxB, objective.prepare().p_CxKxB, rtol=1e-5)
    np.testing.assert_allclose(single.offset, 1e9, rtol=1e-6)


def test_rows_of_any_level_are_held_without_underflow():
    evaluator = cross_entropy(problems.text() - 1e6).prepare()
    assert np.isfinite(evaluator.value(np.full(K, 1 / K)))
    assert float(evaluator.p_CxKxB.max(axis=1).min()) == 1.0


def broken(row, column, value):
    logp_NxK = problems.classifiers().copy()
    logp_NxK[row, column] = value
    return logp_NxK


NAMES = ["web", "books", "code", "news", "talks", "law"]


@pytest.mark.parametrize(
    "logp_NxK, options, message",
    [
        (broken(17, 2, np.nan), {}, r"NaN in row 17 \(source 2\)"),
        (broken(17, 2, np.nan), {"sources": NAMES}, r"NaN in row 17 \(source code\)"),
        (broken(5, 0, np.inf), {"sources": NAMES}, r"\+inf in row 5 \(source web\)"),
        (broken(9, slice(None), -np.inf), {}, "-inf under every source in row 9"),
        (broken(slice(2, 40), slice(None), -np.inf), {}, r"rows 2, 3, 4, 5, 6, \.\.\. \(38 rows in all\)"),
        (np.ones(N), {}, "shape"),
        (np.ones((0, K)), {}, "shape"),
        (np.ones((N, 0)), {}, "shape"),
        ([["a", "b"]], {}, "array of real numbers"),
        (1j * np.ones((N, K)), {}, "real numbers: got complex"),
        (problems.classifiers(), {"example_weights": np.ones(N - 1)}, "one weight a row"),
        (problems.classifiers(), {"example_weights": -np.eye(N)[4]}, "row 4 is not"),
        (problems.classifiers(), {"example_weights": np.full(N, np.nan)}, "48 in all"),
        (problems.classifiers(), {"example_weights": np.zeros(N)}, "all 0"),
        (problems.classifiers(), {"sources": NAMES[:-1]}, "5 source names .* for 6 columns"),
        (problems.classifiers(), {"sources": [*NAMES[:-1], "web"]}, "web stand there more than once"),
        (problems.classifiers(), {"sources": "abcdef"}, "list of names"),
    ],
)
def test_bad_log_likelihoods(logp_NxK, options, message):
    with pytest.raises(InputError, match=message):
        cross_entropy(logp_NxK, **options)


def test_nan_of_a_jax_array_is_found_too():
    with pytest.raises(InputError, match="row 17"):
        cross_entropy(jnp.asarray(broken(17, 2, np.nan), jnp.float32))


def test_bad_predictions():
    yhat, y = problems.predictions()
    with pytest.raises(InputError, match=r"need targets of shape \(48, 2\)"):
        squared_error(yhat, y[:, 0])
    with pytest.raises(InputError, match="shape"):
        squared_error(y[:, 0], y[:, 0])
    with pytest.raises(InputError, match="targets must be finite; row 3 is not"):
        squared_error(yhat, np.where(np.arange(N)[:, None] == 3, np.nan, y))
    with pytest.raises(InputError, match="2 source names"):
        squared_error(yhat, y, ["a", "b"])


def test_a_reversed_sign_is_refused_and_densities_pass():
    logp_NxK = problems.classifiers()
    with pytest.raises(InputError, match=r"wrong sign: all values are 0 or above .* negative log-likelihoods"):
        cross_entropy(-logp_NxK)
    with pytest.raises(InputError, match=r"all values are 0 or above .* look like probabilities"):
        cross_entropy(np.exp(logp_NxK))
    one = np.where(np.arange(K) == 2, -logp_NxK, logp_NxK)
    with pytest.raises(InputError, match="the values of source 2 are all 0 or above"):
        cross_entropy(one)
    certain = np.where(np.arange(K) == 2, 1e-12, logp_NxK)
    for fine in (np.where(np.arange(N)[:, None] == 0, -one, one), np.zeros((N, K)), certain):
        cross_entropy(fine)  # densities above 0 in some rows; certainty
    with pytest.raises(InputError, match=r"all values are 0 or above .* look like probabilities"):
        cross_entropy(np.exp(logp_NxK - 30))
    weights_N = np.append(np.ones(N - 1), 0.0)
    with pytest.raises(InputError, match="wrong sign"):
        cross_entropy(np.where(weights_N[:, None] > 0, -logp_NxK, logp_NxK), weights_N)
    reversed_sign = cross_entropy(-logp_NxK, densities=True)
    np.testing.assert_array_equal(reversed_sign.take(np.arange(3)).logp_NxK, -logp_NxK[:, :3])
