"""Times every method on a case side by side, and judges the weights that it returns."""

from collections.abc import Hashable, Sequence
from contextlib import ExitStack
from typing import Any

import jax
import numpy as np

from benchmarks.machine import Rates, newton_floor, rate_calls, rates
from benchmarks.records import call_times
from benchmarks.solver.cases import Case, Data
from benchmarks.solver.fresh import fresh_times
from benchmarks.solver.gap import judge
from benchmarks.solver.methods import TOLERANCE, Answer, Method
from benchmarks.solver.records import CaseRecord, Result, Settings, problem
from benchmarks.timing import Call, Stopped, Timing, side_by_side


def measure(case: Case, methods: Sequence[Method], settings: Settings) -> tuple[CaseRecord, dict[str, str]]:
    """The record of a case, and the software of methods in other processes; the machine's rates take turns too."""
    jax.clear_caches()  # so that every first call compiles
    data = case.data()
    devices = {"cpu": jax.local_devices(backend="cpu")[0]}
    if jax.default_backend() != "cpu":
        devices["default"] = jax.devices()[0]
    probes = {where: rate_calls(case.n, case.k, device) for where, device in devices.items()}
    calls: dict[Hashable, Call[Any]] = {(where, name): call for where in probes for name, call in probes[where].items()}
    unmeasured: dict[str, str] = {}
    with ExitStack() as stack:
        for method in methods:
            if case.n * case.k > method.most_cells:
                unmeasured[method.name] = (
                    f"not run: over the limit: N K = {case.n * case.k:.2g}, run up to {method.most_cells:.2g}"
                )
                continue
            try:
                calls[method.name] = stack.enter_context(method.open(data, settings.limit))
            except Stopped as stop:
                unmeasured[method.name] = f"stopped: {stop}"
        timings = side_by_side(calls, settings.repeats, settings.budget)
    machine = {where: rates({name: timings[where, name] for name in probes[where]}, case.n, case.k) for where in probes}
    results: dict[str, Result] = {}
    software: dict[str, str] = {}
    for method in methods:
        timing = timings.get(method.name)
        if isinstance(timing, Timing):
            rate = machine["default" if method.on_default_device and "default" in machine else "cpu"]
            results[method.name] = _result(case, data, method, timing, rate)
            software |= {method.name: timing.last.software} if timing.last.software else {}
        elif timing:
            unmeasured[method.name] = f"stopped: {timing}"
    able = [method.name for method in methods if case.n * case.k <= method.most_cells]
    record = CaseRecord(
        **problem(case),
        example_weights=data.v_N is not None,
        rates=machine,
        results=results,
        unmeasured=unmeasured,
        fresh=fresh_times(*data, able, settings.limit) if case.fresh else {},
    )
    return record, software


def _result(case: Case, data: Data, method: Method, timing: Timing[Answer], rate: Rates) -> Result:
    answer = timing.last
    judged = judge(*data, answer.weights)
    floor = None
    if method.newton and answer.iterations:
        floor = newton_floor(answer.iterations, case.n, case.k, rate)
    return Result(
        **call_times(timing, method.compiled),
        iterations=answer.iterations,
        relative_gap=judged.gap if np.isfinite(judged.gap) else None,
        reached=judged.gap <= TOLERANCE,
        repaired=judged.repaired if np.isfinite(judged.repaired) else None,
        floor_seconds=floor,
        time_over_floor=None if floor is None else timing.median / floor,
        note=answer.note,
    )
