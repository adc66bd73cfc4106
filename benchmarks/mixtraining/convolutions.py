"""A small convolutional model in three loops: on a CPU, XLA is slow with convolutions in a scan as they are written.

`mixtraining.make_step` changes their order of axes (`training.convolutions`).
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mixmin_jax.models.vision_transformer import VisionConfig
from mixmin_jax.training.mixtraining import (
    Batch,
    Labeled,
    Learner,
    Losses,
    MixState,
    OptimizerSettings,
    init_state,
    make_step,
)
from mixmin_jax.training.schedule import StepPlan

STEP_BY_STEP = "step_by_step"  # one call of a compiled step after the other
RunBlock = Callable[..., tuple[MixState, Any]]


class _Encoder(nn.Module):
    @nn.compact
    def __call__(self, images_BxSxSxC: jax.Array) -> jax.Array:
        x = images_BxSxSxC
        for width in (16, 32):
            x = nn.avg_pool(nn.relu(nn.Conv(width, (3, 3))(x)), (2, 2), (2, 2))
        return x


def convolutional_learner(model: VisionConfig) -> Learner:
    """Two convolutions, whose features predict hidden pixels and the class, for images of the model's size."""
    size, channels = model.image_size, model.channels
    encoder, decoder, head = _Encoder(), nn.Dense(channels * 16), nn.Dense(model.classes[0])

    def init(key: jax.Array) -> dict[str, Any]:
        images = jnp.zeros((1, size, size, channels))
        params = encoder.init(key, images)
        features: Any = encoder.apply(params, images)
        return {"encoder": params, "ssl": decoder.init(key, features), "sl": head.init(key, features[:, 0, 0])}

    def ssl_loss(params: Any, features: Any, images: jax.Array, shown: jax.Array) -> jax.Array:
        patches: Any = decoder.apply(params["ssl"], features)
        patches = patches.reshape(len(images), size // 4, size // 4, 4, 4, channels)
        return (~shown * (patches.swapaxes(2, 3).reshape(images.shape) - images) ** 2).mean()

    def sl_logits(params: Any, features: jax.Array, task: int) -> Any:
        return head.apply(params["sl"], features.mean((1, 2)))

    return Learner(
        init,
        lambda key, images: jax.random.bernoulli(key, 0.5, (*images.shape[:3], 1)),
        lambda params, images, shown: encoder.apply(params["encoder"], images if shown is None else images * shown),
        ssl_loss,
        sl_logits,
    )


def loops(model: VisionConfig, batch_size: int) -> tuple[dict[str, RunBlock], Callable[[], MixState], Batch]:
    """The three ways to train on a block of steps, new states for them, and the batch of every step."""
    learner, optimizer = convolutional_learner(model), OptimizerSettings()
    step = make_step(learner, optimizer)
    images_BxSxSxC = jax.random.normal(
        jax.random.key(0), (batch_size, model.image_size, model.image_size, model.channels)
    )
    batch = Batch((Labeled(images_BxSxSxC, jnp.arange(batch_size) % model.classes[0]),))

    def scan(step: Callable[..., Any]) -> RunBlock:
        def block(state: MixState, rows: StepPlan, batch: Batch) -> tuple[MixState, Losses]:
            return jax.lax.scan(lambda state, row: step(state, row, batch), state, rows)

        return jax.jit(block, donate_argnums=0)

    one_step = jax.jit(step, donate_argnums=0)

    def step_by_step(state: MixState, rows: StepPlan, batch: Batch) -> tuple[MixState, list[Losses]]:
        losses = []
        for row in zip(*rows, strict=True):
            state, loss = one_step(state, StepPlan(*row), batch)
            losses.append(loss)
        return state, losses

    ways = {"scan": scan(step), STEP_BY_STEP: step_by_step, "scan_as_written": scan(inspect.unwrap(step))}
    new_state = jax.jit(functools.partial(init_state, learner, optimizer))
    return ways, lambda: new_state(jax.random.key(1)), batch
