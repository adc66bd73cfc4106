"""Sources of blocks of rows: a .npy file, an array, or an iterator that is made anew for every pass.

A pass reads all rows once into two buffers of one fixed shape: one is filled while the other is worked on. Files are
read, not memory-mapped: a mapped file that shrinks would kill the process.

Axes: N rows in all, B rows in a buffer; a row is a vector (K,) or a matrix (K, D).
"""

import contextlib
import dataclasses
import functools
import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, NamedTuple, cast

import jax
import numpy as np

from mixmin_jax.errors import InputError
from mixmin_jax.mixture.checks import is_traced, refuse_masked
from mixmin_jax.mixture.labels import Labeled

Fill = Callable[[int, np.ndarray], None]  # (first row, array to fill with the rows from there on)


class Part(NamedTuple):
    """The rows of a buffer that belong to one block of the user."""

    number: int  # of the block
    first: int  # the number, over all rows, of the block's first row
    rows: int  # of the block
    start: int  # first row in the buffer
    stop: int  # last row in the buffer + 1
    done: int  # rows of the block in earlier buffers

    def __str__(self) -> str:
        return f"block {self.number} (rows {self.first} to {self.first + self.rows - 1})"


class Block(NamedTuple):
    """A filled buffer. It is overwritten when the next but one is read."""

    values: np.ndarray  # (B, K) or (B, K, D); 0 from row `num_rows` on
    beside: np.ndarray | None  # (B,) or (B, D): the rows' weights or targets
    num_rows: int
    parts: tuple[Part, ...]


class Given(NamedTuple):
    """One block of the user, to copy from: `fill(row, out)` copies the rows from there on."""

    num_rows: int
    dtype: np.dtype
    fill: Fill
    fill_beside: Fill | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """Rows with random access."""

    shape: tuple[int, ...]
    dtype: np.dtype
    open: Callable[[], contextlib.AbstractContextManager[Fill]]  # a reader for one pass
    beside_shape: ClassVar[None] = None

    @property
    def num_rows(self) -> int:
        return self.shape[0] if self.shape else 0

    @property
    def row_shape(self) -> tuple[int, ...]:
        return self.shape[1:]

    def blocks(self, block_rows: int, what: str) -> Iterator[Given]:
        """All rows in blocks of `block_rows` rows."""
        with self.open() as fill:
            for first in range(0, self.num_rows, block_rows):
                count = min(block_rows, self.num_rows - first)
                yield Given(count, self.dtype, functools.partial(_from, first, fill))


@dataclasses.dataclass(frozen=True)
class NpyFile:
    """An array in a .npy file that must not change."""

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool
    offset: int  # of the data, in bytes
    size: int  # of the file, in bytes
    changed_ns: int

    @contextlib.contextmanager
    def open(self) -> Iterator[Fill]:
        with contextlib.ExitStack() as stack:
            with self._readable():
                file = stack.enter_context(open(self.path, "rb", buffering=0))
            self._check_unchanged(os.fstat(file.fileno()))
            yield functools.partial(self._fill, file)
        with self._readable():
            self._check_unchanged(os.stat(self.path))

    @contextlib.contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(f"{self.path} cannot be read any more: {error.strerror or error}") from None

    def _fill(self, file: Any, first: int, rows: np.ndarray) -> None:
        row_items = int(np.prod(self.shape[1:]))
        if self.fortran:  # one column at a time: the file stores columns
            columns = np.empty((row_items, len(rows)), self.dtype)
            for column in range(row_items):
                self._read(file, column * self.shape[0] + first, columns[column])
            # In the file the first axis of a row varies fastest.
            rows[...] = columns.T.reshape((len(rows), *self.shape[:0:-1])).transpose(0, *range(rows.ndim - 1, 0, -1))
        else:
            given = rows if rows.dtype == self.dtype else np.empty(rows.shape, self.dtype)
            self._read(file, first * row_items, given)
            if given is not rows:
                rows[...] = given
        self._check_unchanged(os.fstat(file.fileno()))

    def _read(self, file: Any, first_item: int, array: np.ndarray) -> None:
        file.seek(self.offset + first_item * self.dtype.itemsize)
        view: Any = memoryview(cast(Any, array.reshape(-1).view(np.uint8)))
        while view:  # a read may return fewer bytes than asked for
            with self._readable():
                got = file.readinto(view)
            if not got:
                self._check_unchanged(os.fstat(file.fileno()))
                raise InputError(f"{self.path} ended early; was it cut off while it was read?")
            view = view[got:]

    def _check_unchanged(self, stat: os.stat_result) -> None:
        if (stat.st_size, stat.st_mtime_ns) != (self.size, self.changed_ns):
            raise InputError(
                f"{self.path} was written to while it was in use ({self.size} bytes before, {stat.st_size} now); wait "
                "until nothing writes to it, or read from a copy"
            )


