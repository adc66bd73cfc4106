"""MixTraining against "pretrain, then fine-tune": the time and FLOPs of each kind of step and of whole pipelines.

    python -m benchmarks.mixtraining                                  # the micro model on a CPU, ViT-Tiny elsewhere
    python -m benchmarks.mixtraining --quick                          # few kinds and small blocks, under a minute
    python -m benchmarks.mixtraining --model tiny --batch-size 512 --bfloat16

Everything is timed in turns in one process, in compiled blocks of steps, after compilation and a first run. Three
tables: kinds of step, each alone in its program; the same steps inside the program that selects the phase by
`lax.switch`, to show that a step pays for its own phase only; and pipelines, as blocks that follow their schedules.
What the pipelines learn is for `experiments.image_mixtraining` to say.
"""

import dataclasses
import functools
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import jax

from benchmarks.machine import device_slug
from benchmarks.mixtraining.blocks import Program, compile_steps, split_blocks, training_call
from benchmarks.mixtraining.cases import (
    BASELINE,
    BATCH_SIZES,
    EPOCHS,
    KINDS,
    MODELS,
    PIPELINES,
    SSL_MASK,
    VISIBLE,
    Kind,
    ModelName,
    Pipeline,
    Variant,
    epoch_fetch,
    kind_of,
    random_data,
)
from benchmarks.mixtraining.report import report, summary
from benchmarks.timing import Call, Stopped, Timing, ratio, side_by_side
from experiments.harness.command_line import run
from experiments.harness.provenance import provenance
from experiments.harness.result_files import write_json, write_text
from mixmin_jax.errors import InputError
from mixmin_jax.models.vision_transformer import VisionConfig
from mixmin_jax.training.learners import image_learner
from mixmin_jax.training.mixtraining import OptimizerSettings, init_state, make_step
from mixmin_jax.training.proxies import Diverged
from mixmin_jax.training.schedule import PHASES, Phase, phase_steps, plan_steps, total_flops

