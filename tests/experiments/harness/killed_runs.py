"""Experiments as processes on tiny data, killed and gone on with, and what of their results must be the same."""

import contextlib
import csv
import errno
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments import report
from experiments.questions import RESULT_FILES

ROOT = Path(__file__).parents[3]
SECONDS = 600  # that anything may take here, on a busy machine too
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
    kinds: dict[str, str]  # kind of stages -> pattern of their names


def sentences(words, count, seed):
    rng = random.Random(seed)
    return [" ".join(rng.choices(words, k=15)) for _ in range(count)]


def write_lines(path, texts):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


def text_mixture(folder):
    """Two sources; proxies and target models of one size, so that programs compile once; six blocks of steps each."""
    for seed, name in enumerate(("digits", "lower")):
        write_lines(folder / f"{name}.jsonl", sentences(WORDS[name], 120, seed))
    write_lines(folder / "numbers.jsonl", sentences(WORDS["digits"], 40, 10))
    size = {"model.width": 8, "model.depth": 1, "model.heads": 1, "sequence-length": 16, "batch-size": 2}
    given = {"sources": folder / "digits.jsonl", "": folder / "lower.jsonl", "target": folder / "numbers.jsonl"}
    given |= {"mesh-source": 1}
    for role in ("proxy", "model"):
        given |= {f"{role}.{name}": value for name, value in (size | {"tokens": 300 * 2 * 16}).items()}
        given[f"{role}.learning-rate"] = 3e-3
    kinds = {"proxies": "train-(proxies|random)", "solve": "weights", "scores": "score", "training": "train-(sh|arms)"}
    return Experiment("experiments.text_mixture", options(given), kinds)


def molecule_mixture(folder, learner="mlp"):
    """Some assays of the bundled molecules; perceptrons in groups."""
    from mixmin_jax.data.molecules.bundled import bundled_assays

    bundled = bundled_assays()
    values_NxA = bundled.values_NxA[:400]
    chosen = np.flatnonzero(((values_NxA == 1).sum(0) > 50) & ((values_NxA == 0).sum(0) > 50))[:4]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["smiles", *(bundled.assays[a] for a in chosen)])
        for smiles, row in zip(bundled.smiles, values_NxA[:, chosen], strict=False):
            writer.writerow([smiles, *("" if np.isnan(value) else f"{value:g}" for value in row)])
    given = {"assays": folder / "table.csv", "num-targets": 1, "seeds": 1, "numbers-of-sources": 2}
    given |= {"random-mixtures": 3, "min-positives": 10, "min-test-positives": 5, "bits": 64, "learner": learner}
    given |= {"mlp.hidden": 4, "mlp.epochs": 20, "mlp.batch-size": 64, "max-bytes": 40_000}
    given |= {"trees.rounds": 60, "trees.depth": 2}  # so that each model's end is due for a checkpoint
    kinds = {"proxies": "(proxies|random).*fold", "solve": "weights", "training": "arms"}
    return Experiment("experiments.molecule_mixture", options(given), kinds)


def molecule_mixture_trees(folder):
    return molecule_mixture(folder, "trees")


def image_mixtraining(folder):
    """A quarter of scikit-learn's digits."""
    del folder
    given = {"fractions": 0.25, "seeds": 1, "ssl-epochs": 8, "sl-epochs": 8, "batch-size": 16, "patch-size": 4}
    given |= {"checkpoints": 3}
    kinds = {"training": "(sl|ssl_then_sl|mixtraining)-"}
    return Experiment("experiments.image_mixtraining", options(given), kinds)


def image_mixtraining_tune(folder):
    """Two rounds of halving for each arm, then its run."""
    del folder
    given = {"fractions": 0.25, "seeds": 1, "ssl-epochs": 4, "sl-epochs": 4, "batch-size": 16, "patch-size": 4}
    given |= {"checkpoints": 0, "no-matched": True, "tune": True, "tune-trials": 4}
    kinds = {"search": "tune-", "training": "(sl|ssl_then_sl|mixtraining)-"}
    return Experiment("experiments.image_mixtraining", options(given), kinds)


def image_mixtraining_variants(folder):
    del folder
    given = {"fractions": 0.25, "seeds": 1, "ssl-epochs": 6, "sl-epochs": 6, "batch-size": 16, "patch-size": 4}
    given |= {"changes": "joint"}
    kinds = {"base": "(mixtraining|ssl_then_sl)-seed", "variants": "joint-"}
    return Experiment("experiments.image_mixtraining_variants", options(given), kinds)


