"""The training of a language model: size, budget, loss, optimizer and cost.

Axes: B batch, L positions.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Integer

from mixmin_jax.errors import InputError
from mixmin_jax.models.transformer import TransformerConfig, TransformerLM
from mixmin_jax.training.flops import count_flops
from mixmin_jax.training.loop import BLOCK_STEPS, TrainState, init_state, make_train_step, warmup_cosine


@dataclasses.dataclass(frozen=True)
class LanguageModelRun:
    """One training run of a language model."""

    model: TransformerConfig = TransformerConfig()
    tokens: int = 384_000  # tokens (bytes) to train on, rounded down to whole batches and blocks (2 % at most)
    sequence_length: int = 128  # L: positions in a training window
    batch_size: int = 4  # B: windows in a step
    learning_rate: float = 6e-3  # peak of a warm-up and cosine schedule (AdamW, gradients clipped to norm 1)
    weight_decay: float = 0.01  # of AdamW

    def __post_init__(self) -> None:
        if min(self.sequence_length, self.batch_size) < 1:
            raise InputError(
                f"sequence_length and batch_size must be positive, got {self.sequence_length}, {self.batch_size}"
            )
        if self.num_steps < 1:
            raise InputError(
                f"tokens ({self.tokens}) is less than one batch of {self.batch_size} x {self.sequence_length}"
            )
        if not (0 < self.learning_rate < math.inf and 0 <= self.weight_decay < math.inf):
            raise InputError("learning_rate must be positive and weight_decay not negative, and both finite")

    @property
    def num_steps(self) -> int:
        steps = self.tokens // (self.batch_size * self.sequence_length)
        while steps > BLOCK_STEPS and steps % -(-steps // BLOCK_STEPS):
            steps -= 1  # until all blocks have the same length, which compiles once
        return steps

    @property
    def num_windows(self) -> int:
        """Number of windows that the run draws."""
        return self.num_steps * self.batch_size

    def optimizer(self) -> optax.GradientTransformation:
        return optax.chain(
            optax.clip_by_global_norm(1.0),
            optax.adamw(warmup_cosine(self.learning_rate, self.num_steps), b2=0.98, weight_decay=self.weight_decay),
        )

    def init(self, key: jax.Array) -> TrainState:
        init_key, train_key = jax.random.split(key)
        tokens_1xL = jnp.zeros((1, self.sequence_length), jnp.uint8)
        return init_state(TransformerLM(self.model).init(init_key, tokens_1xL), self.optimizer(), train_key)

    def train_step(
        self, state: TrainState, tokens_BxL1: Integer[Array, "B L1"], *, each_window: bool = False
    ) -> tuple[TrainState, Any]:
        """One update on a batch of windows of L + 1 tokens.

        Returns:
            The new state and the loss in nats per token; with `each_window` the pair of it and loss_B of the windows.
        """

        def loss(params: Any, batch: jax.Array, key: jax.Array) -> Any:
            del key  # there is no dropout: runs see few tokens more than once
            nats_BxL = -token_log_likelihoods(self.model, params, batch)
            return (nats_BxL.mean(), nats_BxL.mean(axis=1)) if each_window else nats_BxL.mean()

        return make_train_step(loss, self.optimizer(), has_aux=each_window)(state, tokens_BxL1)


def token_log_likelihoods(
    model: TransformerConfig, params: Any, tokens_BxL1: Integer[Array, "B L1"]
) -> Float[Array, "B L"]:
    """log p(token l + 1 | tokens 0..l of its window) in nats."""
    logits_BxLxV: Any = TransformerLM(model).apply(params, tokens_BxL1[:, :-1])
    logp_BxLxV = jax.nn.log_softmax(logits_BxLxV)
    return jnp.take_along_axis(logp_BxLxV, tokens_BxL1[:, 1:, None].astype(jnp.int32), axis=-1)[..., 0]


def training_flops(run: LanguageModelRun) -> float:
    """FLOPs of one whole run: its steps times what XLA counts for one compiled step of one model alone."""
    state = jax.eval_shape(run.init, jax.random.key(0))
    batch = jax.ShapeDtypeStruct((run.batch_size, run.sequence_length + 1), jnp.uint8)
    return run.num_steps * count_flops(jax.jit(run.train_step).lower(state, batch))


def scoring_flops_per_row(run: LanguageModelRun) -> float:
    """FLOPs of one forward pass over one row of L tokens."""
    params = jax.eval_shape(run.init, jax.random.key(0)).params
    row = jax.ShapeDtypeStruct((1, run.sequence_length + 1), jnp.uint8)
    return count_flops(jax.jit(lambda p, t: token_log_likelihoods(run.model, p, t)).lower(params, row))


def num_parameters(params: Any) -> int:
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))
