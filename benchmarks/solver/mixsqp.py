"""mixsqp, the R package, in a child process that answers one request at a time."""

import functools
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks.solver.cases import Data
from benchmarks.solver.methods import Answer
from benchmarks.timing import Call, Stopped

_SCRIPT = Path(__file__).with_suffix(".R")
_STARTING = 120.0  # seconds that R may take to load its package and the data


def openblas() -> Path | None:
    """An OpenBLAS that R could use instead of its own BLAS (Debian: libopenblas0-pthread)."""
    return next(iter(sorted(Path("/usr/lib").glob("*/openblas-pthread/libblas.so.3"))), None)


@functools.cache
def absent(fast: bool) -> str | None:
    """Why mixsqp cannot run here; `fast`: with OpenBLAS."""
    if shutil.which("Rscript") is None:
        return "no Rscript on the PATH; install R and its package mixsqp (Debian: r-cran-mixsqp)"
    asked = subprocess.run(
        ("Rscript", "-e", 'cat(requireNamespace("mixsqp", quietly = TRUE))'), capture_output=True, text=True
    )
    if asked.stdout != "TRUE":
        return "R has no package mixsqp (Debian: r-cran-mixsqp)"
    return "no OpenBLAS for R (Debian: libopenblas0-pthread)" if fast and not openblas() else None


@contextmanager
def session(setting: str, fast: bool, data: Data, limit: float) -> Iterator[Call[Answer]]:
    """mixsqp with a setting of mixsqp.R; its time is R's own, without reading and writing.

    Fast: with OpenBLAS; otherwise with the BLAS that R is installed with, on Debian the reference one.
    """
    environment = dict(os.environ)
    if fast:
        environment["LD_PRELOAD"] = str(openblas())
    n, k = data.logp_NxK.shape
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as errors:
        logp, weights = Path(folder, "logp"), Path(folder, "weights")
        data.logp_NxK.astype(np.float64).ravel(order="F").tofile(logp)
        data.normalized_N.tofile(weights)
        process = subprocess.Popen(
            ("Rscript", "--vanilla", str(_SCRIPT), str(logp), str(n), str(k), str(weights)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
        )

        def reply(seconds: float) -> str:
            assert process.stdout
            timer = threading.Timer(seconds, process.kill)
            timer.start()
            line = process.stdout.readline().decode()
            over = not timer.is_alive()
            timer.cancel()
            if line.endswith("\n"):
                return line
            process.wait()
            errors.seek(0)
            tail = errors.read().decode(errors="replace").strip()[-200:]
            raise Stopped(f"over the limit of {seconds:g} s" if over else f"R ended: {tail}")

        def call() -> Answer:
            assert process.stdin
            try:
                process.stdin.write(f"{setting}\n".encode())
                process.stdin.flush()
            except BrokenPipeError:
                raise Stopped("R has ended") from None
            words = reply(limit).split()
            if words[:1] == ["error"]:
                raise Stopped(f"mixsqp failed: {' '.join(words[1:])[:200]}")
            seconds, iterations, *weights_K = map(float, words)
            return Answer(np.array(weights_K), int(iterations), seconds, software=software)

        try:
            software = reply(_STARTING).removeprefix("ready ").strip()
            yield Call(call, lambda answer: answer.seconds, process.pid)
        finally:
            process.kill()
            process.communicate()
