"""Every method on every problem under every constraint, and what `solve` promises beside numbers."""

import json
import math
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixmin_jax import InputError, NotConverged, Solution, cross_entropy, solve, squared_error
from mixmin_jax.mixture.evaluator import Likelihoods
from tests.mixture import problems
from tests.mixture.problems import CONSTRAINTS, K, N

OBJECTIVES = problems.objectives()
METHODS = ["numpy", "numpy active_set", "interior_point", "active_set", "projected_gradient", "mirror_descent"]
SECOND_ORDER = METHODS[:4]
TOLERANCE = {method: 1e-9 if method in SECOND_ORDER else 1e-6 for method in METHODS}  # first-order methods are slow


COMPILED = [  # kept to what differs in kind, as each combination is a program to compile
    *(("interior_point", constraint) for constraint in CONSTRAINTS),
    ("active_set", "simplex"),
    *(("projected_gradient", constraint) for constraint in ("simplex", "bounds")),
    *(("mirror_descent", constraint) for constraint in ("simplex", "all")),
]


def case(method, constraint, name):
    """Every method, family and constraint; in the default run only what differs in kind."""
    quick = (method, constraint) in COMPILED
    quick &= name != "squared error" or (method, constraint) in (*COMPILED[:1], *COMPILED[7:])
    quick |= method.startswith("numpy")
    return pytest.param(method, constraint, name, marks=[] if quick else pytest.mark.slow)


CASES = [
    case(method, constraint, name)
    for method in METHODS
    for constraint, options in CONSTRAINTS.items()
    for name in OBJECTIVES
    if not ("prior" in options and method == "projected_gradient")  # which refuses a prior
    and not ("active_set" in method and (options or name == "squared error"))  # which refuses all but the simplex
]


def solve_by(objective, method, **options):
    """`solve` by a method of `METHODS`."""
    if method.startswith("numpy"):
        return solve(objective, method=method.removeprefix("numpy").strip() or "auto", compiled=False, **options)
    return solve(objective, method=method, compiled=True, **options)


@pytest.mark.parametrize("method, constraint, name", CASES)
def test_certified_optimum_agrees_with_an_independent_solver(method, constraint, name):
    solution = solve_by(OBJECTIVES[name], method, tolerance=TOLERANCE[method], **CONSTRAINTS[constraint])
    problems.assert_certified(solution, OBJECTIVES[name], name, constraint, TOLERANCE[method])
    if constraint == "simplex" and name in problems.KNOWN_WEIGHTS and method in SECOND_ORDER:
        np.testing.assert_allclose(solution.weights, problems.KNOWN_WEIGHTS[name], atol=1e-7)


@pytest.mark.parametrize("method, constraint", [*COMPILED, *(("numpy", constraint) for constraint in CONSTRAINTS)])
def test_gap_bounds_the_error_after_any_number_of_steps(method, constraint):
    constraints, logp_NxK = CONSTRAINTS[constraint], problems.CROSS_ENTROPIES["scales"]
    best = solve(OBJECTIVES["scales"], **constraints)
    for steps in (0, 1, 4):
        early = solve_by(OBJECTIVES["scales"], method, max_iterations=steps, throw=False, **constraints)
        problems.assert_feasible(early.weights, constraints)
        total = problems.penalised(logp_NxK, np.full(N, 1 / N), early.weights, constraints)
        np.testing.assert_allclose(early.loss + early.penalty, total, rtol=1e-12)
        assert early.loss + early.penalty - best.loss - best.penalty <= early.gap + 1e-12
        assert early.gap_history.shape == (early.iterations + 1,) and early.gap in early.gap_history


@pytest.mark.parametrize("method", METHODS)
def test_permuting_sources_permutes_weights(method):
    logp_NxK = problems.classifiers()
    order = np.array([3, 0, 5, 1, 4, 2])
    straight = solve_by(cross_entropy(logp_NxK), method, tolerance=1e-8).weights
    permuted = solve_by(cross_entropy(logp_NxK[:, order]), method, tolerance=1e-8).weights
    np.testing.assert_allclose(permuted, straight[order], atol=1e-8 if method in SECOND_ORDER else 1e-5)


def test_adding_a_constant_to_an_example_moves_no_weight():
    logp_NxK, shift_N = problems.classifiers(), 1e3 * np.arange(N)
    plain, moved = solve(cross_entropy(logp_NxK)), solve(cross_entropy(logp_NxK + shift_N[:, None]))
    np.testing.assert_allclose(moved.weights, plain.weights, atol=1e-9)
    np.testing.assert_allclose(moved.loss, plain.loss - shift_N.mean(), rtol=1e-12)


