"""The device mesh: a `source` axis over models (one per source or mixture) and a `data` axis over their batches.

With devices of several processes (`jax.distributed`), all processes must make the same calls in the same order.
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

    Raises:
        InputError: there are fewer devices; or, with several processes, the mesh leaves out some devices (a process
            without any would wait for ever).
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
    """Shard the leading axis (models) over `source`."""
    return NamedSharding(mesh, PartitionSpec("source"))


def over_models_and_batch(mesh: Mesh) -> NamedSharding:
    """Shard axes (models, batch, ...) over `source` and `data`."""
    return NamedSharding(mesh, PartitionSpec("source", "data"))


def over_steps_models_and_batch(mesh: Mesh) -> NamedSharding:
    """Shard axes (steps, models, batch, ...) over `source` and `data`; all devices have all steps."""
    return NamedSharding(mesh, PartitionSpec(None, "source", "data"))


def over_batch(mesh: Mesh) -> NamedSharding:
    """Shard the leading axis (rows of a batch) over `data`; copies along `source`."""
    return NamedSharding(mesh, PartitionSpec("data"))


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def put(tree: PyTree, sharding: Sharding) -> PyTree:
    """Put arrays, which every process holds in full, on devices; each process fills its own devices."""
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)

    def place(leaf: Any) -> jax.Array:
        if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(place(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
        whole = np.asarray(leaf)
        return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])

    return jax.tree.map(place, tree)


def gathered(tree: PyTree) -> PyTree:
    """Arrays on devices as NumPy arrays, complete in every process."""

    def whole(leaf: Any) -> np.ndarray:
        if isinstance(leaf, jax.Array) and not (leaf.is_fully_addressable or leaf.is_fully_replicated):
            return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))
        return np.asarray(leaf)

    return jax.tree.map(whole, tree)


def source_devices(num_models: int, present: int) -> int:
    """The fewest of `present` devices with the smallest possible number of models on each device."""
    longest = -(-num_models // present)
    return -(-num_models // longest)


def split_cpu(num_devices: int) -> None:
    """Let JAX see the CPU as `num_devices` devices, so a mesh can shard models over its cores.

    This does not affect accelerators, and does nothing after a backend has started.
    """
    with contextlib.suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", num_devices)
