"""What `experiments.verify` says of a result: findings, and how stated and recomputed values are set side by side."""

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from experiments.harness.question import Question

SHOWN = 3  # problems that a finding names; the others are counted
RELATIVE, ABSOLUTE = 1e-9, 1e-12  # rounding between one version of NumPy and another


class Finding(NamedTuple):
    """One line: what was looked at, how that came out, and why if it did not come out well."""

    outcome: Literal["ok", "FAILED", "not checked"]
    what: str
    why: str = ""

    def __str__(self) -> str:
        return f"{self.outcome:<12} {self.what}" + (f": {self.why}" if self.why else "")


class Result(NamedTuple):
    """One result file of a run."""

    run: Path  # the run's folder
    folder: Path  # where the file lies: the same, or a target's folder in it
    question: Question
    metrics: Any  # a record of the question's


def judged(what: str, wrong: Iterable[str]) -> Finding:
    """FAILED with the first of the problems, or ok where there is none."""
    problems = list(wrong)
    if not problems:
        return Finding("ok", what)
    more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
    return Finding("FAILED", what, "; ".join(problems[:SHOWN]) + more)


def skipped(what: str, why: str) -> Finding:
    return Finding("not checked", what, why)


def differences(stated: Any, expected: Any, path: str = "", *, exact: bool = False) -> Iterator[str]:
    """Where two values of JSON differ; numbers by more than rounding, unless `exact`."""
    if isinstance(stated, Mapping) and isinstance(expected, Mapping):
        for key in dict.fromkeys((*expected, *stated)):
            place = f"{path}.{key}".lstrip(".")
            if key not in stated or key not in expected:
                yield f"{place} is {'not there' if key in expected else 'there, and should not be'}"
            else:
                yield from differences(stated[key], expected[key], place, exact=exact)
    elif isinstance(stated, list) and isinstance(expected, list) and len(stated) == len(expected):
        for number, pair in enumerate(zip(stated, expected, strict=True)):
            yield from differences(*pair, f"{path}[{number}]", exact=exact)
    elif not (stated == expected or (not exact and _close(stated, expected))):
        yield f"{path} is {stated!r:.60}, not {expected!r:.60}"


def _close(a: Any, b: Any) -> bool:
    both = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (a, b))
    return both and math.isclose(a, b, rel_tol=RELATIVE, abs_tol=ABSOLUTE)


def attempted(name: str, findings: Iterator[Finding]) -> Iterator[Finding]:
    """The findings of the check `name`, and a failure where the result does not hold what it reads."""
    try:
        yield from findings
    except Exception as error:  # a result that was tampered with can be anything
        why = f"the result does not hold what it should ({type(error).__name__}: {error})"
        yield Finding("FAILED", name.replace("_", " "), why)