@dataclasses.dataclass(frozen=True, eq=False)
class Iterated:
    """Blocks of any number of rows, or pairs of a block and its weights or targets."""

    make: Callable[[], Any]
    row_shape: tuple[int, ...]
    dtype: np.dtype  # of the first block
    beside_shape: tuple[int, ...] | None  # of a row's weight or target if blocks come in pairs
    num_rows: ClassVar[None] = None  # known only after a pass

    def blocks(self, block_rows: int, what: str) -> Iterator[Given]:
        """The blocks as they are made, checked against the first one."""
        for number, given in enumerate(_iterator(self.make, what)):
            block, beside = _arrays(given, number, what)
            if (beside is None) != (self.beside_shape is None):
                kinds = ("a pair", "an array") if self.beside_shape is None else ("an array", "a pair")
                raise InputError(
                    f"{what}: block {number} is {kinds[0]}, but block 0 is {kinds[1]}; give all blocks alike"
                )
            if block.shape[1:] != self.row_shape:
                raise InputError(
                    f"{what}: block {number} has the shape {block.shape}, but block 0 has rows of shape "
                    f"{self.row_shape}; all blocks need the same columns, one a source"
                )
            if beside is not None and beside.shape != (expected := (len(block), *(self.beside_shape or ()))):
                raise InputError(
                    f"{what}: block {number} has {len(block)} rows, and beside it stands an array of shape "
                    f"{beside.shape} where {expected} belongs"
                )
            yield Given(len(block), block.dtype, _copier(block), None if beside is None else _copier(beside))


RowSource = Table | Iterated


def source(blocks: Any, what: str) -> RowSource:
    """Blocks of rows as a user gives them. Only the first block is looked at.

    Raises:
        InputError: no such file, or one that cannot be read in blocks; an iterator that can be read only once; blocks
            that are not arrays of numbers.
    """
    if isinstance(blocks, str | os.PathLike | np.ndarray | jax.Array):
        return table(blocks, what)
    if isinstance(blocks, Labeled):
        raise InputError(f"{what}: rows are streamed without labels; give .to_numpy(), and `sources` for its columns")
    if isinstance(blocks, dict | set | frozenset):
        raise InputError(f"{what}: a {type(blocks).__name__} has no order; give a list of blocks, or one array")
    if hasattr(blocks, "__next__") and iter(blocks) is blocks:
        raise InputError(
            f"{what}: a {type(blocks).__name__} can be read only once, but every iteration of a solve reads all blocks "
            "again; give the function that makes it, as lambda: read_blocks(...), a list of blocks, or the path of a "
            ".npy file"
        )
    if not callable(blocks) and not hasattr(blocks, "__iter__"):
        raise InputError(
            f"{what} must be the path of a .npy file, an array, a list of blocks, or a function that gives an iterator "
            f"of blocks; got {type(blocks).__name__}"
        )
    make = blocks if callable(blocks) else lambda: blocks
    for first in _iterator(make, what):
        values, beside = _arrays(first, 0, what)
        if values.ndim not in (2, 3) or 0 in values.shape[1:]:
            raise InputError(
                f"{what}: block 0 has the shape {values.shape}; a block holds rows of numbers, one a source: (n, K)"
            )
        return Iterated(make, values.shape[1:], values.dtype, None if beside is None else beside.shape[1:])
    raise InputError(f"{what}: there are no blocks; give at least one with at least one row")


