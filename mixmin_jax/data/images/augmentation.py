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
    """Each image shifted by -`padding` to `padding` pixels in both directions, and with `flip` mirrored left to right
    with probability 1/2: a crop from the image with a border of `padding`.

    The border reflects the image (the edge itself not repeated). A black one would be an edge that is not in the data,
    which a masked autoencoder learns to paint. Pixels are moved, never computed: any dtype stays as it is. With padding
    0 and no flip the images come back unchanged.

    Raises InputError for a negative padding, or one that is not smaller than the image.
    """
    num_images, height, width, _ = images_BxHxWxC.shape
    if not 0 <= padding < min(height, width):
        raise InputError(
            f"a crop's padding must be 0 or more and less than the image's {height} x {width} pixels; it is {padding}"
        )
    shift_key, flip_key = jax.random.split(key)
    if padding:
        shift_2xB = jax.random.randint(shift_key, (2, num_images), -padding, padding + 1)
    else:
        shift_2xB = jnp.zeros((2, num_images), jnp.int32)
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
    """Inside [0, size), mirrored at the first and last pixel, as in `np.pad(mode="reflect")`."""
    return size - 1 - jnp.abs(size - 1 - jnp.abs(index))
