"""Two real processes that share a mesh over loopback, with unequal numbers of rows, against one process."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mixmin_jax import cross_entropy, solve
from tests.mixture import problems
from tests.mixture.scale.processes import NUM_PROCESSES

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What each process found."""
    folder = tmp_path_factory.mktemp("processes")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, "-W", "error", "-m", "tests.mixture.scale.processes", address]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    running = [
        subprocess.Popen(
            [*command, str(rank), str(folder)],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(NUM_PROCESSES)
    ]
    try:
        outputs = [process.communicate(timeout=120)[0] for process in running]
    finally:
        for process in running:
            process.kill()
            process.wait()
    for process, output in zip(running, outputs, strict=True):
        assert process.returncode == 0, output
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(NUM_PROCESSES)]


@pytest.mark.parametrize("name", ["even", "weighted", "float32"])
def test_all_processes_get_what_one_gets_from_all_rows(found, name):
    first, second = (process[name] for process in found)
    assert first == second
    weights, loss, gap = first
    alone = solve(cross_entropy(problems.classifiers(), problems.example_weights() if name == "weighted" else None))
    if name == "float32":
        assert alone.loss - alone.gap <= loss <= alone.loss + gap and gap <= 1e-6
    else:
        np.testing.assert_allclose(weights, alone.weights, atol=1e-9)
        np.testing.assert_allclose([loss, gap], [alone.loss, alone.gap], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "name, there, here",
    [
        ("bad row", "log-likelihoods have NaN in row 11", "process 1 of 2 failed: log-likelihoods have NaN in row 11"),
        ("unexplained row", "caps, floors, groups or the prior leave no weight", "process 1 of 2 failed: caps, floors"),
        ("other options", "processes called solve with different options", "processes called solve with different"),
        ("other columns", "processes called solve with different options", "processes called solve with different"),
    ],
)
def test_what_one_process_refuses_all_refuse(found, name, there, here):
    assert found[0][name].startswith(here) and found[1][name].startswith(there)