def test_example_weights_are_used_as_given():
    logp_NxK, v_N = problems.classifiers(), problems.example_weights()
    one, scaled = solve(cross_entropy(logp_NxK, v_N)), solve(cross_entropy(logp_NxK, 1e6 * v_N))
    np.testing.assert_allclose(scaled.loss, 1e6 * one.loss, rtol=1e-9)
    np.testing.assert_allclose(scaled.weights, one.weights, atol=1e-8)
    kept = np.delete(np.arange(N), 3)  # a row of weight 0 is no row
    np.testing.assert_allclose(solve(cross_entropy(logp_NxK[kept], v_N[kept])).weights, one.weights, atol=1e-8)


@pytest.mark.parametrize("n, k", [(30, 1), (1, 4), (5, 20)])
def test_small_and_flat_shapes(n, k):
    solution = solve(cross_entropy(problems.classifiers(n, k)))
    assert solution.converged and solution.weights.shape == (k,)
    np.testing.assert_allclose(solution.weights.sum(), 1)


@pytest.mark.slow
def test_five_hundred_sources():
    solution = solve(cross_entropy(problems.classifiers(200, 500)), upper_bounds=0.01)
    assert solution.converged and solution.gap <= 1e-9
    problems.assert_feasible(solution.weights, {"upper_bounds": 0.01})


CAPS = np.array([0.1, 0.2, 0.3, 0.15, 0.05, 0.2])


@pytest.mark.parametrize("fixed, floors", [(np.arange(K), 0.0), ([0, 3], {0: 0.1, 3: 0.15})])
def test_bounds_that_fix_weights(fixed, floors):
    weights = solve(cross_entropy(problems.scales()), upper_bounds={k: CAPS[k] for k in fixed}, lower_bounds=floors)
    np.testing.assert_allclose(weights.weights[fixed], CAPS[fixed], atol=1e-12)


def test_sources_without_weight_are_left_out():
    logp_NxK = problems.text() + np.where(np.arange(K) == 0, 5000.0, 0.0)  # only source 0 is above underflow ...
    dropped = solve(cross_entropy(logp_NxK, densities=True), upper_bounds={0: 0.0})  # ... and may not be used
    alone = solve(cross_entropy(logp_NxK[:, 1:]))
    np.testing.assert_allclose(dropped.weights, np.append(0, alone.weights), atol=1e-9)
    np.testing.assert_allclose(dropped.loss, alone.loss, rtol=1e-12)


def test_a_row_that_only_excluded_sources_can_produce_is_named():
    logp_NxK = problems.classifiers().copy()
    logp_NxK[7, 1:] = -np.inf
    with pytest.raises(InputError, match=r"leave no weight for 0, .* row 7"):
        solve(cross_entropy(logp_NxK), upper_bounds={0: 0.0})


@pytest.mark.parametrize(
    "bounds", [{"lower_bounds": [0.5, 0.5, 0, 0, 0, 0]}, {"groups": {(0, 1): 0.3}, "lower_bounds": {0: 0.3}}]
)
def test_rows_that_floors_leave_unexplained_are_named(bounds):
    with pytest.raises(InputError, match=r"leave no weight for .* -inf under every source in rows"):
        solve(cross_entropy(problems.disjoint()), **bounds)


PRIOR = {"prior": problems.PRIOR, "prior_strength": 0.05}


@pytest.mark.parametrize(
    "options, zeros",
    [
        ({"lower_bounds": [0.1, 0, 0.2, 0, 0, 0], "groups": {(0, 1, 2): 0.3}, **PRIOR}, [1]),
        ({"lower_bounds": [0.1, 0.2, 0.7, 0, 0, 0], **PRIOR}, [3, 4, 5]),
        ({"prior": [0.5, 0, 0.2, 0.3, 0, 0], "prior_strength": 0.05}, [1, 4, 5]),
        ({"prior": [0.2, 0.2, 0.2, 0.2, 0.2, 1e-310], "prior_strength": 0.05}, [5]),
    ],
)
def test_sources_that_floors_or_the_prior_forbid_have_weight_zero(options, zeros):
    logp_NxK, v_N = problems.classifiers(), np.full(N, 1 / N)
    options = {k: v if k in ("groups", "prior_strength") else np.array(v) for k, v in options.items()}
    solution = solve(cross_entropy(logp_NxK), **options)
    np.testing.assert_array_equal(solution.weights[zeros], 0)
    total = problems.penalised(logp_NxK, v_N, solution.weights, options)
    np.testing.assert_allclose(solution.loss + solution.penalty, total, rtol=1e-12)
    keep = np.delete(np.arange(K), zeros)
    smaller = {k: v[keep] if isinstance(v, np.ndarray) else v for k, v in options.items()}
    if "groups" in options:
        smaller["groups"] = {(0, 1): 0.3}
    best = problems.reference_optimum(logp_NxK[:, keep], v_N, smaller)
    assert -1e-6 <= total - best <= solution.gap + 1e-6


