"""Shard rows over the devices of a mesh, and exchange arrays between its processes.

Every device holds the same number of rows, filled up with rows of weight 0. Weights and K x K matrices are on every
device. A sum over rows is a sum on each device and then over devices, so rows never move.

Axes: N rows, K sources, D outputs, P processes; C blocks of B rows.
"""

import contextlib
import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float

from mixmin_jax.errors import InputError
from mixmin_jax.mixture.evaluator import Likelihoods

_AXIS = "rows"
_WITH_FLOAT64 = ("cpu", "gpu", "cuda", "rocm")  # platforms whose linear algebra is complete in float64
_TEXT = 512  # bytes of an error message that other processes receive

_ON_ROWS, _EVERYWHERE = PartitionSpec(_AXIS), PartitionSpec()
Result = TypeVar("Result")
Exchange = Callable[[np.ndarray], np.ndarray]  # stacks the arrays of all processes, of one shape and type


def checked_mesh(mesh: Any) -> Mesh:
    """All devices of a mesh in one axis, for rows.

    Raises:
        InputError: not a mesh, or a mesh of devices that this process cannot use.
    """
    if not isinstance(mesh, Mesh):
        raise InputError(f"mesh must be a jax.sharding.Mesh, as jax.make_mesh((8,), ('rows',)); got {mesh!r}")
    if mesh.empty:
        raise InputError("mesh has no devices; give at least one, as jax.make_mesh((8,), ('rows',))")
    devices = list(mesh.devices.flat)
    platforms = sorted({device.platform for device in devices})
    if len(platforms) > 1:
        raise InputError(f"mesh mixes devices of {' and '.join(platforms)}; give devices of one platform")
    try:
        present = set(jax.devices(platforms[0]))
    except RuntimeError:
        present = set()
    if missing := [device for device in devices if device not in present]:
        raise InputError(
            f"mesh has {len(missing)} devices that JAX does not have here, the first is {missing[0]}; build the mesh "
            f"from jax.devices(), here {len(jax.devices())} of platform {jax.devices()[0].platform!r}"
        )
    flat = Mesh(mesh.devices.reshape(-1), (_AXIS,))
    if not flat.local_devices:
        raise InputError(
            f"mesh has no device of process {devices[0].client.process_index()}; build it from jax.devices(), which "
            "lists those of all processes"
        )
    return flat


def has_float64(mesh: Mesh) -> bool:
    """Whether the devices of a mesh can run a solve in float64."""
    return mesh.devices.flat[0].platform in _WITH_FLOAT64


# Exchange between processes.


def exchange(mesh: Mesh | None, mine: np.ndarray) -> np.ndarray:
    """Stack the arrays of all processes of a mesh: (P, ...), the same in every process. Shapes and types must agree.

    Arrays are sent as bytes, so float64 passes through devices without it.
    """
    if mesh is None or not mesh.is_multi_process:
        return mine[None]
    bytes_B = np.frombuffer(mine.tobytes(), np.uint8)
    pieces = [jax.device_put(bytes_B[None], device) for device in mesh.local_devices]
    shape = (mesh.size, bytes_B.size)
    given_DxB = jax.make_array_from_single_device_arrays(shape, NamedSharding(mesh, _ON_ROWS), pieces)
    all_DxB = np.asarray(jax.jit(lambda x: x, out_shardings=NamedSharding(mesh, _EVERYWHERE))(given_DxB))
    first_of = {device.process_index: d for d, device in reversed(list(enumerate(mesh.devices.flat)))}
    rows_PxB = all_DxB[[first_of[process] for process in sorted(first_of)]]
    return np.frombuffer(rows_PxB.tobytes(), mine.dtype).reshape(-1, *mine.shape)


@contextlib.contextmanager
def together(mesh: Mesh | None) -> Iterator[Callable[[Any], None]]:
    """A block that fails on all processes of a mesh if it fails on one, so that none waits for ever.

    Yields a function that takes values which must be equal on all processes; if they differ, all processes fail.
    """
    if mesh is None or not mesh.is_multi_process:
        yield lambda _: None
        return
    digest, failure = hashlib.sha256(), None
    try:
        yield lambda common: digest.update(repr(common).encode())
    except Exception as error:  # of any kind: the other processes must hear of it
        failure = error
    kind = 0 if failure is None else 1 if isinstance(failure, InputError) else 2
    text = str(failure).encode()[:_TEXT].ljust(_TEXT, b"\0")
    said = bytes([kind]) + digest.digest() + text
    said_PxB = exchange(mesh, np.frombuffer(said, np.uint8))
    if failure is not None:
        raise failure
    for process, row_B in enumerate(said_PxB):
        if row_B[0]:
            text = row_B[33:].tobytes().rstrip(b"\0").decode(errors="replace")
            message = f"process {process} of {len(said_PxB)} failed: {text}"
            raise InputError(message) if row_B[0] == 1 else RuntimeError(message)
    if (said_PxB[:, 1:33] != said_PxB[0, 1:33]).any():
        raise InputError(
            "processes called solve with different options, sources or kinds of objective; only rows may differ"
        )


def on_every_process(build: Callable[[], Result], mesh: Mesh) -> Result:
    """Run build() in all processes of a mesh; if it raises in one, all raise.

    With `jax.distributed` each process reads its own rows. A process that stops at a bad row would leave the others
    waiting in `solve`:

        part = f"part{jax.process_index()}.npy"
        objective = on_every_process(lambda: cross_entropy(np.load(part, allow_pickle=False)), mesh)
        weights = solve(objective, mesh=mesh).weights

    Args:
        build: makes this process's objective.
        mesh: that of `solve`.

    Returns:
        The result of build() in this process.

    Raises:
        InputError: a wrong mesh, or build() raised one in some process.
        RuntimeError: build() raised any other error in another process.
    """
    with together(checked_mesh(mesh)):
        result = build()
    return result


