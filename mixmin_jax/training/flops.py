"""What compiled programs cost."""

from typing import Any

import jax


def count_flops(lowered: jax.stages.Lowered) -> float:
    """FLOPs of one lowered program, as XLA counts them: a loop's body once, of a conditional the dearest branch."""
    analysis: Any = (
        lowered.cost_analysis() or lowered.compile().cost_analysis()
    )  # some backends count compiled code only
    return float((analysis[0] if isinstance(analysis, list) else analysis)["flops"])
