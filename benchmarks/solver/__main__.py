"""The solver against those that others would use, side by side in one process.

    python -m benchmarks.solver                                 # every case and every rival that is installed
    python -m benchmarks.solver --quick                         # the small cases, under a minute
    python -m benchmarks.solver --against mixsqp --cases text-2000x7,scales-20000x20
    python -m benchmarks.solver --report benchmarks/results/solver-cpu-2-cores.json

Per case and method it prints the median time without compilation (and the shortest and longest), the compile time, the
iterations, the gap that the weights have by one independent function, memory, and time over the machine's floor.
"""

import dataclasses
from collections.abc import Iterable, Mapping

from benchmarks.options import Options
from benchmarks.records import made_by, write_record, write_report
from benchmarks.solver.cases import CASES, Case
from benchmarks.solver.measure import measure
from benchmarks.solver.methods import OURS, TOLERANCE
from benchmarks.solver.records import MethodRecord, Settings, SolverRecord
from benchmarks.solver.report import case_table, report, summary
from benchmarks.solver.rivals import RIVALS
from benchmarks.solver.streaming import File, Repeated, measure_streaming
from experiments.harness.command_line import run
from mixmin_jax.errors import InputError

BANK: dict[str, Case | File | Repeated] = {**CASES, "streaming": File(), "streaming-blocks": Repeated()}
PACKAGES = list(dict.fromkeys(method.name.split()[0] for method in RIVALS))
DISTRIBUTIONS = ("mixmin_jax", "jax", "jaxlib", "numpy", "scipy", "cvxpy", "clarabel", "jaxopt")


@dataclasses.dataclass(frozen=True)
class Config(Options):
    """Times mixture-weight solvers side by side and judges all of them by one independent certificate.

    Writes solver-DEVICE.json, .md and .png (solver-DEVICE-quick with --quick, solver-DEVICE-part if --cases or
    --against leave something out), replacing older ones. The whole run takes about half an hour on two cores; let the
    machine do nothing else. Defaults: 7 repeats, a budget of 10 s; with --quick 3 and 0.5 s.
    """

    against: str = ",".join(PACKAGES)
    """The rivals, separated by commas; `none` for none. Those that are not installed are named."""

    cases: str = "all"
    """The cases, separated by commas. `streaming` is one, a file of 640 MB in the folder for temporary files;
    `streaming-blocks` is another, 1e8 rows that are never in memory or on disk together."""

    limit: float | None = None
    """Seconds after which a rival's call is stopped and reported as over the limit; 120, with --quick 10."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _chosen(self.against, PACKAGES, "--against", "none")
        _chosen(self.cases, BANK, "--cases", "all")

    def settings(self) -> Settings:
        """Repeats, budget and limit, with their defaults."""
        return self.fill(Settings(3, 0.5, 10.0) if self.quick else Settings(7, 10.0, 120.0))


def _chosen(listed: str, known: Iterable[str], option: str, other: str) -> list[str]:
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
    if config.report:
        return write_report(config.report, SolverRecord, report)
    chosen = [bank[name] for name in _chosen(config.cases, bank, "--cases", "all")]
    if config.quick:
        chosen = [case for case in chosen if isinstance(case, Case) and case.quick]
    if not chosen:
        raise InputError(f"--quick leaves out {config.cases}; run without it")
    rivals = _chosen(config.against, PACKAGES, "--against", "none")
    methods = [*OURS, *(method for name in rivals for method in RIVALS if method.name.split()[0] == name)]
    described = {method.name: MethodRecord(method.what, method.absent()) for method in methods}
    origin = made_by(*DISTRIBUTIONS)
    for name, method in described.items():
        print(f"{name}: {f'absent: {method.absent}' if method.absent else method.what}")
    present = [method for method in methods if not described[method.name].absent]

    settings, software = config.settings(), dict[str, str]()
    measured, streamed = [], []
    for case in chosen:
        if isinstance(case, Case):
            case_record, of_case = measure(case, present, settings)
            measured.append(case_record)
            software |= of_case
            print(f"\n{case_table(case_record)}", flush=True)
        else:
            streamed.append(measure_streaming(case, settings))
            print(f"\n{streamed[-1]}", flush=True)
    record = SolverRecord(
        made_by=origin,
        tolerance=TOLERANCE,
        settings=settings,
        software=software,
        methods=described,
        cases=tuple(measured),
        streaming=tuple(streamed),
    )
    record = dataclasses.replace(record, summary=summary(record))
    print(*(f"\n{method}: {versions}" for method, versions in software.items()), sep="")
    whole = chosen == list(bank.values()) and rivals == PACKAGES
    write_record(config.stem("solver", whole), record, report)


if __name__ == "__main__":
    run(Config, main)
