"""What the benchmark of MixTraining says: three tables, and one line in the end.

A record is what `benchmarks.mixtraining` writes: "steps", "switch" and "pipelines".
"""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.mixtraining.cases import BASELINE
from experiments.mixtraining.conclusion import PAPER_SPEED_UP
from experiments.reporting import markdown as md

Record = Mapping[str, Any]


def report(record: Record) -> str:
    """Markdown whose columns also line up on a screen."""
    settings, sizes = record["settings"], record["sizes"]
    encoder = sizes["encoder"]
    head = (
        f"Model `{settings['model']}`: {sizes['image_size']} x {sizes['image_size']} images in patches of"
        f" {sizes['patch_size']} ({sizes['tokens']} tokens), {encoder['width']} wide, {encoder['depth']} deep,"
        f" {'bfloat16' if encoder['bfloat16'] else 'float32'}. {md.plural(settings['batch_size'], 'image')} a step,"
        f" {md.plural(settings['steps'], 'step')} a block. {record['device']}."
    )
    switch = record["switch"]
    return "\n\n".join(
        [
            head,
            f"Kinds of step, each alone in its program (SSL hides {md.percent(sizes['ssl_mask'])}):",
            _step_table(record["steps"]),
            "The same steps inside the program that holds all phases:",
            _switch_table(record["steps"], switch["phases"]),
            f"An SL step takes {_ratio(switch['sl_over_ssl'])} times an SSL step inside the switch,"
            f" {_ratio(switch['sl_over_ssl_alone'])} times alone.",
            "Pipelines, per epoch of each objective (`sl`: per supervised epoch):",
            _pipeline_table(record["pipelines"]),
        ]
    )


def summary(record: Record) -> str:
    """In one line: MixTraining's speed-up in time and FLOPs, and what the switch costs."""
    pipelines, settings = record["pipelines"], record["settings"]
    depth = record["sizes"]["encoder"]["depth"]
    parts = [f"mixtraining: {settings['model']}, {depth} deep, {md.plural(settings['batch_size'], 'image')} a step"]
    mixed = [name for name, pipeline in pipelines.items() if pipeline["mix_ratio"] >= 0.5]
    of_each = [
        f"{name} {_ratio(pipelines[name]['speed_up'])} in time, {pipelines[name]['flops_speed_up']:.2f} in FLOPs"
        for name in mixed
    ]
    parts.append(f"speed-up over {BASELINE}: {'; '.join(of_each)} (the paper: up to {PAPER_SPEED_UP})")
    overhead = [f"{phase} {_ratio(found['switch_over_alone'])}" for phase, found in record["switch"]["phases"].items()]
    parts.append(f"time in the switch over alone: {', '.join(overhead)}")
    return "; ".join(parts)


def _step_table(steps: Mapping[str, Record]) -> str:
    rows = [
        [
            md.code(name),
            *_milliseconds(step),
            f"{step['flops'] / 1e9:.2f}",
            f"{step['images_per_second']:,.0f}",
            f"{step['median_seconds'] / steps['sl']['median_seconds']:.2f}",
            f"{step['flops'] / steps['sl']['flops']:.2f}",
        ]
        for name, step in steps.items()
    ]
    return _table(["step", "ms", "min", "max", "GFLOP", "images/s", "time / sl", "FLOPs / sl"], rows)


def _switch_table(steps: Mapping[str, Record], phases: Mapping[str, Record]) -> str:
    rows = []
    for found in phases.values():
        over = found["switch_over_alone"]
        alone = f"{1e3 * steps[found['kind']]['median_seconds']:.2f}"
        rows.append([md.code(found["kind"]), alone, *_milliseconds(found), *_three(over)])
    return _table(["step", "ms alone", "ms in switch", "min", "max", "switch / alone", "lowest", "highest"], rows)


def _pipeline_table(pipelines: Mapping[str, Record]) -> str:
    rows = []
    for name, pipeline in pipelines.items():
        epochs = " + ".join(f"{number:g} {phase}" for phase, number in pipeline["epochs"].items())
        rows.append(
            [
                md.code(name),
                epochs,
                *_milliseconds(pipeline),
                f"{1e3 * pipeline['seconds_of_steps']:.2f}",
                f"{pipeline['whole_over_steps']:.3f}",
                f"{pipeline['flops'] / 1e9:.2f}",
                *_three(pipeline["speed_up"]),
                f"{pipeline['flops_speed_up']:.2f}",
            ]
        )
    header = ["pipeline", "epochs of the run", "ms", "min", "max", "sum of steps", "whole / sum", "GFLOP"]
    return _table([*header, "speed-up", "lowest", "highest", "in FLOPs"], rows)


def _milliseconds(record: Record) -> list[str]:
    seconds = [record["median_seconds"], min(record["seconds"]), max(record["seconds"])]
    return [f"{1e3 * value:.2f}" for value in seconds]


def _three(found: Record) -> list[str]:
    """A `timing.Ratio` in three cells."""
    return [f"{found[name]:.2f}" for name in ("median", "lowest", "highest")]


def _ratio(found: Record) -> str:
    """`1.31 (1.25 to 1.36)`."""
    median, lowest, highest = _three(found)
    return f"{median} ({lowest} to {highest})"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """`markdown.table` with its cells filled up to the width of their column."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

    def filled(cells: Sequence[str]) -> list[str]:
        first, *rest = zip(cells, widths, strict=True)
        return [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)]

    return md.table(filled(header), [filled(row) for row in rows])
