"""The loop: which state it returns and when it stops, with a method that plays back given gaps and losses."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from mixmin_jax import cross_entropy
from mixmin_jax.mixture.feasible import FeasibleSet
from mixmin_jax.mixture.methods.interior_point import init
from mixmin_jax.mixture.objective import Quadratic
from mixmin_jax.mixture.problem import Method, Point, Problem, iterate
from tests.mixture import problems

pytestmark = pytest.mark.usefixtures("x64")
PROBLEM = Problem(Quadratic(jnp.eye(2), jnp.asarray(10.0)), FeasibleSet(2))


class Played(NamedTuple):
    point: Point
    time: object


def play(gaps, losses=None):
    gaps = jnp.asarray(gaps)
    losses = jnp.zeros_like(gaps) if losses is None else jnp.asarray(losses)

    def at(time):
        return Played(Point(jnp.full(2, 0.5), losses[time], jnp.zeros(2), gaps[time]), time)

    return Method(lambda problem: at(jnp.asarray(0)), lambda problem, state: at(state.time + 1))


def test_stops_at_the_first_gap_within_tolerance_times_scale():
    run = iterate(play([9.0, 3.0, 1.1, 0.9, 0.1]), PROBLEM, 0.1, 50, 10)
    assert run.converged and run.iterations == 3 and run.best.time == 3
    np.testing.assert_array_equal(run.gap_history, [9.0, 3.0, 1.1, 0.9] + 6 * [np.nan])


def test_returns_the_smallest_gap_when_out_of_iterations():
    run = iterate(play([9.0, 3.0, 5.0, 4.0]), PROBLEM, 0.1, 3, 2)
    assert not run.converged and run.iterations == 3 and run.best.time == 1
    np.testing.assert_array_equal(run.gap_history, [9.0, 3.0])  # as many as asked for


def test_returns_no_point_worse_than_the_start():
    run = iterate(play([9.0, 3.0, 5.0], losses=[1.0, 1.5, 0.5]), PROBLEM, 0.1, 2)
    assert run.best.time == 2


def test_stops_on_nan_with_the_best_so_far():
    run = iterate(play([9.0, 3.0, np.nan, 1e-9]), PROBLEM, 0.1, 50)
    assert not run.converged and run.iterations == 2 and run.best.time == 1


@pytest.mark.slow
def test_nothing_is_certified_outside_the_domain():
    f = cross_entropy(problems.disjoint()).prepare()
    assert Problem(f, FeasibleSet(problems.K)).point(jnp.eye(problems.K)[0]).gap == np.inf
    state = init(Problem(f, FeasibleSet(problems.K, cap_K=jnp.eye(problems.K)[0])))  # only source 0 may be used
    assert state.point.loss == np.inf and state.point.gap == np.inf


def test_weights_that_miss_the_bounds_have_not_converged():
    problem = Problem(PROBLEM.f, FeasibleSet(2, cap_K=jnp.full(2, 0.4)))
    assert not iterate(play([0.1]), problem, 0.1, 50).converged


def test_already_optimal_takes_no_step():
    run = iterate(play([0.5, np.nan]), PROBLEM, 0.1, 50)
    assert run.converged and run.iterations == 0
