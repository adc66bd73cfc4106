"""Experiments in two real processes over loopback, against one process; and what happens when one of them dies."""

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments.harness.options import ManyModelsOptions, RunOptions
from experiments.harness.processes import HEARTBEAT_SECONDS, lost_process
from experiments.molecule_mixture.config import MoleculeMixture
from experiments.text_mixture.config import ALL_ARMS
from mixmin_jax.data.text.sources import read_sources
from mixmin_jax.errors import InputError
from tests.experiments.harness.several_processes import LIMITS, NUM_PROCESSES, RUN, train
from tests.experiments.made_up_text import sentences, write_lines

ROOT = Path(__file__).parents[3]
REGRESSIONS = ("regmix", "olmix", "mde")  # they choose from grids, so a rounding error can move their weights far


def start(module, arguments, *, places):
    """The processes of one program, each with its place's arguments."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    commands = [[sys.executable, "-m", module, *arguments, *place] for place in places]
    return [subprocess.Popen(command, cwd=ROOT, env=environment, **pipes) for command in commands]


def finish(running, seconds):
    """What each prints: (status, stdout, stderr)."""
    try:
        printed = [process.communicate(timeout=seconds) for process in running]
        return [(process.returncode, *streams) for process, streams in zip(running, printed, strict=True)]
    finally:
        for process in running:
            process.kill()
            process.wait()


def free_address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The folder in which the processes put what they found."""
    folder = tmp_path_factory.mktemp("processes")
    for number, source in enumerate("aaabbb"):
        texts = [f"{source} {number} {line} " + "x" * (line % 40) for line in range(100)]
        write_lines(folder / "sources" / source / f"{number % 3}.jsonl", texts)
    places = [(str(rank), str(folder)) for rank in range(NUM_PROCESSES)]
    ended = finish(start("tests.experiments.harness.several_processes", [free_address()], places=places), 300)
    for rank, (status, out, error) in enumerate(ended):
        assert status == 0, error
        assert ("process" in out) == (rank == 0)
    return folder


def said(found):
    return [json.loads((found / f"{rank}.json").read_text()) for rank in range(NUM_PROCESSES)]


def arrays(found, name):
    with np.load(found / f"{name}.npz") as file:
        return {key: file[key] for key in file.files}


@pytest.mark.slow
def test_all_processes_train_the_models_that_one_trains(found):
    """But for rounding, which Adam makes larger where a gradient is about 0: each process has half of every batch."""
    alone = train()
    for rank in range(NUM_PROCESSES):
        together = arrays(found, f"whole{rank}")
        assert together.keys() == alone.keys()
        for key, array in together.items():
            np.testing.assert_allclose(array, alone[key], rtol=1e-3, atol=1e-5)
            np.testing.assert_array_equal(array, arrays(found, "whole0")[key])