def text_mixtraining(folder):
    for seed, (name, words) in enumerate(WORDS.items()):
        write_lines(folder / "sources" / f"{name}.jsonl", sentences(words, 80, seed))
    given = {"sources": folder / "sources", "length": 12, "windows": 60, "test-windows": 30, "fractions": 1, "seeds": 1}
    given |= {"ssl-epochs": 15, "sl-epochs": 15, "batch-size": 16, "checkpoints": 3}
    kinds = {"training": "(sl|ssl_then_sl|mixtraining)-"}
    return Experiment("experiments.text_mixtraining", options(given), kinds)


def mixed_mixtraining(folder):
    for seed, (name, words) in enumerate(WORDS.items()):
        write_lines(folder / "sources" / f"{name}.jsonl", sentences(words, 60, seed))
    for seed, (name, words) in enumerate({"small": list("0123"), "large": list("6789")}.items()):
        write_lines(folder / "task" / f"{name}.jsonl", sentences(words, 60, 10 + seed))
    proxy = {"model.width": 8, "model.depth": 1, "model.heads": 1, "sequence-length": 12, "batch-size": 4}
    given = {f"proxy.{name}": value for name, value in (proxy | {"tokens": 200 * 4 * 12}).items()}
    given |= {"sources": folder / "sources", "task": folder / "task", "labels": 20, "test-windows": 40}
    given |= {"seeds": 1, "ssl-steps": 100, "sl-steps": 200, "batch-size": 16, "ssl-batch-size": 8}
    kinds = {
        "proxies": "proxies",
        "solve": "weights",
        "training": "(sl|sl_matched|target_text|natural|uniform|mixmin_ssl_then_sl|mixmin)-",
    }
    return Experiment("experiments.mixed_mixtraining", options(given), kinds)


def options(given):
    """Words of a command line; a value without a name goes with the option before, and True is no word."""
    words = (word for name, value in given.items() for word in (f"--{name}", value))
    return tuple(str(word) for word in words if word != "--" and word is not True)


class Runs:
    """Starts an experiment in processes that share one cache of compiled programs."""

    def __init__(self, experiment, cache, checkpoint_every=50, optimised=False):
        self.experiment, self.checkpoint_every = experiment, checkpoint_every
        self.environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "0" if optimised else "1",  # compiles faster without
        }

    def start(self, out, *more, limits="true"):
        """A process that has begun under the limits that a shell sets; its stderr is appended to `out`.log."""
        words = [*self.experiment.options, "--checkpoint-every", str(self.checkpoint_every), "--out", str(out), *more]
        with out.with_suffix(".log").open("a") as log:
            return subprocess.Popen(
                ["sh", "-c", limits + '; exec "$0" "$@"', sys.executable, "-m", self.experiment.module, *words],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )

    def finish(self, out, *more, status=0, limits="true"):
        """Run to the end; what it printed on stderr, in lines."""
        before = len(told(out))
        ended = self.start(out, *more, limits=limits).wait(SECONDS)
        lines = told(out)[before:]
        assert ended == status, (ended, lines)
        return lines

    def end(self, out, until, number=signal.SIGKILL):
        """Go on until `until()`, send the signal, wait: the exit status (0: it had ended), and what was printed."""
        before = len(told(out))
        with self._running(out) as running:
            wait_for(lambda: running.poll() is not None or until())
            running.send_signal(number)
            return running.wait(60), told(out)[before:]

    def kill_in(self, out, line, name, share):
        """Go on, and kill it in an unfinished stage of `line` (or the report) when that share of its time has gone by.

        However fast the run is, it is in that stage: named pipes stand where it looks for the stage's product and where
        it writes it, and opening one waits for its other end.
        """
        entrance = product_of(out, line.names[-2] if name == "report" else name)
        entrance.parent.mkdir(parents=True, exist_ok=True)
        if not (out / "config.json").exists():  # else stages are nobody's, and the folder is refused
            shutil.copy(line.whole / "config.json", out)
        os.mkfifo(entrance)
        with self._running(out) as running:
            writer = wait_for(lambda: running.poll() is not None or writer_of(entrance))
            assert running.poll() is None, told(out)
            last = out / "status.json" if name == "report" else entrance
            exit_ = last.with_name(f".{last.name}.{running.pid}.partial")
            os.mkfifo(exit_)  # only now, as a run removes such files when it begins
            entrance.unlink()
            os.close(writer)  # the run has read an empty product, and makes it again
            if name == "report":
                wait_for(lambda: running.poll() is not None or entrance.exists())
            time.sleep(share * line.seconds[name])
            running.kill()
            assert running.wait(60) == -signal.SIGKILL
            exit_.unlink()

    @contextlib.contextmanager
    def _running(self, out):
        with self.start(out, "--resume") as running:
            try:
                yield running
            finally:
                running.kill()  # what failed here is to be told, not waited for


