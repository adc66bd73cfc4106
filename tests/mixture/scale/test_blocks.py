"""Blocks of rows: that every kind of source gives all rows once, in order, and what is refused."""

import gc
import io
import os
import weakref

import jax.numpy as jnp
import numpy as np
import pytest

from mixmin_jax import InputError
from mixmin_jax.mixture.scale import blocks
from mixmin_jax.mixture.scale.blocks import in_memory, read, source, table


def numbers(n=23, *row):
    return np.random.default_rng(0).normal(size=(n, *(row or (4,))))


def saved(tmp_path, array, name="rows.npy"):
    np.save(tmp_path / name, array)
    return tmp_path / name


def drained(given, beside=None, block_rows=5, size=6):
    """All rows, what stands beside them, and every buffer's parts."""
    rows = source(given, "rows")
    values, extras, parts = [], [], []
    for block in read(rows, beside, block_rows, size, "rows"):
        assert block.values.shape[0] == size and not block.values[block.num_rows :].any()
        values.append(block.values[: block.num_rows].copy())
        if block.beside is not None:
            assert not block.beside[block.num_rows :].any()
            extras.append(block.beside[: block.num_rows].copy())
        parts.append(block.parts)
    return np.concatenate(values), np.concatenate(extras) if extras else None, parts


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", ">f4", ">f8", "i4", "u1"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_files_of_any_type_and_order(tmp_path, dtype, order):
    array = np.asarray(100 * numbers(), dtype, order=order)
    path = saved(tmp_path, array)
    given, _, parts = drained(path)
    np.testing.assert_array_equal(given, array)
    assert given.dtype == (np.float32 if np.dtype(dtype).itemsize <= 4 and array.dtype.kind == "f" else np.float64)
    assert [str(p[0]) for p in parts[-2:]] == ["block 3 (rows 15 to 19)", "block 4 (rows 20 to 22)"]
    np.testing.assert_array_equal(drained(str(path), block_rows=50, size=50)[0], array)


@pytest.mark.parametrize("order", ["C", "F"])
def test_rows_that_are_matrices(tmp_path, order):
    array = np.asarray(numbers(23, 3, 2), order=order)
    np.testing.assert_array_equal(drained(saved(tmp_path, array))[0], array)


@pytest.mark.parametrize("order", ["C", "F"])
def test_mapped_arrays_and_their_slices_are_read_from_the_file(tmp_path, order):
    array = np.asarray(numbers(), order=order)
    mapped = np.load(saved(tmp_path, array), mmap_mode="r")
    np.testing.assert_array_equal(drained(mapped)[0], array)
    part = mapped[3:17] if order == "C" else mapped[:, 1:3]
    np.testing.assert_array_equal(drained(part[...])[0], array[3:17] if order == "C" else array[:, 1:3])
    with pytest.raises(InputError, match="not contiguous in the file"):
        source(mapped[::2], "rows")
    with pytest.raises(InputError, match="mode 'c'"):
        source(np.load(tmp_path / "rows.npy", mmap_mode="c"), "rows")


def test_arrays_of_numpy_and_jax():
    array = numbers()
    ways = array, array[:, ::-1], np.asfortranarray(array), jnp.asarray(array), jnp.asarray(array, jnp.bfloat16)
    for given in (*ways, array.astype("g"), array.astype("i8")):
        np.testing.assert_array_equal(drained(given)[0], np.asarray(given, np.float64))


@pytest.mark.parametrize("sizes", [(5, 5, 5, 5, 3), (23,), (1,) * 23, (2, 0, 11, 3, 7)])
def test_iterators_of_blocks_of_any_size(sizes):
    array, weights = numbers(), np.arange(23.0)
    cuts = np.cumsum(sizes)[:-1]
    whole, beside = np.split(array, cuts), np.split(weights, cuts)
    for given in (whole, tuple(whole), lambda: iter(whole), lambda: whole):
        np.testing.assert_array_equal(drained(given)[0], array)
    for given, outside in ((list(zip(whole, beside, strict=True)), None), (whole, in_memory(weights))):
        values, extra, parts = drained(given, outside)
        np.testing.assert_array_equal(values, array)
        np.testing.assert_array_equal(extra, weights)
        pieces = [(part, part.stop - part.start) for buffer in parts for part in buffer]
        rows = [part.first + part.done + i for part, count in pieces for i in range(count)]
        np.testing.assert_array_equal(rows, np.arange(23))
        found = [part.number for part, count in pieces for _ in range(count)]
        np.testing.assert_array_equal(found, np.repeat(np.arange(len(sizes)), sizes))


def test_a_later_block_in_a_wider_type_loses_nothing():
    array = numbers()
    given = [array[:7].astype(np.float32), array[7:]]
    np.testing.assert_array_equal(drained(given)[0], np.concatenate([block.astype(np.float64) for block in given]))


@pytest.mark.slow
def test_no_more_than_two_blocks_are_alive():
    made, most = [], []

    def make():
        for _ in range(12):
            block = numbers(5)
            made.append(weakref.ref(block))
            gc.collect()
            most.append(sum(ref() is not None for ref in made))
            yield block
            del block

    drained(make)
    assert len(most) == 13 and max(most) <= 2  # the first block was looked at before


