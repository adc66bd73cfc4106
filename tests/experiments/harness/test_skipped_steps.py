"""--on-nonfinite skip from option to report: which runs are the same, what is counted, what readers are told."""

import types
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments.harness import language_model_stages
from experiments.harness.language_model_stages import train_models
from experiments.harness.options import RunOptions, numbers_of
from experiments.harness.run_record import run_fields
from experiments.molecule_mixture.config import MoleculeMixture
from experiments.reporting import render
from experiments.text_mixture.build import config_record
from experiments.text_mixture.config import TextMixture
from mixmin_jax.errors import InputError
from mixmin_jax.models.transformer import TransformerConfig
from mixmin_jax.training.language_model import LanguageModelRun
from mixmin_jax.training.proxies import TrainedModels
from tests.experiments.harness.test_stages import MADE_BY, Stages

RESULTS = Path(__file__).parents[3] / "experiments" / "results"
SKIP = RunOptions(on_nonfinite="skip")


def test_the_option_is_part_of_a_run_only_where_it_changes_numbers():
    assert "on_nonfinite" not in config_record(TextMixture())
    assert config_record(TextMixture(on_nonfinite="skip"))["on_nonfinite"] == "skip"
    given = {"on_nonfinite": "skip", "resume": True, "a": 1, "b": 2}
    assert numbers_of(given, ["b"]) == {"on_nonfinite": "skip", "a": 1}
    assert not [path for path in RESULTS.glob("*/config.json") if "on_nonfinite" in path.read_text()]


def test_trees_have_nothing_to_skip():
    with pytest.raises(InputError, match="--on-nonfinite skip is for --learner perceptron"):
        MoleculeMixture(learner="trees", on_nonfinite="skip")
    MoleculeMixture(on_nonfinite="skip")


def test_stages_keep_the_counts_and_result_files_name_them(tmp_path, monkeypatch):
    given = []
    small = TransformerConfig(width=8, depth=1, heads=1)
    run = LanguageModelRun(small, tokens=64, sequence_length=8, batch_size=2)

    def train(run, store, weights_MxK, key, **options):
        given.append(options["on_nonfinite"])
        return TrainedModels({"w": np.zeros(2)}, np.zeros((1, 2), np.float32), np.ones((2, 3), int), np.array([0, 4]))

    monkeypatch.setattr(language_model_stages, "train_on_mixtures", train)

    def records(name, on_nonfinite):
        stages = Stages(tmp_path)
        arguments = (stages, name, run, None, np.eye(2, 3), jax.random.key(0), {})
        train_models(*arguments, labels=("a", "b"), on_nonfinite=on_nonfinite)
        return stages.records

    first, again = records("train", "skip"), records("train", "skip")
    assert given == ["skip"] and first == again and first["train"].skipped == {"b": 4}
    records("train", "stop")
    assert given == ["skip", "stop"]  # other numbers, so another product

    assert run_fields(SKIP, first, MADE_BY, ())["skipped_steps"] == {"train": {"b": 4}}
    assert run_fields(SKIP, {}, MADE_BY, ())["skipped_steps"] == {}
    assert run_fields(RunOptions(), first, MADE_BY, ())["skipped_steps"] is None


@pytest.mark.parametrize(
    ("skipped", "said"),
    [({"train": {"b": 4}}, "were skipped: 4 of `b` (train)."), ({}, "were skipped: there were none."), (None, None)],
)
def test_reports_name_skipped_steps(skipped, said):
    metrics = types.SimpleNamespace(made_by=MADE_BY, seconds={}, skipped_steps=skipped)
    page = render._ENVIRONMENT.from_string('{% from "shared.jinja" import made %}{{ made(metrics) }}')
    report = " ".join(page.render(metrics=metrics).split())
    assert (said in report) if said else "skipped" not in report
