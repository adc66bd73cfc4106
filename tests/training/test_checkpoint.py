"""Checkpoints: what is read back is what was written, or the newest that is whole."""

import contextlib
import errno
import gc
import json
import logging
import os
import resource
import shutil
import time
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixmin_jax.training import checkpoint
from mixmin_jax.training.checkpoint import Checkpoints, Stopped
from tests.training.trees import assert_same


@pytest.fixture(scope="module", autouse=True)
def little_to_collect():
    """Reads that fail collect garbage, which takes a second each time after other tests."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def state(value):
    w = jnp.full((40, 30), float(value))
    return {"w": w, "count": jnp.int32(value), "key": jax.random.key(7), "seen": np.arange(3.0)}


def write(folder, steps, *, stamp="a", keep=2, notes=None):
    with Checkpoints(folder, stamp, every=1, keep=keep) as checkpoints:
        checkpoints.notes |= notes or {}
        for step in steps:
            assert checkpoints.due(step, 100)
            checkpoints.save(step, 100, state(step))


def read(folder, stamp="a", keep=2):
    warnings = []
    with Checkpoints(folder, stamp, every=1, keep=keep, warn=warnings.append) as checkpoints:
        return checkpoints.restore(state(0.0)), checkpoints.notes, warnings


def test_the_newest_is_read_back_with_its_notes_and_the_oldest_are_gone(tmp_path):
    write(tmp_path, [10, 20, 30], notes={"seen": [0.1, None]})
    (step, found), notes, warnings = read(tmp_path)
    assert step == 30 and notes == {"seen": [0.1, None]} and not warnings
    assert_same(found, state(30))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["20", "30"]


def test_without_a_checkpoint_there_is_nothing_to_restore(tmp_path):
    found, notes, warnings = read(tmp_path / "never")
    assert found is None and notes == {} and not warnings and not (tmp_path / "never").exists()


def test_what_is_written_does_not_change_when_buffers_are_donated(tmp_path):
    update = jax.jit(lambda tree: jax.tree.map(lambda x: x + 1, tree), donate_argnums=0)
    tree = {"w": jnp.zeros((500, 500))}
    with Checkpoints(tmp_path, "a", every=1) as checkpoints:
        for step in range(1, 6):
            tree = update(tree)
            assert checkpoints.due(step, 100)
            checkpoints.save(step, 100, tree)
    with Checkpoints(tmp_path, "a", every=1) as checkpoints:
        step, found = checkpoints.restore({"w": jnp.zeros((500, 500))})
    assert step == 5 and (found["w"] == 5).all()


@pytest.mark.parametrize(("before", "after"), [(8, 2), (2, 8), (8, 1), (4, 8)])
def test_a_checkpoint_is_whole_on_any_number_of_devices(tmp_path, before, after):
    """24 rows on 8 devices begin at 0, 3, ..., 21, and `12` comes before `3` among words."""

    def placed(array, devices):
        mesh = jax.sharding.Mesh(np.array(jax.devices()[:devices]), ("source",))
        rows = {"models": jax.sharding.PartitionSpec("source"), "all": jax.sharding.PartitionSpec()}
        rows["columns"] = jax.sharding.PartitionSpec(None, "source")
        return {kind: jax.device_put(array, jax.sharding.NamedSharding(mesh, spec)) for kind, spec in rows.items()}

    wanted = placed(np.random.default_rng(0).normal(size=(24, 8)).astype(np.float32), before)
    with Checkpoints(tmp_path, "a", every=1) as checkpoints:
        checkpoints.save(10, 100, wanted)
    with Checkpoints(tmp_path, "a", every=1, warn=pytest.fail) as checkpoints:
        step, found = checkpoints.restore(placed(np.zeros((24, 8), np.float32), after))
    assert step == 10 and len(found["models"].sharding.device_set) == after
    assert_same(found, wanted)


def test_sums_of_pieces_do_not_depend_on_the_mesh(monkeypatch):
    """As where other processes hold the rest."""
    arrays = []
    for devices in (1, 2, 4, 8):
        mesh = jax.sharding.Mesh(np.array(jax.devices()[:devices]), ("source",))
        rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("source"))
        arrays.append(jax.device_put(np.arange(72.0).reshape(24, 3), rows))
    for name in ("is_fully_addressable", "is_fully_replicated"):
        monkeypatch.setattr(type(arrays[0]), name, False)
    found = [list(checkpoint._parts(array)) for array in arrays]
    assert [len(pieces) for pieces in found] == [1, 2, 4, 8]
    assert len({b"".join(pieces) for pieces in found}) == 1


def test_checkpoints_of_another_run_are_not_taken(tmp_path):
    write(tmp_path, [10], stamp="another")
    lines = []
    with Checkpoints(tmp_path, "a", every=1, warn=lines.append) as checkpoints:
        assert checkpoints.restore({"of": jnp.zeros(5), "another": jnp.zeros(()), "shape": jnp.zeros(2)}) is None
    assert not list(tmp_path.glob("[0-9]*"))
    assert lines == [
        f"checkpoint of step 10 in {tmp_path} cannot be used (it is of another training): kept as set-aside-10,"
        " beginning anew"
    ]
    assert read(tmp_path)[0] is None
    (tmp_path / "set-aside-10").rename(tmp_path / "10")
    assert_same(read(tmp_path, stamp="another")[0][1], state(10))


def test_a_checkpoint_of_another_number_of_processes_is_not_called_damaged(tmp_path, monkeypatch):
    write(tmp_path, [10])
    monkeypatch.setattr(checkpoint, "_sums", lambda tree, sums=checkpoint._sums: sums(tree) * 2)
    write(tmp_path, [20])
    monkeypatch.undo()
    (step, _), _, warnings = read(tmp_path)
    assert step == 10 and len(warnings) == 1 and "(it was saved by 2 processes, and this run has 1)" in warnings[0]


def files_of(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("damage", [truncate, flip, Path.unlink])
def test_whatever_file_is_damaged_the_state_is_right_or_that_of_the_one_before(tmp_path, damage, every):
    write(tmp_path / "whole", [10, 20])
    number = len(files_of(tmp_path / "whole" / "20"))
    fell_back = 0
    for n in range(0, number, every):
        folder = tmp_path / f"{damage.__name__}-{n}"
        shutil.copytree(tmp_path / "whole", folder)
        damage(files_of(folder / "20")[n])
        (step, found), _, warnings = read(folder)
        assert_same(found, state(step))
        assert step in (10, 20) and len(warnings) == (step == 10)
        fell_back += step == 10
    assert fell_back >= (3 if every == 1 else 1)  # the arrays, their tree, and what is said about them


def test_what_is_damaged_is_kept_until_this_run_has_as_much(tmp_path):
    def names():
        return sorted(path.name for path in tmp_path.iterdir())

    write(tmp_path, [10, 20])
    for _ in range(2):  # the second is damaged like the first
        damaged = files_of(tmp_path / "20")
        for path in damaged:
            truncate(path)
        assert read(tmp_path)[0][0] == 10
        write(tmp_path, [20])  # of this the process does not know that it was written
    assert names() == ["10", "20", "set-aside-20", "set-aside-20-2"]
    with Checkpoints(tmp_path, "a", every=1) as checkpoints:
        checkpoints.restore(state(0.0))
        assert len(names()) == 4
        checkpoints.save(30, 100, state(30))
        assert not [name for name in names() if name.startswith("set-aside")]
    assert names() == ["20", "30"]


def noted(folder):
    write(folder, [10], notes={"seen": [[10, 0.5]], "best": None})
    write(folder, [20], notes={"seen": [[10, 0.5], [20, 0.25]], "best": "twenty"})
    return folder / "20" / "about" / "metadata"


NOTES = {10: {"seen": [[10, 0.5]], "best": None}, 20: {"seen": [[10, 0.5], [20, 0.25]], "best": "twenty"}}


def test_no_changed_bit_of_what_is_said_about_a_checkpoint_is_believed(tmp_path):
    content = noted(tmp_path).read_bytes()
    assert checkpoint._unsealed(json.loads(content))["notes"] == NOTES[20]
    for bit in range(8 * len(content)):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        with contextlib.suppress(ValueError):  # no JSON any more
            assert checkpoint._unsealed(json.loads(changed.decode())) is None


@pytest.mark.parametrize(
    "content",
    [
        json.dumps({"stamp": "a", "sums": [[1, 2, 3, 4]], "notes": {}, "seconds": 1.0}),  # of the version before
        json.dumps(checkpoint._sealed({"stamp": "a", "sums": [[1]]})),
        json.dumps({"body": "\ud800", "crc": 0}),
        json.dumps({"body": 3, "crc": None}),
        "[]",
        "3",
        "",
    ],
)
def test_whatever_is_said_about_a_checkpoint_it_is_no_crash(tmp_path, content):
    noted(tmp_path).write_text(content)
    (step, _), notes, warnings = read(tmp_path)
    assert step == 10 and notes == NOTES[10] and len(warnings) == 1


TENSORSTORE = (
    "UNKNOWN: Error reading local file \"d/1\" [os_error_code='5'] [source locations='file_key_value_store.cc']"
)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.EIO, "Input/output error"), "(Input/output error)"),
        (OSError(errno.EMFILE, "Too many open files"), "(Too many open files)"),
        (PermissionError(errno.EACCES, "Permission denied"), "(Permission denied)"),
        (TimeoutError("the file server"), "(the file server)"),
        (ValueError(TENSORSTORE), "(Input/output error)"),
        (MemoryError(), "(out of memory: MemoryError)"),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory"), "(out of memory: RESOURCE_EXHAUSTED"),
    ],
)
@pytest.mark.parametrize("item", ["about", "state"])
def test_a_read_that_may_go_well_another_time_ends_the_run_and_removes_nothing(
    tmp_path, monkeypatch, error, words, item
):
    def restore(manager, step, args, original=checkpoint.ocp.CheckpointManager.restore):
        if item not in args.keys():  # noqa: SIM118
            return original(manager, step, args=args)
        try:
            raise error
        except Exception as cause:
            raise RuntimeError("a checkpoint cannot be read") from cause

    write(tmp_path, [10, 20])
    with monkeypatch.context() as patched, pytest.raises(OSError) as failed:
        patched.setattr(checkpoint.ocp.CheckpointManager, "restore", restore)
        read(tmp_path)
    (line,) = str(failed.value).splitlines()
    assert line.startswith(f"checkpoint of step 20 in {tmp_path} cannot be read now {words}")
    assert f"move {tmp_path / '20'} away" in line
    (step, found), _, warnings = read(tmp_path)
    assert step == 20 and not warnings
    assert_same(found, state(20))


def test_too_many_open_files_end_the_run_and_remove_nothing(tmp_path):
    write(tmp_path, [10, 20])
    with Checkpoints(tmp_path, "a", every=1, warn=pytest.fail) as checkpoints:
        checkpoints._open()
        free = os.dup(0)  # the lowest free number: other tests may have left gaps below the largest
        os.close(free)
        few = limited(resource.RLIMIT_NOFILE, free)
        with few, pytest.raises(OSError, match=r"step 20 .*Too many open files.* left as it is"):
            checkpoints.restore(state(0.0))
    assert read(tmp_path)[0][0] == 20


def test_a_stop_saves_and_a_finished_run_is_not_stopped(tmp_path):
    with Checkpoints(tmp_path, "a", every=1000, stop=lambda: True) as checkpoints:
        assert not checkpoints.due(100, 100)
        assert checkpoints.due(7, 100)
        with pytest.raises(Stopped, match="after step 7 of 100"):
            checkpoints.save(7, 100, state(7))
    (step, found), _, _ = read(tmp_path)
    assert step == 7
    assert_same(found, state(7))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Orbax's threads outlive their loop
def test_a_checkpoint_that_cannot_be_written_is_one_error_and_does_not_count(tmp_path, capfd):
    """The cause is met in a thread that writes in the background, and raised by the next call."""
    write(tmp_path, [10])
    filters = list(logging.getLogger("asyncio").filters)
    checkpoints = Checkpoints(tmp_path, "a", every=1)
    large = np.random.default_rng(0).random(1000)
    with limited(resource.RLIMIT_FSIZE, 2000), pytest.raises(OSError) as failed, checkpoints:
        for step in (20, 30):
            checkpoints.due(step, 100)
            checkpoints.save(step, 100, {name: large for name in "abcdefgh"})
    assert logging.getLogger("asyncio").filters == filters
    gc.collect()
    assert str(failed.value) == f"a checkpoint in {tmp_path} cannot be written: File too large"
    assert capfd.readouterr().err == ""  # the tracebacks of Orbax's threads
    assert read(tmp_path)[0][0] == 10


def test_a_run_that_has_ended_is_only_warned_of_a_checkpoint_that_cannot_be_written(tmp_path):
    lines = []
    with limited(resource.RLIMIT_FSIZE, 2000), Checkpoints(tmp_path, "a", every=1, warn=lines.append) as checkpoints:
        checkpoints.save(20, 100, {"w": np.random.default_rng(0).random(1000)})
    assert len(lines) == 1 and "File too large; the run itself has ended" in lines[0]


@contextlib.contextmanager
def limited(kind, soft):
    before, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (soft, hard))
    try:
        yield
    finally:
        resource.setrlimit(kind, (before, hard))


def test_seconds_of_earlier_attempts_count_up_to_the_checkpoint(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(checkpoint, "time", types.SimpleNamespace(perf_counter=lambda: now[0], sleep=time.sleep))
    with Checkpoints(tmp_path, "a", every=1) as checkpoints:
        now[0] = 9.0
        checkpoints.save(10, 100, state(10))
        now[0] = 50.0  # killed
    for earlier in (9.0, 12.0):
        with Checkpoints(tmp_path, "a", every=1) as checkpoints:
            assert checkpoints.earlier_seconds == 0
            step, _ = checkpoints.restore(state(0))
            assert checkpoints.earlier_seconds == earlier
            now[0] += 3.0
            checkpoints.save(step + 1, 100, state(10))
            now[0] += 50.0


@pytest.mark.parametrize(("start", "due"), [(0, [50, 100, 160]), (60, [110, 160])])
def test_checkpoints_are_due_every_so_many_steps(tmp_path, start, due):
    if start:
        write(tmp_path, [start])
    found = []
    with Checkpoints(tmp_path, "a", every=50) as checkpoints:
        checkpoints.restore(state(0.0))
        for step in [40, 50, 80, 100, 110, 130, 160, 200]:
            if step > start and checkpoints.due(step, 200):
                found.append(step)
                checkpoints.save(step, 200, state(step))
    assert found == ([50, 100, 160] if not start else [100, 160])
