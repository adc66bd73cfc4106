"""Blocks of rows: that every kind of source gives all rows once, in order, and what is refused."""

import gc
import os
import weakref

import jax.numpy as jnp
import numpy as np
import pytest

from mixmin_jax import InputError
from mixmin_jax.mixture.scale.blocks import buffers, open_rows


def numbers(n=23, *row):
    return np.random.default_rng(0).normal(size=(n, *(row or (4,))))


def saved(tmp_path, array, name="rows.npy"):
    np.save(tmp_path / name, array)
    return tmp_path / name


def opened(given, beside=None, block_rows=5):
    return open_rows(given, "rows", beside, "weights", 3, block_rows)


def drained(given, beside=None, block_rows=5, size=6):
    """All rows, what stands beside them, and the parts of all buffers."""
    values, extras, parts = [], [], []
    for buffer in buffers(opened(given, beside, block_rows).blocks(), size):
        count = sum(len(part.values) for part in buffer.parts)
        assert len(buffer.values) == size and not buffer.values[count:].any() and not buffer.beside[count:].any()
        values.append(buffer.values[:count])
        extras.append(buffer.beside[:count])
        parts.extend(buffer.parts)
    return np.concatenate(values), np.concatenate(extras), parts


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", ">f4", ">f8", "i4", "u1"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_files_of_any_type_and_order(tmp_path, dtype, order):
    array = np.asarray(100 * numbers(), dtype, order=order)
    path = saved(tmp_path, array)
    given, _, parts = drained(path)
    np.testing.assert_array_equal(given, array)
    assert [parts[0].block, parts[-1].block] == ["block 0 (rows 0 to 4)", "block 4 (rows 20 to 22)"]
    np.testing.assert_array_equal(drained(str(path), block_rows=50, size=50)[0], array)


@pytest.mark.parametrize("order", ["C", "F"])
def test_rows_that_are_matrices(tmp_path, order):
    array = np.asarray(numbers(23, 3, 2), order=order)
    np.testing.assert_array_equal(drained(saved(tmp_path, array))[0], array)


def test_arrays_of_numpy_and_jax(tmp_path):
    array = numbers()
    mapped = np.load(saved(tmp_path, array), mmap_mode="r")
    ways = (
        array,
        array[:, ::-1],
        array[::2],
        np.asfortranarray(array),
        jnp.asarray(array),
        jnp.asarray(array, jnp.bfloat16),
    )
    for given in (*ways, mapped, mapped[3:17:2], array.astype("g"), array.astype("i8")):
        np.testing.assert_array_equal(drained(given)[0], np.asarray(given, np.float64))


@pytest.mark.parametrize("sizes", [(5, 5, 5, 5, 3), (23,), (1,) * 23, (2, 0, 11, 3, 7)])
def test_iterators_of_blocks_of_any_size(sizes):
    array, weights = numbers(), np.arange(23.0)
    cuts = np.cumsum(sizes)[:-1]
    ends = list(zip(sizes, np.cumsum(sizes), strict=True))
    whole, beside = np.split(array, cuts), np.split(weights, cuts)
    for given in (whole, tuple(whole), lambda: iter(whole), lambda: whole):
        values, extra, _ = drained(given)
        np.testing.assert_array_equal(values, array)
        assert (extra == 1).all()
    for given, outside in ((list(zip(whole, beside, strict=True)), None), (whole, weights)):
        values, extra, parts = drained(given, outside)
        np.testing.assert_array_equal(values, array)
        np.testing.assert_array_equal(extra, weights)
        named = [part.label(i) for part in parts for i in range(len(part.values))]
        assert named == [f"{i} (row {stop - size + i} of all)" for size, stop in ends for i in range(size)]
        found = [int(part.block.split()[1]) for part in parts for _ in part.values]
        np.testing.assert_array_equal(found, np.repeat(np.arange(len(sizes)), sizes))


