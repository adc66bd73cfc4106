"""The record of the benchmark of fidelity. Losses and gains are in bits per byte of the target's test part."""

import dataclasses

from benchmarks.records import Record

Mixture = dict[str, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorldRecord:
    """Some sources, and what the target model reached on each mixture of them."""

    name: str
    source_bytes: dict[str, int]
    target_tokens: int
    target_flops: float  # of one run
    target_seconds: float  # of one run, eight of them trained together
    mixtures: tuple[Mixture, ...]  # the random ones; then uniform, natural
    reached: dict[str, tuple[float, ...]]  # by target, of each mixture
    noise: dict[str, float]  # by target: between two seeds, of uniform and natural; one standard deviation


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quality:
    """How well predictions of the mixtures' losses served."""

    spearman: float
    regret: float  # of taking the mixture with the best prediction instead of the best
    slope: float | None  # of the reached gains over natural on the predicted ones, through 0; None: none predicted
    error: float  # root mean square of reached less predicted gain


@dataclasses.dataclass(frozen=True, kw_only=True)
class Way:
    """One way to predict losses."""

    proxies: str  # or the runs that a regression is fitted to
    reading: str  # how they are read: the rows, or the regression
    order: int | None = None  # of n-grams
    flops_share: float  # of one target run, for one target; mean over worlds
    seconds_share: float
    quality: dict[str, Quality]  # by "world/target"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """A mixture that some proxies found, and what the target model reached on it."""

    proxies: str
    rows: str
    weights: Mixture
    predicted_gain: float  # over natural
    reached: float
    gain: float  # reached, over natural
    over_best_random: float  # its loss less that of the best random mixture; negative is better


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
    """What the tuning targets chose, by rules that were fixed beforehand."""

    order: int
    text: str
    rows: str
    mean_loss: dict[str, float]  # by rows: of the found mixtures, less the best of the rows, mean over tuning pairs


@dataclasses.dataclass(frozen=True, kw_only=True)
class Calibration:
    """Reached over predicted gain of mixtures that are predicted better than natural, at the chosen way."""

    low: float
    middle: float
    high: float
    level: float  # share of the tuning mixtures between low and high
    num_tuning: int
    num_confirming: int
    held: float | None  # share of the confirming mixtures between low and high
    num_found: int  # mixtures that the chosen way found for the confirming pairs: the interval is for such
    held_found: float | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class FidelityRecord(Record):
    worlds: tuple[WorldRecord, ...]
    tuning: tuple[str, ...]  # targets that settings were chosen on
    confirming: tuple[str, ...]
    ways: tuple[Way, ...]
    found: dict[str, tuple[Found, ...]]  # by "world/target"
    choice: Choice
    calibration: Calibration
