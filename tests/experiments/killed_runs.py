"""Experiments as processes on tiny data, killed and gone on with, and what of their results must be the same."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).parents[2]
# What two runs of one commit may differ in: what was timed, when, where, and how the command was written.
MAY_DIFFER = {
    "seconds",  # of stages; of the mixtraining experiments' runs, from the times of steps that were measured
    "seconds_in_all",
    "wall_seconds",
    "ms", "ms_low", "ms_high",  # measured times of steps
    "command",
}  # fmt: skip
WORDS = {"digits": list("0123456789"), "lower": ["abba", "cede", "fig"], "upper": ["XYZ", "WVU", "T"]}


class Experiment(NamedTuple):
    """A module that `python -m` runs, and options that make it tiny."""

    module: str
    options: tuple[str, ...]
    report: str  # the module that writes reports again


def sentences(words, count, seed):
    rng = random.Random(seed)
    return [" ".join(rng.choices(words, k=15)) for _ in range(count)]


def write_lines(path, texts):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


def text_mixture(folder):
    """Two sources; proxies and target models of one size, so that programs compile once; six blocks of steps each."""
    for seed, name in enumerate(("digits", "lower")):
        write_lines(folder / "sources" / f"{name}.jsonl", sentences(WORDS[name], 120, seed))
    write_lines(folder / "numbers.jsonl", sentences(WORDS["digits"], 40, 10))
    size = {"model.width": 8, "model.depth": 1, "model.heads": 1, "sequence-length": 16, "batch-size": 2}
    given = {"sources": folder / "sources", "target": folder / "numbers.jsonl", "mesh-source": 1}
    for role in ("proxy", "model"):
        given |= {f"{role}.{name}": value for name, value in (size | {"tokens": 300 * 2 * 16}).items()}
        given[f"{role}.learning-rate"] = 3e-3
    return Experiment("experiments.text_mixture", options(given), "experiments.text_mixture_report")


def options(given):
    return tuple(str(word) for name, value in given.items() for word in (f"--{name}", value))


class Runs:
    """Starts an experiment in processes that share one cache of compiled programs."""

    def __init__(self, experiment, cache, checkpoint_every=50):
        self.experiment, self.checkpoint_every = experiment, checkpoint_every
        self.environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # compiles faster
        }

    def start(self, out, *more, **popen):
        """A process that has begun; what it prints on stderr is appended to `out`.log."""
        words = [*self.experiment.options, "--checkpoint-every", str(self.checkpoint_every), "--out", str(out), *more]
        with out.with_suffix(".log").open("a") as log:
            return subprocess.Popen(
                [sys.executable, "-m", self.experiment.module, *words],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                **popen,
            )

    def finish(self, out, *more, status=0, **popen):
        """Run to the end; what it printed on stderr, in lines."""
        before = len(told(out))
        ended = self.start(out, *more, **popen).wait(600)
        lines = told(out)[before:]
        assert ended == status, (ended, lines)
        return lines

    def end(self, out, until, number=signal.SIGKILL):
        """Go on until `until()`, send the signal, wait: the exit status (0: it had ended), and what was printed."""
        before = len(told(out))
        with self.start(out, "--resume") as running:
            while running.poll() is None and not until():
                time.sleep(0.002)
            running.send_signal(number)
            return running.wait(60), told(out)[before:]


def told(out):
    log = out.with_suffix(".log")
    return log.read_text().splitlines() if log.exists() else []


def finished(out):
    return {path.name.removesuffix(".npz") for path in (out / "stages").glob("*.npz")}


def checkpoint_of(out, stage):
    """The newest step of the stage's training that a whole checkpoint holds, 0 without one."""
    folders = (out / "stages" / f"{stage}.checkpoints").rglob("[0-9]*")
    return max((int(path.name) for path in folders if path.name.isdigit()), default=0)


def results(out):
    """What must be the same: each number of each JSON file, each byte of each figure, each word of each report."""
    found = {}
    for path in sorted(
        path for path in out.rglob("*") if path.is_file() and path.relative_to(out).parts[0] != "stages"
    ):
        name = str(path.relative_to(out))
        if path.suffix == ".json":
            found[name] = without(json.loads(path.read_text()), MAY_DIFFER)
        elif path.suffix == ".npz":
            with np.load(path) as file:
                found[name] = {key: (file[key].dtype.str, file[key].tolist()) for key in file.files}
        elif path.suffix == ".md":
            found[name] = re.sub(r" Time: .*? s\. |^    python -m .*$", "", path.read_text(), flags=re.MULTILINE)
        else:
            found[name] = path.read_bytes()
    return found


def without(record, keys):
    if isinstance(record, dict):
        return {key: without(value, keys) for key, value in record.items() if key not in keys}
    return [without(value, keys) for value in record] if isinstance(record, list) else record


def assert_same(out, wanted):
    """The run in `out` has the results of the one in `wanted`, and left nothing behind."""
    found, whole = results(out), results(wanted)
    assert list(found) == list(whole)
    for name in whole:
        assert found[name] == whole[name], name
    left = [str(path) for path in out.rglob("*") if "partial" in path.name or path.name.endswith(".checkpoints")]
    assert not left
