"""Experiments as processes on tiny data, killed and gone on with, and what of their results must be the same."""

import errno
import json
import os
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
from experiments.harness.stages import read_stage
from experiments.questions import RESULT_FILES
from tests.experiments.made_up_text import WORDS, sentences, write_lines

ROOT = Path(__file__).parents[3]
SECONDS = 600  # that anything may take here, on a busy machine too
# What two runs of one commit may differ in: what was timed, when, where, and how the command was written.
MAY_DIFFER = {
    "seconds",  # of stages; of the mixtraining experiments' runs, from the times of steps that were measured
    "seconds_in_all",
    "target_seconds",
    "wall_seconds",
    "ms", "ms_low", "ms_high",  # measured times of steps
    "command",
}  # fmt: skip
# The same in reports, Markdown or HTML: the time in all, the command, the row with the time of a search.
TIMED = r"Time: .*? s |python -m [^<\n]*|test parts, seconds( \||</td>\s*<td[^>]*>)[^<|]*"


class Experiment(NamedTuple):
    """A module that `python -m` runs, options that make it tiny, and its stages."""

    module: str
    options: dict[str, object]
    kinds: dict[str, str]  # kind of stages -> pattern of their names


def text_mixture(folder):
    """Two sources; always two models of one size at once, so that programs compile once; six blocks of steps each."""
    write_sources(folder, 120, ("digits", "lower"))
    write_lines(folder / "numbers.jsonl", sentences(WORDS["digits"], 40, 10))
    sources = [folder / "digits.jsonl", folder / "lower.jsonl"]
    given = {"sources": sources, "target": folder / "numbers.jsonl", "mesh-source": 1}
    given |= {"proxy": "transformer", "arms": ["mixmin", "regmix", "uniform", "natural"], "regmix-runs": 2}
    for role in ("proxy-model", "model"):
        given |= language_model(role, tokens=300 * 2 * 16, length=16, batch_size=2) | {f"{role}.learning-rate": 3e-3}
    kinds = {"proxies": "train-(proxies|random)", "solve": "weights", "scores": "score", "training": "train-(sh|arms)"}
    return Experiment("experiments.text_mixture", given, kinds)


def molecule_mixture(folder, learner="perceptron"):
    """Some assays of the bundled molecules; perceptrons in groups."""
    from mixmin_jax.data.molecules.bundled import bundled_assays

    bundled = bundled_assays()
    values_NxA = bundled.values_NxA[:400]
    chosen = np.flatnonzero(((values_NxA == 1).sum(0) > 50) & ((values_NxA == 0).sum(0) > 50))[:4]
    lines = [["smiles", *(bundled.assays[a] for a in chosen)]]
    for smiles, row in zip(bundled.smiles, values_NxA[:, chosen], strict=False):
        lines.append([smiles, *("" if np.isnan(value) else f"{value:g}" for value in row)])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.csv").write_text("\n".join(map(",".join, lines)))
    given = {"assays": folder / "table.csv", "num-targets": 1, "seeds": 1, "numbers-of-sources": 2}
    given |= {"random-mixtures": 3, "min-positives": 10, "min-test-positives": 5, "bits": 64, "learner": learner}
    given |= {"perceptron.hidden": 4, "perceptron.batch-size": 64, "multitask.hidden": 4, "max-bytes": 300_000}
    given |= {"trees.rounds": 60, "trees.depth": 2}  # so that each model's end is due for a checkpoint
    kinds = {"proxies": "(proxies|random).*fold", "solve": "weights", "training": "arms"}
    return Experiment("experiments.molecule_mixture", given, kinds)


def molecule_mixture_trees(folder):
    return molecule_mixture(folder, "trees")


ARMS = "(sl|ssl_then_sl|mixtraining)-"
IMAGES = {"fractions": 0.25, "seeds": 1, "batch-size": 16, "patch-size": 4}  # a quarter of scikit-learn's digits


def image_mixtraining(_):
    given = IMAGES | {"ssl-epochs": 8, "sl-epochs": 8, "checkpoints": 3}
    return Experiment("experiments.image_mixtraining", given, {"training": ARMS})


