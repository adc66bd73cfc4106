"""Shares of tokens: what is kept, what follows for rows of different lengths, and rounding last."""

import math
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

from mixmin_jax import InputError, token_mixture
from mixmin_jax.export.token_mixture import rounded


def named(numbers):
    return {f"s{number}": float(value) for number, value in enumerate(numbers)}


def shares(seed, spread=5):
    """Of 1 to 20 sources, over so many powers of ten."""
    rng = np.random.default_rng(seed)
    numbers = 10 ** rng.uniform(-spread, 0, rng.integers(1, 21))
    return named(numbers / numbers.sum())


@pytest.mark.parametrize("seed", range(10))
def test_rows_drawn_with_the_probabilities_hold_the_shares_of_tokens(seed):
    weights = shares(seed)
    lengths = named(np.random.default_rng(seed).uniform(1, 5000, len(weights)))
    mixture = token_mixture(weights, tokens_per_row=lengths)
    drawn = mixture.row_probabilities()
    tokens = {name: share * lengths[name] for name, share in drawn.items()}
    assert math.fsum(drawn.values()) == pytest.approx(1, abs=1e-12)
    for name, share in mixture.shares.items():
        assert tokens[name] / math.fsum(tokens.values()) == pytest.approx(share, rel=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_rounding_keeps_the_sum_and_four_digits(seed):
    asked = shares(seed, spread=9)
    found = rounded(asked)
    assert sum(Fraction(str(share)) for share in found.values()) == 1
    for name, share in asked.items():
        assert found[name] == pytest.approx(share, rel=2e-3, abs=0)


def test_rounding_to_a_block_gives_whole_sequences():
    found = rounded({"a": 0.5, "b": 0.3, "c": 0.2}, 7)
    assert {name: share * 7 for name, share in found.items()} == pytest.approx({"a": 4, "b": 2, "c": 1})


def test_what_solvers_leave_in_place_of_zeros_is_left_out():
    weights = {"code": 8.7e-19, "web": 0.25, "news": 0.75 - 4e-11, "drama": 4e-11, "forbidden": 0.0}
    mixture = token_mixture(weights, budget=1000, source_tokens={"news": 500, "drama": 3}, tokens_per_row={"drama": 2})
    assert mixture.shares == {"news": pytest.approx(0.75), "web": pytest.approx(0.25)}
    assert list(mixture.shares) == ["news", "web"] and math.fsum(mixture.shares.values()) == 1
    assert mixture.dropped == ("code", "drama", "forbidden")
    assert mixture.epochs == {"news": pytest.approx(1.5)} and mixture.tokens_per_row == {}


@pytest.mark.parametrize(
    "weights, options, message",
    [
        ({}, {}, "at least one source"),
        ({"a": 1.2, "b": -0.2}, {}, "weight of 'b' is -0.2"),
        ({"a": math.nan}, {}, "weight of 'a' is nan"),
        ({"a": None}, {}, "weight of 'a' is None"),
        ({"a": "x"}, {}, "weight of 'a' is 'x'"),
        ({"a": 1.0}, {"budget": "3"}, "budget of tokens is '3'"),
        ({"a": 0.5, "b": 0.4}, {}, "sum of 0.9; it must be 1"),
        ({"code": 1.0}, {"tokens_per_row": {"coed": 3}}, "no source is called 'coed'; the closest name is 'code'"),
        ({"a": 1.0}, {"tokens_per_row": {"a": 0}}, "tokens per row of 'a' is 0; it must be a positive"),
        ({"a": 1.0}, {"source_tokens": {"a": math.inf}}, "size of 'a' is inf"),
        ({"a": 1.0}, {"budget": -1}, "budget of tokens is -1"),
    ],
)
def test_bad_input_is_named(weights, options, message):
    with pytest.raises(InputError, match=message):
        token_mixture(weights, **options)


def test_a_series_is_taken_by_its_labels():
    assert token_mixture(pd.Series({"a": 0.25, "b": 0.75})).shares == {"b": 0.75, "a": 0.25}


def test_row_probabilities_need_all_lengths():
    mixture = token_mixture({"a": 0.5, "b": 0.5}, tokens_per_row={"a": 3})
    with pytest.raises(InputError, match="not known for 'b'"):
        mixture.row_probabilities()
