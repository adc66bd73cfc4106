"""Which rows of a data set make up a training step's batch: a pure function of the step, nothing stored.

An epoch is a fresh random order of the N rows, of which it takes as many whole batches as there are. So an epoch of the
data is an epoch of a schedule that counts steps, no batch crosses a border, no row comes twice in an epoch, and the
N mod B rows that an epoch leaves out are others each time.

Axes: B batch.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int32, Integer, Key

from mixmin_jax.data.mixing import MAX_DRAWS, shuffled_index
from mixmin_jax.errors import InputError


def steps_per_epoch(num_examples: int, batch_size: int) -> int:
    """floor(N / B). Raises InputError for a batch larger than the data or smaller than one row."""
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
    """Rows of the batch of step 0, 1, ..., which may be traced; `key` is that of the whole run.

    Step t is batch t mod S of epoch t // S, with S = `steps_per_epoch`; an epoch's order is that of
    `mixing.shuffled_index` under fold_in(key, epoch).

    Raises InputError as `steps_per_epoch` does.
    """
    steps = steps_per_epoch(num_examples, batch_size)
    words = jax.random.bits(jax.random.fold_in(key, step // steps), (4,), jnp.uint32)
    place_B = step % steps * batch_size + jnp.arange(batch_size)
    return shuffled_index(place_B, jnp.uint32(num_examples), words).astype(jnp.int32)