def test_blocks_that_are_overwritten_later():
    array, block = numbers(20), np.empty((5, 4))

    def make():
        for rows in np.split(array, 4):
            block[:] = rows
            yield block

    np.testing.assert_array_equal(drained(make, size=5)[0], array)


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


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: iter([numbers()]), r"a function that gives an iterator of blocks anew .*; got list_iterator"),
        (lambda: (block for block in [numbers()]), "got generator"),
        (lambda: {"a": numbers()}, "got dict"),
        (lambda: 3, "got int"),
        (lambda: lambda: 3, "a function that gives an iterator of blocks .*; got int"),
        (lambda: [], "there are no blocks"),
        (lambda: ["text"], "block 0 must be real numbers"),
        (lambda: [numbers() * 1j], "block 0 must be real numbers"),
        (lambda: np.array(["a"]), "must be real numbers"),
        (lambda: [np.zeros(4)], r"must have the shape .*; got \('n',\)"),
        (lambda: [np.zeros((4, 0))], r"all at least 1; got \('n', 0\)"),
        (lambda: [[[1.0], [2.0, 3.0]]], "block 0 is no array of numbers"),
        (lambda: [(numbers(), 1, 2)], r"block 0 has the shape .* pairs \(rows, what belongs"),
        (lambda: [(numbers(), numbers())], r"block 0 has .* \(23, 4\) and \(23, 4\), where \(23, 4\) and \(23,\)"),
    ],
)
def test_what_is_no_source_of_blocks(make, message):
    with pytest.raises(InputError, match=message):
        opened(make())


@pytest.mark.parametrize(
    "given, message",
    [
        ([numbers(), numbers(5, 3)], r"block 1 has the shape \(5, 3\), where \(5, 4\) belongs"),
        ([numbers(), numbers(5), np.zeros(4)], r"block 2 has the shape \(4,\)"),
        ([numbers(), (numbers(), np.ones(23))], r"block 1 .* \(23, 4\) and \(23,\), where \(23, 4\) belongs"),
        ([(numbers(), np.ones(23)), numbers()], r"block 1 .* \(23, 4\), where \(23, 4\) and \(23,\) belongs"),
        ([(numbers(), np.ones(23)), (numbers(), np.ones(22))], r"block 1 .* \(22,\), where \(23, 4\) and \(23,\)"),
        ([numbers(), None], "block 1 must be real numbers"),
    ],
)
def test_blocks_that_do_not_fit_each_other_are_named(given, message):
    with pytest.raises(InputError, match=message):
        drained(given)


@pytest.mark.parametrize(
    ("n", "message"), [(20, "hold 23 rows or more, but weights are for 20"), (30, "23 rows, but weights are for 30")]
)
def test_another_number_of_values_beside_the_rows(n, message):
    with pytest.raises(InputError, match=message):
        drained([numbers(10), numbers(13)], np.ones(n))


def test_files_that_are_no_arrays(tmp_path):
    def refused(name, content, message):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=message):
            opened(tmp_path / name)

    whole = saved(tmp_path, numbers()).read_bytes()
    refused("text.csv", b"a,b\n1,2\n", "is not a .npy file")
    refused("empty.npy", b"", "is not a .npy file")
    refused("short.npy", whole[:-8], "or is cut off or still being written")
    refused("long.npy", whole + b"0", r"has \d+ bytes, but its array ends at")
    np.savez(tmp_path / "many.npz", a=numbers())
    np.save(tmp_path / "records.npy", np.zeros(3, [("a", float)]))
    np.save(tmp_path / "words.npy", np.array(["a", "b"]))
    for name, message in [
        ("many.npz", "is not a .npy file"),
        ("records.npy", "must be real numbers"),
        ("words.npy", "must be real numbers"),
        ("nowhere.npy", "nowhere.npy is not a file"),
        (".", "is not a file"),
    ]:
        with pytest.raises(InputError, match=message):
            opened(tmp_path / name)


@pytest.mark.parametrize("when", ["before", "during"])
@pytest.mark.parametrize("what", ["cut", "append", "rewrite", "remove"])
def test_a_file_that_changes_is_refused(tmp_path, what, when):
    path = saved(tmp_path, numbers(4000))
    rows = opened(path, block_rows=1000)
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
        for number, _ in enumerate(rows.blocks()):
            if when == "during" and number == 1:
                change()
