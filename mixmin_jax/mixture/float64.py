"""The arithmetic that solves run in, whatever the caller's JAX configuration."""

import contextlib
from collections.abc import Iterator

import jax

from mixmin_jax.errors import InputError


@contextlib.contextmanager
def float64_on_cpu() -> Iterator[None]:
    """Float64, the CPU and JAX's default checks, for this block and thread only; constants inside jit are computed."""
    try:
        cpu = jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        raise InputError("solve runs on JAX's CPU backend, which is off; let JAX_PLATFORMS include cpu") from None
    with (
        jax.ensure_compile_time_eval(),
        jax.enable_x64(True),
        jax.default_device(cpu),
        jax.default_matmul_precision("highest"),
        jax.numpy_rank_promotion("allow"),
        jax.numpy_dtype_promotion("standard"),
        jax.debug_nans(False),
        jax.debug_infs(False),
        jax.transfer_guard("allow"),
    ):
        yield
