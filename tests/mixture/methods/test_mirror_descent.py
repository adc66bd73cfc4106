"""Entropic descent: the published step where it is safe, and descent everywhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixmin_jax import cross_entropy
from mixmin_jax.mixture.evaluator import Likelihoods
from mixmin_jax.mixture.feasible import FeasibleSet
from mixmin_jax.mixture.methods.mirror_descent import init, step
from mixmin_jax.mixture.problem import Problem
from tests.mixture import problems
from tests.mixture.problems import CONSTRAINTS, K

pytestmark = pytest.mark.usefixtures("x64")


def test_first_step_is_the_published_one():
    problem = problems.problem("simplex")
    start = init(problem)
    published_K = start.point.weights * jnp.exp(-start.point.gradient)
    after = step(problem, start)
    np.testing.assert_allclose(after.eta, 1.5, rtol=1e-12)  # accepted at 1, to be tried longer next time
    np.testing.assert_allclose(after.point.weights, published_K / published_K.sum(), rtol=1e-12)


@pytest.mark.parametrize("constraint", ["simplex", "all"])
def test_every_step_descends(constraint):
    problem = problems.problem(constraint, cross_entropy(problems.text()))
    state, advance = init(problem), jax.jit(step)
    totals = []
    for _ in range(40):
        totals.append(float(state.point.loss + problem.penalty(state.point.weights)))
        problems.assert_feasible(np.asarray(state.point.weights), CONSTRAINTS[constraint])
        state = advance(problem, state)
    assert (np.diff(totals) <= 1e-12 * abs(totals[0])).all() and totals[-1] < totals[0]


def test_where_no_step_descends_the_weights_stay():
    class Rising(Likelihoods):
        """Its gradient points the wrong way."""

        def value_and_gradient(self, w_K):
            loss, gradient_K = super().value_and_gradient(w_K)
            return loss, -gradient_K * jnp.arange(1, K + 1) * 1e30

    f = cross_entropy(problems.classifiers()).prepare()
    problem = Problem(Rising(f.p_CxKxB, f.weights_CxB, f.offset), FeasibleSet(K))
    state = init(problem)
    after = step(problem, state)
    np.testing.assert_array_equal(after.point.weights, state.point.weights)


def test_a_step_too_long_is_shortened():
    problem = problems.problem("simplex", cross_entropy(problems.disjoint()))
    state = init(problem)._replace(eta=jnp.asarray(1e6))
    after = step(problem, state)
    assert after.eta < 1e3 and after.point.loss <= state.point.loss
