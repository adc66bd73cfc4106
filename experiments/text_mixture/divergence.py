"""Sources whose loss rises, or whose share is off, while an arm is trained.

Axes: K sources.
"""

import dataclasses
import math
from typing import Literal

import numpy as np

from experiments.text_mixture.plan import Plan
from mixmin_jax.training.source_monitor import SourceMonitor, divergences


@dataclasses.dataclass(frozen=True)
class Divergence:
    """What went wrong with a source in the training of an arm: its loss rose (bits per byte), or its share is off."""

    seed: int
    arm: str
    source: str
    kind: Literal["loss", "share"]
    before: float  # loss in the third quarter of the run; share that was asked for
    after: float  # loss in the last quarter; share that was sampled

    def __str__(self) -> str:
        where = f"`{self.source}` in the training of `{self.arm}`, seed {self.seed}"
        if self.kind == "share":
            return (
                f"{where}: {self.after:.4%} of the windows were sampled, {self.before:.4%} asked for. This is a defect,"
                " as draws are counted out beforehand: do not use the results"
            )
        return (
            f"{where}: the training loss rises from {self.before:.3f} to {self.after:.3f} bits per byte, from the third"
            " quarter of the run to the last. Lower the learning rate, or look at its text"
        )


def divergence_records(
    plan: Plan, seed: int, arm: str, monitor: SourceMonitor, weights_K: np.ndarray
) -> list[Divergence]:
    """What `divergences` finds in the training of one arm."""
    found = [(one, math.log(2) if one.kind == "loss" else 1.0) for one in divergences(monitor, weights_K[None])]
    return [
        Divergence(seed, arm, plan.names[one.source], one.kind, one.before / unit, one.after / unit)
        for one, unit in found
    ]