def table(array: Any, what: str) -> Table:
    """A .npy file or an array. A memory-mapped array is read from its file, because mapped memory can disappear.

    Raises:
        InputError: no such file, not a .npy file, a truncated or unfinished one, or one without real numbers; a mapped
            array that is not a contiguous part of its file, or is private to this process.
    """
    if isinstance(array, str | os.PathLike):
        return _npy_file(os.fspath(array), what)
    if isinstance(array, np.memmap) and array.filename is not None:
        return _mapped(array, what)
    return in_memory(_array(array, what))


def buffer_dtype(dtype: np.dtype, what: str) -> np.dtype:
    """float32 for types that fit in it without loss, else float64."""
    if dtype.name in ("float32", "float16", "bfloat16"):
        return np.dtype(np.float32)
    if dtype.kind in "fiub":
        return np.dtype(np.float64)
    raise InputError(f"{what} must be real numbers; got {dtype}")


def read(rows: RowSource, beside: Table | None, block_rows: int, size: int, what: str) -> Iterator[Block]:
    """One pass over all rows, in buffers of `size` rows, at most `block_rows` of which are used.

    Blocks of a table have `block_rows` rows. Blocks of an iterator are cut or joined to fill the buffers.

    Raises:
        InputError: with the block: no rows, blocks of different widths, changed files, or a block and its weights or
            targets of different lengths.
    """
    extra_shape = rows.beside_shape if beside is None else beside.row_shape

    def two_buffers(dtype: np.dtype) -> Iterator[tuple[np.ndarray, Any]]:
        pairs = [
            (np.empty((size, *rows.row_shape), dtype), None if extra_shape is None else np.empty((size, *extra_shape)))
            for _ in range(2)
        ]
        return itertools.cycle(pairs)

    buffers = two_buffers(buffer_dtype(rows.dtype, what))
    values, extra = next(buffers)
    total = count = 0
    parts: list[Part] = []

    def filled() -> Block:
        values[count:] = 0
        if extra is not None:
            extra[count:] = 0
        return Block(values, extra, count, tuple(parts))

    with contextlib.nullcontext() if beside is None else beside.open() as fill_beside:
        for number, given in enumerate(rows.blocks(block_rows, what)):
            n, first = given.num_rows, total
            total += n
            if beside is not None and total > beside.num_rows:
                raise InputError(
                    f"{what}: {beside.num_rows} rows are expected, one for each of the values beside them, but block "
                    f"{number} ends with row {total - 1}"
                )
            wide = np.promote_types(values.dtype, buffer_dtype(given.dtype, what))
            if wide != values.dtype:
                values, buffers = values.astype(wide), two_buffers(wide)
            done = 0
            while done < n:
                stop = min(count + n - done, block_rows)
                given.fill(done, values[count:stop])
                if fill_beside is not None:
                    fill_beside(first + done, extra[count:stop])
                elif given.fill_beside is not None:
                    given.fill_beside(done, extra[count:stop])
                parts.append(Part(number, first, n, count, stop, done))
                done, count = done + stop - count, stop
                if count == block_rows:
                    yield filled()
                    (values, extra), count, parts = next(buffers), 0, []
    if beside is not None and total < beside.num_rows:
        raise InputError(f"{what}: the blocks hold {total} rows, but {beside.num_rows} values stand beside them")
    if count:
        yield filled()


def in_memory(array: np.ndarray) -> Table:
    """The rows of an array."""
    return Table(array.shape, array.dtype, lambda: contextlib.nullcontext(_copier(array)))


