"""The methods that others would use, each given its best chance.

Axes: N examples, K sources.
"""

import functools
import importlib.util
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize

from benchmarks.solver import mixsqp
from benchmarks.solver.cases import Data
from benchmarks.solver.methods import TOLERANCE, Answer, Method
from benchmarks.timing import Call, Stopped

REFERENCE_STEPS = 100  # iterations of the published loop, which always runs all of them
JAXOPT_STEPS = 2_000  # iterations: four times jaxopt's default
SLSQP_STEPS = 1_000  # iterations: ten times SciPy's default
EM_STEPS = 1_000_000  # iterations
EM_SECONDS = 10.0  # seconds: on cases where EM is slow, it would take minutes
_EM_CHUNK = 500  # iterations between two looks at the clock, which then cost next to nothing


def scaled_likelihoods(logp_NxK: Any, xp: Any = np) -> Any:
    """Likelihoods with every row divided by its largest, by NumPy or `jax.numpy`."""
    return xp.exp(logp_NxK - logp_NxK.max(axis=1, keepdims=True))


@contextmanager
def reference(in_logarithms: bool, data: Data, limit: float) -> Iterator[Call[Answer]]:
    """Entropic descent as the MixMin paper has it: w <- w exp(-grad f) / sum, operation by operation."""

    def call() -> Answer:
        with jax.enable_x64(True):
            end = time.perf_counter() + limit
            v_N = jnp.asarray(data.normalized_N)
            rows_NxK = jnp.asarray(data.logp_NxK if in_logarithms else scaled_likelihoods(data.logp_NxK))

            def loss(w_K: jax.Array) -> jax.Array:
                if in_logarithms:
                    return -jnp.sum(v_N * jax.scipy.special.logsumexp(rows_NxK, axis=1, b=w_K))
                return -jnp.sum(v_N * jnp.log(rows_NxK @ w_K))

            w_K = jnp.full(data.logp_NxK.shape[1], 1 / data.logp_NxK.shape[1])
            for _ in range(REFERENCE_STEPS):
                _, gradient_K = jax.value_and_grad(loss)(w_K)
                w_K = w_K * jnp.exp(gradient_K.min() - gradient_K)  # the shift spares it overflow
                w_K = w_K / w_K.sum()
                if time.perf_counter() > end:
                    raise Stopped(f"over the limit of {limit:g} s")
            return Answer(np.asarray(w_K), REFERENCE_STEPS)

    yield Call(call)


