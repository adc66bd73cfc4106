"""What `experiments.verify` asks of MixTraining results beyond numbers that follow from others."""

import dataclasses
from pathlib import Path

import pytest

from experiments.questions import read_results

RESULTS = Path(__file__).parents[3] / "experiments" / "results"


@pytest.mark.parametrize("name", ["image_mixtraining", "text_mixtraining"])
def test_every_arm_budget_and_fraction_has_one_run_of_each_seed(name):
    question, results = read_results(RESULTS / name)
    metrics = results[""]
    assert question.problems(metrics, RESULTS / name) == []
    first, *rest = metrics.runs
    cell = f"{first.arm}, {first.budget}, {first.fraction:g}"
    (lacking,) = question.problems(dataclasses.replace(metrics, runs=tuple(rest)), RESULTS / name)
    assert lacking == f"{cell} has the seeds [1, 2]"
    (twice,) = question.problems(dataclasses.replace(metrics, runs=(first, *metrics.runs)), RESULTS / name)
    assert twice == f"{cell} has the seeds [0, 0, 1, 2]"
    impossible = dataclasses.replace(first, accuracy=1.5)
    (wrong,) = question.problems(dataclasses.replace(metrics, runs=(impossible, *rest)), RESULTS / name)
    assert wrong == f"{cell}, seed 0: accuracy 1.5"


def test_every_variant_has_a_run_of_each_seed():
    folder = RESULTS / "image_mixtraining_variants"
    question, results = read_results(folder)
    metrics = results[""]
    assert question.problems(metrics, folder) == []
    name, runs = next(iter(metrics.variants.items()))
    fewer = dataclasses.replace(metrics, variants=metrics.variants | {name: runs[1:]})
    seeds = len(metrics.seeds)
    assert question.problems(fewer, folder) == [f"{name} has {seeds - 1} of {seeds} seeds"]
