"""The loop of every training: compiled blocks of steps, and between them checks, progress and checkpoints.

What differs between kinds of models is the compiled block, what it reads, and what is kept of its metrics.

Axes: T steps of a block, M models.
"""

import itertools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mixmin_jax.training.loop import TrainState
from mixmin_jax.training.nonfinite import Skipped

PyTree = Any


class Finished(NamedTuple):
    """A block of steps that was trained."""

    first: int  # number of its first step
    last: int  # steps of the run up to its end
    metrics: PyTree  # what the compiled block returns, with a leading axis of T steps
    skipped: Skipped | tuple[()]  # counts after the block


def block_bounds(num_steps: int, block_steps: int, start: int = 0) -> list[tuple[int, int]]:
    """First step and last step + 1 of each block from step `start` on.

    The run is cut into nearly equal blocks of at most `block_steps`; a start inside a block shortens the first one.
    """
    num_blocks = -(-num_steps // block_steps)
    edges = [num_steps * b // num_blocks for b in range(num_blocks + 1)]
    return list(itertools.pairwise([start, *(edge for edge in edges if edge > start)]))


def run_blocks(
    train_block: Callable[[TrainState, PyTree], tuple[TrainState, PyTree]],
    state: TrainState,
    bounds: Iterable[tuple[int, int]],
    inputs: Iterable[PyTree],
    report: Callable[[Finished], None],
    *,
    pauses: Callable[[int], bool],
    at_pause: Callable[[int, TrainState], bool | None],
) -> TrainState:
    """Train in blocks. The next block runs while the metrics of the one before are fetched, checked and reported.

    Only at a pause may others read the state: the next block reuses its buffers.

    Args:
        train_block: the compiled block, which donates the state.
        state: to start from.
        bounds: as from `block_bounds`.
        inputs: what each block reads.
        report: called with each block, in order; may raise to end the training.
        pauses: whether to pause after so many steps, for example to save (`Checkpoints.due`).
        at_pause: called with these steps and the state, after all blocks were reported; true ends the training.

    Returns:
        The trained state.
    """
    waiting: Finished | None = None
    for (first, last), xs in zip(bounds, inputs, strict=True):
        state, metrics = train_block(state, xs)
        if waiting is not None:
            report(waiting)
        waiting = Finished(first, last, metrics, jax.tree.map(jnp.copy, state.skipped))
        if pauses(last):
            report(waiting)
            waiting = None
            if at_pause(last, state):
                return state
    if waiting is not None:
        report(waiting)
    return state