@contextmanager
def em(data: Data, limit: float) -> Iterator[Call[Answer]]:
    """Expectation maximization, w <- w * (-grad f), until the gap max(-grad f) - 1 is at most the tolerance."""
    limit = min(limit, EM_SECONDS)

    start = jax.jit(functools.partial(scaled_likelihoods, xp=jnp))

    @jax.jit
    def go_on(p_NxK: jax.Array, v_N: jax.Array, w_K: jax.Array, t: jax.Array) -> tuple[jax.Array, ...]:
        def growth(w_K: jax.Array) -> jax.Array:
            return (v_N / (p_NxK @ w_K)) @ p_NxK

        def unfinished(state: tuple[jax.Array, ...]) -> jax.Array:
            return (state[1].max() - 1 > TOLERANCE) & (state[2] < t + _EM_CHUNK)

        def advance(state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            w_K = state[0] * state[1]
            w_K = w_K / w_K.sum()
            return w_K, growth(w_K), state[2] + 1

        return jax.lax.while_loop(unfinished, advance, (w_K, growth(w_K), t))

    def call() -> Answer:
        with jax.enable_x64(True):
            end = time.perf_counter() + limit
            p_NxK, v_N = start(data.logp_NxK), jnp.asarray(data.normalized_N)
            w_K, t = jnp.full(p_NxK.shape[1], 1 / p_NxK.shape[1]), jnp.asarray(0)
            while True:
                w_K, growth_K, t = go_on(p_NxK, v_N, w_K, t)
                done = float(growth_K.max()) - 1 <= TOLERANCE
                if done or int(t) >= EM_STEPS or time.perf_counter() > end:
                    break
            note = "" if done else f"stopped at its limit of {limit:g} s or {EM_STEPS} iterations"
            return Answer(np.asarray(w_K), int(t), note=note)

    yield Call(call)


@contextmanager
def jaxopt_projected_gradient(data: Data, limit: float) -> Iterator[Call[Answer]]:
    """jaxopt's accelerated projected gradient on the simplex, without a guard."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # on import: that it is no longer maintained
        import jaxopt

    def loss(w_K: jax.Array, p_NxK: jax.Array, v_N: jax.Array) -> jax.Array:
        return -(v_N @ jnp.log(p_NxK @ w_K))

    @jax.jit
    def run(logp_NxK: jax.Array, v_N: jax.Array) -> Any:
        solver = jaxopt.ProjectedGradient(
            loss, lambda w_K, _: jaxopt.projection.projection_simplex(w_K), maxiter=JAXOPT_STEPS, tol=TOLERANCE
        )
        p_NxK = scaled_likelihoods(logp_NxK, jnp)
        start_K = jnp.full(p_NxK.shape[1], 1 / p_NxK.shape[1])
        found, state = solver.run(start_K, None, p_NxK, v_N)
        return found, state.iter_num

    def call() -> Answer:
        with jax.enable_x64(True):
            w_K, iterations = jax.device_get(run(data.logp_NxK, data.normalized_N))
        return Answer(w_K, int(iterations))

    yield Call(call)


@contextmanager
def slsqp(data: Data, limit: float) -> Iterator[Call[Answer]]:
    """SciPy's SLSQP with the exact gradient, from the uniform mixture."""

    def call() -> Answer:
        end = time.perf_counter() + limit
        p_NxK, v_N = scaled_likelihoods(data.logp_NxK), data.normalized_N
        k = p_NxK.shape[1]

        def loss_and_gradient(w_K: np.ndarray) -> tuple[float, np.ndarray]:
            if time.perf_counter() > end:
                raise Stopped(f"over the limit of {limit:g} s")
            density_N = np.maximum(p_NxK @ w_K, np.finfo(float).tiny)
            return -float(v_N @ np.log(density_N)), -((v_N / density_N) @ p_NxK)

        result = scipy.optimize.minimize(
            loss_and_gradient,
            np.full(k, 1 / k),
            jac=True,
            method="SLSQP",
            bounds=[(0, 1)] * k,
            constraints={"type": "eq", "fun": lambda w_K: w_K.sum() - 1, "jac": lambda w_K: np.ones(k)},
            options={"ftol": 1e-15, "maxiter": SLSQP_STEPS},
        )
        return Answer(result.x, int(result.nit), note="" if result.success else str(result.message))

    yield Call(call)


@contextmanager
def cvxpy_clarabel(data: Data, limit: float) -> Iterator[Call[Answer]]:
    """CVXPY with Clarabel at tolerances of 1e-10, or its own where it fails at these; time is Clarabel's own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # CVXPY's own deprecations are not ours to answer for
        import cvxpy as cp

        p_NxK = scaled_likelihoods(data.logp_NxK)
        w = cp.Variable(p_NxK.shape[1])
        loss = -(data.normalized_N @ cp.log(p_NxK @ w))
        problem = cp.Problem(cp.Minimize(loss), [w >= 0, cp.sum(w) == 1])
    settings = [dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), 1e-10), {}]

    def call() -> Answer:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as above; and that a solution may be inaccurate, which the gap tells
            try:
                problem.solve(solver=cp.CLARABEL, time_limit=float(limit), **settings[0])
            except cp.SolverError:
                if len(settings) == 1:
                    raise Stopped("Clarabel failed, with its default tolerances too") from None
                del settings[0]  # for later calls, too
                return call()
        if w.value is None:
            raise Stopped(f"Clarabel ended with the status {problem.status} (limit {limit:g} s)")
        notes = [] if settings[0] else ["fails at 1e-10, so at default tolerances"]
        notes += [] if problem.status == "optimal" else [problem.status]
        stats = problem.solver_stats
        return Answer(np.asarray(w.value), stats.num_iters, stats.solve_time, "; ".join(notes))

    yield Call(call, lambda answer: answer.seconds)


def _without(package: str) -> Callable[[], str | None]:
    return lambda: None if importlib.util.find_spec(package) else f"the Python package {package} is not installed"


RIVALS = (
    *(
        Method(
            f"mixsqp ({name})",
            f"R's mixsqp {text}, in a child process; its time is R's own, without reading; iterations include 10 of EM",
            functools.partial(mixsqp.session, setting, fast),
            absent=functools.partial(mixsqp.absent, fast),
        )
        for name, setting, fast, text in (
            ("default", "default", False, "with its defaults"),
            ("tightest", "tightest", False, "with tol.svd = 0, eps = 1e-15, convtol.sqp = 1e-12"),
            ("tightest, OpenBLAS", "tightest", True, "so, and with a faster BLAS than it is installed with"),
        )
    ),
    Method(
        "cvxpy",
        "CVXPY with Clarabel at tolerances of 1e-10, or its own where it fails at these; time is Clarabel's own",
        cvxpy_clarabel,
        absent=_without("cvxpy"),
        most_cells=2_000_000,
    ),
    Method(
        "reference",
        f"the published loop as the paper describes it: {REFERENCE_STEPS} steps of entropic descent with step size 1 on"
        " log-likelihoods, in JAX without compilation (float64; f in units of sum v = 1, its best case)",
        functools.partial(reference, True),
        on_default_device=True,
    ),
    Method(
        "reference (likelihoods)",
        "the same loop, kinder than published: rows are exponentiated once, before it",
        functools.partial(reference, False),
        on_default_device=True,
    ),
    Method("scipy", "SciPy's SLSQP with the exact gradient, ftol 1e-15", slsqp, most_cells=1_000_000),
    Method(
        "em",
        f"EM, compiled, to a gap of {TOLERANCE:g} or {EM_STEPS:.0e} iterations or {EM_SECONDS:g} s",
        em,
        compiled=True,
        on_default_device=True,
    ),
    Method(
        "jaxopt",
        f"jaxopt.ProjectedGradient, jitted, unguarded, tol {TOLERANCE:g}, at most {JAXOPT_STEPS} iterations",
        jaxopt_projected_gradient,
        absent=_without("jaxopt"),
        most_cells=2_500_000,
        compiled=True,
        on_default_device=True,
    ),
)
