import jax.numpy as jnp
import pytest

from mixmin_jax.training.driver import block_bounds, run_blocks
from mixmin_jax.training.loop import TrainState


@pytest.mark.parametrize(
    ("num_steps", "block_steps", "start", "wanted"),
    [
        (6, 4, 0, [(0, 3), (3, 6)]),
        (7, 3, 0, [(0, 2), (2, 4), (4, 7)]),
        (7, 3, 4, [(4, 7)]),
        (7, 3, 3, [(3, 4), (4, 7)]),  # saved by a run with other blocks
        (7, 3, 7, []),
        (2, 50, 0, [(0, 2)]),
    ],
)
def test_blocks_are_nearly_equal_from_any_start(num_steps, block_steps, start, wanted):
    assert block_bounds(num_steps, block_steps, start) == wanted


@pytest.mark.parametrize("ends", [False, True])
def test_a_block_is_reported_while_the_next_runs_and_before_a_pause(ends):
    events = []

    def train_block(state, name):
        events.append(f"run {name}")
        return state._replace(step=state.step + 2), name

    def at_pause(done, state):
        events.append(f"pause {done}")
        assert state.step == done
        return ends

    state = run_blocks(
        train_block,
        TrainState(jnp.int32(0), {}, {}, None),
        [(0, 2), (2, 4), (4, 6), (6, 8)],
        "abcd",
        lambda block: events.append(f"report {block.metrics}"),
        pauses=lambda done: done == 6,
        at_pause=at_pause,
    )
    until_pause = ["run a", "run b", "report a", "run c", "report b", "report c", "pause 6"]
    assert events == until_pause + ([] if ends else ["run d", "report d"])
    assert state.step == (6 if ends else 8)
