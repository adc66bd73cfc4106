"""The solver against those that others would use, side by side in one process.

    python -m benchmarks.solver                                 # every case and every rival that is installed
    python -m benchmarks.solver --quick                         # the small cases, under a minute
    python -m benchmarks.solver --against mixsqp --cases text-2000x7,scales-20000x20

Per case and method it prints the median time without compilation (and the shortest and longest), the compile time, the
iterations, the gap that the weights have by one independent function, memory, and time over the machine's floor.
"""

import dataclasses
from collections.abc import Hashable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.machine import Rates, device_slug, newton_floor, rate_calls, rates
from benchmarks.solver.cases import CASES, Case, Data
from benchmarks.solver.gap import judge
from benchmarks.solver.methods import OURS, TOLERANCE, Answer, Method
from benchmarks.solver.report import case_table, figure_points, markdown_table, summary
from benchmarks.solver.rivals import RIVALS
from benchmarks.solver.streaming import File, Repeated, describe_streaming, measure_streaming
from benchmarks.timing import Call, Stopped, Timing, ratio, side_by_side
from experiments.harness.command_line import run
from experiments.harness.provenance import provenance
from experiments.harness.result_files import write_bytes, write_json, write_text
from experiments.reporting.figures import figure_png, gap_time_figure
from mixmin_jax.errors import InputError

SCHEMA = 1
BANK: dict[str, Case | File | Repeated] = {**CASES, "streaming": File(), "streaming-blocks": Repeated()}
DISTRIBUTIONS = ("mixmin_jax", "jax", "jaxlib", "numpy", "scipy", "cvxpy", "clarabel", "jaxopt")
MEMORY = (
    "memory_bytes: by how much resident memory of the process that does the work (R's for mixsqp) grew at its peak "
    "during one call after compilation, or during the first call where memory_of_first_call is true; the input and what"
    " earlier calls left are not counted, nor is memory of an accelerator"
)


@dataclasses.dataclass(frozen=True)
class Config:
    """Times mixture-weight solvers side by side and judges all of them by one independent certificate.

    Writes solver-DEVICE.json and .png to --out (solver-DEVICE-quick with --quick, solver-DEVICE-part if --cases or
    --against leave something out), replacing older ones. The whole run takes about half an hour on two cores;
    let the machine do nothing else.
    """

    quick: bool = False
    """Only the small cases, with fewer repeats: under a minute."""

    against: str = ",".join(RIVALS)
    """The rivals, separated by commas; `none` for none. Those that are not installed are named."""

    cases: str = "all"
    """The cases, separated by commas; `streaming` is one, a file of 640 MB in the folder for temporary files,
    and so is `streaming-blocks`, 1e8 rows that are never in memory or on disk together."""

    out: Path = Path("benchmarks/results")
    """Folder for the result file and the figure."""

    repeats: int | None = None
    """Rounds, in each of which every method has a turn on each case; 7, with --quick 3."""

    budget: float | None = None
    """Seconds that the turns of one method on one case may take in all before rounds are left out (one turn is had at
    least); 10, with --quick 0.5."""

    limit: float | None = None
    """Seconds after which a rival's call is stopped and reported as over the limit; 120, with --quick 10."""

    def __post_init__(self) -> None:
        _chosen(self.against, RIVALS, "--against", "none")
        _chosen(self.cases, BANK, "--cases", "all")
        for option in ("repeats", "budget", "limit"):
            if (value := getattr(self, option)) is not None and not value > 0:
                raise InputError(f"--{option} must be above 0; got {value}")

    def settings(self) -> dict[str, Any]:
        """Repeats, budget and limit, with their defaults."""
        defaults: dict[str, Any] = {"repeats": 7, "budget": 10.0, "limit": 120.0}
        if self.quick:
            defaults = {"repeats": 3, "budget": 0.5, "limit": 10.0}
        return {
            name: default if getattr(self, name) is None else getattr(self, name) for name, default in defaults.items()
        }


def _chosen(listed: str, known: Mapping[str, Any], option: str, other: str) -> list[str]:
    """The names in a list separated by commas; `other` stands for "all" or "none"."""
    if listed == other:
        return list(known) if other == "all" else []
    names = [name.strip() for name in listed.split(",")]
    for name in names:
        if name not in known:
            raise InputError(f"{option} {name!r} is not known; choose among {', '.join(known)}, or {other}")
    return list(dict.fromkeys(names))