def test_what_float64_cannot_resolve_is_said():
    yhat, y = problems.predictions()
    far = yhat + 1e5 * np.random.default_rng(0).normal(size=yhat.shape)
    with pytest.raises(NotConverged, match="float64 cannot resolve less"):
        solve(squared_error(far, y), tolerance=1e-12)


def test_constants_inside_jit_are_solved():
    expected = solve(OBJECTIVES["scales"]).loss
    for transform in (jax.jit, jax.grad):
        inside = transform(lambda x: x * solve(OBJECTIVES["scales"]).loss)(1.0)
        np.testing.assert_allclose(inside, expected, rtol=1e-6)


def test_traced_options_are_refused_with_what_to_do():
    def traced(option, value):
        with pytest.raises(InputError, match="use solve_traced"):
            jax.jit(lambda x: solve(**{"objective": OBJECTIVES["scales"]} | {option: value(x)}).loss)(0.1)

    traced("objective", lambda x: cross_entropy(x * problems.scales()))
    traced("upper_bounds", lambda x: {0: x})
    traced("lower_bounds", lambda x: [x] * K)
    traced("groups", lambda x: {(0, 1): x})
    traced("prior_strength", lambda x: x)


def test_float64_without_touching_the_callers_configuration():
    assert not jax.config.jax_enable_x64
    objective = cross_entropy(problems.CROSS_ENTROPIES["text, 1000 nats"])
    assert objective.logp_NxK.dtype == np.float64
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"), jax.debug_nans(True):
        solution = solve(objective, **CONSTRAINTS["all"])
        assert jax.config.jax_numpy_rank_promotion == "raise" and jax.config.jax_debug_nans
    assert solution.weights.dtype == np.float64 and solution.gap < 1e-9
    assert not jax.config.jax_enable_x64 and jnp.ones(1).dtype == jnp.float32


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, np.float16, np.float64])
def test_arrays_of_any_float_type(dtype):
    logp_NxK = problems.classifiers()
    given = jnp.asarray(logp_NxK, dtype) if dtype in (jnp.float32, jnp.bfloat16) else logp_NxK.astype(dtype)
    expected = solve(cross_entropy(np.asarray(given, np.float64)))
    np.testing.assert_array_equal(solve(cross_entropy(given)).weights, expected.weights)


def test_compiled_once_per_shape(traces_of):
    traces = traces_of(Likelihoods, "curvature")
    logp_NxK = problems.classifiers(37, 5)
    solve(cross_entropy(logp_NxK, sources=list("abcde")), compiled=True)
    first = len(traces)
    with jax.default_matmul_precision("bfloat16"):  # nor is the caller's configuration part of what is compiled
        solve(cross_entropy(logp_NxK * 2, sources=list("vwxyz")), compiled=True, tolerance=1e-6)
    assert first > 0 and len(traces) == first


@pytest.mark.parametrize("method", ["interior_point", "active_set"])
def test_sources_come_and_go_as_columns_without_another_compilation(method, traces_of):
    traces = traces_of(Likelihoods, "value_and_gradient")
    logp_NxK = problems.classifiers(41, 7)
    without_NxK = logp_NxK.copy()
    without_NxK[:, [2, 6]] = -np.inf  # one that was dropped, and a spare one
    found = solve(cross_entropy(without_NxK), method=method, compiled=True)
    first = len(traces)
    assert solve(cross_entropy(logp_NxK), method=method, compiled=True).converged
    assert first > 0 and len(traces) == first
    expected = solve(cross_entropy(np.delete(logp_NxK, [2, 6], axis=1)))
    np.testing.assert_allclose(np.delete(found.weights, [2, 6]), expected.weights, atol=1e-7)
    assert found.weights[[2, 6]].max() < 1e-9 and abs(found.loss - expected.loss) < 1e-9


