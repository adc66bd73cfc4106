"""Where a solve runs: on the CPU or over a mesh; in float64, or in float32 with a certificate from the host."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from mixmin_jax.errors import InputError
from mixmin_jax.mixture.scale.float64 import float32_on, float64_on_cpu
from mixmin_jax.mixture.scale.sharding import checked_mesh, exchange, has_float64

PRECISIONS = ("float64", "float32")


class Place(NamedTuple):
    """Devices and a precision."""

    mesh: Mesh | None  # its devices share the rows; None for one device
    device: jax.Device | None  # that of this process in float32; None in float64
    compiled: bool = True  # False: NumPy computes, on the host

    @property
    def precision(self) -> str:
        return PRECISIONS[self.device is not None]

    @property
    def plain(self) -> bool:
        """Whether this is the CPU in float64."""
        return self.mesh is None and self.device is None

    def of_all_processes(self, objective: Any) -> Any:
        """The objective over the rows of all processes, of which this one has a part."""
        several = self.mesh is not None and self.mesh.is_multi_process
        return objective.pooled(functools.partial(exchange, self.mesh)) if several else objective

    def put(self, objective: Any) -> Any:
        """The objective with its rows on the devices, in the precision; it only needs `prepare`."""
        if self.plain:
            return objective
        with float64_on_cpu() if self.device is None else float32_on(self.device):
            dtype = np.dtype(self.precision)
            if self.mesh is not None:
                return objective.shard_rows(self.mesh, dtype)
            return objective if self.device is None else objective.rounded(dtype)


def place_of(mesh: Any, precision: str) -> Place:
    """The place that users ask for. A mesh without float64 is used in float32.

    Raises:
        InputError: an unknown precision, or a mesh that cannot be used.
    """
    if precision not in PRECISIONS:
        raise InputError(f"unknown precision {precision!r}; choose one of {', '.join(PRECISIONS)}")
    flat = None if mesh is None else checked_mesh(mesh)
    if precision == "float64" and (flat is None or has_float64(flat)):
        return Place(flat, None)
    if flat is not None:
        return Place(flat, flat.local_devices[0])
    with jax.ensure_compile_time_eval():
        return Place(None, next(iter(jnp.zeros(()).devices())))  # JAX's default device
