"""What a person waits for: the import, the first answer and that for another shape, each method in a fresh process.

python -m benchmarks.solver.fresh METHOD FOLDER LIMIT        # one such process; `fresh_times` starts it
"""

import contextlib
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

PACKAGES = {  # by method: what it needs to be imported
    "solve (NumPy)": "mixmin_jax",
    "solve": "mixmin_jax",
    "cvxpy": "cvxpy",
    "scipy": "scipy.optimize",
    "em": "jax.numpy",
    "mixsqp (tightest)": "R/mixsqp",
}
_REPEATS = 3
_STARTING = 60.0  # seconds that a process has beside the limits of its two answers
_OTHER_SHAPE = 50  # one row in 50 is left out


class Fresh(NamedTuple):
    """Medians over fresh processes, in seconds."""

    importing: float  # of an R package: with R's own start
    first: float  # from the NumPy matrix to weights; of R without reading the matrix
    other_shape: float  # the next answer, for a problem with a few rows less


def fresh_times(logp_NxK: np.ndarray, v_N: np.ndarray | None, names: Iterable[str], limit: float) -> dict[str, Fresh]:
    """By method; those that fail, or take longer than the limit, are left out."""
    environment = os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    found: dict[str, Fresh] = {}
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder, "logp.npy"), logp_NxK)
        if v_N is not None:
            np.save(Path(folder, "weights.npy"), v_N)
        for name in (name for name in names if name in PACKAGES):
            command = [sys.executable, "-m", __spec__.name, name, folder, str(limit)]
            with contextlib.suppress(subprocess.SubprocessError):
                times = [_times(command, environment, _STARTING + 2 * limit) for _ in range(_REPEATS)]
                found[name] = Fresh(*map(statistics.median, zip(*times, strict=True)))
    return found


def _times(command: list[str], environment: dict[str, str], limit: float) -> list[float]:
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=limit, check=True)
    return [float(seconds) for seconds in json.loads(done.stdout.splitlines()[-1])]


def _answer(name: str, folder: str, limit: float) -> list[float]:
    """The seconds of `Fresh` in this process."""
    start, (in_r, _, package) = time.perf_counter(), PACKAGES[name].rpartition("/")
    if in_r:
        subprocess.run(["Rscript", "--vanilla", "-e", f"library({package})"], check=True, capture_output=True)
    else:
        importlib.import_module(package)
    seconds = [time.perf_counter() - start]

    from benchmarks.solver.cases import Data
    from benchmarks.solver.methods import OURS
    from benchmarks.solver.rivals import RIVALS

    (method,) = (method for method in (*OURS, *RIVALS) if method.name == name)
    logp_NxK, weights = np.load(Path(folder, "logp.npy"), allow_pickle=False), Path(folder, "weights.npy")
    v_N = np.load(weights, allow_pickle=False) if weights.exists() else None
    for rows in (len(logp_NxK), len(logp_NxK) - max(len(logp_NxK) // _OTHER_SHAPE, 1)):
        data = Data(logp_NxK[:rows], None if v_N is None else v_N[:rows])
        start = time.perf_counter()
        with method.open(data, limit) as call:
            own = call.own_seconds(call.run())
        seconds.append(time.perf_counter() - start if own is None else own)
    return seconds


if __name__ == "__main__":
    print(json.dumps(_answer(sys.argv[1], sys.argv[2], float(sys.argv[3]))))
