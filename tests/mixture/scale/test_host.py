"""Solves in NumPy: the same answers as compiled programs, and nothing is compiled."""

import jax
import numpy as np
import pytest

from benchmarks.proxies.methods import compilations
from mixmin_jax import InputError, cross_entropy, solve, squared_error, stream_squared_error, weighted_sum
from mixmin_jax.mixture.evaluator import HostLikelihoods
from mixmin_jax.mixture.scale import host
from mixmin_jax.mixture.scale.place import Place
from tests.mixture import problems
from tests.mixture.problems import CONSTRAINTS

OBJECTIVES = problems.objectives()


@pytest.mark.parametrize("constraint", CONSTRAINTS)
@pytest.mark.parametrize("name", ["scales", "squared error"])
def test_iterations_are_those_of_the_compiled_program(name, constraint):
    options = {"max_iterations": 3, "throw": False} | CONSTRAINTS[constraint]
    at_once, compiled = (solve(OBJECTIVES[name], compiled=how, **options) for how in (False, True))
    np.testing.assert_allclose(at_once.weights, compiled.weights, atol=1e-7)
    np.testing.assert_allclose(at_once.loss + at_once.penalty, compiled.loss + compiled.penalty, rtol=1e-9)
    np.testing.assert_allclose(at_once.gap_history[:2], compiled.gap_history[:2], rtol=1e-5)
    assert (at_once.method, at_once.converged) == (compiled.method, compiled.converged)


@pytest.mark.parametrize("constraint", CONSTRAINTS)
def test_nothing_is_compiled(constraint):
    with compilations() as found:
        for n in (31, 32):
            logp_NxK = problems.classifiers(n, problems.K)
            solve(cross_entropy(logp_NxK), **CONSTRAINTS[constraint])
            solve(squared_error(logp_NxK, logp_NxK[:, 0]), **CONSTRAINTS[constraint])
    assert not found


def test_blocks_of_rows_have_no_seam(monkeypatch):
    logp_NxK = problems.classifiers()
    whole = solve(cross_entropy(logp_NxK))
    monkeypatch.setattr("mixmin_jax.mixture.evaluator._HOST_BLOCK", 5 * problems.K)
    np.testing.assert_allclose(solve(cross_entropy(logp_NxK)).weights, whole.weights, atol=1e-12)


def test_rows_that_do_not_count_and_rows_without_density():
    logp_NxK = np.array([[0.0, -1.0], [np.nan, 0.0], [-np.inf, -3.0]])
    objective = cross_entropy(logp_NxK, [0.5, 0, 0.5])
    assert solve(objective).weights[1] > 0
    f = HostLikelihoods.of_log_rows(objective.logp_NxK, objective.weights_N, finite=False)
    value, gradient_K = f.value_and_gradient(np.array([1.0, 0.0]))
    assert value == np.inf and np.isfinite(gradient_K).all()


def test_small_problems_are_solved_at_once_and_others_where_users_say_so():
    plain, objective = Place(None, None), cross_entropy(problems.classifiers())
    streamed, both = stream_squared_error(*problems.predictions()), weighted_sum([objective, objective])
    wide = squared_error(np.zeros((int(host.MOST / 1000**2) + 1, 1000)), np.arange(host.MOST // 1000**2 + 1))
    for given, by_default in ((objective, True), (streamed, True), (both, False), (wide, False)):
        assert host.on_host(None, "auto", given, plain) == by_default
        assert not host.on_host(True, "auto", given, plain)
    assert host.on_host(False, "interior_point", wide, plain)
    wide = cross_entropy(np.zeros((int(host.MOST / 1000**2) + 1, 1000)))
    assert host.on_host(None, "auto", wide, plain, whole_simplex=True) and not host.on_host(None, "auto", wide, plain)
    for method, given, place in (
        ("auto", both, plain),
        ("mirror_descent", objective, plain),
        ("auto", objective, Place(None, jax.devices()[0])),
    ):
        assert not host.on_host(None, method, given, place)
        with pytest.raises(InputError, match="compiled=False is for one cross_entropy or squared_error"):
            host.on_host(False, method, given, place)


def sparse_and_dense(n=600, k=48):
    """Few of the sources have weight; all have; and every row excludes all but a few."""
    rng = np.random.default_rng(0)
    excluded_NxK = np.where(rng.random((n, k)) < 0.9, -np.inf, problems.classifiers(n, k))
    excluded_NxK[np.arange(n), np.arange(n) % k] = -1.0
    own_NxK = -8.0 + 7.0 * (np.arange(n)[:, None] % k == np.arange(k))
    return {"sparse": problems.classifiers(n, k), "dense": own_NxK, "exclusive": excluded_NxK}


@pytest.mark.parametrize("name", sparse_and_dense())
def test_many_sources_are_solved_few_at_a_time_with_a_certificate_over_all(name):
    objective = cross_entropy(sparse_and_dense()[name])
    found, whole = solve(objective), solve(objective, method="interior_point", compiled=False)
    assert (found.method, found.converged) == ("active_set", True)
    assert found.loss - found.gap <= whole.loss + 1e-12 and whole.loss - whole.gap <= found.loss + 1e-12
    np.testing.assert_allclose(found.weights, whole.weights, atol=1e-4)
    assert len(found.gap_history) == found.iterations + 1 and found.gap == found.gap_history.min()
    stopped = solve(objective, max_iterations=0, throw=False)
    assert not stopped.converged and stopped.loss - stopped.gap <= found.loss <= stopped.loss


def test_a_row_of_tiny_weight_keeps_its_only_source():
    logp_NxK, v_N = problems.classifiers(500, 40), np.full(500, 1 / 500)
    logp_NxK[7], v_N[7] = np.where(np.arange(40) == 33, -1.0, -np.inf), 1e-12
    found = solve(cross_entropy(logp_NxK, v_N), method="active_set", compiled=False)
    assert found.converged and found.weights[33] > 0


def test_memory_that_runs_out_says_what_fits(monkeypatch):
    def full(*_, **__):
        raise MemoryError

    monkeypatch.setattr(HostLikelihoods, "of_log_rows", full)
    with pytest.raises(InputError, match="ran out of memory"):
        solve(cross_entropy(problems.classifiers()))
