"""The device mesh: a `source` axis over models (one per source or mixture) and a `data` axis over their batches.

The devices may be those of several processes (`jax.distributed`), which then all make the same calls in the same order.
"""

import contextlib
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, Sharding

from mixmin_jax.errors import InputError

PyTree = Any


def make_mesh(source: int = 1, data: int = 1) -> Mesh:
    """A mesh of source x data devices.

    Raises InputError if there are not that many, or if it leaves out some of the devices of several processes: those
    that have none would wait for ever.
    """
    present, processes = jax.device_count(), jax.process_count()
    if min(source, data) < 1 or source * data > present:
        raise InputError(f"a mesh of {source} (source) x {data} (data) devices was asked for, but {present} are there")
    if processes > 1 and source * data < present:
        raise InputError(
            f"a mesh of {source} (source) x {data} (data) devices leaves out some of the {present} that the {processes}"
            " processes have together: choose the two so that their product is that"
        )
    return jax.make_mesh(
        (source, data), ("source", "data"), (AxisType.Auto, AxisType.Auto), devices=jax.devices()[: source * data]
    )


def over_models(mesh: Mesh) -> NamedSharding:
    """Leading axis (models) split over `source`."""
    return NamedSharding(mesh, PartitionSpec("source"))


def over_models_and_batch(mesh: Mesh) -> NamedSharding:
    """Axes (models, batch, ...) split over `source` and `data`."""
    return NamedSharding(mesh, PartitionSpec("source", "data"))


def over_steps_models_and_batch(mesh: Mesh) -> NamedSharding:
    """Axes (steps, models, batch, ...), the steps on all devices, the others split over `source` and `data`."""
    return NamedSharding(mesh, PartitionSpec(None, "source", "data"))


def over_batch(mesh: Mesh) -> NamedSharding:
    """Leading axis (the rows of a batch) split over `data`, the same along `source`."""
    return NamedSharding(mesh, PartitionSpec("data"))


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def put(tree: PyTree, sharding: Sharding) -> PyTree:
    """Arrays that every process holds whole, on devices; each process hands over what its own devices are to have."""
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)

    def place(leaf: Any) -> jax.Array:
        if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(place(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
        whole = np.asarray(leaf)
        return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])

    return jax.tree.map(place, tree)


def gathered(tree: PyTree) -> PyTree:
    """Arrays on devices as NumPy arrays, whole in every process."""

    def whole(leaf: Any) -> np.ndarray:
        if isinstance(leaf, jax.Array) and not (leaf.is_fully_addressable or leaf.is_fully_replicated):
            return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))
        return np.asarray(leaf)

    return jax.tree.map(whole, tree)


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
