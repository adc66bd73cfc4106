"""A mixture as trainers need it: shares of tokens, and what follows from them for a trainer that draws rows.

Weights are shares of training tokens. A trainer that draws rows of different lengths needs other numbers.
"""

import dataclasses
import math
import numbers
from collections.abc import Mapping

from mixmin_jax.errors import InputError, closest_names, list_some

LEAST_SHARE = 1e-6  # of the tokens: below, a source is left out, as solvers leave such weights in place of zeros
SUM_TOLERANCE = 1e-6  # of the weights' sum from 1: weights may have been rounded to six digits
SIGNIFICANT_DIGITS = 4  # of the smallest number that is written


@dataclasses.dataclass(frozen=True)
class TokenMixture:
    """The sources to train on; made by `token_mixture`."""

    shares: dict[str, float]  # of the training tokens, above 0, with a sum of 1; the largest first
    dropped: tuple[str, ...] = ()  # sources that get no tokens
    tokens_per_row: dict[str, float] = dataclasses.field(default_factory=dict)  # mean, of the sources where it is known
    source_tokens: dict[str, float] = dataclasses.field(default_factory=dict)  # sizes, where they are known
    budget: float | None = None  # tokens of the training

    @property
    def epochs(self) -> dict[str, float]:
        """How often the training reads each source whose size is known, `share_i budget / size_i`."""
        if self.budget is None:
            return {}
        sizes = self.source_tokens.items()
        return {name: self.shares[name] * self.budget / size for name, size in sizes if name in self.shares}

    def row_probabilities(self) -> dict[str, float]:
        """The probability with which a trainer that draws rows must draw one of each source.

            p_i = (share_i / l_i) / sum_j (share_j / l_j)     with l_i the mean number of tokens per row of source i

        Raises:
            InputError: the mean is not known for some source.
        """
        if missing := [name for name in self.shares if name not in self.tokens_per_row]:
            raise InputError(
                "shares of tokens become shares of documents by the mean number of tokens per document, which is not"
                f" known for {list_some(list(map(repr, missing)))}: give it for every source (tokens per row), or say"
                " that sequences of one length are drawn (draws)"
            )
        rates = {name: share / self.tokens_per_row[name] for name, share in self.shares.items()}
        total = math.fsum(rates.values())
        return {name: rate / total for name, rate in rates.items()}


def token_mixture(
    weights: Mapping[str, float],
    *,
    tokens_per_row: Mapping[str, float] | None = None,
    source_tokens: Mapping[str, float] | None = None,
    budget: float | None = None,
) -> TokenMixture:
    """Weights as shares of tokens, without the sources that get none, and with a sum of 1 in float64.

    Args:
        weights: the weight of each source; their sum is 1.
        tokens_per_row: mean number of tokens in a row (a document) of each source, as the trainer counts tokens.
        source_tokens: number of tokens of each source.
        budget: number of tokens of the training.

    Raises:
        InputError: no weight, a weight that is negative or not finite, a sum other than 1; lengths, sizes or a budget
            that are not positive; a name that is no source.
    """
    weights = dict(weights)  # also of a Series
    if not weights:
        raise InputError("a mixture needs at least one source")
    for name, weight in weights.items():
        if not (_is_number(weight) and weight >= 0):
            raise InputError(f"the weight of {name!r} is {weight!r}; weights must be finite and not negative")
    total = math.fsum(weights.values())
    if abs(total - 1) > SUM_TOLERANCE:
        raise InputError(f"the weights have a sum of {total:.9g}; it must be 1")
    tokens_per_row, source_tokens = dict(tokens_per_row or {}), dict(source_tokens or {})
    for what, given in (("tokens per row", tokens_per_row), ("size", source_tokens)):
        for name, number in given.items():
            if name not in weights:
                raise InputError(f"{what}: no source is called {name!r}; {closest_names(name, weights)}")
            _check_positive(f"the {what} of {name!r}", number)
    if budget is not None:
        _check_positive("the budget of tokens", budget)
    kept = {name: weight for name, weight in weights.items() if weight / total >= LEAST_SHARE}
    kept_total = math.fsum(kept.values())
    return TokenMixture(
        shares={name: weight / kept_total for name, weight in sorted(kept.items(), key=lambda item: -item[1])},
        dropped=tuple(name for name in weights if name not in kept),
        tokens_per_row={name: float(number) for name, number in tokens_per_row.items() if name in kept},
        source_tokens={name: float(size) for name, size in source_tokens.items() if name in kept},
        budget=budget,
    )


def rounded(shares: Mapping[str, float], units: int | None = None) -> dict[str, float]:
    """Shares as multiples of `1 / units`, with a sum of exactly 1 before each is a float (largest remainders).

    By default `units` is a power of ten, at least 10^6, which leaves the smallest share four significant digits.
    """
    if units is None:
        units = 10 ** max(6, math.ceil(-math.log10(min(shares.values()))) + SIGNIFICANT_DIGITS - 1)
    counts = {name: math.floor(share * units) for name, share in shares.items()}
    by_remainder = sorted(shares, key=lambda name: counts[name] - shares[name] * units)
    for name in by_remainder[: units - sum(counts.values())]:
        counts[name] += 1
    return {name: count / units for name, count in counts.items()}


def _check_positive(what: str, number: float) -> None:
    if not (_is_number(number) and number > 0):
        raise InputError(f"{what} is {number!r}; it must be a positive number")


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and math.isfinite(value)
