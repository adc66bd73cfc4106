"""The solves of a run: the weights, their intervals with the comparison, and the worth of each source."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax

from experiments.weights_from_file.plan import Plan, pooled
from mixmin_jax import Bootstrap, LeaveOneOut, NotConverged, Solution, bootstrap, leave_one_out, solve

LEVEL = 0.95
Found = TypeVar("Found")


class Solved(NamedTuple):
    """What was found, and the seconds that each solve took."""

    solution: Solution
    resampled: Bootstrap | None
    left_out: LeaveOneOut | None
    seconds: dict[str, float]


def solved(plan: Plan) -> Solved:
    """Solve what the plan says. If weights miss the tolerance, there is nothing but these weights."""
    seconds = dict[str, float]()

    def timed(name: str, call: Callable[[], Found]) -> Found:
        started = time.perf_counter()
        try:
            return call()
        finally:
            seconds[name] = time.perf_counter() - started

    options: dict[str, Any] = {**plan.constraints, "tolerance": plan.config.tolerance}
    resampled, left_out = None, None
    try:
        solution = timed("solve", lambda: solve(plan.objective, method=plan.config.method, **options))
        if plan.num_resamples is not None:
            drawn: dict[str, Any] = {
                "num_samples": plan.num_resamples,
                "key": jax.random.key(0),
                "groups": plan.targets[0].table.group_N,
                "reference": None if plan.reference is None else plan.reference[1],
                "level": LEVEL,
            }
            resampled = timed("bootstrap", lambda: bootstrap(plan.objective, **drawn, **options, throw=False))
        if plan.config.worth:
            targets = solution.targets
            one = plan.objective if targets is None else pooled(plan.targets, targets.prices.tolist())
            left_out = timed("worth", lambda: leave_one_out(one, **options, throw=False))
    except NotConverged as error:
        return Solved(error.solution, None, None, seconds)
    return Solved(solution, resampled, left_out, seconds)
