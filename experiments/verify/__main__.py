"""Is a result still what it says? Figures, metrics, weights, stages and data of a run against each other.

    python -m experiments.verify experiments/results/text_mixture [DIR ...] [--data]

A line for each check, `ok`, `FAILED` or `not checked` with the reason; the last line counts them.  Exit status 0 if
nothing failed, 1 if something did, 2 for a folder that is no result.  Nothing is written.
"""

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import tyro

from experiments.harness.command_line import run
from experiments.reporting.markdown import listing, plural
from experiments.verify.data import data
from experiments.verify.earlier_results import experiment_of
from experiments.verify.files import read_json, reports, targets_agree
from experiments.verify.findings import Finding, Result, attempted
from experiments.verify.kinds import KINDS, RESULT_FILES
from mixmin_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Verify:
    """Read result folders again: do figures, metrics and weights agree with each other, are the data still the same?

    Means, spreads, verdicts and correlations are computed again, reports, tables and figures are written again
    elsewhere and compared, and data sets are read again where they lie. Nothing is trained, nothing is changed.
    """

    results: tyro.conf.Positional[tuple[Path, ...]]
    """Folders that experiments wrote to (--out)."""
    data: bool = False
    """Data must be there: what is missing fails; data of installed packages and of TFDS are read again too."""


def main(config: Verify) -> None:
    if not config.results:
        raise InputError("give at least one folder of results")
    files = {folder: result_files(folder) for folder in config.results}  # refused before anything is computed
    counts = dict.fromkeys(("ok", "FAILED", "not checked"), 0)
    for folder, paths in files.items():
        print(folder, flush=True)
        for finding in verify(folder, paths, config.data):
            counts[finding.outcome] += 1
            print(f"  {finding}", flush=True)
    counted = listing(f"{number} {outcome}" for outcome, number in counts.items())
    print(f"{plural(len(files), 'result')}: {counted}")
    if counts["FAILED"]:
        sys.exit(1)


def result_files(folder: Path) -> list[Path]:
    """The result files of a run.

    Raises InputError for a folder that is no run's: missing, without such files, one target of a run, several runs.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    own = [folder / name for name in RESULT_FILES if (folder / name).is_file()]
    paths = own or sorted(folder.glob("*/metrics.json"))
    if not paths:
        raise InputError(f"{folder}: no result; there is no {' or '.join(RESULT_FILES)} in it or in a folder of it")
    by_target = [KINDS[name].by_target for path in paths if (name := experiment_of(_read(path))) in KINDS]
    if own and any(by_target):
        raise InputError(f"{folder} is one target of a run: name the run's folder, {folder.resolve().parent}")
    if not own and not all(by_target):
        raise InputError(f"{folder} is no run's folder but holds some: name {listing(str(p.parent) for p in paths)}")
    return paths


def verify(folder: Path, paths: Sequence[Path], with_data: bool) -> Iterator[Finding]:
    """All findings on the run in `folder` with these result files; `with_data`: its data must be there."""
    results = []
    for path in paths:
        finding = readable(path)
        yield finding
        if finding.outcome == "ok":
            metrics = _read(path)
            results.append(Result(folder, path.parent, metrics | {"experiment": experiment_of(metrics)}))
    if not results:
        return
    kind = KINDS[results[0].metrics["experiment"]]
    checks = [("", check.__name__, check(results[0])) for check in kind.run_checks]
    if kind.by_target:
        checks.append(("", "targets", targets_agree(results)))
    for result in results:
        place = f"{result.folder.name}: " if kind.by_target else ""
        checks += [(place, check.__name__, check(result)) for check in kind.checks]
    if kind.rewrite is not None:
        metrics = {"" if result.folder == folder else result.folder.name: result.metrics for result in results}
        checks.append(("", "reports and figures", reports(folder, metrics, kind.rewrite)))
    checks.append(("", "data", data(results, with_data)))
    for place, name, findings in checks:
        yield from (found._replace(what=place + found.what) for found in attempted(name, findings))


def readable(path: Path) -> Finding:
    """Whether a result file is strict JSON of a known experiment and version."""
    what = f"{path.parent.name}/{path.name} can be read"
    try:
        metrics = read_json(path)
    except (OSError, ValueError) as error:
        return Finding("FAILED", what, str(error))
    experiment = experiment_of(metrics) if isinstance(metrics, dict) else "something else"
    if experiment not in KINDS:
        return Finding("FAILED", what, f"it is of {experiment}; known are {', '.join(KINDS)}")
    version, known = metrics.get("schema_version"), KINDS[experiment].schema_versions
    if version not in known:
        return Finding("FAILED", what, f"its schema version is {version}; known are {', '.join(map(str, known))}")
    return Finding("ok", f"{what}: {experiment}, schema version {version}")


def _read(path: Path) -> Any:
    """What is in a result file; nothing if it cannot be read, which `readable` tells of."""
    try:
        metrics = read_json(path)
    except (OSError, ValueError):
        return {}
    return metrics if isinstance(metrics, dict) else {}


if __name__ == "__main__":
    run(Verify, main)
