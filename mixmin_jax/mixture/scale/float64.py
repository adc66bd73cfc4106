"""The arithmetic of the solvers, independent of the caller's JAX configuration."""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax

from mixmin_jax.errors import InputError


@contextlib.contextmanager
def float64_on_cpu() -> Iterator[None]:
    """Float64, the CPU and JAX's default checks, for this block and thread. Inside jit, constants are computed."""
    try:
        cpu = jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        raise InputError("solve runs on JAX's CPU backend, which is off; let JAX_PLATFORMS include cpu") from None
    with _arithmetic(cpu, True):
        yield


@contextlib.contextmanager
def float32_on(device: jax.Device) -> Iterator[None]:
    """The same with float32 on a device."""
    with _arithmetic(device, False):
        yield


@contextlib.contextmanager
def _arithmetic(device: jax.Device, float64: bool) -> Iterator[None]:
    with (
        jax.ensure_compile_time_eval(),
        _no_mesh(),
        jax.enable_x64(float64),
        jax.default_device(device),
        jax.default_matmul_precision("highest"),
        jax.numpy_rank_promotion("allow"),
        jax.numpy_dtype_promotion("standard"),
        jax.debug_nans(False),
        jax.debug_infs(False),
        jax.transfer_guard("allow"),
    ):
        yield


def _no_mesh() -> contextlib.AbstractContextManager[Any]:
    """Leave the caller's `jax.set_mesh`, which is for other arrays. Inside jit this is impossible."""
    try:
        return jax.set_mesh(None)
    except ValueError:
        return contextlib.nullcontext()
