"""Random crops and flips of image batches, on the device.

Axes: B batch, H rows, W columns, C channels.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key, Shaped

from mixmin_jax.errors import InputError


def crop_and_flip(
    key: Key[Array, ""], images_BxHxWxC: Shaped[Array, "B H W C"], padding: int, flip: bool
) -> Shaped[Array, "B H W C"]:
    """Shift each image at random in both directions, and mirror it left to right with probability 1/2.

    The shift is a crop from the image with a border of `padding` pixels. The border reflects the image and does not
    repeat its edge. (A masked autoencoder would learn to paint the edge of a black border, which is not in the data.)

    Args:
        key: JAX random key.
        images_BxHxWxC: of any dtype, which stays: pixels are moved, not computed.
        padding: largest shift in pixels.
        flip: whether to mirror.

    Returns:
        The new images; the same images with padding 0 and no flip.

    Raises:
        InputError: the padding is negative or not smaller than the image.
    """
    num_images, height, width, _ = images_BxHxWxC.shape
    if not 0 <= padding < min(height, width):
        raise InputError(
            f"a crop's padding must be 0 or more and less than the image's {height} x {width} pixels; it is {padding}"
        )
    shift_key, flip_key = jax.random.split(key)
    shift_2xB = jax.random.randint(shift_key, (2, num_images), -padding, padding + 1)
    row_BxH = _reflected(shift_2xB[0, :, None] + jnp.arange(height), height)
    column_BxW = _reflected(shift_2xB[1, :, None] + jnp.arange(width), width)
    if flip:
        flip_Bx1 = jax.random.bernoulli(flip_key, shape=(num_images, 1))
        column_BxW = jnp.where(flip_Bx1, column_BxW[:, ::-1], column_BxW)
    elif not padding:
        return images_BxHxWxC
    b_Bx1x1 = jnp.arange(num_images)[:, None, None]
    return images_BxHxWxC[b_Bx1x1, row_BxH[:, :, None], column_BxW[:, None, :]]


def _reflected(index: Array, size: int) -> Array:
    """The index mirrored into [0, size) at the first and last pixel, as in `np.pad(mode="reflect")`."""
    return size - 1 - jnp.abs(size - 1 - jnp.abs(index))
