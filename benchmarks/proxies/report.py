"""What the benchmark of proxies says: a table per case, and one line in the end.

A record is what `benchmarks.proxies` writes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.proxies.methods import ONE_PROGRAM
from experiments.reporting import markdown as md

Record = Mapping[str, Any]
_SHORT = {"log_loss": "log loss", "average_precision": "AP", "loss": "loss"}
_FIRST, _REST = 20, 11  # widths of columns


def report(record: Record) -> str:
    """Markdown whose columns also line up on a screen."""
    parts = [f"Training one proxy per source, all in one program and otherwise. {record['device']}."]
    for case in record["cases"]:
        parts += [f"**{case['name']}**: {case['what']}.", _table(case)]
        left_out = [f"{md.code(name)} is left out: {reason}." for name, reason in case["absent"].items()]
        stopped = [
            f"{md.code(name)} has no time: {found['reason']}."
            for name, found in case["methods"].items()
            if found["status"] == "stopped"
        ]
        parts += [" ".join([*left_out, *stopped])] * bool(left_out or stopped)
    timed = dict.fromkeys(name for case in record["cases"] for name in case["methods"])
    parts.append("\n".join(f"- {md.code(name)}: {record['methods'][name]}." for name in timed))
    parts.append(
        "Seconds are those of all models, without the first call; `/ one` is the time over that of"
        f" {md.code(ONE_PROGRAM)}, with the least and the most that the spread of the calls allows. Programs: compiled"
        " in the first call (where all is compiled anew: of one model), and in each later one. Compilation: the first"
        " call less the median. `differs`: the largest"
        " difference in any score or loss from the models of one program, where they should be the same."
    )
    return "\n\n".join(parts)


def summary(record: Record) -> str:
    """In one line: how many times as long the rivals take, and what their models are worth."""
    return f"proxies on {record['device']}: " + "; ".join(map(_case_summary, record["cases"]))


def _case_summary(case: Record) -> str:
    measured = {name: found for name, found in case["methods"].items() if found["status"] == "measured"}
    one = measured.pop(ONE_PROGRAM)
    parts = [f"{case['name']}, {case['num_models']} models in one program {one['median_seconds']:.3g} s"]
    for name, found in measured.items():
        times = found["times"]
        text = f"{name} {times['median']:.2f} ({times['lowest']:.2f} to {times['highest']:.2f}) times as long"
        if found["difference"] is None:
            worth = [
                f"{_SHORT[measure]} {value:.3f} against {one['quality'][measure]:.3f}"
                for measure, value in found["quality"].items()
            ]
            text += f" with {' and '.join(worth)}"
        parts.append(text)
    return ", ".join(parts)


def _table(case: Record) -> str:
    measures = list(case["nothing_learned"])
    header = ["method", "s", "min", "max", "/ one", "lowest", "highest", "compile s", "programs", "GFLOP", "GFLOP/s"]
    header += ["MB", *(_SHORT[measure] for measure in measures), "differs"]
    rows = [_row(name, found, measures) for name, found in case["methods"].items() if found["status"] == "measured"]
    nothing = [f"{case['nothing_learned'][measure]:.3f}" for measure in measures]
    rows.append(["nothing learned", *[""] * 11, *nothing, ""])
    return md.table(_filled(header), map(_filled, rows))


def _row(name: str, found: Record, measures: Sequence[str]) -> list[str]:
    seconds = [found["median_seconds"], min(found["seconds"]), max(found["seconds"])]
    memory = "" if found["memory_bytes"] is None else f"{found['memory_bytes'] / 1e6:.0f}"
    first, later = found["programs"]
    return [
        md.code(name),
        *(f"{value:.3f}" for value in seconds),
        *(f"{found['times'][part]:.2f}" for part in ("median", "lowest", "highest")),
        _or_blank(found["compile_seconds"], ".2f"),
        f"{first} + {later}" if first else "",
        _or_blank(found["flops"] and found["flops"] / 1e9, ".3g"),
        _or_blank(found["flops_per_second"] and found["flops_per_second"] / 1e9, ".3g"),
        f"{memory}{' (1st)' * bool(memory and found['memory_of_first_call'])}",
        *(f"{found['quality'][measure]:.3f}" for measure in measures),
        _or_blank(found["difference"], ".0e"),
    ]


def _or_blank(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _filled(cells: Sequence[str]) -> list[str]:
    first, *rest = cells
    return [first.ljust(_FIRST), *(cell.rjust(_REST) for cell in rest)]