@pytest.mark.slow
def test_each_process_reads_its_own_windows_only(found):
    windows = 2 * RUN.num_windows  # of both models
    assert [one["reads"] for one in said(found)] == [windows // NUM_PROCESSES * (RUN.sequence_length + 1)] * 2


@pytest.mark.slow
def test_each_process_reads_its_shards_and_all_have_what_one_would(found, tmp_path, monkeypatch):
    first, second = (one["read"] for one in said(found))
    assert (first["shards"], second["shards"]) == (
        ["a/0.jsonl", "a/2.jsonl", "b/1.jsonl"],
        ["a/1.jsonl", "b/0.jsonl", "b/2.jsonl"],
    )
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    alone = [source.fingerprint for source in read_sources(found / "sources", limits=LIMITS)]
    assert first["sources"] == second["sources"] == alone


@pytest.mark.slow
def test_a_stop_of_one_process_saves_all_and_they_go_on_to_the_bit(found):
    for rank, one in enumerate(said(found)):
        assert "after step 3 of 6" in one["stopped"] and one["steps after"] == [[6, 6]]
        for key, array in arrays(found, str(rank)).items():
            np.testing.assert_array_equal(array, arrays(found, f"whole{rank}")[key])


@pytest.mark.slow
def test_processes_agree_and_fail_together(found):
    first, second = said(found)
    assert first["first"] and not second["first"] and first["several"] and second["several"]
    assert first["any"] == second["any"] == [True, False]
    assert first["same options"] == second["same options"] == "nothing"
    assert first["other options"] == second["other options"]
    assert "process 1 of 2 has other options than process 0" in first["other options"]
    assert first["missing file"].startswith("process 1 of 2 failed: ") and "/nowhere/at/all" in first["missing file"]
    assert "/nowhere/at/all" in second["missing file"]
    assert "leaves out some of the 2 that the 2 processes have" in first["small mesh"]


# Whole experiments


SIZES = {
    "model.width": 8, "model.depth": 1, "model.heads": 1, "tokens": 3200, "sequence-length": 16, "batch-size": 2,
}  # fmt: skip
TINY = [
    *(f"--{role}.{name}={value}" for role in ("proxy-model", "model") for name, value in SIZES.items()),
    *("--regmix-runs=2", "--checkpoint-every=50", "--arms", *ALL_ARMS),
]


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Options of the text experiment that name two sources and a target."""
    folder = tmp_path_factory.mktemp("text")
    words = {"sources/digits": "0123456789", "sources/letters": "abcdefghi", "target": "01234567abc"}
    for name, known in words.items():
        write_lines(folder / f"{name}.jsonl", sentences(known, 60, name))
    return ["--sources", str(folder / "sources"), "--target", str(folder / "target.jsonl"), *TINY]


def places():
    address = free_address()
    return [("--coordinator", address, "--num-processes", "2", "--process-id", str(i)) for i in range(2)]


def run(options, *, places=((),)):
    ended = finish(start("experiments.text_mixture", options, places=places), 900)
    assert [status for status, _, _ in ended] == [0] * len(ended), ended
    return ended


@pytest.fixture(scope="module")
def alone(text, tmp_path_factory):
    out = tmp_path_factory.mktemp("alone") / "out"
    run([*text, "--out", str(out), "--mesh-source", "1"])
    return metrics(out)


def metrics(out):
    assert json.loads((out / "status.json").read_text()) == {"complete": True}
    return json.loads((out / "target" / "metrics.json").read_text())


def test_a_lost_process_is_known_by_what_jax_says():
    lost = ValueError("UNKNOWN: Gloo AllGather failed: Connection closed by peer\nmore")
    outer = KeyError("a")
    outer.__cause__ = lost
    for error in (lost, jax.errors.JaxRuntimeError("UNAVAILABLE: another task died"), outer):
        assert lost_process(error) in (str(lost).splitlines()[0], "UNAVAILABLE: another task died")
    assert lost_process(ValueError("too few rows")) is None and lost_process(KeyError("Gloo")) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "mesh", [("--mesh-source=2",), ("--mesh-source=1", "--mesh-data=2"), ("--mesh-source=2", "--tokens-on=device")]
)
def test_the_text_experiment_finds_in_two_processes_what_it_finds_in_one(text, alone, tmp_path, mesh):
    """Proxies over processes, and batches and rows of the solver over them; float32 sums have another order."""
    (_, told, _), (_, silent, _) = run([*text, "--out", str(tmp_path / "out"), *mesh], places=places())
    assert "bits per byte" in told and "bits per byte" not in silent
    together = metrics(tmp_path / "out")
    assert "in 2 processes" in together["made_by"]["device"]
    for arm, expected in alone["arms"].items():
        if arm in REGRESSIONS:
            continue
        found = together["arms"][arm]
        assert found["weights"] == pytest.approx(expected["weights"], abs=1e-3)
        assert found["test_bits_per_byte"]["mean"] == pytest.approx(expected["test_bits_per_byte"]["mean"], rel=1e-4)
        predicted, wanted = (one["predicted_bits_per_byte"]["token"]["mean"] for one in (found, expected))
        assert predicted == pytest.approx(wanted, rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "who"), [(signal.SIGKILL, 0), (signal.SIGKILL, 1), (signal.SIGTERM, 1), (signal.SIGSTOP, 1)]
)
def test_when_a_process_ends_the_others_end_soon_and_all_go_on(text, alone, tmp_path, number, who):
    """Killed: the other sees it at once in a collective, or after the heartbeat; stopped: all save and end with 143."""
    options = [*text, "--out", str(tmp_path / "out"), "--mesh-source=1", "--mesh-data=2"]
    running = start("experiments.text_mixture", options, places=places())
    try:
        deadline = time.monotonic() + 600
        while not (tmp_path / "out" / "stages" / "train-proxies-3200-seed0").exists():
            assert time.monotonic() < deadline and all(process.poll() is None for process in running)
            time.sleep(0.2)
        os.kill(running[who].pid, number)
        _, error = running[1 - who].communicate(timeout=3 * HEARTBEAT_SECONDS + 60)
        status = running[1 - who].returncode
        if number == signal.SIGTERM:
            assert status == 143 and running[who].wait(60) == 143 and "stopped by SIGTERM: incomplete" in error
        else:
            assert (status == 1 and "another process of this run has ended" in error) or (
                status == -signal.SIGABRT and "another task died" in error
            )
    finally:
        for process in running:
            process.kill()
            process.communicate()
    run([*options, "--resume"], places=places())
    for arm, expected in alone["arms"].items():
        found = metrics(tmp_path / "out")["arms"][arm]
        wanted = pytest.approx(expected["test_bits_per_byte"]["mean"], rel=1e-4)
        assert arm in REGRESSIONS or found["test_bits_per_byte"]["mean"] == wanted, arm


@pytest.mark.slow
def test_a_file_that_one_process_lacks_ends_all_with_that_error(text, tmp_path):
    missing = [("--target", str(tmp_path / "nowhere.jsonl")), ()]
    with_one_missing = [(*place, *other) for place, other in zip(places(), missing, strict=True)]
    ended = finish(start("experiments.text_mixture", [*text, "--out", str(tmp_path)], places=with_one_missing), 300)
    assert [status for status, _, _ in ended] == [2, 2]
    assert "error: process 0 of 2 failed: " in ended[1][2] and "nowhere.jsonl" in ended[1][2]
    assert not list(tmp_path.iterdir())


# Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"coordinator": "10.0.0.1:1234"}, "belong together: give all three"),
        ({"num_processes": 2, "process_id": 0}, "belong together: give all three"),
        ({"coordinator": "10.0.0.1", "num_processes": 2, "process_id": 0}, "HOST:PORT, as in .* not 10.0.0.1"),
        ({"coordinator": "a:1", "num_processes": 2, "process_id": 2}, "less than --num-processes, not 2 of 2"),
        ({"distributed": True, "process_id": 1}, "from the cluster: leave them out"),
        ({"mesh_data": 0}, "--mesh-data must be at least 1"),
        ({"resume": True, "overwrite": True}, "--resume goes on"),
        ({"checkpoint_every": 0}, "--checkpoint-every must be at least 1"),
        ({"matters": -0.1}, "--matters must be a finite number of at least 0"),
        ({"matters": float("nan")}, "--matters must be a finite number of at least 0"),
    ],
)
def test_options_that_make_no_process_or_contradict_each_other_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        RunOptions(**options)


def test_options_that_do_nothing_are_not_offered():
    assert "mesh_source" not in {field.name for field in dataclasses.fields(RunOptions)}
    with pytest.raises(InputError, match="--mesh-source must be at least 1"):
        ManyModelsOptions(mesh_source=0)
    with pytest.raises(InputError, match="--learner trees runs in one process"):
        MoleculeMixture(learner="trees", mesh_source=2)
    with pytest.raises(InputError, match=r"--perceptron\.batch-size 128 does not divide over --mesh-data 3"):
        MoleculeMixture(mesh_data=3)
