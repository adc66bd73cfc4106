"""The comparisons of two arms on several targets together, for the summary of a run."""

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from experiments.reporting.markdown import plural
from experiments.reporting.schema import Verdict
from mixmin_jax.stats.multiple_targets import SignTest, holm, sign_test

LEVEL = 0.05  # at which verdicts hold after Holm's correction
COLUMNS = ("left after Holm", "sign test over targets")  # titles of the cells of `OverTargets`


class Compared(Protocol):
    """A comparison of two arms on one target."""

    @property
    def mean(self) -> float: ...
    @property
    def verdict(self) -> Verdict | None: ...
    @property
    def p_value(self) -> float | None: ...


@dataclasses.dataclass(frozen=True)
class OverTargets:
    """The verdicts of one pair of arms, by target, that Holm's correction leaves, and the sign test.

    `left` is None where p-values are not on record. In `signs`, targets on which the first arm is better are above.
    """

    left: tuple[Verdict | None, ...] | None
    signs: SignTest

    @property
    def cells(self) -> tuple[str, str]:
        """`2 wins, 1 loss` and `8 better, 1 worse, 1 small: p = 0.039`."""
        wins, losses = ((self.left or ()).count(word) for word in ("wins", "loses"))
        counts = [f"{wins} {'win' if wins == 1 else 'wins'}"] * bool(wins)
        counts += [f"{losses} {'loss' if losses == 1 else 'losses'}"] * bool(losses)
        kept = "not on record" if self.left is None else ", ".join(counts) or "none"
        small = f", {self.signs.small} small" * bool(self.signs.small)
        return kept, f"{self.signs.above} better, {self.signs.below} worse{small}: p = {self.signs.p_value:.2g}"


def over_targets(found: Sequence[Compared], matters: float, higher_is_better: bool) -> OverTargets:
    """One pair of arms over all targets of a run: they are the family that p-values are corrected for.

    Args:
        found: the comparison on each target; those without a verdict are left out.
        matters: the smallest difference that counts in the sign test.
        higher_is_better: what differences are of.
    """
    found = [one for one in found if one.verdict is not None]
    p_values, left = [one.p_value for one in found if one.p_value is not None], None
    if len(p_values) == len(found):
        stays = (holm(p_values) <= LEVEL).tolist()
        left = tuple(one.verdict if stay else None for one, stay in zip(found, stays, strict=True))
    sign = 1 if higher_is_better else -1
    signs = sign_test(sign * np.array([one.mean for one in found]), matters)
    return OverTargets(left, signs)


def over_targets_note(num_targets: int, matters: float, unit: str, arm: str = "the first arm") -> str:
    """What the columns say, in a paragraph under the table; `arm` is what the others are compared with."""
    small = f" Differences below {matters:g} {unit} count for neither." * bool(matters)
    return (
        f"*Left after Holm*: wins and losses that stay at {LEVEL:.0%} when their p-values are corrected for"
        f" {plural(num_targets, 'target')}. *Sign test*: exact and two-sided, on how many targets {arm} is"
        f" better.{small}"
    )
