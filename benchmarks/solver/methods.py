"""What the benchmark of solvers runs: the interface of methods, and our own ones.

A method is opened once per case and then called repeatedly. Every call does all that a user's call does, from the NumPy
matrix of log-likelihoods to weights on the host.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from benchmarks.solver.cases import Data
from benchmarks.timing import Call
from mixmin_jax import cross_entropy, solve

TOLERANCE = 1e-9  # relative gap that methods are asked for and compared at: far below what weights are worth
FIRST_ORDER_RATE = 3e7  # iterations x N x K in a second: about what one core does, so that they keep to the limit


class Answer(NamedTuple):
    """What a call returns. A method's own certificate is not used."""

    weights: np.ndarray
    iterations: int | None = None
    seconds: float | None = None  # by the method's own clock, for work in a child process
    note: str = ""
    software: str = ""  # versions, where Python does not know them


@dataclasses.dataclass(frozen=True)
class Method:
    """A way to find weights.

    `open(data, limit)` gives a call that is good inside the context, and stops after about `limit` seconds, if it can.
    `absent()` says why the method cannot run on this machine.
    """

    name: str
    what: str
    open: Callable[[Data, float], AbstractContextManager[Call[Answer]]]
    absent: Callable[[], str | None] = lambda: None
    most_cells: float = math.inf  # N K beyond which it is not run
    compiled: bool = False  # whether its first call compiles
    on_default_device: bool = False  # whether it runs there, whatever that is; otherwise on the CPU
    newton: bool = False  # whether its iterations are Newton steps, for which the floor holds


@contextmanager
def ours(
    data: Data,
    limit: float,
    *,
    first_order: bool = False,
    on_devices: bool = False,
    tolerance: float | None = TOLERANCE,
    **options: Any,
) -> Iterator[Call[Answer]]:
    """`solve` with options of its own; first-order methods have bounded iterations, devices are all default ones."""
    if first_order:
        options["max_iterations"] = int(np.clip(FIRST_ORDER_RATE * limit / data.logp_NxK.size, 100, 20_000))
    if on_devices:
        options["mesh"] = Mesh(np.array(jax.devices()), ("rows",))

    def call() -> Answer:
        solution = solve(cross_entropy(data.logp_NxK, data.v_N), throw=False, tolerance=tolerance, **options)
        note = "" if solution.converged else f"stopped at {solution.iterations} iterations"
        return Answer(solution.weights, solution.iterations, note=note)

    yield Call(call)


at_once = functools.partial(ours, compiled=False)


def _no_accelerator() -> str | None:
    return "the default device is the CPU" if jax.default_backend() == "cpu" else None


def _no_float64() -> str | None:
    return _no_accelerator() or ("TPUs have no float64" if jax.default_backend() == "tpu" else None)


OURS = (
    Method(
        "solve",
        "mixmin_jax.solve(compiled=True), on the CPU: the active set from N K^2 = 4e6 on, else the interior point",
        functools.partial(ours, compiled=True),
        compiled=True,
        newton=True,
    ),
    Method("solve (NumPy)", "mixmin_jax.solve(compiled=False), the default for problems of these sizes", at_once),
    Method(
        "interior_point",
        "mixmin_jax.solve(method='interior_point', compiled=True)",
        functools.partial(ours, method="interior_point", compiled=True),
        compiled=True,
        newton=True,
    ),
    Method(
        "interior_point (devices)",
        "the interior point over a mesh of all default devices, in float64; data is sent there in each call",
        functools.partial(ours, on_devices=True, precision="float64"),
        absent=_no_float64,
        compiled=True,
        on_default_device=True,
        newton=True,
    ),
    Method(
        "interior_point (float32)",
        "the same with precision='float32', certified in float64 on the host, to the 1e-6 that it is made for",
        functools.partial(ours, on_devices=True, precision="float32", tolerance=None),
        absent=_no_accelerator,
        compiled=True,
        on_default_device=True,
    ),
    *(
        Method(
            name,
            f"mixmin_jax.solve(method='{name}'), at most {FIRST_ORDER_RATE:.0e} x limit / (N K) iterations,"
            " 100 to 20 000",
            functools.partial(ours, first_order=True, method=name),
            compiled=True,
        )
        for name in ("projected_gradient", "mirror_descent")
    ),
)
