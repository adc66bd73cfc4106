import pytest

from experiments.reporting import markdown as md
from experiments.reporting.schema import Comparison, visible_sizes
from mixmin_jax.stats.comparison import Difference, RankCorrelation, Summary


def test_weights_in_a_line_name_the_largest_and_count_the_rest():
    few = md.weights("mixmin", {"$b_": 0.25, "$a": 0.25, "c": 0.5, "d": 0.0, "e": 1e-9})
    assert few == "Weights of `mixmin`: c 0.500, $a 0.250, $b_ 0.250; less than 0.0005 for 2 others."
    many = md.weights("mixmin", {str(k): 0.1 for k in range(10)}, most=2)
    assert many == "Weights of `mixmin`: 0 0.100, 1 0.100; 8 more with 0.800 in all."


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (999, "999"), (999.7, "1 k"), (250_000, "250 k"), (1_234_567, "1.23 M"), (1.6e15, "1.6 P")],
)
def test_counts_keep_three_digits(value, text):
    assert md.si_count(value) == text


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (0, "0.0% of it"),
        (2e-5, "less than 0.01% of it"),
        (6e-5, "0.01% of it"),
        (0.12, "12.0% of it"),
        (3.5, "3.5 times it"),
    ],
)
def test_a_share_is_never_rounded_to_nothing(ratio, text):
    assert md.share_of(ratio, "it") == text


@pytest.mark.parametrize(
    ("sizes", "digits"),
    [([], 3), ([0.0], 3), ([0.5, 0.001], 3), ([0.5, -0.0009], 4), ([2e-5], 5), ([1e-9], 6), ([0.0, 3.0], 3)],
)
def test_decimals_are_as_many_as_the_smallest_size_needs(sizes, digits):
    assert md.decimals(sizes) == digits


def test_numbers_have_the_decimals_that_are_asked_for():
    close, closer = Summary(0.91234, 0.00012, ()), Difference(0.00042, 0.00011, 3, (), "seeds")
    assert (md.mean_std(close), md.mean_std(close, 4)) == ("0.912 ± 0.000", "0.9123 ± 0.0001")
    assert (md.percent_mean_std(close), md.percent_mean_std(close, 4)) == ("91.2 ± 0.0%", "91.23 ± 0.01%")
    assert (md.points(closer), md.points(closer, 4)) == ("+0.04 ± 0.01", "+0.042 ± 0.011")
    assert md.plus_minus(closer, 4) == "0.00042 ± 0.00011" and md.plus_minus(closer, signed=True) == "+0.0004 ± 0.0001"


def test_what_ties_needs_no_more_decimals():
    def found(mean, error, matters=0.0):
        return Comparison.of(Difference(mean, error, 3, (), "seeds"), matters=matters)

    assert visible_sizes([found(0.0004, 0.0003), found(0.0004, None), found(0.0004, 0.0001, matters=0.005)]) == []
    assert visible_sizes([found(0.02, 0.0001)]) == [0.02]  # an error that is as good as 0
    assert md.decimals(visible_sizes([found(0.0004, 0.00001)])) == 4 == md.decimals([0.0004])


def test_a_rank_correlation_needs_six_points():
    assert md.correlation(RankCorrelation(0.8, 6)) == "0.80 (n = 6)"
    assert md.correlation(RankCorrelation(0.8, 5)) == "too few points (n = 5)"
    assert md.correlation(RankCorrelation(None, 6)) == "undefined (n = 6)"
    assert md.correlation(RankCorrelation(None, 0)) == "too few points (n = 0)"
