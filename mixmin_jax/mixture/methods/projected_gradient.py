"""jaxopt's accelerated projected gradient with a safeguard. No other file imports jaxopt.

Without the safeguard, the accelerated iteration leaves the domain of the logarithm and returns meaningless numbers.
Here a step is kept only if F at the projected point is finite and not larger than before. Otherwise the iteration
restarts without momentum and with a shorter step (O'Donoghue and Candes 2015). So F never increases, except by
rounding. The certificate, not the length of the step, decides when to stop.
"""

import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mixmin_jax.mixture.problem import Method, Point, Problem


class State(NamedTuple):
    point: Point
    inner: Any  # jaxopt's: the extrapolated point, the momentum and the step


def init(problem: Problem) -> State:
    """The start of the feasible set, without momentum."""
    point = problem.point(problem.feasible.start())
    return State(point, _solver(problem).init_state(point.weights, None))


def step(problem: Problem, state: State) -> State:
    """One accelerated projected gradient step with backtracking, or a restart if F would increase."""
    here, inner = state
    w_K, moved = _solver(problem).update(here.weights, inner, None)
    w_K = problem.feasible.repair(jnp.where(jnp.all(jnp.isfinite(w_K)), w_K, here.weights))
    point = problem.point(w_K)
    rounding = 4 * jnp.finfo(w_K.dtype).eps * (jnp.abs(here.loss) + problem.f.scale)
    descends = point.loss <= here.loss + rounding
    at_rest = _solver(problem).init_state(here.weights, None)
    at_rest = at_rest._replace(iter_num=moved.iter_num, stepsize=inner.stepsize / 2)
    return jax.tree.map(lambda new, old: jnp.where(descends, new, old), State(point, moved), State(here, at_rest))


def _solver(problem: Problem) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # jaxopt is no longer maintained, and says so on import
        import jaxopt  # here: the import takes a quarter of a second

    scale = problem.f.scale  # jaxopt's line search expects function values of about 1

    def objective(w_K: Float[Array, " K"]) -> tuple[Float[Array, ""], Float[Array, " K"]]:
        loss, gradient_K = problem.f.value_and_gradient(w_K)
        return loss / scale, gradient_K / scale

    return jaxopt.ProjectedGradient(
        objective,
        lambda x_K, _: problem.feasible.project(x_K),
        value_and_grad=True,
        acceleration=True,
        maxls=60,
        implicit_diff=False,
    )


PROJECTED_GRADIENT = Method(init, step, priors=False)  # the gradient of KL(w || q) is unbounded at zero weights