def image_mixtraining_tune(_):
    """Two rounds of halving for each arm, then its run."""
    given = IMAGES | {"ssl-epochs": 4, "sl-epochs": 4, "checkpoints": 0, "no-matched": True}
    given |= {"tune": True, "tune-trials": 4}
    return Experiment("experiments.image_mixtraining", given, {"search": "tune-", "training": ARMS})


def image_mixtraining_variants(_):
    given = IMAGES | {"ssl-epochs": 6, "sl-epochs": 6, "changes": "joint"}
    kinds = {"base": "(mixtraining|ssl_then_sl)-seed", "variants": "joint-"}
    return Experiment("experiments.image_mixtraining_variants", given, kinds)


def text_mixtraining(folder):
    write_sources(folder / "sources", 80)
    given = {"sources": folder / "sources", "length": 12, "windows": 60, "test-windows": 30, "fractions": 1, "seeds": 1}
    given |= {"ssl-epochs": 15, "sl-epochs": 15, "batch-size": 16, "checkpoints": 3}
    return Experiment("experiments.text_mixtraining", given, {"training": ARMS})


def mixed_mixtraining(folder):
    write_sources(folder / "sources", 60)
    for seed, (name, words) in enumerate({"small": list("0123"), "large": list("6789")}.items()):
        write_lines(folder / "task" / f"{name}.jsonl", sentences(words, 60, 10 + seed))
    given = language_model("proxy", tokens=200 * 4 * 12, length=12, batch_size=4)
    given |= {"sources": folder / "sources", "task": folder / "task", "labels": 20, "test-windows": 40}
    given |= {"seeds": 1, "ssl-steps": 100, "sl-steps": 200, "batch-size": 16, "ssl-batch-size": 8}
    training = "(sl|sl_matched|target_text|natural|uniform|mixmin_ssl_then_sl|mixmin)-"
    kinds = {"proxies": "proxies", "solve": "weights", "training": training}
    return Experiment("experiments.mixed_mixtraining", given, kinds)


def write_sources(folder, count, names=WORDS):
    for seed, name in enumerate(names):
        write_lines(folder / f"{name}.jsonl", sentences(WORDS[name], count, seed))


def language_model(role, tokens, length, batch_size):
    model = {"model.width": 8, "model.depth": 1, "model.heads": 1}
    given = model | {"tokens": tokens, "sequence-length": length, "batch-size": batch_size}
    return {f"{role}.{name}": value for name, value in given.items()}


def words_of(options):
    """A command line: a list is several values of one option, True is a flag."""
    for name, value in options.items():
        values = value if isinstance(value, list) else [value] * (value is not True)
        yield from (f"--{name}", *map(str, values))


class Runs:
    """Starts an experiment in processes that share one cache of compiled programs."""

    def __init__(self, experiment, cache, optimised=False):
        self.experiment = experiment
        self.environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            "JAX_PLATFORMS": "cpu",
            "JAX_ENABLE_COMPILATION_CACHE": "true",
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "0" if optimised else "1",  # compiles faster without
        }

    def start(self, out, *more, limits="true"):
        """A process that has begun under the limits that a shell sets; its stderr is appended to `out`.log."""
        words = [*words_of(self.experiment.options | {"checkpoint-every": 50, "out": out}), *more]
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

    def end_after_checkpoint(self, out, stage, number):
        """Go on until the stage's training has a checkpoint, and send the signal: what was printed then."""
        return self._end(out, lambda running: checkpoint_of(out, stage), number)

    def end_in(self, out, line, name, share, number=signal.SIGKILL):
        """Go on, and end it in an unfinished stage of `line` (or the report) when that share of its time has gone by.

        However fast the run is, it is in that stage: named pipes stand where it looks for the stage's product and where
        it writes it, and opening one waits for its other end.
        """
        entrance = out / "stages" / f"{line.names[-2] if name == 'report' else name}.npz"
        entrance.parent.mkdir(parents=True, exist_ok=True)
        if not (out / "config.json").exists():  # else stages are nobody's, and the folder is refused
            shutil.copy(line.whole / "config.json", out)
        os.mkfifo(entrance)

        def in_stage(running):
            if not (writer := writer_of(entrance)):
                return False
            last = out / "status.json" if name == "report" else entrance
            os.mkfifo(last.with_name(f".{last.name}.{running.pid}.partial"))  # now, as a run removes such files first
            entrance.unlink()
            os.close(writer)  # the run has read an empty product, and makes it again
            if name == "report":
                wait_for(lambda: running.poll() is not None or entrance.exists())
            time.sleep(share * line.seconds[name])
            return True

        return self._end(out, in_stage, number)

    def _end(self, out, until, number):
        before = len(told(out))
        with self.start(out, "--resume") as running:
            try:
                wait_for(lambda: running.poll() is not None or until(running))
                running.send_signal(number)
                ended = running.wait(60)
            finally:
                running.kill()  # what failed here is to be told, not waited for
        lines = told(out)[before:]
        assert ended == (-number if number == signal.SIGKILL else 128 + number), (ended, lines)
        return lines


