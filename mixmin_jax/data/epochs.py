"""The rows of each training step's batch, as a pure function of the step: nothing is stored.

Each epoch of `batch_rows` has a new random order of the N rows and takes floor(N / B) whole batches from it. So epochs
of the data are epochs of the schedule, no batch crosses the end of an epoch, and no row comes twice in one. Each epoch
leaves out N mod B rows, other ones each time. Epochs of `repeated_rows` follow each other without a gap, so N may be
less than B.

Axes: B batch.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int32, Integer, Key

from mixmin_jax.data.mixing import MAX_DRAWS, shuffled_index
from mixmin_jax.errors import InputError


def steps_per_epoch(num_examples: int, batch_size: int) -> int:
    """floor(N / B). Raises InputError if the batch is larger than the data or smaller than one row."""
    if not 0 < num_examples <= MAX_DRAWS:
        raise InputError(f"a data set to train on must have between 1 and {MAX_DRAWS} rows, not {num_examples}")
    if not 0 < batch_size <= num_examples:
        raise InputError(
            f"a batch of {batch_size} rows cannot be drawn from {num_examples}; take a batch size between 1 and that"
        )
    return num_examples // batch_size


def batch_rows(
    step: Integer[Array, ""] | int, batch_size: int, num_examples: int, key: Key[Array, ""]
) -> Int32[Array, " B"]:
    """The rows of one step's batch.

    With S = `steps_per_epoch`, step t is batch t mod S of epoch t // S. The order of an epoch is that of
    `mixing.shuffled_index` with fold_in(key, epoch).

    Args:
        step: 0, 1, ...; may be traced.
        batch_size, num_examples: B and N.
        key: of the whole run.

    Raises:
        InputError: as in `steps_per_epoch`.
    """
    steps = steps_per_epoch(num_examples, batch_size)
    words = jax.random.bits(jax.random.fold_in(key, step // steps), (4,), jnp.uint32)
    place_B = step % steps * batch_size + jnp.arange(batch_size)
    return shuffled_index(place_B, jnp.uint32(num_examples), words).astype(jnp.int32)


def repeated_rows(
    step: Integer[Array, ""] | int, batch_size: int, num_examples: int, key: Key[Array, ""]
) -> Int32[Array, " B"]:
    """The rows of one step's batch from data that repeat, also inside a batch.

    Draw p = t B + b of step t is place p mod N of epoch p // N, whose order is that of `batch_rows`. So after any
    number of draws, the counts of two rows differ by at most one.

    Args:
        step, batch_size, num_examples, key: as in `batch_rows`.

    Raises:
        InputError: there is no row, or more than a run can draw from.
    """
    if not 0 < num_examples <= MAX_DRAWS:
        raise InputError(f"a data set to train on must have between 1 and {MAX_DRAWS} rows, not {num_examples}")
    draw_B = jnp.asarray(step, jnp.uint32) * jnp.uint32(batch_size) + jnp.arange(batch_size, dtype=jnp.uint32)
    epoch_B, place_B = draw_B // jnp.uint32(num_examples), draw_B % jnp.uint32(num_examples)
    words_Bx4 = jax.vmap(lambda epoch: jax.random.bits(jax.random.fold_in(key, epoch), (4,), jnp.uint32))(epoch_B)
    return shuffled_index(place_B, jnp.uint32(num_examples), words_Bx4).astype(jnp.int32)
