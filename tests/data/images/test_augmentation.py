import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixmin_jax.data.images.augmentation import crop_and_flip
from mixmin_jax.errors import InputError

augment = jax.jit(crop_and_flip, static_argnames=("padding", "flip"))


def random_images(batch=200, height=5, width=6, channels=2):
    return np.random.default_rng(0).integers(0, 256, (batch, height, width, channels), np.uint8)


def crops(image, padding, flip):
    """Every image that may come out, by NumPy's own padding and slicing: (row, column, is flipped) -> pixels."""
    height, width, _ = image.shape
    padded = np.pad(image, [(padding, padding), (padding, padding), (0, 0)], mode="reflect")
    shifts, steps = range(2 * padding + 1), {False: 1, True: -1} if flip else {False: 1}
    return {
        (row, column, flipped): padded[row : row + height, column : column + width][:, ::step]
        for row, column, (flipped, step) in itertools.product(shifts, shifts, steps.items())
    }


@pytest.mark.parametrize(("padding", "flip"), [(2, True), (2, False), (0, True), (0, False)])
def test_each_image_is_one_of_numpys_crops_and_all_of_them_come(padding, flip):
    images = random_images()
    out = np.asarray(augment(jax.random.key(0), images, padding=padding, flip=flip))
    assert out.dtype == np.uint8
    seen = []
    for before, after in zip(images, out, strict=True):
        found = [which for which, crop in crops(before, padding, flip).items() if (crop == after).all()]
        assert len(found) == 1
        seen += found
    rows, columns, flips = map(np.array, zip(*seen, strict=True))
    assert set(rows) == set(columns) == set(range(2 * padding + 1))
    if flip:
        assert abs(flips.mean() - 0.5) < 0.15  # four standard errors
    if padding:
        assert len({(row, column) for row, column, _ in seen}) > 20  # of 25: rows and columns are drawn apart


def test_largest_padding_other_types_and_keys():
    images = random_images(50, 3, 3).astype(np.float32)
    out, same, other = (np.asarray(augment(jax.random.key(k), images, padding=2, flip=False)) for k in (3, 3, 4))
    assert (out == same).all() and (out != other).any()
    for before, after in zip(images, out, strict=True):
        assert any((crop == after).all() for crop in crops(before, 2, False).values())


@pytest.mark.parametrize("padding", [-1, 5])
def test_padding_must_fit_the_image(padding):
    with pytest.raises(InputError, match=f"less than the image's 5 x 6 pixels; it is {padding}"):
        crop_and_flip(jax.random.key(0), jnp.asarray(random_images(2)), padding, True)