def main(config: Config, bank: Mapping[str, Case | File | Repeated] = BANK) -> None:
    """Measure, print, write."""
    record: dict[str, Any] = {"schema": SCHEMA, **provenance(*DISTRIBUTIONS)}
    settings = config.settings()
    chosen = [bank[name] for name in _chosen(config.cases, bank, "--cases", "all")]
    if config.quick:
        chosen = [case for case in chosen if isinstance(case, Case) and case.quick]
    if not chosen:
        raise InputError(f"--quick leaves out {config.cases}; run without it")
    rivals = _chosen(config.against, RIVALS, "--against", "none")
    methods = [*OURS, *(method for name in rivals for method in RIVALS[name])]
    print(f"{record['device']}; commit {record['git_commit']}")
    absent: dict[str, str] = {}
    for method in methods:
        if reason := method.absent():
            absent[method.name] = reason
        print(f"{method.name}: {f'absent: {reason}' if reason else method.what}")
    present = [method for method in methods if method.name not in absent]

    measured, streamed = [], []
    for case in chosen:
        if isinstance(case, Case):
            measured.append(measure(case, present, **settings))
            print(f"\n{case_table(measured[-1])}", flush=True)
        else:
            streamed.append(measure_streaming(case, settings["repeats"], settings["budget"]))
            print(f"\n{describe_streaming(streamed[-1])}", flush=True)
    record |= {
        "tolerance": TOLERANCE,
        "settings": settings,
        "explained": {"memory": MEMORY},
        "methods": {method.name: {"what": method.what, "absent": absent.get(method.name)} for method in methods},
        "software": {name: text for case in measured for name, text in case["software"].items()},
        "cases": measured,
        "streaming": streamed,
    }
    line = "; ".join([summary(measured)] * bool(measured) + [describe_streaming(one) for one in streamed])
    record["summary"] = f"solver: {line}"
    whole = chosen == list(bank.values()) and rivals == list(RIVALS)
    name = f"solver-{device_slug()}{'-quick' if config.quick else '' if whole else '-part'}"
    config.out.mkdir(parents=True, exist_ok=True)
    write_json(config.out / f"{name}.json", record)
    files = f"{config.out / name}.json"
    if measured:
        write_bytes(config.out / f"{name}.png", figure_png(gap_time_figure(figure_points(measured), TOLERANCE)))
        write_text(config.out / f"{name}.md", f"{markdown_table(measured)}\n")
        files += ", .png, .md"
    print()
    for method, versions in record["software"].items():
        print(f"{method}: {versions}")
    print(f"{files}\n{record['summary']}")


def measure(case: Case, methods: Sequence[Method], repeats: int, budget: float, limit: float) -> dict[str, Any]:
    """The record of one case: every method in turns, and the machine's rates in the same turns."""
    jax.clear_caches()  # so that every first call compiles
    data = case.data()
    devices = {"cpu": jax.local_devices(backend="cpu")[0]}
    if jax.default_backend() != "cpu":
        devices["default"] = jax.devices()[0]
    probes = {where: rate_calls(case.n, case.k, device) for where, device in devices.items()}
    results: dict[str, dict[str, Any]] = {}
    software: dict[str, str] = {}
    calls: dict[Hashable, Call[Any]] = {(where, name): call for where in probes for name, call in probes[where].items()}
    with ExitStack() as stack:
        for method in methods:
            if case.n * case.k > method.most_cells:
                reason = f"over the limit: N K = {case.n * case.k:.2g}, run up to {method.most_cells:.2g}"
                results[method.name] = {"status": "not run", "reason": reason}
                continue
            try:
                session = stack.enter_context(method.open(data, limit))
            except Stopped as stop:
                results[method.name] = {"status": "stopped", "reason": str(stop)}
                continue
            calls[method.name] = Call(session.call, lambda answer: answer.seconds, session.pid)
            software |= {method.name: session.software} if session.software else {}
        timings = side_by_side(calls, repeats, budget)
    machine = {where: rates({name: timings[where, name] for name in probes[where]}, case.n, case.k) for where in probes}
    for method in methods:
        if method.name not in results:
            rate = machine["default" if method.on_default_device and "default" in machine else "cpu"]
            results[method.name] = _result(case, data, method, timings[method.name], rate)
    return {
        "name": case.name,
        "what": case.what,
        "n": case.n,
        "k": case.k,
        "seed": case.seed,
        "example_weights": data.v_N is not None,
        "rates": {where: rate._asdict() for where, rate in machine.items()},
        "software": software,
        "results": {method.name: results[method.name] for method in methods},
        "times_faster": _times_faster(timings, results),
    }


def _result(case: Case, data: Data, method: Method, timing: Timing[Answer] | Stopped, rate: Rates) -> dict[str, Any]:
    if isinstance(timing, Stopped):
        return {"status": "stopped", "reason": str(timing)}
    answer = timing.last
    judged = judge(*data, answer.weights)
    floor = None
    if method.newton and answer.iterations:
        floor = newton_floor(answer.iterations, case.n, case.k, rate)
    return {
        "status": "measured",
        "seconds": list(timing.seconds),
        "median_seconds": timing.median,
        "first_seconds": timing.first,
        "compile_seconds": timing.compilation if method.compiled else None,
        "iterations": answer.iterations,
        "relative_gap": judged.gap if np.isfinite(judged.gap) else None,
        "reached": judged.gap <= TOLERANCE,
        "repaired": judged.repaired if np.isfinite(judged.repaired) else None,
        "memory_bytes": timing.memory,
        "memory_of_first_call": timing.memory_of_first,
        "floor_seconds": floor,
        "time_over_floor": None if floor is None else timing.median / floor,
        "note": answer.note,
    }


def _times_faster(
    timings: Mapping[Any, Timing[Any] | Stopped], results: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """By rival: its time over that of our default method.

    equal_gap tells whether both reached the tolerance: a rival that stops short of it is favoured. lost tells that its
    weights are worth nothing: it has no finite gap, or one above 1.
    """
    ours, own_names = timings[OURS[0].name], {method.name for method in OURS}
    if isinstance(ours, Stopped):
        return {}
    return {
        name: ratio(timing, ours)._asdict()
        | {
            "equal_gap": bool(results[name]["reached"] and results[OURS[0].name]["reached"]),
            "lost": results[name]["relative_gap"] is None or results[name]["relative_gap"] > 1,
        }
        for name, timing in timings.items()
        if name in results and name not in own_names and isinstance(timing, Timing)
    }


if __name__ == "__main__":
    run(Config, main)
