"""The options of a schedule with joint steps, which every experiment with MixTraining shares."""

import dataclasses
from typing import Literal

from experiments.harness.options import RunOptions
from mixmin_jax.errors import InputError
from mixmin_jax.training.schedule import Alpha

Variant = Literal["visible", "all_tokens", "two_passes"]
SslView = Literal["visible", "all_tokens"]


@dataclasses.dataclass(frozen=True)
class ScheduleOptions(RunOptions):
    """What is hidden, what the encoder sees of it, and how fast each phase learns."""

    mix_ratio: float = 0.5
    """Share of the shorter objective, SSL or SL, that is trained jointly: one step sees both."""
    joint: Variant = "visible"
    """What the encoder sees in a joint step: the visible tokens, all positions with a mask token, or both objectives'
    inputs in two passes (the reference)."""
    ssl_sees: SslView = "visible"
    """What the encoder sees in an SSL step: the visible tokens (a masked autoencoder), or all positions with a mask
    token (masked language modeling, as in BERT)."""
    ssl_mask: float = 0.5
    """Share of the tokens hidden in an SSL step."""
    joint_mask: float = 0.5
    """Share of the tokens hidden in a joint step."""
    alpha: Literal["constant", "linear", "cosine"] = "linear"
    """Weight of the SSL loss over the joint steps."""
    alpha_start: float = 1.0
    """Alpha in the first joint step (in all of them if constant)."""
    alpha_end: float = 0.0
    """Alpha in the last joint step (unless constant)."""
    learning_rate: float = 1e-3
    """Peak in SSL and joint steps."""
    sl_learning_rate: float = 1e-3
    """Peak in SL steps."""
    warmup_fraction: float = 0.05
    """Share of each cosine's steps in which the learning rate rises."""
    weight_decay: float = 0.05
    """Of AdamW, in all arms."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.ssl_mask < 1 or not 0 <= self.joint_mask < 1:
            raise InputError(
                f"--ssl-mask must lie between 0 and 1, and --joint-mask in [0, 1), not {self.ssl_mask} and"
                f" {self.joint_mask}"
            )

    @property
    def alphas(self) -> Alpha:
        """Alpha over the joint steps."""
        return Alpha(self.alpha, self.alpha_start, self.alpha_start if self.alpha == "constant" else self.alpha_end)
