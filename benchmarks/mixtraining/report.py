"""What the benchmark of MixTraining says: three tables, and one line in the end."""

from benchmarks.mixtraining.cases import BASELINE
from benchmarks.mixtraining.records import MixTrainingRecord
from benchmarks.tables import aligned_table, time_cells
from experiments.mixtraining.report import PAPER_SPEED_UP
from experiments.reporting import markdown as md

_TEXT = """\
Model `{settings.model}`: {model.image_size} x {model.image_size} images in patches of {model.patch_size}\
 ({model.tokens} tokens), {model.encoder.width} wide, {model.encoder.depth} deep, {precision}. {images} a step, {steps}\
 a block. {device}.

Kinds of step, each alone in its program (SSL hides {ssl_mask}):

{step_table}

The same steps inside the program that holds all phases:

{switch_table}

An SL step takes {sl_over_ssl} times an SSL step inside the switch, {sl_over_ssl_alone} times alone.

Pipelines, per epoch of each objective (`sl`: per supervised epoch):

{pipeline_table}
"""


def report(record: MixTrainingRecord) -> dict[str, str | bytes]:
    """The report's file by its suffix: Markdown whose columns also line up on a screen."""
    text = _TEXT.format(
        settings=record.settings,
        model=record.model,
        precision="bfloat16" if record.model.encoder.bfloat16 else "float32",
        images=md.plural(record.settings.batch_size, "image"),
        steps=md.plural(record.settings.steps, "step"),
        device=record.made_by.device,
        ssl_mask=md.percent(record.ssl_mask),
        sl_over_ssl=record.switch["sl"].over(record.switch["ssl"]),
        sl_over_ssl_alone=record.steps["sl"].over(record.steps["ssl"]),
        step_table=_step_table(record),
        switch_table=_switch_table(record),
        pipeline_table=_pipeline_table(record),
    )
    return {".md": text}


def summary(record: MixTrainingRecord) -> str:
    """In one line: MixTraining's speed-up, and what the switch costs."""
    speed_up = ", ".join(f"{name} {ratio}" for name, ratio in record.speed_up.items())
    overhead = ", ".join(f"{phase} {ratio}" for phase, ratio in record.switch_over_alone.items())
    return (
        f"mixtraining: speed-up in time over {BASELINE} (the paper: up to {PAPER_SPEED_UP}): {speed_up};"
        f" time in the switch over alone: {overhead}"
    )


def _step_table(record: MixTrainingRecord) -> str:
    sl = record.steps["sl"]
    rows = [
        [
            md.code(name),
            *time_cells(step),
            f"{step.flops / 1e9:.2f}",
            f"{step.images_per_second:,.0f}",
            f"{step.median_seconds / sl.median_seconds:.2f}",
            f"{step.flops / sl.flops:.2f}",
        ]
        for name, step in record.steps.items()
    ]
    return aligned_table(["step", "ms", "min", "max", "GFLOP", "images/s", "time / sl", "FLOPs / sl"], rows)


def _switch_table(record: MixTrainingRecord) -> str:
    rows = [
        [
            md.code(found.kind),
            time_cells(record.steps[found.kind])[0],
            *time_cells(found),
            *record.switch_over_alone[phase].cells(),
        ]
        for phase, found in record.switch.items()
    ]
    header = ["step", "ms alone", "ms in switch", "min", "max", "switch / alone", "lowest", "highest"]
    return aligned_table(header, rows)


def _pipeline_table(record: MixTrainingRecord) -> str:
    base = record.pipelines[BASELINE]
    rows = [
        [
            md.code(name),
            " + ".join(f"{number:g} {phase}" for phase, number in pipeline.epochs.items()),
            *time_cells(pipeline),
            f"{1e3 * pipeline.seconds_of_steps:.2f}",
            f"{pipeline.median_seconds / pipeline.seconds_of_steps:.3f}",
            f"{pipeline.flops / 1e9:.2f}",
            *record.speed_up[name].cells(),
            f"{base.flops / pipeline.flops:.2f}",
        ]
        for name, pipeline in record.pipelines.items()
    ]
    header = ["pipeline", "epochs of the run", "ms", "min", "max", "sum of steps", "whole / sum", "GFLOP"]
    return aligned_table([*header, "speed-up", "lowest", "highest", "in FLOPs"], rows)
