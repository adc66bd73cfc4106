"""Times every way to train the models of a case side by side, and compares what they give."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from benchmarks.options import Rounds
from benchmarks.proxies.methods import SAME_MODELS, Answer, Case, Method, Rival, make_methods, other_process
from benchmarks.proxies.records import CaseRecord, Result
from benchmarks.records import call_times
from benchmarks.timing import Stopped, Timing, side_by_side


def measure(case: Case, against: Sequence[Rival], rounds: Rounds) -> CaseRecord:
    """The record of one case: every method in turns. Raises `Stopped` if its base gave no answer."""
    jax.clear_caches()  # so that every first call compiles
    data: Any = case.data()
    print(f"{case.name}: {case.what}", flush=True)
    with other_process() as child:
        made = make_methods(case, against, data, child)
        methods = {name: method for name, method in made.items() if isinstance(method, Method)}
        absent = {name: reason for name, reason in made.items() if isinstance(reason, str)}
        for name, reason in absent.items():
            print(f"{name}: left out: {reason}", flush=True)
        calls = {name: method.call for name, method in methods.items()}
        timings = side_by_side(calls, rounds.repeats, rounds.budget)
    return CaseRecord(
        name=case.name,
        what=case.what,
        num_models=case.num_models,
        base=case.base,
        sizes=dataclasses.asdict(case),
        nothing_learned=case.nothing_learned(data),
        results=results(case, data, methods, timings),
        absent=absent,
        stopped={name: str(stop) for name, stop in timings.items() if isinstance(stop, Stopped)},
    )


def results(
    case: Case, data: Any, methods: Mapping[str, Method], timings: Mapping[str, Timing[Answer] | Stopped]
) -> dict[str, Result]:
    """By method: time, what was compiled, and what the models are worth. Raises `Stopped` if the base gave none."""
    base = timings[case.base]
    if isinstance(base, Stopped):
        raise base
    found: dict[str, Result] = {}
    for name, timing in timings.items():
        if isinstance(timing, Stopped):
            continue
        method, (first, *later) = methods[name], timing.last.programs
        difference = float(np.abs(timing.last.outputs - base.last.outputs).max()) if name in SAME_MODELS else None
        seconds = call_times(timing, compiled=first > 0 and not method.compiles_always)
        if method.compiles_always:  # its first call trains one model only
            seconds["first_seconds"] = None
        found[name] = Result(
            **seconds,
            programs=(first, max(later)),
            flops=method.flops,
            quality=case.quality(data, timing.last.outputs),
            difference=difference,
        )
    return found
