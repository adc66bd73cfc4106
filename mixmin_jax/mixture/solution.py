"""The results of a solve."""

import dataclasses
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mixmin_jax.mixture import display
from mixmin_jax.mixture.outputs import Outputs


@dataclasses.dataclass(frozen=True, eq=False)
class TargetLosses:
    """The losses of a solution for each of several targets, and their prices.

    The weights also minimize sum_t price_t f_t + penalty. So a target of price 0 has no influence.
    """

    losses: Float[np.ndarray, " T"]  # f_t at the weights, each in its own units
    references: Float[np.ndarray, " T"]  # r_t of `worst_case`; 0 if the losses themselves are compared
    prices: Float[np.ndarray, " T"]  # lambda_t: given to `weighted_sum`, or found by `worst_case` with sum 1

    @property
    def excess(self) -> Float[np.ndarray, " T"]:
        """f_t - r_t; its maximum is the loss of a worst case."""
        return self.losses - self.references


@dataclasses.dataclass(frozen=True, eq=False)
class Solution:
    """Weights with their certificate.

    loss + penalty exceeds its minimum over all allowed weights by at most `gap`.
    """

    weights: Float[np.ndarray, " K"]  # float64, sum 1, bounds to 1e-9; 0 where the certificate cannot tell them from 0
    loss: float  # the objective at the weights (for cross-entropy in nats x the units of the example weights)
    penalty: float  # s KL(weights || prior); 0 without a prior
    gap: float  # in the units of the loss
    goal: float  # the gap asked for: tolerance x the objective's scale
    converged: bool  # gap <= goal
    iterations: int
    method: str
    status: str  # one sentence on how it ended
    gap_history: Float[np.ndarray, " T"]  # the gap at the start and after each iteration
    sources: tuple[str, ...] | None = None
    targets: TargetLosses | None = None  # for `weighted_sum` and `worst_case`

    def __repr__(self) -> str:
        return f"Solution: {self.status}\n{self._loss()}; weights: {display.text(self.weights, self.sources)}"

    def _repr_html_(self) -> str:
        status = display.paragraph(self.status, warning=not self.converged)
        loss = display.paragraph(f"{self._loss()}. {display.certificate(self.gap, self.penalty)}")
        return display.page(status, loss, display.table(self.weights, self.sources))

    def _loss(self) -> str:
        return f"loss {self.loss:.6g}" + (f" + penalty {self.penalty:.3g}" if self.penalty else "")


class NotConverged(RuntimeError):
    """The certificate did not reach the tolerance; `.solution` holds the best weights found and their gap."""

    def __init__(self, solution: Solution):
        super().__init__(solution.status)
        self.solution = solution

    def __reduce__(self) -> tuple[type["NotConverged"], tuple[Solution]]:
        return type(self), (self.solution,)


class TracedSolution(NamedTuple):
    """The result of `solve_traced`, as arrays; fields as in `Solution`."""

    weights: Float[Array, " K"]
    loss: Float[Array, ""]
    penalty: Float[Array, ""]
    gap: Float[Array, ""]
    converged: Bool[Array, ""]
    iterations: Int[Array, ""]


def describe(found: Outputs, method: str, what: str, max_iterations: int, precision: str) -> str:
    """One sentence on how a solve of `what` ended, and what to do if it did not converge."""
    iterations = int(found.iterations)
    after = f"{method} after {iterations} iteration{'' if iterations == 1 else 's'}"
    if found.converged:
        return f"converged: {after} certifies a gap of {found.gap:.2g}, within {found.goal:.2g}"
    if not np.isfinite(found.gap):
        return f"not converged: {after} has no finite certificate; check the scale of the data"
    within = f"{found.gap:.2g} of its minimum, not within {found.goal:.2g}"
    ended = f"not converged: {after} certifies that {what} is within {within}"
    if found.gap <= found.rounding:
        other = "center the data" if precision == "float64" else "use precision='float64', or method='interior_point'"
        return f"{ended}; {precision} cannot resolve less of values this large: raise tolerance, or {other}"
    other = "" if method == "interior_point" else "use method='interior_point', or "
    if iterations < max_iterations:
        return f"{ended}, and then met a NaN; {other}raise tolerance, and check the scale of the data"
    return f"{ended}, in all of max_iterations; {other}raise max_iterations or tolerance"
