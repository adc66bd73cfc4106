"""metrics.json of one target: the record, and how it follows from what the stages of each seed found."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Self

from experiments.reporting.schema import (
    Certificate,
    Comparison,
    Note,
    RunRecord,
    Unlearned,
    Weights,
    mean_weights,
    paired,
)
from experiments.text_mixture.divergence import Divergence
from experiments.text_mixture.plan import COMBINED, SOLVED_ARMS
from mixmin_jax.stats.comparison import (
    Fidelity,
    Summary,
    cost_to_reach,
)


@dataclasses.dataclass(frozen=True)
class Arm:
    """A mixture, and what a model trained on it reached."""

    test_bits_per_byte: Summary
    weights: Weights  # mean over seeds
    weights_per_seed: tuple[Weights, ...]
    epochs: dict[str, float]  # how often the target run reads each source, mean over seeds
    predicted_bits_per_byte: dict[str, Summary]  # by the mixture of proxies on the test part, by kind of rows

    def derived(self) -> Self:
        return dataclasses.replace(self, weights=mean_weights(self.weights_per_seed))


@dataclasses.dataclass(frozen=True)
class RungResult:
    """Proxies that weights were found with, and what they found, in one seed."""

    kind: str
    tokens: int | None  # of a trained proxy; None for n-grams
    rows: str
    weights: Weights
    predicted_gain: float  # over natural weights, bits per byte of the fit part
    excess: float | None  # of the weights of the rung below, bits per byte on documents left out; None for the first
    noise: float | None  # what that must exceed
    changed: bool  # whether it does
    flops: float
    seconds: float


@dataclasses.dataclass(frozen=True)
class Gain:
    """What `mixmin` should gain over natural weights, in bits per byte, from the fit part alone."""

    predicted: float  # by the mixture of proxies
    expected: float | None  # after calibration; None where there is none for these proxies and rows
    low: float | None
    high: float | None
    level: float  # of the interval


@dataclasses.dataclass(frozen=True)
class Search:
    """How the weights of `mixmin` were found; of the first seed."""

    rungs: tuple[RungResult, ...]
    kept: int  # the rung whose weights are used
    interval: dict[str, tuple[float, float]]  # of each weight, over resampled documents
    unconverged: int  # resamples whose weights are not solved to tolerance
    gain: Gain
    share: float  # FLOPs of all rungs over those of a target run
    seconds: float
    target_seconds: float | None  # of one target run; None where none was trained


@dataclasses.dataclass(frozen=True)
class Extension:
    """What --extend used again and made, and how the weights of `mixmin` moved; of the first seed."""

    previous: str  # folder of the results before, in that of the run
    kept: tuple[str, ...]  # sources whose proxies were used again
    added: tuple[str, ...]
    changed: tuple[str, ...]  # sources of the same name with other text
    removed: tuple[str, ...]
    is_new_target: bool
    before: Weights | None  # None for a new target
    carried: Weights | None  # `before` on the sources of now: what removed ones had goes to the rest in proportion
    gain: float | None  # over `carried`, bits per byte on documents left out of resamples; None if nothing moved
    standard_error: float | None
    distinguishable: bool | None  # whether the gain is more than noise, at 95 %
    flops: float  # of the proxies and scores of the fit part that were made
    flops_again: float  # of all of them

    def moved(self, weights: Weights) -> float:
        """The share of the tokens that goes to other sources than before: half the sum of differences.

        What removed sources had does not count: that must go elsewhere.
        """
        before = (self.carried if self.removed else None) or self.before or {}
        return sum(abs(weights.get(name, 0.0) - before.get(name, 0.0)) for name in {*weights, *before}) / 2


@dataclasses.dataclass(frozen=True)
class Multiple:
    """A run of `natural` on more tokens, in the first seed."""

    times: float
    test_bits_per_byte: float


@dataclasses.dataclass(frozen=True)
class Recommendation:
    """The arm to use, and why."""

    arm: str
    reason: str
    weights: Weights


@dataclasses.dataclass(frozen=True)
class RandomMixture:
    """A random mixture, and what a model of the proxies' size reached on it."""

    seed: int
    test_bits_per_byte: float
    weights: Weights


@dataclasses.dataclass(frozen=True)
class NearDuplicate:
    """A target document that shares much of its text with a source."""

    document: int
    source: str
    share: float  # of its n-grams
    source_documents: tuple[int, ...]
    excerpt: str
    part: str = ""  # of the target: fit, test, or unused under a byte budget


@dataclasses.dataclass(frozen=True)
class Overlap:
    """Near-duplicates of target documents in each source; what --drop-duplicates took out before, if it was given."""

    ngram: int
    threshold: float  # share of n-grams from which a document counts
    sources: dict[str, int]
    worst: tuple[NearDuplicate, ...]
    dropped: dict[str, int] | None = None  # documents of each source, for all targets
    target_documents_repeated: int = 0  # of this target
    worst_dropped: tuple[NearDuplicate, ...] = ()


@dataclasses.dataclass(frozen=True)
class Seen:
    """What one training saw of each source."""

    seed: int
    asked: Weights
    sampled: Weights
    bits_per_byte: dict[str, tuple[float | None, ...]]  # training loss over the run; None: not drawn


@dataclasses.dataclass(frozen=True)
class Monitors:
    """What the trainings of the arms saw, and where a loss or a share went wrong."""

    steps: tuple[int, ...]  # at which the stretches of the run end
    windows: int
    rise: float  # of a loss over the second half of a run that counts, relative
    errors: float  # and in standard errors
    arms: dict[str, tuple[Seen, ...]]
    divergences: tuple[Divergence, ...]


