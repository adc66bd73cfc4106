import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixmin_jax.data.epochs import batch_rows, repeated_rows, steps_per_epoch
from mixmin_jax.errors import InputError


@functools.partial(jax.jit, static_argnames=("num_steps", "batch_size", "num_examples"))
def stream(key, *, num_steps, batch_size, num_examples):
    """rows_TxB of the first steps, as a training loop draws them: inside a scan."""

    def body(carry, step):
        return carry, batch_rows(step, batch_size, num_examples, key)

    return jax.lax.scan(body, 0, jnp.arange(num_steps))[1]


rows_of = jax.jit(batch_rows, static_argnums=(1, 2))


def test_an_epoch_brings_every_row_once_and_the_next_in_another_order():
    rows = np.asarray(stream(jax.random.key(0), num_steps=12, batch_size=4, num_examples=24)).reshape(2, 24)
    assert (np.sort(rows, axis=1) == np.arange(24)).all()
    assert (rows[0] != rows[1]).any() and (rows[0] != np.arange(24)).any()


def test_a_ragged_end_is_left_out_and_falls_on_other_rows_each_epoch():
    num_epochs = 200
    rows = np.asarray(stream(jax.random.key(1), num_steps=2 * num_epochs, batch_size=3, num_examples=8))
    epochs = rows.reshape(num_epochs, 6)
    assert all(len(set(epoch)) == 6 and set(epoch) <= set(range(8)) for epoch in epochs)
    counts = np.bincount(rows.ravel(), minlength=8)
    expected = num_epochs * 6 / 8
    assert np.abs(counts - expected).max() < 4 * np.sqrt(num_epochs * 0.75 * 0.25)
    assert len({tuple(epoch) for epoch in epochs}) > 0.95 * num_epochs


def test_a_place_in_the_stream_needs_nothing_before_it_and_keys_decide():
    rows = np.asarray(stream(jax.random.key(0), num_steps=12, batch_size=4, num_examples=24))
    for step in (0, 5, 6, 11):
        assert (np.asarray(rows_of(step, 4, 24, jax.random.key(0))) == rows[step]).all()
    assert (np.asarray(rows_of(0, 4, 24, jax.random.key(1))) != rows[0]).any()


def test_runs_with_other_keys_can_be_vmapped():
    keys = jax.random.split(jax.random.key(0), 3)
    rows = jax.jit(jax.vmap(lambda key: batch_rows(7, 4, 24, key)))(keys)
    for key, of_key in zip(keys, rows, strict=True):
        assert (of_key == rows_of(7, 4, 24, key)).all()


def test_steps_are_whole_batches_and_the_whole_data_can_be_one():
    assert [steps_per_epoch(n, 4) for n in (4, 7, 8, 50000)] == [1, 1, 2, 12500]
    assert sorted(np.asarray(rows_of(3, 5, 5, jax.random.key(0)))) == list(range(5))


@pytest.mark.parametrize("call", [steps_per_epoch, lambda n, b: batch_rows(0, b, n, jax.random.key(0))])
@pytest.mark.parametrize(
    ("num_examples", "batch_size", "message"),
    [(0, 1, "between 1 and"), *((8, b, f"a batch of {b} rows cannot be drawn from 8") for b in (0, -1, 9))],
)
def test_a_batch_must_fit_the_data(call, num_examples, batch_size, message):
    with pytest.raises(InputError, match=message):
        call(num_examples, batch_size)


@pytest.mark.parametrize("num_examples", [1, 3, 8, 13])
def test_rows_repeat_evenly_in_epochs_without_a_gap(num_examples):
    draw = jax.jit(lambda step: repeated_rows(step, 8, num_examples, jax.random.key(0)))
    rows = np.concatenate([draw(step) for step in range(13)])  # 104 draws
    epochs = rows[: len(rows) // num_examples * num_examples].reshape(-1, num_examples)
    assert (np.sort(epochs, axis=1) == np.arange(num_examples)).all()
    assert len({tuple(epoch) for epoch in epochs}) > 1 or num_examples == 1


def test_no_rows_cannot_be_repeated():
    with pytest.raises(InputError, match="between 1 and"):
        repeated_rows(0, 8, 0, jax.random.key(0))
