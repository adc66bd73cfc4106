"""What the benchmark of proxies says: a table per case, and one line in the end."""

from benchmarks.proxies.methods import ONE_PROGRAM
from benchmarks.proxies.records import CaseRecord, ProxiesRecord, Result
from benchmarks.tables import aligned_table, or_blank, time_cells
from experiments.reporting import markdown as md

_SHORT = {"log_loss": "log loss", "average_precision": "AP", "loss": "loss"}
_FIRST, _REST = 20, 11  # characters: the least widths of columns, so that those of all cases line up
_NOTE = f"""\
Seconds are those of all models, without the first call; `/ one` is the time over that of `{ONE_PROGRAM}`, with the\
 least and the most that the spread of the calls allows. Programs: compiled in the first call (where all is compiled\
 anew: of one model), and in each later one. Compilation: the first call less the median. `differs`: the largest\
 difference in any score or loss from the models of one program, where they should be the same.
"""


def report(record: ProxiesRecord) -> dict[str, str | bytes]:
    """The report's file by its suffix: Markdown whose columns also line up on a screen."""
    parts = [f"Training one proxy per source, all in one program and otherwise. {record.made_by.device}."]
    for case in record.cases:
        parts += [f"**{case.name}**: {case.what}.", _table(case)]
        missing = [f"{md.code(name)} is left out: {reason}." for name, reason in case.absent.items()]
        missing += [f"{md.code(name)} has no time: {reason}." for name, reason in case.stopped.items()]
        parts += [" ".join(missing)] if missing else []
    timed = dict.fromkeys(name for case in record.cases for name in (*case.results, *case.stopped))
    parts.append("\n".join(f"- {md.code(name)}: {record.methods[name]}." for name in timed))
    return {".md": "\n\n".join([*parts, _NOTE])}


def summary(record: ProxiesRecord) -> str:
    """In one line: how many times as long the rivals take."""
    parts = []
    for case in record.cases:
        one = case.results[ONE_PROGRAM]
        rivals = [f"{name} {found.over(one)}" for name, found in case.results.items() if name != ONE_PROGRAM]
        parts.append(
            f"{case.name}, {case.num_models} models in one program {one.median_seconds:.3g} s, times as long:"
            f" {', '.join(rivals)}"
        )
    return f"proxies on {record.made_by.device}: {'; '.join(parts)}"


def _table(case: CaseRecord) -> str:
    header = ["method", "s", "min", "max", "/ one", "lowest", "highest", "compile s", "programs", "GFLOP", "GFLOP/s"]
    header += ["MB", *(_SHORT[measure] for measure in case.nothing_learned), "differs"]
    rows = [_row(name, found, case.results[ONE_PROGRAM]) for name, found in case.results.items()]
    rows.append(["nothing learned", *[""] * 11, *_quality_cells(case.nothing_learned), ""])
    return aligned_table(header, rows, _FIRST, _REST)


def _row(name: str, found: Result, one: Result) -> list[str]:
    memory = "" if found.memory_bytes is None else f"{found.memory_bytes / 1e6:.0f}"
    first, later = found.programs
    return [
        md.code(name),
        *time_cells(found, 1, ".3f"),
        *found.over(one).cells(),
        or_blank(found.compile_seconds, ".2f"),
        f"{first} + {later}" if first else "",
        or_blank(found.flops and found.flops / 1e9, ".3g"),
        or_blank(found.flops and found.flops / found.median_seconds / 1e9, ".3g"),
        f"{memory}{' (1st)' * bool(memory and found.memory_of_first_call)}",
        *_quality_cells(found.quality),
        or_blank(found.difference, ".0e"),
    ]


def _quality_cells(quality: dict[str, float]) -> list[str]:
    return [f"{value:.3f}" for value in quality.values()]
