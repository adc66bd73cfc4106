import pytest

from experiments.reporting import markdown as md


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
