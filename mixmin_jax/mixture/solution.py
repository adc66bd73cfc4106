"""What a solve hands back."""

import dataclasses
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float, Int


@dataclasses.dataclass(frozen=True, eq=False)
class Solution:
    """Weights with their certificate.

    loss + penalty exceeds its minimum over all allowed weights by at most `gap`.
    """

    weights: Float[np.ndarray, " K"]  # float64, at least 0, summing to 1 within rounding, inside all bounds
    loss: float  # the objective at the weights, in its own units (nats x the units of the example weights)
    penalty: float  # s KL(weights || prior); 0 without a prior
    gap: float  # in the units of the loss
    converged: bool  # gap <= tolerance x the objective's scale
    iterations: int
    method: str
    status: str  # one sentence on how it ended
    gap_history: Float[np.ndarray, " T"]  # the gap at the start and after each iteration
    sources: tuple[str, ...] | None = None


class NotConverged(RuntimeError):
    """The certificate did not reach the tolerance; `.solution` holds the best weights found and their gap."""

    def __init__(self, solution: Solution):
        super().__init__(solution.status)
        self.solution = solution


class TracedSolution(NamedTuple):
    """What `solve_traced` returns, as arrays; fields as in `Solution`."""

    weights: Float[Array, " K"]
    loss: Float[Array, ""]
    penalty: Float[Array, ""]
    gap: Float[Array, ""]
    converged: Bool[Array, ""]
    iterations: Int[Array, ""]


def describe(method: str, gap: float, goal: float, converged: bool, iterations: int) -> str:
    """One sentence on how a solve ended, and what to do if it did not converge."""
    after = f"{method} after {iterations} iteration{'' if iterations == 1 else 's'}"
    if converged:
        return f"converged: {after} certifies a gap of {gap:.2g}, within {goal:.2g}"
    if not np.isfinite(gap):
        return f"not converged: {after} has no finite certificate; check the scale of the data"
    advice = "raise max_iterations or tolerance"
    if method != "interior_point":
        advice = f"use method='interior_point', or {advice}"
    return (
        f"not converged: {after} certifies that the loss is within {gap:.2g} of its minimum, not within {goal:.2g}; "
        f"{advice}"
    )