@dataclasses.dataclass(frozen=True)
class Flops:
    """Costs of one target: all proxies and all random mixtures in one seed, one target run, and all seeds."""

    proxies: float
    random_mixtures: float
    target: float
    total: float
    finding: dict[str, float] = dataclasses.field(default_factory=dict)  # the weights of each arm, in one seed


@dataclasses.dataclass(frozen=True)
class Tokens:
    """Training tokens of one run on a random mixture, and of one target run."""

    proxy: int | None  # None: there were none
    target: int


@dataclasses.dataclass(frozen=True)
class Regmix:
    """How `regmix` was fitted."""

    model: str
    runs: int
    more_compute_than_mixmin: bool


@dataclasses.dataclass(frozen=True)
class SourceText:
    """The text of a source, as it was trained on."""

    documents: int
    bytes: int
    sha256: str
    empty_documents_skipped: int = 0
    near_duplicates_dropped: int | None = None  # by --drop-duplicates
    sha256_as_read: str | None = None  # before that
    documents_in_all: int | None = None  # of a source of which a sample is kept
    bytes_in_all: int | None = None

    @property
    def size(self) -> int:
        """Bytes of the whole source."""
        return self.bytes if self.bytes_in_all is None else self.bytes_in_all


@dataclasses.dataclass(frozen=True)
class TargetText:
    """The documents of the target: those that weights are fitted on, and those that losses are reported on."""

    name: str
    documents: int
    bytes: int
    sha256: str
    split_seed: int
    fit_fraction: float
    fit_documents: int
    fit_bytes: int
    test_documents: int
    test_bytes: int
    fit_document_numbers: tuple[int, ...]
    test_document_numbers: tuple[int, ...]
    empty_documents_skipped: int = 0


@dataclasses.dataclass(frozen=True)
class Data:
    """The text of a run."""

    sources: dict[str, SourceText]
    target: TargetText


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextMetrics(RunRecord):
    """All numbers of one target."""

    target: str
    sources: tuple[str, ...]
    arms: dict[str, Arm]
    comparisons: dict[str, Comparison]  # test loss of `mixmin` less that of each other arm
    mixmin: Certificate
    mixmin_document: Certificate | None = None
    mixmin_token: Certificate | None = None
    combined: Certificate | None = None  # of --combine
    search: Search | None = None  # None: of a version that solved from trained proxies alone
    extension: Extension | None = None  # of --extend
    multiples: tuple[Multiple, ...] = ()
    compute_multiplier: float | None = None  # tokens that `natural` needs for the loss of `mixmin`, over its own
    fidelity: Fidelity
    random_mixtures: tuple[RandomMixture, ...]
    overlap: Overlap
    monitors: Monitors | None = None  # None: of a version that had none
    unlearned: tuple[Unlearned, ...] = ()
    source_notes: dict[str, Note] = dataclasses.field(default_factory=dict)
    weights_unit: str | None = None  # what weights are shares of; None: not known, as in older records
    flops: Flops
    tokens: Tokens
    regmix: Regmix | None = None
    max_epochs: float | None = None
    data: Data

    @property
    def solved(self) -> dict[str, Certificate]:
        """The certificates of the arms that have one."""
        return {arm: found for arm in (*SOLVED_ARMS, COMBINED) if (found := getattr(self, arm))}

    def derived(self) -> Self:
        if not self.arms:
            return self
        ours = self.arms["mixmin"].test_bits_per_byte
        comparisons = {}
        for arm, held in self.comparisons.items():
            difference = paired(ours, self.arms[arm].test_bits_per_byte)
            if len(self.seeds) == 1:  # its error is over test documents, whose losses are in the stages
                known = {name: getattr(held, name) for name in ("standard_error", "n", "basis")}
                difference = dataclasses.replace(difference, **known)
            comparisons[arm] = Comparison.of(difference, matters=self.matters)
        return dataclasses.replace(
            self, comparisons=comparisons, compute_multiplier=compute_multiplier(self.arms, self.multiples)
        )

    @property
    def recommended(self) -> Recommendation:
        """`mixmin`, unless an arm beats it."""
        better = [arm for arm, found in self.comparisons.items() if found.verdict == "loses"]
        if not better:
            weights = self.arms["mixmin"].weights if self.arms else self.found
            ties = [arm for arm, found in self.comparisons.items() if found.verdict == "ties"]
            reason = "no arm beats it" + f"; it ties with {', '.join(ties)}" * bool(ties)
            return Recommendation("mixmin", reason if self.arms else "found, and not tried", weights)
        best = min(better, key=lambda arm: self.arms[arm].test_bits_per_byte.mean)
        lost = self.comparisons[best]
        error = f" ± {lost.standard_error:.3f}" if lost.standard_error else ""
        reason = f"reaches {lost.mean:.3f}{error} bits per byte less than mixmin on the held-out part of the target"
        return Recommendation(best, reason, self.arms[best].weights)

    @property
    def found(self) -> Weights:
        """The weights of `mixmin`, tried or not."""
        assert self.search is not None
        return self.search.rungs[self.search.kept].weights


def compute_multiplier(arms: Mapping[str, Arm], multiples: Sequence[Multiple]) -> float | None:
    """How many times the tokens `natural` needs to reach the loss of `mixmin`, both of the first seed.

    Linear between the multiples that were run; None if the largest does not reach it.
    """
    if not multiples:
        return None
    ours, natural = (arms[arm].test_bits_per_byte.per_seed[0] for arm in ("mixmin", "natural"))
    times = (1.0, *(run.times for run in multiples))
    losses = (natural, *(run.test_bits_per_byte for run in multiples))
    return cost_to_reach(times, [-loss for loss in losses], -ours)
