"""The records that result files hold, shared by all experiments: written to metrics.json, and read back from it.

Each question adds its own in its `results.py`. A record with numbers that follow from its others has a method
`derived`, which computes these again: so results are made, and so `experiments.verify` checks them.

Weights are shares of training tokens, {source: weight}.  Losses and FLOPs have their units in their names.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Self

from mixmin_jax.stats.comparison import Difference, Summary, paired_difference, verdict

SCHEMA_VERSION = 2  # of metrics.json; 1 had other names and was never typed

SHARE_OF_TOKENS = "share of tokens"  # the unit of weights, in weights.json

Weights = dict[str, float]
Verdict = Literal["wins", "ties", "loses"]


@dataclasses.dataclass(frozen=True)
class Comparison(Difference):
    """A difference of two arms, and what it means; None where one seed says nothing about noise."""

    verdict: Verdict | None

    @classmethod
    def of(
        cls,
        difference: Difference,
        better: Literal["lower", "higher"] = "lower",
        *,
        matters: float,
        decides: bool = True,
    ) -> "Comparison":
        """With the verdict at two standard errors; without any if nothing `decides` one.

        `matters` is the smallest difference that is no tie.
        """
        word = verdict(difference, better=better, matters=matters) if decides else None
        return cls(
            **{field.name: getattr(difference, field.name) for field in dataclasses.fields(Difference)}, verdict=word
        )


@dataclasses.dataclass(frozen=True)
class TargetLoss:
    """One target of weights found for several: its loss, what it lies above its own best, and its say in the choice."""

    loss: float
    excess: float
    price: float


@dataclasses.dataclass(frozen=True)
class Certificate:
    """How far, at most, the loss of solved weights lies above the least possible; of the seed with the largest gap.

    `loss`, `gap` and `tolerance` (the gap that was asked for) are in the units of the objective.
    """

    loss: float
    gap: float
    tolerance: float
    iterations: int
    converged: bool
    method: str
    seed: int = 0
    gap_history: tuple[tuple[float | None, ...], ...] = ()  # of each seed, after each iteration; None: not finite
    targets: dict[str, TargetLoss] | None = None


@dataclasses.dataclass(frozen=True)
class MadeBy:
    """Where numbers come from."""

    command: str
    device: str
    git_commit: str | None
    versions: dict[str, str]
    settings: dict[str, str] = dataclasses.field(default_factory=dict)  # of JAX and XLA, that can change numbers


@dataclasses.dataclass(frozen=True)
class DataSet:
    """What was read and how to read it again; see `experiments.harness.data_sets`."""

    role: str
    name: str
    place: str
    reader: str
    options: dict[str, Any]
    counts: dict[str, int]
    bytes: int | None
    sha256: str


@dataclasses.dataclass(frozen=True)
class Note:
    """What `sources.toml` says of a source."""

    licence: str | None
    note: str | None
    allowed: bool
    tokens: int | None = None  # in all, if a part is read


@dataclasses.dataclass(frozen=True)
class Unlearned:
    """A proxy that learned less of its source than how often each byte occurs in it; losses in bits per byte."""

    seed: int
    proxies: str  # that were trained together
    source: str
    loss: float  # on the source itself, in the last quarter of the training
    frequencies: float  # of a model that knows frequencies alone
    then: Literal["left out", "used", "passed over"]  # its source; or all proxies, as half or more of them are so

    def __str__(self) -> str:
        result = "it is left out" if self.then == "left out" else f"so have half or more: all are {self.then}"
        return (
            f"the proxy of {self.source!r} ({self.proxies}, seed {self.seed}) has learned less than frequencies of"
            f" bytes ({self.loss:.2f} bits per byte where these reach {self.frequencies:.2f}), and {result}: train"
            " proxies on more tokens, or lower their learning rate"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What every result file says of its run; the questions' results extend it."""

    experiment: str
    schema_version: int = SCHEMA_VERSION
    demonstration: bool = False
    complete: bool = True
    seeds: tuple[int, ...]
    made_by: MadeBy
    config: dict[str, Any]  # the options, as JSON
    identity: dict[str, Any]  # all that the numbers follow from: that of config.json
    data_sets: tuple[DataSet, ...]
    seconds: dict[str, float]  # of each stage
    matters: float = 0.0  # the smallest difference that is no tie; 0: any that exceeds its error, as in older records
    stage_commits: tuple[str, ...] = ()
    stage_devices: tuple[str, ...] = ()  # of stages that were made elsewhere, if any were
    stage_versions: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)  # and settings, that differ
    skipped_steps: dict[str, dict[str, int]] | None = None  # {stage: {model: steps}}; None: a training stops instead

    def derived(self) -> Self:
        """The record with all that follows from its other numbers computed again."""
        return self


def paired(a: Summary, b: Summary) -> Difference:
    """Arm a less arm b, paired by seed."""
    return paired_difference(a.per_seed, b.per_seed)


def visible_sizes(comparisons: Iterable[Comparison]) -> list[float]:
    """What must not look like 0 where comparisons are shown, for `markdown.decimals`: nothing of ties.

    Standard errors count ten times, as they are shown with one decimal more than what is compared. Those below a
    hundredth of their difference are as good as 0.
    """
    decided = [found for found in comparisons if found.verdict in ("wins", "loses")]
    errors = [(found.standard_error or 0.0, abs(found.mean)) for found in decided]
    return [found.mean for found in decided] + [10 * error for error, mean in errors if error > mean / 100]


def mean_weights(per_seed: Sequence[Weights]) -> Weights:
    """The mean over seeds, source by source; a source that a seed leaves out has no weight there.

    Means of weights that sum to 1 do so exactly.
    """
    names = dict.fromkeys(name for weights in per_seed for name in weights)
    means = {name: sum(weights.get(name, 0.0) for weights in per_seed) / len(per_seed) for name in names}
    missing = 1 - math.fsum(means.values())
    if missing == 0 or abs(missing) > 1e-9:
        return means
    unit = 2.0**-52  # sums of multiples of it are exact
    means = {name: round(weight / unit) * unit for name, weight in means.items()}
    means[max(means, key=means.__getitem__)] += 1 - sum(means.values())
    return means


def weights_file(arms: Mapping[str, Any], unit: str | None, notes: Mapping[str, Note]) -> dict[str, Any]:
    """What weights.json holds: weights of arms, their unit if it is known, notes on sources if there are any."""
    return {**arms} | ({"unit": unit} if unit else {}) | ({"sources": notes} if notes else {})
