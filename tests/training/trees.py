"""Comparisons of trees of arrays."""

import jax
import jax.numpy as jnp
import numpy as np


def assert_same(found, wanted):
    """The same structure, types and bits, random keys included."""
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_array_equal(bits(a), bits(b), strict=True)


def bits(leaf):
    is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)
