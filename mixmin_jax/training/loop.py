"""One training step as a pure function, and a compiled scan over a block of them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Sharding

from mixmin_jax.training.nonfinite import OnNonfinite, Skipped, counted, counters, is_finite

PyTree = Any
BLOCK_STEPS = 50  # steps per compiled call: few enough to show progress, enough to hide the cost of the call

LossFn = Callable[[PyTree, PyTree, jax.Array], PyTree]  # (params, batch, key) -> scalar loss, or (loss, more)
StepFn = Callable[["TrainState", PyTree], tuple["TrainState", PyTree]]


class TrainState(NamedTuple):
    """Everything that training changes, as a pytree that can be vmapped, donated, sharded and saved."""

    step: jax.Array  # number of steps made
    params: PyTree
    opt_state: PyTree
    key: jax.Array  # constant: a step uses fold_in(key, step), so a resumed run repeats it
    failed_at: Any = ()  # MixTraining: the step whose loss or gradient was not finite and ended it; else -1
    skipped: Skipped | tuple[()] = ()  # counts, if the training skips steps


def init_state(
    params: PyTree, optimizer: optax.GradientTransformation, key: jax.Array, on_nonfinite: OnNonfinite = "stop"
) -> TrainState:
    step, opt_state = jnp.zeros((), jnp.int32), optimizer.init(params)
    return TrainState(step, params, opt_state, key, skipped=counters(on_nonfinite))


def make_train_step(loss_fn: LossFn, optimizer: optax.GradientTransformation, has_aux: bool = False) -> StepFn:
    """A pure `step(state, batch) -> (state, loss)` with one gradient and one update; it is not compiled here.

    If the state counts skipped steps, a step with a loss or gradient that is not finite changes neither parameters nor
    optimizer state, and its loss is NaN.

    With `has_aux` the loss function, and so the step, returns (loss, more) in place of the loss.
    """

    def train_step(state: TrainState, batch: PyTree) -> tuple[TrainState, PyTree]:
        key = jax.random.fold_in(state.key, state.step)
        metrics, grads = jax.value_and_grad(loss_fn, has_aux=has_aux)(state.params, batch, key)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        skipped = state.skipped
        if skipped:
            finite = is_finite(metrics[0] if has_aux else metrics, grads)
            nothing = jax.tree.map(lambda value: jnp.full_like(value, jnp.nan), metrics)
            new, old = (params, opt_state, metrics), (state.params, state.opt_state, nothing)
            params, opt_state, metrics = jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, old)
            skipped = counted(skipped, ~finite)
        return TrainState(state.step + 1, params, opt_state, state.key, skipped=skipped), metrics

    return train_step


def compile_block(
    step: StepFn, fetch: Callable[..., PyTree] = lambda x: x, out_shardings: Sharding | None = None
) -> Callable[..., tuple[TrainState, PyTree]]:
    """Compile `block(state, xs, *data) -> (state, metrics)`: a scan of `step` over the leading axis of `xs`.

    Step t trains on `fetch(xs[t], *data)`. So `xs` can hold small positions, while the data stay on the device. The
    state's buffers are donated: the caller cannot use the old state after the call. Blocks of one length compile once.
    """

    def block(state: TrainState, xs: PyTree, *data: PyTree) -> tuple[TrainState, PyTree]:
        return jax.lax.scan(lambda s, x: step(s, fetch(x, *data)), state, xs)

    return jax.jit(block, donate_argnums=0, out_shardings=out_shardings)


def warmup_cosine(peak: float, num_steps: int, warmup_fraction: float = 0.05) -> optax.Schedule:
    """Linear warm-up to `peak` over the given fraction of the run, then a half cosine to a tenth of it."""
    warmup = max(1, round(warmup_fraction * num_steps))
    return optax.warmup_cosine_decay_schedule(0.0, peak, warmup, max(num_steps, warmup + 1), end_value=0.1 * peak)
