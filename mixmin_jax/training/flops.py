"""The cost of compiled programs."""

from typing import Any

import jax


def count_flops(lowered: jax.stages.Lowered) -> float:
    """FLOPs of a lowered program as XLA counts them: loop bodies once, and the dearest branch of a conditional."""
    analysis: Any = (
        lowered.cost_analysis() or lowered.compile().cost_analysis()
    )  # some backends count compiled code only
    return float((analysis[0] if isinstance(analysis, list) else analysis)["flops"])
