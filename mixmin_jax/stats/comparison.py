"""Compare arms over seeds and at equal cost, and predicted with reached losses. NumPy and SciPy only.

Axes: S seeds, N test documents, P points (one prediction and what was reached, each), C checkpoints of one training.
Quantities that cannot be computed (a standard deviation of one value, a correlation of constants) are None.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
import scipy.stats
from jaxtyping import Float
from numpy.typing import ArrayLike

from mixmin_jax.errors import InputError

Values = ArrayLike | tuple[float, ...]  # NumPy's own type knows no tuples
RANDOM_MIXTURE = "random_mixture"  # the label of points that are no arm
LEAST_POINTS = 6  # of a rank correlation that reports show; with four, rho is 1 or -1 by chance in one of 12 cases


@dataclasses.dataclass(frozen=True)
class Summary:
    """One number per seed, their mean, and their standard deviation (S - 1 in the denominator; None for one seed)."""

    mean: float
    std: float | None
    per_seed: tuple[float, ...]

    def derived(self) -> "Summary":
        """The same from `per_seed` alone."""
        return summary(self.per_seed)


@dataclasses.dataclass(frozen=True)
class Difference:
    """Mean difference of two arms, a - b, with its standard error.

    basis: what the standard error is taken over: "seeds" (n trainings of each arm), or "documents" (n test documents
        of one training each, without the noise of training).
    """

    mean: float
    standard_error: float | None  # None for a single seed
    n: int
    per_seed: tuple[float, ...]
    basis: Literal["seeds", "documents"]

    @property
    def p_value(self) -> float | None:
        """Two-sided p-value of "both arms are equal"; None without a standard error.

        p = P(|t| >= |mean| / standard_error),   t: Student's distribution with n - 1 degrees of freedom
        """
        if self.standard_error is None:
            return None
        if self.standard_error == 0:
            return float(self.mean == 0)
        return float(2 * scipy.stats.t.sf(abs(self.mean) / self.standard_error, self.n - 1))


@dataclasses.dataclass(frozen=True)
class CostShare:
    """The share of a baseline's cost at which an arm reached the baseline's score; None for seeds that did not.

    `mean` and `std` are over the `num_reached` seeds that reached it, so they are too low if others did not.
    """

    mean: float | None
    std: float | None
    num_reached: int
    per_seed: tuple[float | None, ...]


@dataclasses.dataclass(frozen=True)
class RankCorrelation:
    """Spearman's rank correlation over n points; None if it is not defined.

    Reports show it where there are `enough` points (LEAST_POINTS).
    """

    spearman: float | None
    n: int

    @property
    def enough(self) -> bool:
        return self.n >= LEAST_POINTS


def summary(values_S: Values) -> Summary:
    """Mean and standard deviation of one number per seed. Raises InputError unless all are finite."""
    values_S = _vector(values_S, "values")
    std = float(values_S.std(ddof=1)) if len(values_S) > 1 else None
    return Summary(float(values_S.mean()), std, tuple(values_S.tolist()))


def paired_difference(a_S: Values, b_S: Values) -> Difference:
    """Mean over seeds of `a_s - b_s`; its standard error is `std(a - b) / sqrt(S)`, with S - 1 in the variance.

    Seed s of both arms must share what a seed determines (split, proxies, initial parameters), so its effect cancels.
    """
    a_S, b_S = _vector(a_S, "a"), _vector(b_S, "b")
    _same_length(a_S, b_S)
    found, n = summary(a_S - b_S), len(a_S)
    error = None if found.std is None else found.std / math.sqrt(n)
    return Difference(found.mean, error, n, found.per_seed, "seeds")


def paired_bootstrap_over_documents(
    nats_a_N: Values, nats_b_N: Values, bytes_N: Values, num_samples: int = 2000, seed: int = 0
) -> Difference:
    """Difference in bits per byte of two trained models on the same N test documents.

    Documents are matched by position: entry n of all three arguments is of document n.

        mean = sum_n (nats_a_n - nats_b_n) / (ln 2 sum_n bytes_n)

    The standard error is the standard deviation of that ratio over `num_samples` draws of N documents with replacement.
    It measures the influence of the choice of test documents. Another training of the same arm may differ by more.
    """
    nats_a_N, nats_b_N, bytes_N = _vector(nats_a_N, "nats_a"), _vector(nats_b_N, "nats_b"), _vector(bytes_N, "bytes")
    _same_length(nats_a_N, nats_b_N, bytes_N)
    if not (bytes_N > 0).all():
        raise InputError("every document must have at least one byte")
    bits_N = (nats_a_N - nats_b_N) / math.log(2)
    mean = float(bits_N.sum() / bytes_N.sum())
    error = None
    if len(bits_N) > 1:
        rng = np.random.default_rng(seed)
        # one draw at a time: num_samples x N indices may not fit
        draws = (rng.integers(len(bits_N), size=len(bits_N)) for _ in range(num_samples))
        error = float(np.std([bits_N[draw].sum() / bytes_N[draw].sum() for draw in draws], ddof=1))
    return Difference(mean, error, len(bits_N), (mean,), "documents")


def verdict(
    difference: Difference,
    num_standard_errors: float = 2,
    better: Literal["lower", "higher"] = "lower",
    matters: float = 0.0,
) -> Literal["wins", "ties", "loses"]:
    """`interval_verdict` of mean - e to mean + e, where e is `num_standard_errors` of the difference.

    A difference without a standard error is a tie.
    """
    if difference.standard_error is None:
        return "ties"
    mean, half = difference.mean, num_standard_errors * difference.standard_error
    return interval_verdict(mean, mean - half, mean + half, better, matters)


def interval_verdict(
    mean: float, lower: float, upper: float, better: Literal["lower", "higher"] = "higher", matters: float = 0.0
) -> Literal["wins", "ties", "loses"]:
    """Whether arm a wins against arm b, from their difference a - b: the rule of all reports.

    It wins or loses if the interval `lower` to `upper` excludes 0, and |mean| >= `matters`. Everything else "ties": it
    is not distinguishable, or smaller than the smallest difference that matters.
    """
    if not (lower > 0 or upper < 0) or abs(mean) < matters:
        return "ties"
    return "wins" if (lower > 0) == (better == "higher") else "loses"


def chance_of_false_verdict(num_seeds: int, num_standard_errors: float = 2) -> float:
    """The probability that two equal arms are called different.

        P(|t| > num_standard_errors),   t: Student's distribution with num_seeds - 1 degrees of freedom

    With three seeds and two standard errors this is 0.18; with many seeds it is 0.05.
    """
    return float(2 * scipy.stats.t.sf(num_standard_errors, num_seeds - 1)) if num_seeds > 1 else 1.0


def cost_to_reach(cost_C: Values, score_C: Values, level: float) -> float | None:
    """The least cost after which a score (higher is better) stays at `level` or above.

    The score is linear in the cost between checkpoints. A lucky checkpoint with worse ones after it does not count.

    Args:
        cost_C, score_C: of each checkpoint.
        level: the score to reach.

    Returns:
        The cost. The first cost, an upper bound, if the score is never below; None if it ends below.

    Raises:
        InputError: costs do not increase, or there are not as many costs as scores.
    """
    cost_C, score_C = _vector(cost_C, "costs"), _vector(score_C, "scores")
    _same_length(cost_C, score_C)
    if (np.diff(cost_C) <= 0).any():
        raise InputError(f"the costs of checkpoints must increase; got {cost_C.tolist()!r:.80}")
    below = np.flatnonzero(score_C < level)
    if not len(below):
        return float(cost_C[0])
    last = below[-1]
    if last == len(cost_C) - 1:
        return None
    share = (level - score_C[last]) / (score_C[last + 1] - score_C[last])
    return float(cost_C[last] + share * (cost_C[last + 1] - cost_C[last]))


def share_of_cost(
    curves: Sequence[tuple[Values, Values]], baseline_cost_S: Values, baseline_score_S: Values
) -> CostShare:
    """`cost_to_reach` the baseline's score of the same seed, divided by the baseline's cost.

    Args:
        curves: (cost_C, score_C) of the arm, one per seed.
        baseline_cost_S: the whole cost of the baseline, in the same unit, above 0.
        baseline_score_S: the score that it reached.
    """
    baseline_cost_S, baseline_score_S = _vector(baseline_cost_S, "costs"), _vector(baseline_score_S, "scores")
    _same_length(curves, baseline_cost_S, baseline_score_S)
    if not (baseline_cost_S > 0).all():
        raise InputError("what the baseline cost must be above 0")
    costs = [cost_to_reach(*curve, level) for curve, level in zip(curves, baseline_score_S, strict=True)]
    shares = [None if c is None else float(c / b) for c, b in zip(costs, baseline_cost_S, strict=True)]
    found = [share for share in shares if share is not None]
    mean, std = (summary(found).mean, summary(found).std) if found else (None, None)
    return CostShare(mean, std, len(found), tuple(shares))


def stratified_spearman(predicted_P: Values, reached_P: Values, stratum_P: Iterable[Any]) -> RankCorrelation:
    """Spearman's correlation inside strata (seed x model size, say), pooled.

        sum_h sum_(p in h) r_p q_p / sqrt(sum r^2 sum q^2),   r, q: ranks inside stratum h less their mean

    So differences between strata (larger models reach lower losses) have no influence. Ties share their mean rank. A
    stratum of one point is dropped and not counted in n. With one stratum it is the usual rho.
    """
    predicted_P, reached_P = np.asarray(predicted_P, np.float64), np.asarray(reached_P, np.float64)
    strata = list(stratum_P)
    _same_length(predicted_P, reached_P, strata)
    groups = [[p for p, other in enumerate(strata) if other == stratum] for stratum in dict.fromkeys(strata)]
    used = [members for members in groups if len(members) > 1]
    if not used:
        return RankCorrelation(None, 0)
    r_P, q_P = (np.concatenate([_centered_ranks(x_P[members]) for members in used]) for x_P in (predicted_P, reached_P))
    scale = math.sqrt((r_P @ r_P) * (q_P @ q_P))
    if not scale > 0:  # all values equal, or one of them not a number
        return RankCorrelation(None, len(r_P))
    return RankCorrelation(float(np.clip(r_P @ q_P / scale, -1, 1)), len(r_P))


@dataclasses.dataclass(frozen=True)
class Point:
    """One trained model: what its mixture of proxies predicted, by kind of rows, and the loss that it reached."""

    seed: int
    label: str  # an arm, or RANDOM_MIXTURE
    size: str  # of the trained model
    reached: float
    predicted: dict[str, float]


@dataclasses.dataclass(frozen=True)
class RowFidelity:
    """How well predictions from one kind of rows ranked what training reached."""

    all: RankCorrelation
    arms: RankCorrelation
    random_mixtures: RankCorrelation


@dataclasses.dataclass(frozen=True)
class Fidelity:
    """How well the mixtures of proxies ranked the losses that training reached, by kind of rows, with the points."""

    rows: dict[str, RowFidelity]
    points: tuple[Point, ...]

    def derived(self) -> "Fidelity":
        """The same from `points` alone."""
        return fidelity(self.points)


def fidelity(points: Sequence[Point]) -> Fidelity:
    """Rank correlations of predicted and reached losses; ranks are taken inside each seed and model size."""
    arms = [point for point in points if point.label != RANDOM_MIXTURE]
    random_mixtures = [point for point in points if point.label == RANDOM_MIXTURE]

    def correlation(members: Sequence[Point], row: str) -> RankCorrelation:
        return stratified_spearman(
            [point.predicted[row] for point in members],
            [point.reached for point in members],
            [(point.seed, point.size) for point in members],
        )

    rows = {
        row: RowFidelity(*(correlation(members, row) for members in (points, arms, random_mixtures)))
        for row in (points[0].predicted if points else ())
    }
    return Fidelity(rows, tuple(points))


def _centered_ranks(values_P: Float[np.ndarray, " P"]) -> Float[np.ndarray, " P"]:
    return scipy.stats.rankdata(values_P) - (len(values_P) + 1) / 2


def _vector(values: Values, name: str) -> Float[np.ndarray, " _"]:
    vector = np.asarray(values, np.float64)
    if vector.ndim != 1 or not len(vector) or not np.isfinite(vector).all():
        raise InputError(f"{name} must be a vector of at least one finite number; got {values!r:.80}")
    return vector


def _same_length(*vectors: Any) -> None:
    if len({len(vector) for vector in vectors}) > 1:
        raise InputError(f"paired values must be equally many; got {[len(vector) for vector in vectors]}")
