"""Is a result still what it says? Records, files, stages, reports and data of a run against each other.

    python -m experiments.verify experiments/results/text_mixture [DIR ...] [--data]

A line for each check: `ok`, `FAILED`, or `not checked` with the reason; the last line counts them. Exit status 0 if
nothing failed, 1 if something did, 2 for a folder that is no result. Nothing is written.
"""

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import tyro

from experiments.harness.command_line import run
from experiments.harness.result_files import read_result
from experiments.questions import question_of, result_files
from experiments.reporting.markdown import listing, plural
from experiments.verify import data, files, numbers
from experiments.verify.findings import Finding, Result, attempted
from mixmin_jax.errors import InputError

CHECKS = (
    numbers.commit,
    numbers.seeds,
    numbers.derived,
    numbers.weights,
    numbers.certificates,
    numbers.problems,
    files.identity,
    files.beside,
    files.stages,
    files.from_stages,
)


@dataclasses.dataclass(frozen=True)
class Verify:
    """Read result folders again: do figures, metrics and weights agree with each other, are the data still the same?

    Means, verdicts and correlations are computed again, reports, tables and figures are written again elsewhere and
    compared, and data sets are read again where they lie. Nothing is trained, nothing is changed.
    """

    results: tyro.conf.Positional[tuple[Path, ...]]
    """Folders that experiments wrote to (--out)."""
    data: bool = False
    """Data must be there: what is missing fails; data of installed packages and of TFDS are read again too."""


def main(config: Verify) -> None:
    if not config.results:
        raise InputError("give at least one folder of results")
    paths = {folder: result_files(folder) for folder in config.results}  # refused before anything is computed
    counts = dict.fromkeys(("ok", "FAILED", "not checked"), 0)
    for folder, held in paths.items():
        print(folder, flush=True)
        for finding in verify(folder, held, config.data):
            counts[finding.outcome] += 1
            print(f"  {finding}", flush=True)
    counted = listing(f"{number} {outcome}" for outcome, number in counts.items())
    print(f"{plural(len(paths), 'result')}: {counted}")
    if counts["FAILED"]:
        sys.exit(1)


def verify(folder: Path, paths: Sequence[Path], with_data: bool) -> Iterator[Finding]:
    """All findings on the run in `folder` with these result files; `with_data`: its data must be there."""
    results: list[Result] = []
    for path in paths:
        what = f"{path.parent.name}/{path.name} is a record of its experiment"
        try:
            question = question_of(path)
            results.append(Result(folder, path.parent, question, read_result(path, question.metrics)))
            yield Finding("ok", f"{what}, {question.name}")
        except InputError as error:
            yield Finding("FAILED", what, str(error))
    if not results:
        return
    by_target = results[0].question.by_target
    checks = [("", "status", files.status(results[0])), ("", "targets", files.targets(results))]
    for result in results:
        place = f"{result.folder.name}: " if by_target else ""
        checks += [(place, check.__name__, check(result)) for check in CHECKS]
    checks += [("", "reports", files.reports(results)), ("", "data", data.unchanged(results, with_data))]
    for place, name, findings in checks:
        yield from (found._replace(what=place + found.what) for found in attempted(name, findings))


if __name__ == "__main__":
    run(Verify, main)
