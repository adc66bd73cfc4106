import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mixmin_jax.training.loop import compile_block, init_state, make_train_step, warmup_cosine

BATCHES = jax.random.normal(jax.random.key(0), (6, 4, 3))


def loss_fn(params, batch, key):
    noise = 0.1 * jax.random.normal(key, batch.shape)
    return jnp.mean((batch + noise) @ params["w"] + params["b"] ** 2)


def fresh():
    params = {"w": jnp.arange(3.0), "b": jnp.float32(2.0)}
    return init_state(params, OPTIMIZER, jax.random.key(7))


OPTIMIZER = optax.adam(0.1)
STEP = make_train_step(loss_fn, OPTIMIZER)


def test_a_block_is_its_steps_one_after_the_other():
    state, losses = compile_block(STEP)(fresh(), BATCHES)
    by_hand, expected = fresh(), []
    for batch in BATCHES:
        by_hand, loss = jax.jit(STEP)(by_hand, batch)
        expected.append(loss)
    np.testing.assert_allclose(losses, jnp.stack(expected), rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), state.params, by_hand.params)
    assert state.step == 6


def test_one_update_is_the_one_written_out_by_hand():
    state, loss = make_train_step(loss_fn, optax.sgd(0.5))(
        init_state({"w": jnp.zeros(3), "b": jnp.float32(2.0)}, optax.sgd(0.5), jax.random.key(7)), BATCHES[0]
    )
    noise = 0.1 * jax.random.normal(jax.random.fold_in(jax.random.key(7), 0), BATCHES[0].shape)
    np.testing.assert_allclose(loss, 4.0, rtol=1e-6)
    np.testing.assert_allclose(state.params["w"], -0.5 * (BATCHES[0] + noise).mean(0), rtol=1e-5)
    np.testing.assert_allclose(state.params["b"], 0.0, atol=1e-6)  # 2 - 0.5 * 2 * 2


def test_cutting_a_run_into_blocks_changes_nothing_bit_for_bit():
    block = compile_block(STEP)
    first, _ = block(fresh(), BATCHES[:3])
    in_parts, _ = block(first, BATCHES[3:])
    whole, _ = block(fresh(), BATCHES)
    jax.tree.map(np.testing.assert_array_equal, in_parts.params, whole.params)


def test_blocks_of_one_length_are_traced_once_and_donate_their_state():
    traces = []

    def counted(state, batch):
        traces.append(1)
        return STEP(state, batch)

    block, state = compile_block(counted), fresh()
    old = state.params["w"]
    for _ in range(3):
        state, _ = block(state, BATCHES)
    assert sum(traces) == 1
    assert old.is_deleted()


def test_randomness_of_a_step_depends_on_its_number_alone():
    state = fresh()._replace(step=jnp.int32(3))
    again = fresh()._replace(step=jnp.int32(3))
    assert STEP(state, BATCHES[0])[1] == STEP(again, BATCHES[0])[1] != STEP(fresh(), BATCHES[0])[1]


@pytest.mark.parametrize(
    ("num_steps", "step", "expected"),
    [(100, 0, 0.0), (100, 5, 1.0), (100, 100, 0.1), (1, 0, 0.0), (1, 1, 1.0), (100, 2, 0.4)],
)
def test_schedule_warms_up_and_ends_at_a_tenth(num_steps, step, expected):
    np.testing.assert_allclose(warmup_cosine(1.0, num_steps)(step), expected, atol=1e-6)