class Timeline:
    """The stages of an uninterrupted run in their order, and how long each took, the report last."""

    def __init__(self, whole, kinds):
        files = sorted((whole / "stages").glob("*.npz"), key=lambda path: path.stat().st_mtime_ns)
        self.whole, self._kinds, self.seconds = whole, kinds, {}
        for path in files:
            with np.load(path) as file:
                self.seconds[path.name.removesuffix(".npz")] = json.loads(str(file["record"]))["seconds"]
        self.seconds["report"] = (whole / "status.json").stat().st_mtime - files[-1].stat().st_mtime
        self.names = list(self.seconds)

    def kind(self, name):
        return next((kind for kind, pattern in self._kinds.items() if re.match(pattern, name)), name)

    def kinds(self):
        """The kinds by their last stages: however a stage of each is chosen, those of the next are not all over."""
        last = {self.kind(name): place for place, name in enumerate(self.names)}
        return sorted([*self._kinds, "report"], key=last.__getitem__)

    def left(self, out, kind):
        """The stages of a kind that a run has not finished."""
        return [name for name in self.names if self.kind(name) == kind and name not in finished(out)]

    def reached(self, out):
        """The kind of the stage in which a run was ended."""
        return self.kind(next(name for name in self.names if name not in finished(out)))

    def moment(self, out, name, share):
        """Whether so much of the time that the stage takes has gone by since the one before it was finished."""
        place, began = self.names.index(name), []

        def passed():
            if not began and (not place or self.names[place - 1] in finished(out)):
                began.append(time.monotonic())
            return bool(began) and time.monotonic() > began[0] + share * self.seconds[name]

        return passed


def wait_for(what):
    """Until there is what it gives; fails when that takes too long."""
    give_up = time.monotonic() + SECONDS
    while not (found := what()):
        assert time.monotonic() < give_up
        time.sleep(0.002)
    return found


def writer_of(pipe):
    """A named pipe, opened to write, if a process waits to read it; else None."""
    try:
        return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        assert error.errno == errno.ENXIO
        return None


def told(out):
    log = out.with_suffix(".log")
    return log.read_text().splitlines() if log.exists() else []


def product_of(out, stage):
    return out / "stages" / f"{stage}.npz"


def finished(out):
    return {path.name.removesuffix(".npz") for path in (out / "stages").glob("*.npz")}


def checkpoint_of(out, stage):
    """The newest step of the stage's training that a whole checkpoint holds, 0 without one."""
    try:
        folders = (out / "stages" / f"{stage}.checkpoints").rglob("[0-9]*")
        return max((int(path.name) for path in folders if path.name.isdigit()), default=0)
    except FileNotFoundError:  # a folder went while its parent was read
        return 0


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
        elif path.suffix in (".md", ".html"):
            found[name] = re.sub(r"Time: .*? s |python -m [^<\n]*", "", path.read_text())
        else:
            found[name] = path.read_bytes()
    return found


def without(record, keys):
    if isinstance(record, dict):
        return {key: without(value, keys) for key, value in record.items() if key not in keys}
    return [without(value, keys) for value in record] if isinstance(record, list) else record


def with_neutral_times(out):
    """A copy of the results whose reports are written again from records in which every time is 1."""
    copy = out.with_name(f"{out.name}-neutral")
    shutil.copytree(out, copy, ignore=shutil.ignore_patterns("stages"))
    for name in RESULT_FILES:
        for path in copy.rglob(name):
            path.write_text(json.dumps(neutral(json.loads(path.read_text()))))
    report.main(report.Report((copy,)))
    return copy


def neutral(record, is_time=False):
    if isinstance(record, dict):
        return {key: neutral(value, is_time or key in MAY_DIFFER) for key, value in record.items()}
    if isinstance(record, list):
        return [neutral(value, is_time) for value in record]
    return 1.0 if is_time and isinstance(record, float) else record


def assert_same(out, wanted):
    """The run in `out` has the results of the one in `wanted`, and left nothing behind."""
    found, whole = results(out), results(wanted)
    assert list(found) == list(whole)
    for name in whole:
        assert found[name] == whole[name], name
    left = [str(path) for path in out.rglob("*") if "partial" in path.name or path.name.endswith(".checkpoints")]
    assert not left
