"""How fast this machine is, for estimates of how long a run will take."""

import time

import jax
import jax.numpy as jnp

_SECONDS = 0.1  # of measuring
_CPU_SIDE, _ACCELERATOR_SIDE = 1024, 4096  # rows of the matrices


def product_rate() -> float:
    """FLOP/s of float32 matrix products, of all devices of an accelerator together."""
    devices = jax.local_devices()
    on_cpu = devices[0].platform == "cpu"  # whose devices share its cores
    side = _CPU_SIDE if on_cpu else _ACCELERATOR_SIDE
    multiply = jax.jit(lambda a: a @ a / side)
    product = jax.block_until_ready(multiply(jnp.ones((side, side), jnp.float32)))
    count, start = 0, time.perf_counter()
    while (taken := time.perf_counter() - start) < _SECONDS or not count:
        product = jax.block_until_ready(multiply(product))
        count += 1
    return 2 * side**3 * count / taken * (1 if on_cpu else len(devices))
