"""Compiles blocks of steps, times them side by side as `mixtraining.train` runs them, and puts the times together."""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax

from benchmarks.mixtraining.cases import SSL_MASK, VISIBLE, Kind, Pipeline, Variant, epoch_fetch, kind_of, random_data
from benchmarks.mixtraining.convolutions import loops
from benchmarks.mixtraining.records import PhaseRecord, PipelineRecord, Settings, StepRecord
from benchmarks.records import Times, times
from benchmarks.timing import Call, Timing, side_by_side
from mixmin_jax.models.vision_transformer import VisionConfig
from mixmin_jax.training.flops import count_flops
from mixmin_jax.training.learners import image_learner
from mixmin_jax.training.mixtraining import Losses, MixState, OptimizerSettings, init_state, make_step
from mixmin_jax.training.nonfinite import Diverged
from mixmin_jax.training.schedule import PHASES, Phase, StepPlan, phase_steps, plan_steps, total_flops

Place = Literal["alone", "switch", "pipeline", "loop"]
Name = tuple[Place, str]
RunBlock = Callable[..., tuple[MixState, Losses]]  # (state, rows of the plan, *data); the state's buffers are donated


class Records(NamedTuple):
    """Fields of the benchmark's record."""

    steps: dict[str, StepRecord]
    switch: dict[Phase, PhaseRecord]
    pipelines: dict[str, PipelineRecord]
    convolutions: dict[str, Times]


class Program(NamedTuple):
    """A compiled scan over the steps of a block."""

    run: RunBlock
    flops: float  # of one step, as XLA counts a scan; of a step with a switch, those of its dearest branch
    seconds: float  # that compilation took


def measure(
    model: VisionConfig, kinds: Mapping[str, Kind], pipelines: Mapping[str, Pipeline], settings: Settings
) -> tuple[Records, dict[str, dict[str, float]]]:
    """What was timed, and the seconds of compilations. Raises Diverged as `training_call` does."""
    data_key, key = jax.random.split(jax.random.key(0))
    data = jax.jit(random_data, static_argnums=(0, 1))(model, settings.batch_size * settings.steps, data_key)
    learner, optimizer, fetch = image_learner(model, SSL_MASK), OptimizerSettings(), epoch_fetch(settings.batch_size)
    new_state = jax.jit(functools.partial(init_state, learner, optimizer))
    state_shapes, rows = jax.eval_shape(new_state, key), plan_steps([("sl", 1)], settings.steps)

    def program(name: str, variant: Variant, only: Phase | None) -> Program:
        step = make_step(learner, optimizer, fetch=fetch, only=only, **variant.arguments(model))

        def block(state: MixState, rows: StepPlan, *data: Any) -> tuple[MixState, Losses]:
            return jax.lax.scan(lambda state, row: step(state, row, *data), state, rows)

        lowered = jax.jit(block, donate_argnums=0).lower(state_shapes, rows, *data)
        start = time.perf_counter()
        made = Program(lowered.compile(), count_flops(lowered), time.perf_counter() - start)
        print(f"compiled {name} in {made.seconds:.1f} s", flush=True)
        return made

    alone = {name: program(name, kind.variant, kind.phase) for name, kind in kinds.items()}
    variants = dict.fromkeys(pipeline.variant for pipeline in pipelines.values())
    switch = {variant: program(f"all phases, {kind_of('joint', variant)}", variant, None) for variant in variants}

    calls: dict[Name, Call[None]] = {}

    def add(name: Name, program: Program, plan: StepPlan) -> None:
        calls[name] = training_call(name, program.run, new_state(key), split_blocks(plan, settings.steps), data)

    for name, kind in kinds.items():
        plan = plan_steps([(kind.phase, 1)], settings.steps)
        add(("alone", name), alone[name], plan)
        if kind.variant == VISIBLE:
            add(("switch", name), switch[VISIBLE], plan)
    for name, pipeline in pipelines.items():
        add(("pipeline", name), switch[pipeline.variant], pipeline.schedule.plan(settings.steps))
    ways, new_cnn, batch = loops(model, settings.batch_size)
    blocks = split_blocks(plan_steps([("joint", 1)], settings.steps), settings.steps)
    for name, run_block in ways.items():
        calls["loop", name] = training_call(("loop", name), run_block, new_cnn(), blocks, (batch,))
    timings = side_by_side(calls, settings.repeats, settings.budget)
    timed = {name: timing for name, timing in timings.items() if isinstance(timing, Timing)}
    compile_seconds = {
        "alone": {name: made.seconds for name, made in alone.items()},
        "switch": {kind_of("joint", variant): made.seconds for variant, made in switch.items()},
    }
    flops = {name: made.flops for name, made in alone.items()}
    return records(kinds, pipelines, flops, timed, settings), compile_seconds


def split_blocks(plan: StepPlan, block_steps: int) -> list[StepPlan]:
    """The rows of each block. Raises ValueError unless the plan is whole blocks."""
    return [StepPlan(*rows) for rows in zip(*(values.reshape(-1, block_steps) for values in plan), strict=True)]


def training_call(
    name: Name, run_block: RunBlock, state: MixState, blocks: Sequence[StepPlan], data: tuple[Any, ...]
) -> Call[None]:
    """A call that trains on the blocks and waits for each one's losses; the next call trains on from there.

    It raises Diverged if a step was not finite: the steps after it did nothing.
    """
    held = [state]

    def run() -> None:
        for rows in blocks:
            state, losses = run_block(held.pop(), rows, *data)
            held.append(state)
            jax.device_get((losses, state.failed_at))
        failed_at = int(jax.block_until_ready(held[0]).failed_at)
        if failed_at >= 0:
            raise Diverged(f"{', '.join(name)}: step {failed_at} was not finite, so the time of later ones is void")

    return Call(run)


def records(
    kinds: Mapping[str, Kind],
    pipelines: Mapping[str, Pipeline],
    flops: Mapping[str, float],
    timings: Mapping[Name, Timing[None]],
    settings: Settings,
) -> Records:
    """The times and FLOPs of steps alone, of steps inside the switch, and of pipelines."""
    steps = settings.steps
    alone = {
        name: StepRecord(
            **times(timings["alone", name], steps),
            phase=kind.phase,
            flops=flops[name],
            images_per_second=settings.batch_size * steps / timings["alone", name].median,
        )
        for name, kind in kinds.items()
    }
    names = {kinds[name].phase: name for place, name in timings if place == "switch"}
    switch = {
        phase: PhaseRecord(**times(timings["switch", names[phase]], steps), kind=names[phase]) for phase in PHASES
    }
    whole: dict[str, PipelineRecord] = {}
    for name, pipeline in pipelines.items():
        plan, epochs = pipeline.schedule.plan(steps), float(pipeline.schedule.sl_epochs)
        taken = {phase: number for phase, number in phase_steps(plan).items() if number}
        step = {phase: alone[kind_of(phase, pipeline.variant)] for phase in taken}
        whole[name] = PipelineRecord(
            **times(timings["pipeline", name], epochs),
            mix_ratio=pipeline.schedule.mix_ratio,
            epochs={phase: number / steps for phase, number in taken.items()},
            flops=total_flops(plan, {phase: step[phase].flops for phase in taken}) / epochs,
            seconds_of_steps=sum(number * step[phase].median_seconds for phase, number in taken.items()) / epochs,
        )
    convolutions = {name: Times(**times(found, steps)) for (place, name), found in timings.items() if place == "loop"}
    return Records(alone, switch, whole, convolutions)