def test_not_converged_carries_the_best_point():
    with pytest.raises(NotConverged, match="after 2 iterations") as caught:
        solve(OBJECTIVES["scales"], max_iterations=2)
    solution = caught.value.solution
    assert isinstance(solution, Solution) and not solution.converged and solution.iterations == 2
    assert solution.gap == solution.gap_history.min() and solution.gap_history.shape == (3,)
    quiet = solve(OBJECTIVES["scales"], max_iterations=2, throw=False)
    np.testing.assert_array_equal(quiet.weights, solution.weights)
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
    np.testing.assert_array_equal(again.solution.weights, solution.weights)


def test_numbers_of_any_kind_are_taken_as_options():
    solution = solve(OBJECTIVES["scales"], tolerance=jnp.float32(1e-6), max_iterations=10**30)
    assert solution.converged and solve(OBJECTIVES["scales"], max_iterations=np.int8(50)).converged


def test_one_output_is_the_same_as_a_vector_of_one():
    yhat, y = problems.predictions()
    flat, vector = squared_error(yhat[:, :, 0], y[:, 0]), squared_error(yhat[:, :, :1], y[:, :1])
    np.testing.assert_array_equal(solve(flat).weights, solve(vector).weights)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"method": "newton"}, "unknown method 'newton'; choose one of auto, interior_point"),
        ({"method": "projected_gradient", "prior": problems.PRIOR, "prior_strength": 1.0}, "cannot take a prior"),
        ({"precision": "half"}, "unknown precision 'half'; choose one of float64, float32"),
        ({"tolerance": 0.0}, "tolerance must be"),
        ({"tolerance": 1.0}, "tolerance must be a number above 0 and below 1"),
        ({"tolerance": float("nan")}, "tolerance must be"),
        ({"tolerance": "1e-6"}, "tolerance must be"),
        ({"max_iterations": 1.5}, "max_iterations must be"),
        ({"objective": problems.classifiers()}, "as cross_entropy"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(InputError, match=message):
        solve(**{"objective": OBJECTIVES["scales"]} | options)


@pytest.mark.parametrize(("size", "resolved"), [(1.0, True), (1e5, False), (1e8, False)])
def test_nothing_is_certified_beyond_what_rounding_leaves(size, resolved):
    """Predictors far off on opposite sides: float64 cannot tell losses of the size of the target's variance."""
    y_N = np.random.default_rng(0).normal(size=200)
    yhat_NxK = np.stack([y_N + size, y_N - size, y_N + 1.5 * size], axis=1)
    found = solve(squared_error(yhat_NxK, y_N), throw=False)
    assert found.converged is resolved
    assert abs(found.loss) <= 4 * found.gap + 1e-9  # the least loss is 0


@pytest.mark.parametrize("constraint", ["simplex", "caps", "prior"])
@pytest.mark.parametrize("name", ["scales", "dominating", "zero cells", "duplicates"])
def test_weights_that_should_be_0_are_0_and_sum_to_1(name, constraint):
    """As JSON holds them: `interleave_datasets` of Hugging Face never ends on a source of weight 6e-16."""
    objective = cross_entropy(problems.CROSS_ENTROPIES[name])
    solution = solve(objective, **CONSTRAINTS[constraint])
    weights = json.loads(json.dumps(solution.weights.tolist()))
    assert math.fsum(weights) == sum(weights) == sum(weights[::-1]) == 1
    assert all(weight == 0 or weight > 1e-9 for weight in weights)
    problems.assert_feasible(solution.weights, CONSTRAINTS[constraint])
    if constraint == "simplex":
        gradient_K = np.asarray(objective.on_host().value_and_gradient(solution.weights)[1])
        assert solution.gap == pytest.approx(solution.weights @ (gradient_K - gradient_K.min()), rel=1e-6, abs=1e-15)
        assert solution.gap in solution.gap_history


@pytest.mark.parametrize("options", [{"compiled": True}, {"upper_bounds": 0.7, "compiled": True}])
def test_compiled_weights_that_should_be_0_are_0(options):
    solution = solve(cross_entropy(problems.dominating()), **options)
    assert solution.weights.sum() == 1 and (solution.weights[solution.weights < 1e-9] == 0).all()
    assert solution.converged and solution.gap in solution.gap_history


def test_a_small_weight_that_the_certificate_can_tell_from_0_stays():
    v_N = np.array([1.0, 1e-7])  # the second row has no other source, and weighs that much
    solution = solve(cross_entropy(np.log([[1, 1e-300], [1e-300, 1]]), v_N))
    assert solution.weights[1] == pytest.approx(1e-7, rel=1e-2) and solution.weights.sum() == 1
    loose = solve(cross_entropy(np.log([[1, 0.5], [1 - 1e-9, 1]]), v_N))
    np.testing.assert_array_equal(loose.weights, [1, 0])
