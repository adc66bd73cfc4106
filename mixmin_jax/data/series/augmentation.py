"""Random shifts of series and noise on them, on the device.

Axes: B batch, S steps, C channels.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from mixmin_jax.errors import InputError


def shift_and_jitter(
    key: Key[Array, ""], series_BxSxC: Float[Array, "B S C"], shift: int, jitter: float
) -> Float[Array, "B S C"]:
    """Shift each series at random by up to `shift` steps either way, and add normal noise.

    A shift repeats the first or last value where the series ends.

    Args:
        key: JAX random key.
        series_BxSxC: the series.
        shift: largest shift in steps.
        jitter: standard deviation of the noise, in units of the series.

    Returns:
        The new series; the same with shift 0 and jitter 0.

    Raises:
        InputError: the shift is negative or not shorter than the series, or the jitter is negative.
    """
    num_series, length, _ = series_BxSxC.shape
    if not 0 <= shift < length:
        raise InputError(f"a shift must be 0 or more and less than the series' {length} steps; it is {shift}")
    if not jitter >= 0:
        raise InputError(f"a jitter must be 0 or more; it is {jitter}")
    shift_key, noise_key = jax.random.split(key)
    if shift:
        by_B = jax.random.randint(shift_key, (num_series,), -shift, shift + 1)
        step_BxS = jnp.clip(by_B[:, None] + jnp.arange(length), 0, length - 1)
        series_BxSxC = jnp.take_along_axis(series_BxSxC, step_BxS[..., None], axis=1)
    if jitter:
        series_BxSxC = series_BxSxC + jitter * jax.random.normal(noise_key, series_BxSxC.shape)
    return series_BxSxC
