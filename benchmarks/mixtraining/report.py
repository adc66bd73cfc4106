"""What the benchmark of MixTraining says: four tables, and one line in the end."""

from benchmarks.mixtraining.cases import BASELINE
from benchmarks.mixtraining.records import MixTrainingRecord
from benchmarks.tables import render
from experiments.mixtraining.report import PAPER_SPEED_UP


def report(record: MixTrainingRecord) -> dict[str, str | bytes]:
    """The report's file by its suffix: Markdown whose columns also line up on a screen."""
    return {".md": render("mixtraining_benchmark", record=record, baseline=BASELINE)}


def summary(record: MixTrainingRecord) -> str:
    """In one line: MixTraining's speed-up, and what the switch costs."""
    speed_up = ", ".join(f"{name} {ratio}" for name, ratio in record.speed_up.items())
    overhead = ", ".join(f"{phase} {ratio}" for phase, ratio in record.switch_over_alone.items())
    return (
        f"mixtraining: speed-up in time over {BASELINE} (the paper: up to {PAPER_SPEED_UP}): {speed_up};"
        f" time in the switch over alone: {overhead}"
    )
