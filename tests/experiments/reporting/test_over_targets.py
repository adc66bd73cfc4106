"""Several targets in the summary of a run."""

import dataclasses

import pytest

from experiments.reporting.over_targets import over_targets, over_targets_note
from mixmin_jax.stats.multiple_targets import SignTest


@dataclasses.dataclass(frozen=True)
class Found:
    mean: float
    verdict: str | None
    p_value: float | None


# p-values after Holm's correction: 0.03, 0.06, 0.06, 0.004
FOUND = [Found(0.3, "wins", 0.01), Found(0.1, "wins", 0.04), Found(0.002, "ties", 0.03), Found(-0.2, "loses", 0.001)]


@pytest.mark.parametrize(
    "found, cells",
    [
        (FOUND, ("1 win, 1 loss", "2 better, 1 worse, 1 small: p = 1")),
        (FOUND[1:3], ("none", "1 better, 0 worse, 1 small: p = 1")),
        ([Found(0.1, "wins", 0.001)] * 3, ("3 wins", "3 better, 0 worse: p = 0.25")),
        ([Found(-0.1, "loses", 0.001)] * 2, ("2 losses", "0 better, 2 worse: p = 0.5")),
        ([*FOUND, Found(-0.9, None, 1.0)], ("1 win, 1 loss", "2 better, 1 worse, 1 small: p = 1")),
        ([*FOUND[:3], Found(-0.2, "loses", None)], ("not on record", "2 better, 1 worse, 1 small: p = 1")),
    ],
)
def test_verdicts_that_are_left_and_targets_by_sign(found, cells):
    assert over_targets(found, 0.005, higher_is_better=True).cells == cells


def test_a_tie_is_never_left_and_lower_may_be_better():
    ties = [Found(-0.3, "ties", 1e-9), Found(-0.3, "wins", 1e-9)]
    found = over_targets(ties, 0.0, higher_is_better=False)
    assert found.cells == ("1 win", "2 better, 0 worse: p = 0.5") and found.signs == SignTest(2, 0, 0, 0.5)


def test_the_note_says_what_is_too_small_to_count():
    note = over_targets_note(3, 0.005, "bits per byte", "`mixmin`")
    assert "corrected for 3 targets" in note and "`mixmin` is better" in note
    assert note.endswith("Differences below 0.005 bits per byte count for neither.")
    assert "count for neither" not in over_targets_note(3, 0.0, "bits per byte")
