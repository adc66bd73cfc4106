"""Pruning and eight-bit weights: what they change, by how much, and what the result needs."""

import jax
import numpy as np
import pytest

from mixmin_jax.errors import InputError
from mixmin_jax.training.compression import dense_bytes, int8_weights, prune

RNG = np.random.default_rng(0)
PARAMS = {
    "up": {"kernel": RNG.normal(size=(6, 10)).astype(np.float32), "bias": np.ones(10, np.float32)},
    "down": [{"kernel": (0.1 * RNG.normal(size=(3, 2, 5))).astype(np.float32)}],
    "positions": np.full((4, 4), 1e-3, np.float32),
}


def kernels(params):
    return [np.asarray(params["up"]["kernel"]), np.asarray(params["down"][0]["kernel"])]


def others_unchanged(params):
    return (params["up"]["bias"] == 1).all() and (params["positions"] == PARAMS["positions"]).all()


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9, 0.97, 1.0])
def test_the_smallest_entries_of_all_kernels_together_are_pruned(share):
    found = prune(PARAMS, share)
    old, new = (np.concatenate([kernel.ravel() for kernel in kernels(params)]) for params in (PARAMS, found.params))
    assert (new == 0).sum() == int(round(share * 90, 6))
    kept = new != 0
    np.testing.assert_array_equal(new[kept], old[kept])
    assert not kept.any() or kept.all() or np.abs(old[kept]).min() >= np.abs(old[~kept]).max()
    assert others_unchanged(found.params)
    assert found.bytes == 8 + 4 + 4 * kept.sum() + 4 * (10 + 16)
    again = prune(found.params, share)
    jax.tree.map(np.testing.assert_array_equal, again.params, found.params)
    assert again.bytes == found.bytes


def test_of_equal_entries_the_first_are_pruned():
    found = prune({"kernel": np.ones((2, 4), np.float32)}, 0.5)
    np.testing.assert_array_equal(found.params["kernel"], [[0] * 4, [1] * 4])


def test_pruning_goes_over_kernels_of_small_values_first():
    """It is global: `down` has a tenth of the size, so it loses a larger share."""
    up, down = (np.mean(kernel == 0) for kernel in kernels(prune(PARAMS, 0.4).params))
    assert down > 2 * up


def test_eight_bits_move_no_entry_by_more_than_half_a_step_of_its_output():
    found = int8_weights(PARAMS)
    for old, new in zip(kernels(PARAMS), kernels(found.params), strict=True):
        assert new.dtype == old.dtype and new.shape == old.shape and (new != old).any()
        step_O = np.abs(old).max(axis=tuple(range(old.ndim - 1))) / 127
        assert (np.abs(new - old) <= 0.5 * step_O * (1 + 1e-5)).all()
        assert all(len(np.unique(np.abs(new[..., o]))) <= 128 for o in range(new.shape[-1]))
    assert others_unchanged(found.params)
    assert found.bytes == 90 + 4 * (10 + 5) + 4 * (10 + 16) < dense_bytes(PARAMS) == 4 * (90 + 26)
    again = int8_weights(found.params)
    for once, twice in zip(kernels(found.params), kernels(again.params), strict=True):
        np.testing.assert_allclose(twice, once, rtol=1e-6)


def test_an_output_of_zeros_stays_and_pruned_entries_stay_zero():
    kernel = prune({"kernel": PARAMS["up"]["kernel"]}, 0.5).params["kernel"].copy()
    kernel[:, 3] = 0
    rounded = int8_weights({"kernel": kernel}).params["kernel"]
    assert (rounded[kernel == 0] == 0).all() and np.isfinite(rounded).all()


def test_what_cannot_be_compressed_is_named():
    with pytest.raises(InputError, match=r"must lie in.*not 1\.5"):
        prune(PARAMS, 1.5)
    with pytest.raises(InputError, match="no array of the parameters is a target"):
        int8_weights({"w": np.ones((2, 2))})
