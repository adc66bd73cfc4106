"""The record of the benchmark of proxies."""

import dataclasses
from typing import Any

from benchmarks.options import Rounds
from benchmarks.proxies.cases import CaseName
from benchmarks.records import CallTimes, Record


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result(CallTimes):
    """A way to train all models of a case, with molecules scored by all of them."""

    programs: tuple[int, int]  # that XLA compiled in the first call, and at most in a later one
    flops: float | None  # matrix products for molecules, XLA's count for text, comparisons and additions for n-grams
    quality: dict[str, float]  # see `Case.quality`; means over the models
    difference: float | None  # the largest from one program in a score or loss; None for methods with other models


@dataclasses.dataclass(frozen=True, kw_only=True)
class CaseRecord:
    name: CaseName
    what: str
    num_models: int
    base: str  # the method that the others are compared with
    sizes: dict[str, Any]  # the fields of the case
    nothing_learned: dict[str, float]  # the quality of models that ignore their input
    results: dict[str, Result]  # by method
    absent: dict[str, str]  # by method: why it is left out
    stopped: dict[str, str]  # by method: why it has no time


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProxiesRecord(Record):
    settings: Rounds
    methods: dict[str, str]  # what they are
    cases: tuple[CaseRecord, ...]
