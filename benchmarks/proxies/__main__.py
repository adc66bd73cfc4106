"""All proxies in one program against one after the other: time, FLOPs and quality, for molecules and for text.

    python -m benchmarks.proxies                                    # about ten minutes on two cores
    python -m benchmarks.proxies --quick                            # small models and few of them, about a minute
    python -m benchmarks.proxies --cases molecules --assays 300 --against one_after_another xgboost

MixMin needs a model per source.  They can be trained all at once, one after the other by the same compiled program, one
after the other with everything compiled anew, and on molecules by XGBoost.  A case's methods are timed in turns,
after compilation and a first run.  The data are made up here; what they are is in `benchmarks.proxies.cases`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from benchmarks.machine import device_slug
from benchmarks.proxies.cases import Case, MoleculeCase, TextCase
from benchmarks.proxies.methods import (
    ONE_PROGRAM,
    RIVALS,
    SAME_MODELS,
    WHAT,
    Answer,
    Method,
    Rival,
    make_method,
    other_process,
)
from benchmarks.proxies.report import report, summary
from benchmarks.timing import Call, Stopped, Timing, ratio, side_by_side
from experiments.harness.command_line import run
from experiments.harness.provenance import cpu_cores, provenance
from experiments.harness.result_files import write_json, write_text
from experiments.text_mixture.config import DEMO_PROXY
from mixmin_jax.errors import InputError
from mixmin_jax.models.transformer import TransformerConfig
from mixmin_jax.training.language_model import LanguageModelRun
from mixmin_jax.training.mesh import split_cpu
from mixmin_jax.training.mlp_learner import MlpRun

SCHEMA = 1
DISTRIBUTIONS = ("mixmin_jax", "jax", "jaxlib", "flax", "optax", "numpy", "xgboost-cpu")
QUICK_PROXY = LanguageModelRun(TransformerConfig(32, 1, 2), sequence_length=64)
CaseName = Literal["molecules", "text"]
EXPLAINED = {
    "seconds": "of training all models of the case, with molecules scored by all of them: every call, none of them the"
    " first",
    "compile_seconds": "the first call less the median; null where every call compiles, and for what does not",
    "programs": "that XLA compiled in the first call (of compiled_anew: one model), and at most in a later one",
    "times": f"the time over that of {ONE_PROGRAM}: of the medians, then the least and the most that the spread allows",
    "flops": "of molecules: the matrix products; of text: what XLA counts for a step; what pads models is not counted",
    "quality": "means over the models: on held-out labels log loss in nats and average precision; of text the loss in"
    " nats per byte over the last fifth of the steps",
    "difference": f"the largest difference from {ONE_PROGRAM} in any score (molecules) or step's loss (text); null for"
    " methods that train other models",
    "memory_bytes": "by how much resident memory of the process that does the work grew at its peak during one call,"
    " the first one (compilation included) where memory_of_first_call is true; an accelerator's is not counted",
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Times ways to train one proxy per source side by side, on made-up molecules and text.

    Writes proxies-DEVICE.json and .md to --out (proxies-DEVICE-quick with --quick, proxies-DEVICE-part if cases, rivals
    or sizes are not the default ones), replacing older ones. The whole run takes about ten minutes on two cores; let
    the machine do nothing else.
    """

    quick: bool = False
    """Small models and few of them, and fewer repeats: about a minute."""

    cases: tuple[CaseName, ...] = ("molecules", "text")
    """What to train."""

    against: tuple[Rival, ...] = RIVALS
    """What to compare with all models in one program."""

    molecules: int | None = None
    """Molecules, of which a fifth is held out; 6000, with --quick 1000."""

    bits: int | None = None
    """Fingerprint bits, of which some 50 are set; 2048, with --quick 512."""

    assays: int | None = None
    """Assays: molecule proxies to train; 32, with --quick 4."""

    labelled: float | None = None
    """Share of the molecules that each assay labels; 0.3 (ToxCast's is about that)."""

    epochs: int | None = None
    """Passes of a molecule proxy over its molecules; 10 as in the experiment."""

    sources: int | None = None
    """Sources of text: text proxies to train; 6, with --quick 2."""

    tokens: int | None = None
    """Bytes that a text proxy is trained on; on a CPU 12800, on an accelerator 102400, with --quick 5120."""

    out: Path = Path("benchmarks/results")
    """Folder for the result files."""

    repeats: int | None = None
    """Timed calls of each method; 3, with --quick 2."""

    budget: float | None = None
    """Seconds that the timed calls of one method may take in all before repeats are left out (one call is made at
    least); 100, with --quick 3."""

    def __post_init__(self) -> None:
        for option in ("molecules", "bits", "assays", "labelled", "epochs", "sources", "tokens", "repeats", "budget"):
            if (value := getattr(self, option)) is not None and not value > 0:
                raise InputError(f"--{option} must be above 0; got {value}")
        if self.labelled is not None and self.labelled > 1:
            raise InputError(f"--labelled is a share, at most 1; got {self.labelled}")
        if not self.cases:
            raise InputError("--cases names nothing to train: give molecules, text or both")

    def settings(self, accelerator: bool) -> dict[str, Any]:
        """Every option but --quick and --out, with its default on a CPU or an accelerator."""
        defaults: dict[str, Any] = {
            "cases": self.cases,
            "against": self.against,
            "molecules": 6000,
            "bits": 2048,
            "assays": 32,
            "labelled": 0.3,
            "epochs": MlpRun().epochs,
            "sources": 6,
            "tokens": DEMO_PROXY.tokens if accelerator else 12_800,
            "repeats": 3,
            "budget": 100.0,
        }
        if self.quick:
            small = {"molecules": 1000, "bits": 512, "assays": 4, "sources": 2, "tokens": 5120}
            defaults |= {**small, "repeats": 2, "budget": 3.0}
        return {
            name: default if getattr(self, name) is None else getattr(self, name) for name, default in defaults.items()
        }

    def chosen(self, accelerator: bool) -> list[Case]:
        """The cases in their sizes."""
        settings = self.settings(accelerator)
        sizes = {name: settings[name] for name in ("molecules", "bits", "assays", "labelled")}
        model = QUICK_PROXY if self.quick else DEMO_PROXY
        cases: dict[CaseName, Case] = {
            "molecules": MoleculeCase(**sizes, run=MlpRun(epochs=settings["epochs"])),
            "text": TextCase(settings["sources"], dataclasses.replace(model, tokens=settings["tokens"])),
        }
        return [cases[name] for name in dict.fromkeys(self.cases)]

    def name(self, accelerator: bool) -> str:
        """The result files' name without its suffix."""
        usual = Config(quick=self.quick, repeats=self.repeats, budget=self.budget)
        whole = self.settings(accelerator) == usual.settings(accelerator)
        return f"proxies-{device_slug()}{'-quick' if self.quick else '' if whole else '-part'}"


