"""One change at a time: each variant differs from the base in what its name says, and is judged on validation data."""

import dataclasses

import numpy as np
import pytest

from experiments.harness import command_line
from experiments.harness.result_files import read_result
from experiments.mixtraining import variants as mixtraining_variants
from experiments.mixtraining.domain import Labels
from experiments.mixtraining.images.variants import VARIANT_PRESETS, ImageMixTrainingVariants
from experiments.mixtraining.variants import VARIANTS, distinct, run_variants
from experiments.mixtraining.variants_report import BASE, QUESTION, REFERENCE, VariantsMetrics, variants_table
from mixmin_jax.errors import InputError
from tests.experiments.mixtraining import linear_domain as linear
from tests.experiments.mixtraining.linear_domain import linear_domain, vectors
from tests.experiments.verify.verified import assert_verified

OPTIONS = dataclasses.replace(linear.OPTIONS, fractions=(1.0,), matched=False)
FEW = [BASE, REFERENCE, "joint: two passes", "mix ratio 0.75", "both carry on"]


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    few = {name: VARIANTS[name] for name in FEW}
    options = dataclasses.replace(OPTIONS, out=tmp_path_factory.mktemp("runs") / "out")
    scrambled = vectors(60, 3)
    scrambled = Labels(scrambled.inputs, np.roll(scrambled.labels_N, 7))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mixtraining_variants, "VARIANTS", few)
        made = run_variants("image_mixtraining_variants", linear_domain(8), options)
        other = dataclasses.replace(options, out=options.out.with_name("scrambled"))
        again = run_variants("image_mixtraining_variants", linear_domain(8, test=scrambled), other)
    assert again.variants == made.variants
    assert read_result(options.out / "variants.json", VariantsMetrics) == made
    assert (options.out / "variants.md").read_text().strip() == variants_table(made)
    assert_verified(options.out)
    return made


def test_every_variant_runs_with_every_seed_and_costs_what_it_should(record):
    flops = {name: runs[0].flops for name, runs in record.variants.items()}
    assert list(flops) == FEW and {len(runs) for runs in record.variants.values()} == {2}
    assert flops["joint: two passes"] > flops[BASE] == flops["both carry on"]
    epochs = record.variants["mix ratio 0.75"][0].epochs
    assert epochs == {"ssl": 1.0, "joint": 3.0, "sl": 1.0}
    accuracies = {str([run.accuracy for run in runs]) for runs in record.variants.values()}
    assert len(accuracies) > 1
    fewer = dataclasses.replace(record, variants=record.variants | {BASE: record.variants[BASE][1:]})
    assert QUESTION.problems(fewer, OPTIONS.out) == ["mixtraining has 1 of 2 seeds"]


def test_table_sets_all_against_the_base(record):
    *rows, _, small = variants_table(record).splitlines()[2:]
    assert small == "Differences below 0.5 points are called ties."
    assert len(rows) == len(FEW) and "|  |  | 1.00 |" in rows[1]
    verdicts = [sum(row.count(word) for word in ("wins", "ties", "loses")) for row in rows]
    assert verdicts == [1, 1, 2, 2, 2]  # the base and `ssl_then_sl` are not set against themselves
    flops = {name: runs[0].flops for name, runs in record.variants.items()}
    assert [row.split("|")[-2].strip() for row in rows] == [f"{flops[name] / flops[REFERENCE]:.2f}" for name in FEW]


def test_the_base_is_not_run_twice_under_another_name():
    assert {"mix ratio 0.5", "joint mask 0.5", "alpha: linear 1 to 0"}.isdisjoint(distinct(OPTIONS))
    changed = dataclasses.replace(OPTIONS, mix_ratio=1.0, restart_moments=False)
    names = distinct(changed)
    assert "mix ratio 0.5" in names and {"mix ratio 1", "moments carry on"}.isdisjoint(names)


def test_some_changes_leave_the_others_out():
    names = set(distinct(OPTIONS, ("mask", "restarts")))
    assert {BASE, REFERENCE, "joint mask 0.75", "both carry on", "ssl_then_sl, both carry on"} <= names
    assert not any(name.startswith(("joint:", "alpha", "mix ratio")) for name in names)


def test_bad_options_are_explained():
    with pytest.raises(InputError, match="--changes takes some of joint, alpha"):
        ImageMixTrainingVariants(changes=("mask", "mask"))
    with pytest.raises(InputError, match="one share here, not"):
        ImageMixTrainingVariants(fractions=(0.1, 0.2))
    with pytest.raises(InputError, match="leave them out"):
        ImageMixTrainingVariants(tune=True)
    assert "sl" not in {variant.arm for variant in VARIANTS.values()}  # whose learning rate is not offered
    assert VARIANT_PRESETS["micro"].fractions == (0.1,) and VARIANT_PRESETS["micro"].model == "micro"


@pytest.mark.parametrize(
    "option", ["--tune", "--matched", "--checkpoints=3", "--price-per-hour=1", "--scratch-learning-rate=0.1"]
)
def test_options_without_use_are_refused(option, capsys):
    with pytest.raises(SystemExit):
        command_line.parse(ImageMixTrainingVariants, VARIANT_PRESETS, [option])
    assert "Unrecognized" in capsys.readouterr().err
