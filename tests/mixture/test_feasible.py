"""The feasible set: its points, its linear programme and its projections, against independent answers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linprog

from mixmin_jax.mixture.constraints import build
from mixmin_jax.mixture.feasible import FeasibleSet
from tests.mixture.problems import assert_feasible

pytestmark = pytest.mark.usefixtures("x64")
K = 7
minimize_linear, repair, project, project_kl = map(
    jax.jit, (FeasibleSet.minimize_linear, FeasibleSet.repair, FeasibleSet.project, FeasibleSet.project_kl)
)


def feasible_bounds(seed):
    """Random bounds, of every kind in turn, with little room, and the set that they make."""
    rng = np.random.default_rng(seed)
    inside = rng.dirichlet(np.ones(K))  # a point that the bounds leave in
    caps, floors = inside + rng.uniform(0, 0.3, K), inside * rng.uniform(0, 1, K)
    groups = {group: inside[list(group)].sum() + 0.1 * rng.uniform() for group in ((0, 3), (1, 4, 6))}
    kinds = [
        {},
        {"upper_bounds": caps},
        {"lower_bounds": floors},
        {"upper_bounds": caps, "lower_bounds": floors},
        {"groups": groups},
        {"lower_bounds": floors, "groups": groups},
        {"upper_bounds": caps, "lower_bounds": floors, "groups": groups},
    ]
    bounds = kinds[seed % len(kinds)]
    return bounds, jax.tree.map(jnp.asarray, build(K, None, **bounds)[0])


def best_vertex_value(cost_K, bounds):
    """min cost . u over the set, by SciPy."""
    low, high = bounds.get("lower_bounds", np.zeros(K)), bounds.get("upper_bounds", np.ones(K))
    rows = [np.isin(np.arange(K), group) for group in bounds.get("groups", {})]
    options = {"A_ub": np.array(rows, float), "b_ub": list(bounds["groups"].values())} if rows else {}
    result = linprog(cost_K, A_eq=np.ones((1, K)), b_eq=[1], bounds=list(zip(low, high, strict=True)), **options)
    assert result.success
    return result.fun


SEEDS = range(14)


@pytest.mark.parametrize("seed", SEEDS)
def test_linear_programme_against_scipy(seed):
    bounds, feasible = feasible_bounds(seed)
    cost_K = np.random.default_rng([seed, 1]).normal(size=K)
    u_K = np.asarray(minimize_linear(feasible, jnp.asarray(cost_K)))
    assert_feasible(u_K, bounds, 1e-14)
    np.testing.assert_allclose(cost_K @ u_K, best_vertex_value(cost_K, bounds), atol=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_start_and_repair_stay_inside(seed):
    bounds, feasible = feasible_bounds(seed)
    rng = np.random.default_rng([seed, 2])
    assert_feasible(np.asarray(feasible.start()), bounds, 1e-14)
    slack_M = feasible.limits() - feasible.rows(feasible.start())
    assert (slack_M > 0).all()  # room on all sides
    for x_K in (rng.normal(size=K), rng.uniform(size=K), np.zeros(K), 1e9 * rng.uniform(size=K)):
        assert_feasible(np.asarray(repair(feasible, jnp.asarray(x_K))), bounds, 1e-14)
    inside_K = repair(feasible, jnp.asarray(rng.uniform(size=K)))
    np.testing.assert_allclose(repair(feasible, inside_K), inside_K, atol=1e-15)


@pytest.mark.parametrize("scale", [1.0, 1e6])
@pytest.mark.parametrize("seed", SEEDS)
def test_euclidean_projection_is_the_nearest_point(seed, scale):
    bounds, feasible = feasible_bounds(seed)
    x_K = scale * np.random.default_rng([seed, 3]).normal(size=K)
    p_K = np.asarray(project(feasible, jnp.asarray(x_K)))
    assert_feasible(p_K, bounds, 1e-14)
    slope_K = p_K - x_K  # nearest if no point of the set lies ahead: slope . (p - u) <= 0
    assert slope_K @ p_K - best_vertex_value(slope_K / scale, bounds) * scale <= 1e-8 * scale


@pytest.mark.parametrize("spread", [1.0, 300.0, 1e5])
@pytest.mark.parametrize("seed", SEEDS)
def test_kl_projection_is_the_nearest_point(seed, spread):
    bounds, feasible = feasible_bounds(seed)
    logx_K = spread * np.random.default_rng([seed, 4]).normal(size=K)
    u_K, nu_K, _ = (None if a is None else np.asarray(a) for a in project_kl(feasible, jnp.asarray(logx_K)))
    assert abs(u_K.sum() - 1) < 1e-9
    free_K = np.exp(np.minimum(logx_K - nu_K, 0))
    np.testing.assert_allclose(
        u_K, np.clip(free_K, bounds.get("lower_bounds", 0), bounds.get("upper_bounds", 1)), atol=1e-12
    )
    positive = u_K > 1e-250
    slope_K = np.where(positive, np.log(np.where(positive, u_K, 1)) - logx_K, -600 - logx_K)
    assert slope_K @ u_K - best_vertex_value(slope_K / spread, bounds) * spread <= 1e-8 * spread


def test_inequalities_are_consistent():
    bounds, feasible = feasible_bounds(6)
    rng = np.random.default_rng(5)
    w_K, z_M = jnp.asarray(rng.normal(size=K)), jnp.asarray(rng.normal(size=2 * K + 2))
    np.testing.assert_allclose(feasible.rows(w_K) @ z_M, w_K @ feasible.adjoint(z_M), rtol=1e-12)
    rows_MxK = jax.jacobian(feasible.rows)(w_K)
    bound_rows = rows_MxK[: feasible.num_bounds]
    gram = bound_rows.T @ jnp.diag(z_M[: feasible.num_bounds]) @ bound_rows
    np.testing.assert_allclose(gram, jnp.diag(feasible.bounds_gram(z_M)), atol=1e-12)
    assert "groups" in bounds