def test_buffers_are_two_whatever_the_number_of_blocks():
    kept = [block.values for block in read(source([numbers(5)] * 9, "rows"), None, 5, 5, "rows")]
    assert len({id(values) for values in kept}) == 2


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: iter([numbers()]), r"a list_iterator can be read only once, .* give the function that makes it"),
        (lambda: (block for block in [numbers()]), "a generator can be read only once"),
        (lambda: {"a": numbers()}, "a dict has no order"),
        (lambda: 3, "got int"),
        (lambda: lambda: 3, "must give an iterator of blocks; it gave int"),
        (lambda: [], "there are no blocks"),
        (lambda: ["text"], "block 0 must be real numbers"),
        (lambda: [numbers() * 1j], "block 0 must be real numbers"),
        (lambda: np.array(["a"]), "must be real numbers"),
        (lambda: [np.zeros(4)], r"block 0 has the shape \(4,\)"),
        (lambda: [np.zeros((4, 0))], r"block 0 has the shape \(4, 0\)"),
        (lambda: [[[1.0], [2.0, 3.0]]], "block 0 is no array of numbers"),
        (lambda: [(numbers(), 1, 2)], "block 0 is a tuple of 3"),
    ],
)
def test_what_is_no_source_of_blocks(make, message):
    with pytest.raises(InputError, match=message):
        source(make(), "rows")


@pytest.mark.parametrize(
    "given, message",
    [
        ([numbers(), numbers(5, 3)], r"block 1 has the shape \(5, 3\), but block 0 has rows of shape \(4,\)"),
        ([numbers(), numbers(5), np.zeros(4)], r"block 2 has the shape \(4,\)"),
        ([numbers(), (numbers(), np.ones(23))], "block 1 is a pair, but block 0 is an array"),
        ([(numbers(), np.ones(23)), numbers()], "block 1 is an array, but block 0 is a pair"),
        ([(numbers(), np.ones(23)), (numbers(), np.ones(22))], r"block 1 has 23 rows, and .* shape \(22,\)"),
        ([numbers(), None], "block 1 must be real numbers"),
    ],
)
def test_blocks_that_do_not_fit_each_other_are_named(given, message):
    with pytest.raises(InputError, match=message):
        drained(given)


@pytest.mark.parametrize(("n", "message"), [(20, "block 1 ends with row 22"), (30, "23 rows, but 30 values stand")])
def test_another_number_of_values_beside_the_rows(n, message):
    with pytest.raises(InputError, match=message):
        drained([numbers(10), numbers(13)], in_memory(np.ones(n)))


def test_files_that_are_no_arrays(tmp_path):
    def refused(name, content, message):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=message):
            table(tmp_path / name, "rows")

    whole = saved(tmp_path, numbers()).read_bytes()
    refused("text.csv", b"a,b\n1,2\n", "is not a .npy file")
    refused("empty.npy", b"", "is not a .npy file")
    refused("short.npy", whole[:-8], r"has \d+ bytes, but .* was cut off, or is still being written")
    refused("long.npy", whole + b"0", "or is still being written")
    np.savez(tmp_path / "many.npz", a=numbers())
    np.save(tmp_path / "records.npy", np.zeros(3, [("a", float)]))
    np.save(tmp_path / "words.npy", np.array(["a", "b"]))
    for name, message in [
        ("many.npz", "is not a .npy file"),
        ("records.npy", "must be real numbers"),
        ("words.npy", "must be real numbers"),
        ("nowhere.npy", "cannot be read: No such file"),
        (".", "cannot be read: Is a directory"),
    ]:
        with pytest.raises(InputError, match=message):
            table(tmp_path / name, "rows")


@pytest.mark.parametrize("when", ["before", "during", "after"])
@pytest.mark.parametrize("what", ["cut", "append", "rewrite", "remove"])
def test_a_file_that_changes_is_refused(tmp_path, what, when):
    path = saved(tmp_path, numbers(4000))
    rows = table(path, "rows")
    whole, written = path.read_bytes(), path.stat().st_mtime_ns

    def change():
        if what == "remove":
            path.unlink()
        else:
            path.write_bytes({"cut": whole[:-8000], "append": whole + whole, "rewrite": whole}[what])
            os.utime(path, ns=(0, written if what == "cut" else written + 1000))

    with pytest.raises(InputError, match="cannot be read any more" if what == "remove" else "was written to"):
        if when == "before":
            change()
        for number, _ in enumerate(read(rows, None, 1000, 1000, "rows")):
            if when != "before" and number == (1 if when == "during" else 3):
                change()


def test_a_mapped_file_cut_off_is_an_error_and_no_crash(tmp_path):
    path = saved(tmp_path, numbers(4000))
    mapped = np.load(path, mmap_mode="r")
    os.truncate(path, 1000)
    with pytest.raises(InputError, match="shorter than the memory-mapped array"):
        source(mapped, "rows")


def test_reads_that_give_less_than_asked_are_continued(tmp_path, monkeypatch):
    array = numbers()

    class Slow(io.FileIO):
        def readinto(self, view):
            return super().readinto(view[:7])

    path = saved(tmp_path, array)
    monkeypatch.setattr(blocks, "open", lambda path, *_, **__: Slow(path), raising=False)
    np.testing.assert_array_equal(drained(path)[0], array)