class Timeline:
    """The stages of an uninterrupted run in their order, and how long each took, the report last."""

    def __init__(self, whole, kinds):
        files = sorted((whole / "stages").rglob("*.npz"), key=lambda path: path.stat().st_mtime_ns)
        self.whole, self._kinds = whole, kinds
        self.seconds = {stage_name(whole, path): read_stage(path)[1].seconds for path in files}
        self.seconds["report"] = (whole / "status.json").stat().st_mtime - files[-1].stat().st_mtime
        self.names = list(self.seconds)

    def kind(self, name):
        return next((kind for kind, pattern in self._kinds.items() if re.match(pattern, name)), name)

    def kinds(self):
        """The kinds by their last stages: however a stage of each is chosen, those of the next are not all over."""
        last = {self.kind(name): place for place, name in enumerate(self.names)}
        return sorted([*self._kinds, "report"], key=last.__getitem__)

    def left(self, out):
        """The stages that a run has not finished."""
        return [name for name in self.names if name not in finished(out)]


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


def stage_name(out, path):
    return str(path.relative_to(out / "stages")).removesuffix(".npz")


def finished(out):
    return {stage_name(out, path) for path in (out / "stages").rglob("*.npz")}


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
    left_out = {"stages", "params"}  # Orbax names files at random; the same parameters lie beside as safetensors
    for path in sorted(path for path in out.rglob("*") if path.is_file() and not left_out.intersection(path.parts)):
        found[str(path.relative_to(out))] = path.read_bytes()
        if path.suffix == ".json":
            found[str(path.relative_to(out))] = neutral(json.loads(path.read_text()))
        elif path.suffix in (".md", ".html"):
            found[str(path.relative_to(out))] = re.sub(TIMED, "", path.read_text())
    return found


def with_neutral_times(out):
    """A copy of the results whose reports are written again from records in which every time is 1."""
    copy = out.with_name(f"{out.name}-neutral")
    shutil.copytree(out, copy, ignore=shutil.ignore_patterns("stages"))
    for name in RESULT_FILES:
        for path in copy.rglob(name):
            path.write_text(json.dumps(neutral(json.loads(path.read_text()))))
    report.main(report.Report((copy,)))
    return copy


def neutral(record, differs=False):
    """JSON in which what may differ is 1."""
    if isinstance(record, dict):
        return {key: neutral(value, differs or key in MAY_DIFFER) for key, value in record.items()}
    if isinstance(record, list):
        return [neutral(value, differs) for value in record]
    return type(record)(1) if differs and isinstance(record, float | str) else record


def assert_same(out, wanted):
    """The run in `out` has the results of the one in `wanted`, and left nothing behind."""
    found, whole = results(out), results(wanted)
    assert list(found) == list(whole) and not [name for name in whole if found[name] != whole[name]]
    assert not [path for path in out.rglob("*") if "partial" in path.name or path.name.endswith(".checkpoints")]
