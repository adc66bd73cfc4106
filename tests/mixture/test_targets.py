"""Several targets: weighted sums are ordinary objectives; worst cases against CVXPY, and what must hold of them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixmin_jax import (
    InputError,
    NotConverged,
    cross_entropy,
    solve,
    solve_traced,
    squared_error,
    stream_cross_entropy,
    weighted_sum,
    worst_case,
)
from tests.mixture import problems
from tests.mixture.problems import CONSTRAINTS, K, N

BANK = problems.objectives()
NAMES = ("classifiers", "scales", "zero cells")
PARTS = [BANK[name] for name in NAMES]
UNIFORM = np.full(K, 1 / K)


def stacked(names, weights):
    """The weighted sum of cross-entropies as one cross-entropy, of all rows together."""
    rows = [problems.CROSS_ENTROPIES[name] for name in names]
    return np.concatenate(rows), np.repeat(np.asarray(weights) / N, N)


def with_cvxpy(names, constraints, references=None, weights=None):
    """The least worst case, or with weights the least weighted sum, by an independent solver."""

    def loss(cp, w, name):
        if name == "squared error":
            return problems.squared_loss(cp, w)
        return problems.cross_entropy_loss(cp, w, problems.CROSS_ENTROPIES[name], np.full(N, 1 / N))

    def losses(cp, w):
        return [weight * loss(cp, w, name) for weight, name in zip(weights or np.ones(len(names)), names, strict=True)]

    return problems.least(losses, K, constraints, references)


best = functools.cache(lambda name, constraint: solve(BANK[name], **without_prior(CONSTRAINTS[constraint])).loss)


def without_prior(constraints):
    return {key: value for key, value in constraints.items() if not key.startswith("prior")}


# Weighted sums.


@pytest.mark.parametrize(
    "method, constraint",
    [
        ("interior_point", "simplex"),
        ("projected_gradient", "simplex"),
        ("mirror_descent", "simplex"),
    ],
)
def test_a_weighted_sum_is_the_objective_of_all_rows_together(method, constraint):
    weights, options = np.array([0.5, 1.5, 0.25]), CONSTRAINTS[constraint]
    tolerance = 1e-9 if method == "interior_point" else 1e-6
    found = solve(weighted_sum(PARTS, weights), method=method, tolerance=tolerance, **options)
    expected = solve(cross_entropy(*stacked(NAMES, weights)), **options)
    problems.assert_feasible(found.weights, options)
    assert 0 <= found.gap <= tolerance * weights.sum() * (1 + 1e-12)  # the scale is the sum of the weighted scales
    excess = found.loss + found.penalty - expected.loss - expected.penalty
    assert -expected.gap - 1e-12 <= excess <= found.gap + 1e-12
    np.testing.assert_allclose(found.targets.losses @ weights, found.loss, rtol=1e-12)
    np.testing.assert_array_equal(found.targets.prices, weights)
    np.testing.assert_array_equal(found.targets.references, 0)


def test_one_weight_of_one_leaves_that_target():
    alone, found = solve(PARTS[1]), solve(weighted_sum(PARTS, [0, 1, 0]))
    np.testing.assert_allclose(found.weights, alone.weights, atol=1e-12)
    np.testing.assert_allclose(found.targets.losses[1], alone.loss, rtol=1e-12)
    default = solve(weighted_sum(PARTS))
    np.testing.assert_allclose(default.loss, default.targets.losses.mean(), rtol=1e-12)
    assert alone.targets is None


@pytest.mark.slow
def test_cross_entropy_and_squared_error_add_up():
    names, weights = ("classifiers", "squared error"), [1.0, 0.05]
    mixed = weighted_sum([BANK[name] for name in names], weights)
    assert not mixed.prepare().homogeneous and weighted_sum(PARTS).prepare().homogeneous
    found = solve(mixed)
    assert abs(found.loss - with_cvxpy(names, {}, weights=weights)) <= found.gap + 1e-6
    nested = weighted_sum([weighted_sum([BANK["classifiers"]], [2.0]), BANK["squared error"]], [0.5, 0.05])
    np.testing.assert_allclose(nested.prepare().value(UNIFORM), mixed.prepare().value(UNIFORM), rtol=1e-6)  # float32


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_gradients_with_respect_to_the_weights_of_targets():
    parts = [cross_entropy(problems.classifiers()), cross_entropy(problems.scales())]
    direction_K = np.random.default_rng(0).normal(size=K)

    @jax.jit
    def along(weights_T):
        found = solve_traced(weighted_sum(parts, weights_T), tolerance=1e-13, upper_bounds=0.6)
        return found.weights @ direction_K, found.loss

    at, step = np.array([0.7, 0.4]), 1e-5
    slope = jax.jacobian(along)(at)
    for t, move in enumerate(step * np.eye(2)):
        ahead, behind = along(at + move), along(at - move)
        for which in (0, 1):
            np.testing.assert_allclose(slope[which][t], (ahead[which] - behind[which]) / (2 * step), rtol=1e-4)


# Worst cases.


@pytest.mark.parametrize("relative_to", [None, "best", "uniform"])
@pytest.mark.parametrize("constraint", ["simplex", "all"])
def test_the_worst_case_agrees_with_an_independent_solver(constraint, relative_to):
    options = CONSTRAINTS[constraint]
    given = UNIFORM if relative_to == "uniform" else relative_to
    found = solve(worst_case(PARTS, given), **options)
    assert found.converged and 0 <= found.gap <= 1e-9
    problems.assert_feasible(found.weights, options)
    references = {
        None: np.zeros(3),
        "best": [best(name, constraint) for name in NAMES],
        "uniform": [-np.logaddexp.reduce(problems.CROSS_ENTROPIES[n] - np.log(K), axis=1).mean() for n in NAMES],
    }[relative_to]
    np.testing.assert_allclose(found.targets.references, references, atol=1e-9)
    at_weights = [problems.penalised(problems.CROSS_ENTROPIES[n], np.full(N, 1 / N), found.weights, {}) for n in NAMES]
    np.testing.assert_allclose(found.targets.losses, at_weights, rtol=1e-12)
    np.testing.assert_allclose(found.loss, found.targets.excess.max(), atol=1e-12)
    assert (found.targets.prices >= 0).all() and abs(found.targets.prices.sum() - 1) < 1e-12
    total = found.loss + found.penalty
    assert -1e-6 <= total - with_cvxpy(NAMES, options, references) <= found.gap + 1e-6  # Clarabel's own error


@pytest.mark.slow
def test_losses_of_different_kinds_and_units():
    names = ("classifiers", "squared error")
    found = solve(worst_case([BANK[name] for name in names], relative_to="best"))
    references = [solve(BANK[name]).loss for name in names]
    assert abs(found.loss - with_cvxpy(names, {}, references)) <= found.gap + 1e-6
    assert found.gap <= 1e-9 * BANK["squared error"].variance  # the largest of the targets' scales


def test_gap_bounds_the_error_after_any_number_of_steps():
    options = CONSTRAINTS["all"]
    least = solve(worst_case(PARTS, "best"), **options)
    for steps in (0, 1, 2, 4):
        early = solve(worst_case(PARTS, "best"), max_iterations=steps, throw=False, **options)
        problems.assert_feasible(early.weights, options)
        np.testing.assert_allclose(early.loss, early.targets.excess.max(), atol=1e-12)
        assert early.loss + early.penalty - least.loss - least.penalty <= early.gap
        np.testing.assert_allclose(early.targets.references, least.targets.references, atol=1e-9)
    with pytest.raises(NotConverged, match="worst of the targets' losses"):
        solve(worst_case(PARTS, "best"), max_iterations=2, **options)


def test_what_the_references_miss_counts_in_the_gap():
    exact = solve(worst_case(PARTS, "best"))
    coarse = solve(worst_case(PARTS, "best"), tolerance=0.05)
    missed = (coarse.targets.references - exact.targets.references).max()
    assert 1e-6 < missed <= min(coarse.gap, 0.0125)
    assert (coarse.targets.losses - exact.targets.references).max() - exact.loss <= coarse.gap
    known = worst_case(PARTS, "best").with_references(lambda part: (1.0, 0.25 if part is PARTS[1] else 0.125))
    assert known.prepare().rounding(UNIFORM) >= 0.25


def test_permuting_sources_or_targets_permutes():
    straight = solve(worst_case(PARTS, "best"))
    order, turn = np.array([3, 0, 5, 1, 4, 2]), [2, 0, 1]
    columns = [cross_entropy(problems.CROSS_ENTROPIES[name][:, order]) for name in NAMES]
    np.testing.assert_allclose(solve(worst_case(columns, "best")).weights, straight.weights[order], atol=1e-6)
    turned = solve(worst_case([PARTS[t] for t in turn], "best"))
    np.testing.assert_allclose(turned.weights, straight.weights, atol=1e-6)
    np.testing.assert_allclose(turned.targets.prices, straight.targets.prices[turn], atol=1e-6)


def test_one_target_is_that_target():
    for name in ("classifiers", "text, 1000 nats", "near-duplicates", "zero cells"):
        alone, found = (solve(f, **CONSTRAINTS["bounds"]) for f in (BANK[name], worst_case([BANK[name]])))
        assert abs(found.loss - alone.loss) <= max(found.gap, alone.gap) + 1e-15 * abs(alone.loss)
        np.testing.assert_allclose(found.targets.prices, 1)
    excess = solve(worst_case(PARTS[:1], "best"), **CONSTRAINTS["bounds"])
    assert abs(excess.loss) <= 2e-9


def test_adding_a_target_never_lowers_the_worst_case():
    growing = PARTS[:1] * 3, [*PARTS[:2], PARTS[0]], PARTS  # a target twice is that target
    one, two, three = (solve(worst_case(parts, UNIFORM)).loss for parts in growing)
    assert one < two < three
    np.testing.assert_allclose(one, solve(PARTS[0]).loss - worst_case(PARTS, UNIFORM).reference_T[0], atol=2e-9)


def test_worst_cases_and_weighted_sums_meet_at_the_prices():
    found = solve(worst_case(PARTS, UNIFORM))
    for prices in (found.targets.prices, [1 / 3] * 3, [0.2, 0.7, 0.1]):
        summed = solve(weighted_sum(PARTS, prices))
        assert found.loss <= (summed.targets.losses - found.targets.references).max() + found.gap
        # and any prices bound the worst case from below: weak duality
        assert summed.loss - summed.gap - np.dot(prices, found.targets.references) <= found.loss + 1e-12
    at_prices = solve(weighted_sum(PARTS, found.targets.prices))
    np.testing.assert_allclose(at_prices.loss, found.targets.losses @ found.targets.prices, atol=4e-9)


def test_targets_in_conflict_share_and_dominated_ones_have_no_price():
    wants = [np.where(np.arange(K) == k, 0.0, -3.0)[None] for k in (0, 1)]
    found = solve(worst_case([cross_entropy(row) for row in wants]))
    np.testing.assert_allclose(found.weights, [0.5, 0.5, 0, 0, 0, 0], atol=1e-8)
    np.testing.assert_allclose(found.targets.prices, 0.5, atol=1e-8)
    hopeless = cross_entropy(problems.scales() - 500)
    far = solve(worst_case([PARTS[0], hopeless, PARTS[2]]))
    np.testing.assert_allclose(far.targets.prices, [0, 1, 0], atol=1e-8)
    np.testing.assert_allclose(far.loss, solve(hopeless).loss, atol=2e-9)


@pytest.mark.parametrize("num_targets", [3, pytest.param(5, marks=pytest.mark.slow)])
def test_every_problem_of_the_bank_as_targets_of_each_other(num_targets):
    """One of them twice, with up to a thousand nats between rows and between losses."""
    names = [name for name in BANK if name not in ("squared error", "weighted")]
    rng = np.random.default_rng(0)
    for constraint in ("simplex", "all"):
        for relative_to in ("best", UNIFORM, None):
            for _ in range(3):
                chosen = [BANK[name] for name in rng.choice(names, num_targets - 1)]
                found = solve(worst_case([*chosen, chosen[0]], relative_to), **CONSTRAINTS[constraint])
                assert found.converged and found.iterations <= 20
                problems.assert_feasible(found.weights, CONSTRAINTS[constraint])


@pytest.mark.slow
def test_reference_mixtures_may_use_sources_that_the_weights_may_not():
    reference, names = np.eye(K)[0], [*NAMES[:2], "classifiers"]
    named = [cross_entropy(problems.CROSS_ENTROPIES[name], sources=list("abcdef")) for name in names]
    found = solve(worst_case(named, {"a": 1.0}), upper_bounds={"a": 0.0})
    expected = [-problems.CROSS_ENTROPIES[name][:, 0].mean() for name in names]
    np.testing.assert_allclose(found.targets.references, expected, rtol=1e-12)
    assert found.weights[0] == 0 and found.sources == tuple("abcdef")
    unnamed = worst_case([BANK[name] for name in names], reference)
    np.testing.assert_array_equal(solve(unnamed, upper_bounds={0: 0.0}).weights, found.weights)
    # far below the best source of each row, where likelihoods underflow
    low = cross_entropy(problems.text() + np.where(np.arange(K) == 0, -3000.0, 0.0))
    np.testing.assert_allclose(worst_case([low], reference).reference_T, -low.logp_NxK[:, 0].mean(), rtol=1e-12)


# Bad input.

NAMED = cross_entropy(problems.classifiers(), sources=list("abcdef"))


def other_names(names):
    return cross_entropy(problems.scales(), sources=list(names))


@pytest.mark.parametrize(
    "parts, message",
    [
        ([], "it is empty"),
        (PARTS[0], "takes a list of objectives.*got CrossEntropy"),
        ([PARTS[0], problems.scales()], "target 1 is a ndarray"),
        ([PARTS[0], worst_case(PARTS)], "target 1 is a worst_case"),
        ([PARTS[0], stream_cross_entropy(problems.scales())], "target 1 is a StreamedCrossEntropy.*held in memory"),
        ([PARTS[0], cross_entropy(problems.scales()[:, :5])], "target 0 has 6 and target 1 has 5"),
        ([NAMED, PARTS[1]], "target 0 names its sources and target 1 does not"),
        ([NAMED, other_names("abcdeg")], "target 1 lacks f of target 0 and has g"),
        ([NAMED, other_names("abcdfe")], "same order.*reorder"),
    ],
)
@pytest.mark.parametrize("build", [weighted_sum, worst_case])
def test_targets_that_do_not_go_together(build, parts, message):
    with pytest.raises(InputError, match=message):
        build(parts)


@pytest.mark.parametrize(
    "weights, message",
    [
        ([1.0, 1.0], r"shape \(2,\), but there are 3 targets"),
        ([1.0, -1.0, 1.0], "target 1 has -1"),
        ([1.0, np.nan, 1.0], "target 1 has nan"),
        ([0.0, 0.0, 0.0], "all 0"),
        (["a", "b", "c"], "weights must be an array of real numbers"),
    ],
)
def test_bad_weights_of_targets(weights, message):
    with pytest.raises(InputError, match=message):
        weighted_sum(PARTS, weights)


@pytest.mark.parametrize(
    "relative_to, message",
    [
        ("worst", "unknown relative_to 'worst'"),
        (np.full(K, 0.5), "relative_to must sum to 1"),
        (np.full(3, 1 / 3), r"relative_to has the shape \(3,\)"),
        ({"a": 1.0}, "relative_to names the source 'a', but the objective was built without"),
        (np.eye(K)[3], "target 2: log-likelihoods have -inf under every source in rows"),
    ],
)
def test_bad_references(relative_to, message):
    with pytest.raises(InputError, match=message):
        worst_case(PARTS, relative_to)


def test_what_a_worst_case_refuses():
    both = worst_case(PARTS[:2])
    for method in ("projected_gradient", "mirror_descent"):
        with pytest.raises(InputError, match="a worst_case is none; use 'interior_point'"):
            solve(both, method=method)
    with pytest.raises(InputError, match="leave mesh and precision out"):
        solve(both, precision="float32")
    with pytest.raises(InputError, match="cannot take a worst_case"):
        solve_traced(both)
    with pytest.raises(InputError, match="use weighted_sum"):
        jax.jit(lambda logp_NxK: worst_case([cross_entropy(logp_NxK)]).reference_T)(jnp.zeros((3, K)))


def test_a_target_that_the_allowed_sources_cannot_explain_is_named():
    logp_NxK = problems.classifiers().copy()
    logp_NxK[7, 1:] = -np.inf
    for build in (weighted_sum, worst_case):
        with pytest.raises(InputError, match=r"leave no weight for 0, .* target 1: .* row 7"):
            solve(build([PARTS[0], cross_entropy(logp_NxK)]), upper_bounds={0: 0.0})


def test_squared_errors_that_float64_cannot_resolve_stay_uncertified():
    y_N = np.random.default_rng(0).normal(size=N)
    far = squared_error(np.stack([y_N + 1e8, y_N - 1e8, y_N + 1.5e8], axis=1), y_N)  # the least loss is 0
    found = solve(worst_case([far, far]), throw=False)
    assert not found.converged and abs(found.loss) <= 4 * found.gap
