"""Whether the numbers of a record follow from each other."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from experiments.reporting.json_files import to_builtins
from experiments.reporting.markdown import plural
from experiments.reporting.schema import Certificate
from experiments.verify.findings import Finding, Result, differences, judged, skipped
from mixmin_jax.stats.comparison import Summary

_WEIGHT_ROUNDING = 1e-6  # of a sum of weights; the solver keeps to 1e-9, mixtures that others chose may not


def commit(result: Result) -> Iterator[Finding]:
    """The code of the run is that of a commit."""
    commits = {str(result.metrics.made_by.git_commit), *result.metrics.stage_commits}
    loose = sorted(found for found in commits if found == "None" or found.endswith("+changes"))
    what = "the code is that of a commit"
    yield skipped(what, f"it is {', '.join(loose)}") if loose else Finding("ok", what)


def seeds(result: Result) -> Iterator[Finding]:
    """The run is complete, with all the seeds that were asked for, and every number has as many values."""
    metrics = result.metrics
    wrong = [] if metrics.complete else ["the run did not end"]
    if "seeds" in metrics.config:
        wrong += differences(list(metrics.seeds), list(range(metrics.config["seeds"])), "seeds")
    found = [(path, part) for path, part in _parts(metrics) if isinstance(part, Summary)]
    wrong += [f"{path} has {len(s.per_seed)} values" for path, s in found if len(s.per_seed) > len(metrics.seeds)]
    yield judged(f"complete, with {plural(len(metrics.seeds), 'seed')}", wrong)


def derived(result: Result) -> Iterator[Finding]:
    """What follows from other numbers (means, differences, verdicts, correlations) is what it should be."""
    counted = sum(hasattr(part, "derived") for _, part in _parts(result.metrics))
    wrong = differences(to_builtins(result.metrics), to_builtins(computed_again(result.metrics)))
    yield judged(f"{plural(counted, 'record')} with numbers that follow from others hold them", wrong)


def computed_again(value: Any) -> Any:
    """A record in which every part with a method `derived` has computed its numbers again, the inner ones first."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: computed_again(getattr(value, field.name)) for field in dataclasses.fields(value)}
        found = dataclasses.replace(value, **parts)
        return found.derived() if hasattr(found, "derived") else found
    if isinstance(value, Mapping):
        return {key: computed_again(part) for key, part in value.items()}
    if isinstance(value, tuple):
        parts_of = map(computed_again, value)
        return value._make(parts_of) if hasattr(value, "_make") else tuple(parts_of)
    return value


def weights(result: Result) -> Iterator[Finding]:
    """Weights lie in [0, 1] and sum to 1."""
    wrong: list[str] = []
    found = [(path, part) for path, part in _parts(result.metrics) if _is_mixture(path, part)]
    for path, mixture in found:
        if not all(0 <= weight <= 1 + _WEIGHT_ROUNDING for weight in mixture.values()):
            wrong.append(f"{path} has a weight outside of 0 to 1")
        if not abs(sum(mixture.values()) - 1) <= _WEIGHT_ROUNDING:
            wrong.append(f"{path} sums to {sum(mixture.values()):.9g}")
    if found:
        yield judged(f"{len(found)} mixtures have weights in [0, 1] that sum to 1", wrong)


def _is_mixture(path: str, part: Any) -> bool:
    name = path.split(".")[-1].split("[")[0]
    return isinstance(part, Mapping) and (name == "weights" or (path.endswith("]") and name == "weights_per_seed"))


def certificates(result: Result) -> Iterator[Finding]:
    """The gap of all solved weights is within its tolerance, is its seed's last, and is the largest of all seeds."""
    wrong: list[str] = []
    found = [(path, part) for path, part in _parts(result.metrics) if isinstance(part, Certificate)]
    for path, solved in found:
        if not solved.converged:
            wrong.append(f"{path} did not converge")
        if not solved.gap <= solved.tolerance:
            wrong.append(f"{path}: the gap {solved.gap:.3g} is above the tolerance {solved.tolerance:.3g}")
        if len(solved.gap_history) == len(result.metrics.seeds) > 0:
            last = dict(zip(result.metrics.seeds, (gaps[-1] for gaps in solved.gap_history), strict=True))
            wrong += differences(solved.gap, last[solved.seed], f"{path}, gap of seed {solved.seed}")
            wrong += differences(
                solved.gap, max(gap for gap in last.values() if gap is not None), f"{path}, largest gap"
            )
    if found:
        yield judged(f"the certificates of {plural(len(found), 'solved mixture')} hold", wrong)


def problems(result: Result) -> Iterator[Finding]:
    """What the experiment itself finds wrong."""
    yield judged("its experiment finds nothing wrong", result.question.problems(result.metrics, result.run))


def _parts(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every part of a record with its place, the whole first."""
    yield path, value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _parts(part, f"{path}.{key}".lstrip("."))
    elif isinstance(value, tuple):
        for number, part in enumerate(value):
            yield from _parts(part, f"{path}[{number}]")