def main(config: Config) -> None:
    """Measure, print, write."""
    split_cpu(min(cpu_cores(), 8))  # as the experiments do
    record: dict[str, Any] = {"schema": SCHEMA, **provenance(*DISTRIBUTIONS)}
    accelerator = jax.default_backend() != "cpu"
    settings = config.settings(accelerator)
    print(f"{record['device']}; commit {record['git_commit']}")
    cases = [
        measure(case, settings["against"], settings["repeats"], settings["budget"])
        for case in config.chosen(accelerator)
    ]
    record |= {"settings": settings, "methods": WHAT, "explained": EXPLAINED, "cases": cases}
    record["summary"] = summary(record)
    name = config.name(accelerator)
    config.out.mkdir(parents=True, exist_ok=True)
    write_json(config.out / f"{name}.json", record)
    write_text(config.out / f"{name}.md", f"{report(record)}\n")
    print(f"\n{report(record)}\n\n{config.out / name}.json, .md\n{record['summary']}")


def measure(case: Case, against: Sequence[Rival], repeats: int, budget: float) -> dict[str, Any]:
    """The record of one case: every method in turns."""
    jax.clear_caches()  # so that every first call compiles
    data = case.data()
    print(f"{case.name}: {case.what}", flush=True)
    with other_process() as child:
        made = {name: make_method(name, case, data, child) for name in (ONE_PROGRAM, *against)}
        methods = {name: method for name, method in made.items() if isinstance(method, Method)}
        absent = {name: reason for name, reason in made.items() if isinstance(reason, str)}
        for name, reason in absent.items():
            print(f"{name}: left out: {reason}", flush=True)
        programs: dict[str, list[int]] = {name: [] for name in methods}
        calls = {name: _recorded(method.call, programs[name]) for name, method in methods.items()}
        timings = side_by_side(calls, repeats, budget)
    return {
        "name": case.name,
        "what": case.what,
        "num_models": case.num_models,
        "sizes": dataclasses.asdict(case),  # type: ignore[call-overload]
        "nothing_learned": case.nothing_learned(data),
        "methods": records(case, data, methods, timings, programs),
        "absent": absent,
    }


def _recorded(call: Call[Answer], programs: list[int]) -> Call[Answer]:
    """The same call, which notes how many programs were compiled in it."""

    def run() -> Answer:
        answer = call.run()
        programs.append(answer.programs)
        return answer

    return dataclasses.replace(call, run=run)


def records(
    case: Case,
    data: Any,
    methods: Mapping[str, Method],
    timings: Mapping[str, Timing[Answer] | Stopped],
    programs: Mapping[str, Sequence[int]],
) -> dict[str, dict[str, Any]]:
    """By method: time, what was compiled, and what the models are worth.  Raises `Stopped` if one program gave none."""
    base = timings[ONE_PROGRAM]
    if isinstance(base, Stopped):
        raise base
    found: dict[str, dict[str, Any]] = {}
    for name, method in methods.items():
        timing = timings[name]
        if isinstance(timing, Stopped):
            found[name] = {"status": "stopped", "reason": str(timing)}
            continue
        first, *later = programs[name]
        difference = np.abs(timing.last.outputs - base.last.outputs).max() if name in SAME_MODELS else None
        found[name] = {
            "status": "measured",
            "seconds": list(timing.seconds),
            "median_seconds": timing.median,
            "first_seconds": None if method.compiles_always else timing.first,
            "compile_seconds": timing.compilation if first and not method.compiles_always else None,
            "programs": [first, max(later)],
            "times": ratio(timing, base)._asdict(),
            "flops": method.flops,
            "flops_per_second": method.flops and method.flops / timing.median,
            "quality": case.quality(data, timing.last.outputs),
            "difference": None if difference is None else float(difference),
            "memory_bytes": timing.memory,
            "memory_of_first_call": timing.memory_of_first,
        }
    return found


if __name__ == "__main__":
    run(Config, main)