def _from(start: int, fill: Fill, first: int, out: np.ndarray) -> None:
    fill(start + first, out)


def _copier(array: np.ndarray) -> Fill:
    def fill(first: int, out: np.ndarray) -> None:
        out[...] = array[first : first + len(out)]

    return fill


def _iterator(make: Callable[[], Any], what: str) -> Iterable[Any]:
    made = make()
    if not hasattr(made, "__iter__"):
        raise InputError(f"{what}: the function must give an iterator of blocks; it gave {type(made).__name__}")
    return made


def _arrays(given: Any, number: int, what: str) -> tuple[np.ndarray, np.ndarray | None]:
    """A block, and what stands beside its rows if it is a pair."""
    where = f"{what}: block {number}"
    if not isinstance(given, tuple):
        return _array(given, where), None
    if len(given) != 2:
        raise InputError(f"{where} is a tuple of {len(given)}; give arrays, or pairs (rows, what belongs to each row)")
    return _array(given[0], where), _array(given[1], where)


def _array(values: Any, where: str) -> np.ndarray:
    if is_traced(values):
        raise InputError(f"{where}: streamed rows cannot be traced; inside jit, vmap and grad use solve_traced")
    refuse_masked(values, where)
    try:
        values = np.asarray(values)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where} is no array of numbers: {error}") from None
    buffer_dtype(values.dtype, where)
    return values


def _npy_file(path: str, what: str) -> Table:
    if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):  # opening a pipe may block for ever
        raise InputError(f"{what}: {path} cannot be read: it is a pipe or device, not a file")
    try:
        with open(path, "rb") as file:
            stat = os.fstat(file.fileno())
            version = np.lib.format.read_magic(file)
            if version > (2, 0):
                raise ValueError(f"its format is {version}, for arrays of records")
            header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = header(file)
            offset = file.tell()
            if any(size < 0 for size in shape):
                raise ValueError(f"its shape is {shape}")
    except OSError as error:
        raise InputError(f"{what}: {path} cannot be read: {error.strerror}") from None
    except Exception as error:  # of many kinds: headers are parsed as Python
        detail = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise InputError(
            f"{what}: {path} is not a .npy file with one array of numbers ({detail}); write it with numpy.save"
        ) from None
    buffer_dtype(dtype, f"{what}: {path}")
    need = offset + math.prod(shape) * dtype.itemsize
    if need != stat.st_size:
        raise InputError(
            f"{what}: {path} has {stat.st_size} bytes, but an array of shape {shape} and type {dtype} needs {need}; it "
            "was cut off, or is still being written"
        )
    return Table(shape, dtype, NpyFile(path, shape, dtype, fortran, offset, stat.st_size, stat.st_mtime_ns).open)


def _mapped(array: Any, what: str) -> Table:
    """The part of the file that a memory-mapped array, or a slice of one, covers."""
    root = array
    while isinstance(root.base, np.memmap):
        root = root.base
    if root.mode == "c":
        raise InputError(
            f"{what}: the memory-mapped {root.filename} was opened with mode 'c', so that what it shows may not be in "
            "the file; open it with mode 'r', or give the path"
        )
    c, fortran = array.flags.c_contiguous, array.flags.f_contiguous
    if not (c or fortran):
        raise InputError(
            f"{what}: this part of the memory-mapped {root.filename} is not contiguous in the file; give the whole "
            "array, or its rows from one to another"
        )
    buffer_dtype(array.dtype, what)
    root.flush()
    stat = os.stat(root.filename)
    address = array.__array_interface__["data"][0] - root.__array_interface__["data"][0]
    offset, path = root.offset + address, os.fspath(root.filename)
    if offset + array.nbytes > stat.st_size:
        raise InputError(f"{what}: {path} is shorter than the memory-mapped array; it was cut off after it was opened")
    file = NpyFile(path, array.shape, array.dtype, not c, offset, stat.st_size, stat.st_mtime_ns)
    return Table(array.shape, array.dtype, file.open)
