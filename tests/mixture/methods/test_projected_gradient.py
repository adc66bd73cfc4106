"""jaxopt's method under guard."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixmin_jax import NotConverged, cross_entropy, solve
from mixmin_jax.mixture.constraints import build
from mixmin_jax.mixture.methods.projected_gradient import PROJECTED_GRADIENT
from mixmin_jax.mixture.problem import Problem
from tests.mixture import problems
from tests.mixture.problems import K, N

HARD = ["text, 1000 nats", "scales", "zero cells", "disjoint"]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", HARD)
def test_descends_and_never_leaves_the_domain(name):
    feasible = jax.tree.map(jnp.asarray, build(K, None, upper_bounds=0.9)[0])
    problem = Problem(cross_entropy(problems.CROSS_ENTROPIES[name]).prepare(), feasible)
    state, step = PROJECTED_GRADIENT.init(problem), jax.jit(lambda state: PROJECTED_GRADIENT.step(problem, state))
    for _ in range(60):
        new = step(state)
        assert np.isfinite(new.point.loss) and np.isfinite(new.point.gap)
        assert new.point.loss <= state.point.loss + 1e-14 * (1 + abs(state.point.loss))
        assert abs(new.point.weights.sum() - 1) < 1e-12 and (new.point.weights >= 0).all()
        state = new


def test_certified_or_refused():
    objective = cross_entropy(problems.CROSS_ENTROPIES["near-duplicates"] * 30)
    with pytest.raises(NotConverged, match="use method='interior_point'") as caught:
        solve(objective, method="projected_gradient", max_iterations=3)
    start = problems.penalised(objective.logp_NxK, np.full(N, 1 / N), np.full(K, 1 / K), {})
    assert caught.value.solution.loss <= start and caught.value.solution.gap > 0


def test_importing_jaxopt_raises_no_warning():
    subprocess.run([sys.executable, "-W", "error", "-c", "import mixmin_jax"], check=True)
