"""Compiles steps and pipelines, times them side by side, and puts the times together."""

import functools
from collections.abc import Mapping
from typing import Literal

import jax

from benchmarks.mixtraining.cases import (
    SSL_MASK,
    VISIBLE,
    Kind,
    Pipeline,
    Variant,
    epoch_fetch,
    kind_of,
    random_data,
)
from benchmarks.mixtraining.methods import Program, compile_steps, split_blocks, training_call
from benchmarks.mixtraining.records import PhaseRecord, PipelineRecord, Settings, StepRecord
from benchmarks.records import times
from benchmarks.timing import Call, Stopped, Timing, side_by_side
from mixmin_jax.models.vision_transformer import VisionConfig
from mixmin_jax.training.learners import image_learner
from mixmin_jax.training.mixtraining import OptimizerSettings, init_state, make_step
from mixmin_jax.training.proxies import Diverged
from mixmin_jax.training.schedule import PHASES, Phase, phase_steps, plan_steps, total_flops

Place = Literal["alone", "switch", "pipeline"]
Timings = Mapping[tuple[Place, str], Timing[int]]


def measure(
    model: VisionConfig, kinds: Mapping[str, Kind], pipelines: Mapping[str, Pipeline], settings: Settings
) -> tuple[dict[str, float], Timings, dict[str, dict[str, float]]]:
    """FLOPs by kind of step, times of blocks and runs, and compile times. Raises Diverged as `checked` does."""
    data_key, key = jax.random.split(jax.random.key(0))
    data = jax.jit(random_data, static_argnums=(0, 1))(model, settings.batch_size * settings.steps, data_key)
    learner, optimizer, fetch = image_learner(model, SSL_MASK), OptimizerSettings(), epoch_fetch(settings.batch_size)
    new_state = jax.jit(functools.partial(init_state, learner, optimizer))

    def program(name: str, variant: Variant, only: Phase | None) -> Program:
        step = make_step(learner, optimizer, fetch=fetch, only=only, **variant.arguments(model))
        made = compile_steps(step, jax.eval_shape(new_state, key), plan_steps([("sl", 1)], settings.steps), data)
        print(f"compiled {name} in {made.seconds:.1f} s", flush=True)
        return made

    alone = {name: program(name, kind.variant, kind.phase) for name, kind in kinds.items()}
    variants = dict.fromkeys(pipeline.variant for pipeline in pipelines.values())
    switch = {variant: program(f"all phases, {kind_of('joint', variant)}", variant, None) for variant in variants}

    calls: dict[tuple[Place, str], Call[int]] = {}
    for name, kind in kinds.items():
        blocks = [plan_steps([(kind.phase, 1)], settings.steps)]
        calls["alone", name] = training_call(alone[name], new_state(key), blocks, data)
        if kind.variant == VISIBLE:
            calls["switch", name] = training_call(switch[VISIBLE], new_state(key), blocks, data)
    for name, pipeline in pipelines.items():
        blocks = split_blocks(pipeline.schedule.plan(settings.steps), settings.steps)
        calls["pipeline", name] = training_call(switch[pipeline.variant], new_state(key), blocks, data)
    compile_seconds = {
        "alone": {name: made.seconds for name, made in alone.items()},
        "switch": {kind_of("joint", variant): made.seconds for variant, made in switch.items()},
    }
    flops = {name: made.flops for name, made in alone.items()}
    return flops, checked(side_by_side(calls, settings.repeats, settings.budget)), compile_seconds


def checked(timings: Mapping[tuple[Place, str], Timing[int] | Stopped]) -> dict[tuple[Place, str], Timing[int]]:
    """The timings. Raises Diverged if a step was not finite: the steps after it did nothing."""
    for name, timing in timings.items():
        if isinstance(timing, Timing) and timing.last >= 0:
            raise Diverged(f"{', '.join(name)}: step {timing.last} was not finite, so the time of later ones is void")
    return {name: timing for name, timing in timings.items() if isinstance(timing, Timing)}


def step_records(
    kinds: Mapping[str, Kind], flops: Mapping[str, float], timings: Timings, settings: Settings
) -> dict[str, StepRecord]:
    """Time, FLOPs and throughput of each kind of step alone."""
    images = settings.batch_size * settings.steps
    return {
        name: StepRecord(
            **times(timings["alone", name], settings.steps),
            phase=kind.phase,
            flops=flops[name],
            images_per_second=images / timings["alone", name].median,
        )
        for name, kind in kinds.items()
    }


def switch_records(kinds: Mapping[str, Kind], timings: Timings, steps: int) -> dict[Phase, PhaseRecord]:
    """By phase: the time of a step inside the switch."""
    names = {kinds[name].phase: name for place, name in timings if place == "switch"}
    return {phase: PhaseRecord(**times(timings["switch", names[phase]], steps), kind=names[phase]) for phase in PHASES}


def pipeline_records(
    pipelines: Mapping[str, Pipeline], flops: Mapping[str, float], timings: Timings, steps: int
) -> dict[str, PipelineRecord]:
    """Per epoch of each objective: time and FLOPs."""
    records: dict[str, PipelineRecord] = {}
    for name, pipeline in pipelines.items():
        plan, epochs = pipeline.schedule.plan(steps), float(pipeline.schedule.sl_epochs)
        taken = {phase: number for phase, number in phase_steps(plan).items() if number}
        kind = {phase: kind_of(phase, pipeline.variant) for phase in taken}
        of_steps = sum(number * timings["alone", kind[phase]].median / steps for phase, number in taken.items())
        records[name] = PipelineRecord(
            **times(timings["pipeline", name], epochs),
            mix_ratio=pipeline.schedule.mix_ratio,
            epochs={phase: number / steps for phase, number in taken.items()},
            flops=total_flops(plan, {phase: flops[kind[phase]] for phase in taken}) / epochs,
            seconds_of_steps=of_steps / epochs,
        )
    return records
