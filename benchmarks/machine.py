"""The machine: its name in file names, and its rates of products and of reading, which give a floor for times.

Axes: N rows, K columns.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.timing import Call, Stopped, Timing
from experiments.harness.provenance import cpu_cores

READ_BYTES = 2**28  # bytes of the array that is read: far more than caches hold


@dataclasses.dataclass(frozen=True)
class Rates:
    """The better of JAX and NumPy, from the medians of one run."""

    multiply_adds: float  # per second, counted as N K^2 for a float64 product A' A of an N x K matrix
    bytes_read: float  # per second, from memory


def device_slug() -> str:
    """The default device as part of a file name: "cpu-2-cores", "nvidia-h100-80gb-hbm3"."""
    device = jax.devices()[0]
    if device.platform == "cpu":
        return f"cpu-{cpu_cores()}-cores"
    return re.sub(r"[^a-z0-9]+", "-", device.device_kind.lower()).strip("-")


def rate_calls(num_rows: int, num_columns: int, device: Any) -> dict[str, Call[Any]]:
    """What to time for `rates`, on one of JAX's devices (and by NumPy, if that is the CPU)."""
    a_NxK = np.random.default_rng(0).random((num_rows, num_columns))
    long = np.ones(READ_BYTES // 8)
    with jax.enable_x64(True):
        a_device_NxK, long_device = jax.device_put(a_NxK, device), jax.device_put(long, device)
    product, total = jax.jit(lambda a: a.T @ a), jax.jit(jnp.sum)

    def by_jax(function: Callable[[jax.Array], jax.Array], argument: jax.Array) -> jax.Array:
        with jax.enable_x64(True), jax.default_matmul_precision("highest"):
            return jax.block_until_ready(function(argument))

    calls: dict[str, Call[Any]] = {
        "product, JAX": Call(lambda: by_jax(product, a_device_NxK)),
        "read, JAX": Call(lambda: by_jax(total, long_device)),
    }
    if device.platform == "cpu":
        calls["product, NumPy"] = Call(lambda: a_NxK.T @ a_NxK)
        calls["read, NumPy"] = Call(long.sum)
    return calls


def rates(timings: Mapping[str, Timing[Any] | Stopped], num_rows: int, num_columns: int) -> Rates:
    """Rates from the times of `rate_calls`."""

    def best(kind: str) -> float:
        return min(t.median for name, t in timings.items() if name.startswith(kind) and isinstance(t, Timing))

    return Rates(num_rows * num_columns**2 / best("product"), READ_BYTES / best("read"))


def newton_floor(num_steps: int, num_rows: int, num_columns: int, rates: Rates) -> float:
    """Seconds that Newton steps on N x K float64 data take at least at these rates.

    Each step is a symmetric K x K product over N rows and one pass over the data:

        steps (N K^2 / multiply-adds per second + 8 N K bytes / bytes per second)
    """
    product = num_rows * num_columns**2 / rates.multiply_adds
    return num_steps * (product + 8 * num_rows * num_columns / rates.bytes_read)


def peak_memory() -> int | None:
    """Bytes at the peak of this process, where the system tells (VmHWM; ru_maxrss would count who started it)."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), None)
