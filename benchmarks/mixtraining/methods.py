"""What is timed: compiled blocks of steps, as `mixtraining.train` runs them."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks.timing import Call
from mixmin_jax.training.flops import count_flops
from mixmin_jax.training.mixtraining import Losses, MixState
from mixmin_jax.training.schedule import StepPlan

PyTree = Any
StepFn = Callable[..., tuple[MixState, Losses]]


class Program(NamedTuple):
    """A scan over the steps of a block."""

    run: Callable[..., tuple[MixState, Losses]]  # (state, rows, *data), the state's buffers donated
    flops: float  # of one step, as XLA counts a scan; of a step with a switch, those of its dearest branch
    seconds: float  # that compilation took


def compile_steps(step: StepFn, state: MixState, rows: StepPlan, data: tuple[PyTree, ...]) -> Program:
    """Compile a block of as many steps as there are rows; arguments may be `jax.ShapeDtypeStruct`s."""

    def block(state: MixState, rows: StepPlan, *data: PyTree) -> tuple[MixState, Losses]:
        return jax.lax.scan(lambda state, row: step(state, row, *data), state, rows)

    lowered = jax.jit(block, donate_argnums=0).lower(state, rows, *data)
    start = time.perf_counter()
    compiled = lowered.compile()
    return Program(compiled, count_flops(lowered), time.perf_counter() - start)


def split_blocks(plan: StepPlan, block_steps: int) -> list[StepPlan]:
    """The rows of each block; the plan must be whole blocks."""
    num_blocks, rest = divmod(len(plan.phase), block_steps)
    if rest:
        raise ValueError(f"a plan of {len(plan.phase)} steps is not whole blocks of {block_steps}")
    return [StepPlan(*rows) for rows in zip(*(np.split(values, num_blocks) for values in plan), strict=True)]


def training_call(program: Program, state: MixState, blocks: Sequence[StepPlan], data: tuple[PyTree, ...]) -> Call[int]:
    """A call that trains on the blocks and waits for each one's losses; the next call trains on from there.

    Its result is `MixState.failed_at`. From 0 on, steps did nothing, and their time is void.
    """
    held = [state]

    def run() -> int:
        for rows in blocks:
            state, losses = program.run(held.pop(), rows, *data)
            held.append(state)
            jax.device_get((losses, state.failed_at))
        return int(jax.block_until_ready(held[0]).failed_at)

    return Call(run)
