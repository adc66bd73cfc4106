"""The device mesh: a `source` axis over models (one per source or mixture) and a `data` axis over their batches."""

import contextlib

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from mixmin_jax.errors import InputError


def make_mesh(source: int = 1, data: int = 1) -> Mesh:
    """A mesh of source x data devices.  Raises InputError if there are not that many."""
    present = jax.device_count()
    if min(source, data) < 1 or source * data > present:
        raise InputError(f"a mesh of {source} (source) x {data} (data) devices was asked for, but {present} are there")
    return jax.make_mesh(
        (source, data), ("source", "data"), (AxisType.Auto, AxisType.Auto), devices=jax.devices()[: source * data]
    )


def over_models(mesh: Mesh) -> NamedSharding:
    """Leading axis (models) split over `source`."""
    return NamedSharding(mesh, PartitionSpec("source"))


def over_models_and_batch(mesh: Mesh) -> NamedSharding:
    """Axes (models, batch, ...) split over `source` and `data`."""
    return NamedSharding(mesh, PartitionSpec("source", "data"))


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def source_devices(num_models: int, present: int) -> int:
    """How many of `present` devices to spread models over: no more than shorten the longest queue on a device."""
    longest = -(-num_models // present)
    return -(-num_models // longest)


def split_cpu(num_devices: int) -> None:
    """Let JAX see the CPU as `num_devices` devices, so that a mesh spreads models over its cores too.

    Accelerators are not touched; once a backend has started, nothing happens.
    """
    with contextlib.suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", num_devices)
