"""Mixture weights with their certificate, as JSON."""

import math
from typing import Any

from jax.sharding import Mesh

from mixmin_jax.mixture.constraints import PerSource
from mixmin_jax.mixture.objective import Objective
from mixmin_jax.mixture.solution import Solution
from mixmin_jax.mixture.solve import solve
from mixmin_jax.mixture.targets import WorstCase

TOLERANCE = 1e-9  # of the solver, relative to the sum of the example weights


def certified_weights(
    objective: Objective | WorstCase,
    *,
    method: str = "auto",
    upper_bounds: PerSource | None = None,
    mesh: Mesh | None = None,
) -> tuple[dict[str, Any], Solution]:
    """The weights that minimize a loss, converged or not, as a record, and the solver's solution.

    `mesh`: devices to spread the rows over; see `solve`.
    """
    solution = solve(objective, method=method, upper_bounds=upper_bounds, tolerance=TOLERANCE, mesh=mesh, throw=False)
    record = {
        "weights": solution.weights.tolist(),
        "loss": solution.loss,
        "gap": solution.gap,
        "tolerance": solution.goal,
        "iterations": solution.iterations,
        "converged": solution.converged,
        "method": solution.method,
        "gap_history": [gap if math.isfinite(gap) else None for gap in solution.gap_history.tolist()],
    }
    return record, solution