SCHEMA = 1
DISTRIBUTIONS = ("mixmin_jax", "jax", "jaxlib", "flax", "optax", "numpy")
Place = Literal["alone", "switch", "pipeline"]
Timings = Mapping[tuple[Place, str], Timing[int]]
EXPLAINED = {
    "steps": "seconds of a step: those of a compiled block of steps of one kind, without a switch, over its steps",
    "flops": "of one step as XLA counts its program: batch, gradient and update",
    "switch": "the same steps in the program that holds all phases; switch_over_alone is the ratio of the times",
    "pipelines": "seconds and FLOPs of a run of whole blocks over its supervised epochs: of one epoch of each objective"
    " (in `sl` of one supervised epoch)",
    "seconds_of_steps": "the same as a sum of the median times of the steps alone; whole_over_steps: the measured time"
    " over it",
    "speed_up": f"the time of {BASELINE} over the pipeline's: of the medians, then the least and the most that the"
    " spread leaves possible",
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Times MixTraining's steps and pipelines side by side, on random images.

    Writes mixtraining-DEVICE.json and .md to --out (mixtraining-DEVICE-quick with --quick, mixtraining-DEVICE-part if
    the model, the batch or the blocks are not the default ones), replacing older ones. The whole run takes about ten
    minutes on two cores; let the machine do nothing else.
    """

    quick: bool = False
    """Only what one compiled program needs (no two passes, no mask tokens, one mask ratio), with half of the model's
    blocks, a quarter of the batch and of the steps, and fewer repeats: under a minute."""

    model: ModelName | None = None
    """micro (24 x 24 images in patches of 4, 96 wide, 4 deep) or tiny (32 x 32 images in patches of 4, ViT-Tiny: 192
    wide, 12 deep); by default micro on a CPU and tiny on an accelerator."""

    batch_size: int | None = None
    """Images in a step; 128 for micro, 256 for tiny."""

    bfloat16: bool = False
    """Compute in bfloat16; parameters and losses stay float32."""

    steps: int | None = None
    """Steps of an epoch, which is one compiled block; 8 on a CPU, 48 on an accelerator."""

    out: Path = Path("benchmarks/results")
    """Folder for the result files."""

    repeats: int | None = None
    """Timed calls of each block and pipeline; 7, with --quick 3."""

    budget: float | None = None
    """Seconds that the timed calls of one block or pipeline may take in all before repeats are left out (one call is
    made at least); 120, with --quick 5."""

    def __post_init__(self) -> None:
        for option in ("batch_size", "steps", "repeats", "budget"):
            if (value := getattr(self, option)) is not None and not value > 0:
                raise InputError(f"--{option.replace('_', '-')} must be above 0; got {value}")

    def settings(self, accelerator: bool) -> dict[str, Any]:
        """Every option but --quick and --out, with its default on a CPU or an accelerator."""
        model: ModelName = self.model or ("tiny" if accelerator else "micro")
        part = 4 if self.quick else 1
        defaults = {
            "model": model,
            "batch_size": BATCH_SIZES[model] // part,
            "bfloat16": False,
            "steps": (48 if accelerator else 8) // part,
            "repeats": 3 if self.quick else 7,
            "budget": 5.0 if self.quick else 120.0,
        }
        return {name: getattr(self, name) or default for name, default in defaults.items()}

    def name(self, accelerator: bool) -> str:
        """The result files' name without its suffix."""
        usual = Config(quick=self.quick, repeats=self.repeats, budget=self.budget)
        whole = self.settings(accelerator) == usual.settings(accelerator)
        return f"mixtraining-{device_slug()}{'-quick' if self.quick else '' if whole else '-part'}"


def main(config: Config, models: Mapping[ModelName, VisionConfig] = MODELS) -> None:
    """Measure, print, write."""
    record: dict[str, Any] = {"schema": SCHEMA, **provenance(*DISTRIBUTIONS)}
    accelerator = jax.default_backend() != "cpu"
    settings = config.settings(accelerator)
    model = sized(models[settings["model"]], config.quick, settings["bfloat16"])
    print(f"{record['device']}; commit {record['git_commit']}")
    kinds, pipelines = chosen(config.quick)
    record |= {
        "settings": settings,
        "sizes": {"tokens": model.tokens, "ssl_mask": SSL_MASK, "epochs": EPOCHS, **dataclasses.asdict(model)},
        "explained": EXPLAINED,
        **measure(
            model,
            kinds,
            pipelines,
            batch_size=settings["batch_size"],
            steps=settings["steps"],
            repeats=settings["repeats"],
            budget=settings["budget"],
        ),
    }
    record["summary"] = summary(record)
    name = config.name(accelerator)
    config.out.mkdir(parents=True, exist_ok=True)
    write_json(config.out / f"{name}.json", record)
    write_text(config.out / f"{name}.md", f"{report(record)}\n")
    print(f"\n{report(record)}\n\n{config.out / name}.json, .md\n{record['summary']}")


def sized(model: VisionConfig, quick: bool, bfloat16: bool) -> VisionConfig:
    """The model in the type to compute in, with half of its encoder's blocks for a quick run."""
    depth = model.encoder.depth
    encoder = dataclasses.replace(model.encoder, depth=max(1, depth // 2) if quick else depth, bfloat16=bfloat16)
    return dataclasses.replace(model, encoder=encoder, decoder=dataclasses.replace(model.decoder, bfloat16=bfloat16))


def chosen(quick: bool) -> tuple[dict[str, Kind], dict[str, Pipeline]]:
    """The kinds of step and the pipelines to measure: with `quick`, those that share one program with a switch."""

    def kept(case: Kind | Pipeline) -> bool:
        return not quick or case.variant == VISIBLE

    return (
        {name: kind for name, kind in KINDS.items() if kept(kind)},
        {name: pipeline for name, pipeline in PIPELINES.items() if kept(pipeline)},
    )


def measure(
    model: VisionConfig,
    kinds: Mapping[str, Kind],
    pipelines: Mapping[str, Pipeline],
    *,
    batch_size: int,
    steps: int,
    repeats: int,
    budget: float,
) -> dict[str, Any]:
    """Compile, time in turns, and put the times together.  Raises Diverged as `checked` does."""
    data_key, key = jax.random.split(jax.random.key(0))
    data = jax.jit(random_data, static_argnums=(0, 1))(model, batch_size * steps, data_key)
    learner, optimizer, fetch = image_learner(model, SSL_MASK), OptimizerSettings(), epoch_fetch(batch_size)
    new_state = jax.jit(functools.partial(init_state, learner, optimizer))

    def program(name: str, variant: Variant, only: Phase | None) -> Program:
        step = make_step(learner, optimizer, fetch=fetch, only=only, **variant.arguments(model))
        made = compile_steps(step, jax.eval_shape(new_state, key), plan_steps([("sl", 1)], steps), data)
        print(f"compiled {name} in {made.seconds:.1f} s", flush=True)
        return made

    alone = {name: program(name, kind.variant, kind.phase) for name, kind in kinds.items()}
    variants = dict.fromkeys(pipeline.variant for pipeline in pipelines.values())
    switch = {variant: program(f"all phases, {kind_of('joint', variant)}", variant, None) for variant in variants}

    calls: dict[tuple[Place, str], Call[int]] = {}
    for name, kind in kinds.items():
        blocks = [plan_steps([(kind.phase, 1)], steps)]
        calls["alone", name] = training_call(alone[name], new_state(key), blocks, data)
        if kind.variant == VISIBLE:
            calls["switch", name] = training_call(switch[VISIBLE], new_state(key), blocks, data)
    for name, pipeline in pipelines.items():
        blocks = split_blocks(pipeline.schedule.plan(steps), steps)
        calls["pipeline", name] = training_call(switch[pipeline.variant], new_state(key), blocks, data)
    measured = checked(side_by_side(calls, repeats, budget))
    flops = {name: made.flops for name, made in alone.items()}
    return {
        "steps": step_records(kinds, flops, measured, steps, batch_size),
        "switch": switch_records(kinds, measured, steps),
        "pipelines": pipeline_records(pipelines, flops, measured, steps),
        "compile_seconds": {
            "alone": {name: made.seconds for name, made in alone.items()},
            "switch": {kind_of("joint", variant): made.seconds for variant, made in switch.items()},
        },
    }


def checked(timings: Mapping[tuple[Place, str], Timing[int] | Stopped]) -> dict[tuple[Place, str], Timing[int]]:
    """The timings.  Raises Diverged if steps that were timed did nothing, because one before them was not finite."""
    for name, timing in timings.items():
        if isinstance(timing, Timing) and timing.last >= 0:
            raise Diverged(f"{', '.join(name)}: step {timing.last} was not finite, so the time of later ones is void")
    return {name: timing for name, timing in timings.items() if isinstance(timing, Timing)}


def step_records(
    kinds: Mapping[str, Kind], flops: Mapping[str, float], timings: Timings, steps: int, batch_size: int
) -> dict[str, dict[str, Any]]:
    """Time, FLOPs and throughput of each kind of step alone."""
    return {
        name: {
            "phase": kind.phase,
            **_seconds(timings["alone", name], steps),
            "flops": flops[name],
            "images_per_second": batch_size * steps / timings["alone", name].median,
        }
        for name, kind in kinds.items()
    }


def switch_records(kinds: Mapping[str, Kind], timings: Timings, steps: int) -> dict[str, Any]:
    """By phase: the time of a step inside the switch and alone; and how SSL compares with SL in both."""
    phases = {kinds[name].phase: name for place, name in timings if place == "switch"}
    ssl, sl = phases["ssl"], phases["sl"]
    return {
        "phases": {
            phase: {
                "kind": phases[phase],
                **_seconds(timings["switch", phases[phase]], steps),
                "switch_over_alone": ratio(timings["switch", phases[phase]], timings["alone", phases[phase]])._asdict(),
            }
            for phase in PHASES
        },
        "sl_over_ssl": ratio(timings["switch", sl], timings["switch", ssl])._asdict(),
        "sl_over_ssl_alone": ratio(timings["alone", sl], timings["alone", ssl])._asdict(),
    }


def pipeline_records(
    pipelines: Mapping[str, Pipeline], flops: Mapping[str, float], timings: Timings, steps: int
) -> dict[str, dict[str, Any]]:
    """Per epoch of each objective: time, FLOPs, and what the baseline takes of both over that."""
    records: dict[str, dict[str, Any]] = {}
    for name, pipeline in pipelines.items():
        timing, epochs = timings["pipeline", name], float(pipeline.schedule.sl_epochs)
        plan = pipeline.schedule.plan(steps)
        taken = {phase: number for phase, number in phase_steps(plan).items() if number}
        kind = {phase: kind_of(phase, pipeline.variant) for phase in taken}
        of_steps = sum(number * timings["alone", kind[phase]].median / steps for phase, number in taken.items())
        records[name] = {
            "mix_ratio": pipeline.schedule.mix_ratio,
            "epochs": {phase: number / steps for phase, number in taken.items()},
            **_seconds(timing, epochs),
            "flops": total_flops(plan, {phase: flops[kind[phase]] for phase in taken}) / epochs,
            "seconds_of_steps": of_steps / epochs,
            "whole_over_steps": timing.median / of_steps,
            "speed_up": ratio(timings["pipeline", BASELINE], timing)._asdict(),
        }
    for record in records.values():
        record["flops_speed_up"] = records[BASELINE]["flops"] / record["flops"]
    return records


def _seconds(timing: Timing[Any], parts: float) -> dict[str, Any]:
    """The times of each call over the number of like parts that it is made of."""
    seconds = [second / parts for second in timing.seconds]
    return {"seconds": seconds, "median_seconds": statistics.median(seconds)}


if __name__ == "__main__":
    run(Config, main)
