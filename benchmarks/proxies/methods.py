"""The ways to train M models that are timed against each other, each a call without arguments.

`compiled_anew` runs in a process of its own: it empties JAX's caches, and those of the other methods must stay full.
"""

import contextlib
import dataclasses
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, NamedTuple, get_args

import jax
import numpy as np

from benchmarks.proxies import ngrams
from benchmarks.proxies.cases import ONE_PROGRAM, MoleculeCase, Outputs, TextCase, TrainedRival
from benchmarks.proxies.ngrams import NgramCase, NgramRival
from benchmarks.timing import Call, Stopped
from mixmin_jax.errors import InputError
from mixmin_jax.training.boosted_trees import require_xgboost
from mixmin_jax.training.mesh import split_cpu

Case = MoleculeCase | TextCase | NgramCase
Rival = TrainedRival | NgramRival
RIVALS: tuple[Rival, ...] = (*get_args(TrainedRival), *get_args(NgramRival))
WHAT = {
    ONE_PROGRAM: "all models in one program, spread over the devices as the experiments spread them",
    "one_device": "all models in one program on one device",
    "one_after_another": "one model after the other on one device, the same program for all: the same models, which see"
    " the same batches",
    "compiled_anew": "as one_after_another, but JAX's caches are emptied before each model, as if each were trained by"
    " a process of its own (whose start is not counted)",
    "logistic": "penalized logistic regressions instead, each with the best of several penalties, all in one program,"
    " spread as one_program",
    "sklearn": "scikit-learn's `LogisticRegression` (L-BFGS on sparse bits), one assay after the other on one"
    " core, with the penalties, inner folds and choice of `logistic`: the same models up to the solvers' tolerances",
    "xgboost": "gradient-boosted trees, one assay after the other on all of the CPU's cores: other models, and no steps"
    " that could be equal",
    **ngrams.WHAT,
}
SAME_MODELS = ("one_device", "one_after_another", "compiled_anew")  # as one_program's, up to rounding
_COMPILED = "/jax/core/compile/backend_compile_duration"  # JAX's name for the event


class Answer(NamedTuple):
    """What one call gave."""

    outputs: Outputs
    programs: tuple[int, ...]  # that XLA compiled during this call and those before it
    seconds: float | None = None  # taken inside, where the call outside would count the transport


@dataclasses.dataclass(frozen=True)
class Method:
    """A way to train all models of a case."""

    call: Call[Answer]
    flops: float | None  # None where nobody counts them
    compiles_always: bool = False  # and its first call trains one model only


def make_methods(case: Case, against: Sequence[Rival], data: Any, child: Executor) -> dict[str, Method | str]:
    """What the case's rivals are compared with, and those of them that are chosen; or why there is none."""
    names = [case.base, *(name for name in against if name in case.rivals)]
    if not isinstance(case, NgramCase):
        return {name: make_method(name, case, data, child) for name in names}
    made = case.methods(data)
    return {
        name: found if isinstance(found := made[name], str) else Method(_counted(found[0]), found[1]) for name in names
    }


def make_method(name: str, case: MoleculeCase | TextCase, data: Any, child: Executor) -> Method | str:
    """The method of that name on a case, or why there is none. `child` is an `other_process`."""
    if name == ONE_PROGRAM:
        return Method(_counted(lambda: case.train_all(data, jax.device_count())), case.flops(data))
    if name == "one_device":
        if jax.device_count() == 1:
            return f"there is one device only, as for {ONE_PROGRAM}"
        return Method(_counted(lambda: case.train_all(data, 1)), case.flops(data))
    if name == "one_after_another":
        alone = case.flops(data, together=False)
        return Method(_counted(lambda: one_by_one(case.train_one, data, case.num_models)), alone)
    if name == "compiled_anew":
        return Method(_anew(case, data, child), case.flops(data, together=False), compiles_always=True)
    if not isinstance(case, MoleculeCase):
        return "it learns from fingerprints, not from text"
    if name == "logistic":
        return Method(_counted(lambda: case.train_logistic(data, jax.device_count())), None)
    if name == "sklearn":
        return Method(_counted(lambda: case.train_sklearn(data)), None)
    try:
        require_xgboost()
    except InputError as error:
        return str(error)
    return Method(_counted(lambda: case.train_trees(data)), None)


def one_by_one(train: Callable[[Any, int], Outputs], data: Any, num_models: int) -> Outputs:
    return np.concatenate([train(data, m) for m in range(num_models)], axis=1)


def _anew(case: MoleculeCase | TextCase, data: Any, child: Executor) -> Call[Answer]:
    """The first call trains one model only: it has nothing to warm up."""
    programs: list[int] = []

    def run() -> Answer:
        try:
            answer = child.submit(train_anew, case, data, case.num_models if programs else 1).result()
        except (BrokenProcessPool, jax.errors.JaxRuntimeError) as error:  # for example: no memory beside this process
            raise Stopped(f"its process failed: {error}"[:300]) from error
        programs.extend(answer.programs)
        return answer._replace(programs=tuple(programs))

    return Call(run, lambda answer: answer.seconds, child.submit(os.getpid).result())


def _counted(train: Callable[[], Outputs]) -> Call[Answer]:
    programs: list[int] = []

    def run() -> Answer:
        with compilations() as seconds:
            outputs = train()
        programs.append(len(seconds))
        return Answer(outputs, tuple(programs))

    return Call(run)


@contextlib.contextmanager
def compilations() -> Iterator[list[float]]:
    """A list that grows by the seconds of every compilation inside the block."""
    seconds: list[float] = []

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        if event == _COMPILED:
            seconds.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield seconds
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


@contextlib.contextmanager
def other_process() -> Iterator[Executor]:
    """A process with JAX's devices as here, for `train_anew`."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, initializer=_start, initargs=(jax.device_count(),)) as pool:
        yield pool


def _start(num_devices: int) -> None:
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # the other process holds most of an accelerator's memory
    split_cpu(num_devices)
    jax.devices()


def train_anew(case: MoleculeCase | TextCase, data: Any, num_models: int) -> Answer:
    """`train_one` of the first models, each with nothing compiled before."""

    def train(data: Any, m: int) -> Outputs:
        jax.clear_caches()
        return case.train_one(data, m)

    start = time.perf_counter()
    with compilations() as seconds:
        outputs = one_by_one(train, data, num_models)
    return Answer(outputs, (len(seconds),), time.perf_counter() - start)