# Rows on devices.


def put_rows(part: Callable[[slice], Any], num_rows: int, mesh: Mesh, dtype: Any) -> Any:
    """Put this process's rows, trees of arrays part(slice), on the mesh; missing rows are filled with zeros."""
    mine = -(-num_rows // len(mesh.local_devices))
    size = max(1, int(exchange(mesh, np.array([mine])).max()))  # enough for the process with the most rows

    def put(values: Any, device: jax.Device) -> Array:
        values = np.asarray(values, dtype)
        if short := size - len(values):
            values = np.concatenate([values, np.zeros((short, *values.shape[1:]), dtype)])
        return jax.device_put(values, device)

    def whole(*pieces: Array) -> Array:
        shape = (size * mesh.size, *pieces[0].shape[1:])
        return jax.make_array_from_single_device_arrays(shape, NamedSharding(mesh, _ON_ROWS), list(pieces))

    with together(mesh):  # one process may run out of memory
        parts = [
            jax.tree.map(functools.partial(put, device=device), part(slice(d * size, (d + 1) * size)))
            for d, device in enumerate(mesh.local_devices)
        ]
    return jax.tree.map(whole, *parts)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RowShards:
    """An objective with only row arrays, on the devices of a mesh."""

    part: Any
    mesh: Mesh = dataclasses.field(metadata={"static": True})

    @classmethod
    def of_rows(cls, objective: Any, num_rows: int, mesh: Mesh, dtype: Any) -> "RowShards":
        """This process's rows on its devices, in `dtype`; below float64, rows are centered first."""

        def part(rows: slice) -> Any:
            piece = jax.tree.map(lambda values: values[rows], objective)
            return piece if np.dtype(dtype) == np.float64 else piece.centered()

        return cls(put_rows(part, num_rows, mesh, dtype), mesh)

    def prepare(self) -> "Sharded":
        """The evaluator; inside a compiled program."""

        def local(part: Any) -> tuple[Likelihoods, Float[Array, ""]]:
            f = part.prepare()
            offset, scale = jax.lax.psum((f.offset, f.scale), _AXIS)
            return dataclasses.replace(f, offset=offset), scale

        specs = (Likelihoods(_ON_ROWS, _ON_ROWS, _EVERYWHERE), _EVERYWHERE)  # type: ignore[arg-type]
        rows, scale = _on_devices(local, self.mesh, _ON_ROWS, specs)(self.part)
        return Sharded(rows, scale, self.mesh)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Sharded:
    """`Likelihoods` whose blocks lie on the devices of a mesh."""

    rows: Likelihoods
    scale: Float[Array, ""]
    mesh: Mesh = dataclasses.field(metadata={"static": True})
    homogeneous: ClassVar[bool] = True

    @property
    def offset(self) -> Float[Array, ""]:
        return self.rows.offset

    def rounding(self, w_K: Float[Array, " K"]) -> Float[Array, ""]:
        return jnp.zeros_like(self.scale)

    def value(self, w_K: Float[Array, " K"]) -> Float[Array, ""]:
        return self._sum(Likelihoods.value, w_K)

    def value_and_gradient(self, w_K: Float[Array, " K"]) -> tuple[Float[Array, ""], Float[Array, " K"]]:
        return self._sum(Likelihoods.value_and_gradient, w_K)

    def curvature(self, w_K: Float[Array, " K"]) -> tuple[Float[Array, ""], Float[Array, " K"], Float[Array, "K K"]]:
        return self._sum(Likelihoods.curvature, w_K)

    def _sum(self, method: Callable[[Likelihoods, Array], Any], w_K: Float[Array, " K"]) -> Any:
        """Sum a method of `Likelihoods` over devices."""

        def local(blocks: tuple[Float[Array, "C K B"], Float[Array, "C B"]], w_K: Float[Array, " K"]) -> Any:
            return jax.lax.psum(method(Likelihoods(*blocks, jnp.zeros((), w_K.dtype)), w_K), _AXIS)

        blocks = self.rows.p_CxKxB, self.rows.weights_CxB
        return _on_devices(local, self.mesh, (_ON_ROWS, _EVERYWHERE), _EVERYWHERE)(blocks, w_K)


def sum_of_squares(residuals_NxKxD: Any, mesh: Mesh, dtype: Any) -> Float[Array, "K K"]:
    """sum_n r_n r_n' over the residuals of all processes, on all devices."""
    rows_NxKxD = put_rows(lambda rows: residuals_NxKxD[rows], len(residuals_NxKxD), mesh, dtype)
    return _gram(rows_NxKxD, mesh)


@functools.partial(jax.jit, static_argnames="mesh")
def _gram(residuals_NxKxD: Float[Array, "N K D"], mesh: Mesh) -> Float[Array, "K K"]:
    def local(r_NxKxD: Float[Array, "N K D"]) -> Float[Array, "K K"]:
        return jax.lax.psum(jnp.einsum("nkd,nld->kl", r_NxKxD, r_NxKxD), _AXIS)

    return _on_devices(local, mesh, _ON_ROWS, _EVERYWHERE)(residuals_NxKxD)


def _on_devices(function: Callable[..., Any], mesh: Mesh, in_specs: Any, out_specs: Any) -> Callable[..., Any]:
    # check_vma=False: loops over blocks start with zeros equal on all devices and end with sums that differ.
    return jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)
