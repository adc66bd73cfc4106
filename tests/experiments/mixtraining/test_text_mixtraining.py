"""MixTraining on text end to end, tiny: three sources, one fraction, one seed."""

import dataclasses
import json
import random

import numpy as np
import pytest

from experiments.harness.command_line import parse
from experiments.harness.result_files import read_result
from experiments.mixtraining import run as mixtraining_run
from experiments.mixtraining.domain import Labels
from experiments.mixtraining.results import MixTrainingMetrics
from experiments.mixtraining.text import __main__ as text_mixtraining
from experiments.mixtraining.text.__main__ import main
from experiments.mixtraining.text.config import PRESETS, TextMixTraining
from experiments.mixtraining.text.data import linear_on_ngrams
from experiments.mixtraining.text.model import SIZES
from mixmin_jax.data.text.documents import Corpus
from mixmin_jax.errors import InputError
from mixmin_jax.models.encoder import EncoderConfig

LENGTH = 12


def documents(words, count, seed):
    rng = random.Random(seed)
    return [" ".join(rng.choices(words, k=30)) for _ in range(count)]


def write_lines(path, texts):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    vocabularies = {"digits": list("0123456789"), "lower": ["abba", "cede", "fig"], "upper": ["XYZ", "WVU", "T"]}
    for seed, (name, words) in enumerate(vocabularies.items()):
        write_lines(folder / f"{name}.jsonl", documents(words, 30, seed))
    return folder


@pytest.fixture(scope="module", autouse=True)
def smallest():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SIZES, "nano", (EncoderConfig(8, 1, 1), EncoderConfig(8, 1, 1)))
        yield


@pytest.fixture(scope="module")
def config(folder, tmp_path_factory):
    return TextMixTraining(
        sources=(str(folder),),
        out=tmp_path_factory.mktemp("run") / "out",
        length=LENGTH,
        windows=60,
        test_windows=30,
        fractions=(1.0,),
        seeds=1,
        ssl_epochs=2,
        sl_epochs=10,
        batch_size=16,
        learning_rate=1e-2,
        sl_learning_rate=1e-2,
        scratch_learning_rate=1e-2,
        matched=False,
        checkpoints=0,
    )


@pytest.fixture(scope="module")
def finished(config):
    main(config)
    return config.out


def load(out):
    return read_result(out / "metrics.json", MixTrainingMetrics)


@pytest.mark.slow
def test_all_arms_learn_the_task_and_the_report_is_written(finished):
    metrics = load(finished)
    assert metrics.domain == "text" and metrics.complete and not metrics.demonstration
    assert {run.arm for run in metrics.runs} == {"sl", "ssl_then_sl", "mixtraining"}
    assert min(run.accuracy for run in metrics.runs) > 0.8  # of three classes that share no letter
    assert metrics.references[0].accuracy > 0.95
    data = metrics.dataset
    assert data.classes == ("digits", "lower", "upper") and (data.train, data.test) == (180, 90)
    assert "windows of 12 bytes" in data.origin
    report = (finished / "report.md").read_text()
    assert "MixTraining on" in report and "90 test texts" in report
    assert json.loads((finished / "status.json").read_text()) == {"complete": True}


@pytest.mark.slow
def test_a_second_run_trains_nothing(finished, config, monkeypatch):
    def forbid(*_, **__):
        raise AssertionError("trained again")

    before = load(finished).runs
    monkeypatch.setattr(mixtraining_run, "run_trial", forbid)
    monkeypatch.setattr(mixtraining_run, "step_costs", forbid)
    main(config)
    assert load(finished).runs == before
    with pytest.raises(InputError, match="another run"):
        main(dataclasses.replace(config, split_seed=1))


def test_no_document_is_in_two_parts(config, monkeypatch):
    """Every word of a source says which document it is from."""
    seen = {}

    def look(experiment, domain, options, **_):
        for part in ("train", "validation", "test"):
            rows = getattr(domain, part).inputs
            seen[part] = {row.tobytes().decode()[:4] for row in rows}

    monkeypatch.setattr(text_mixtraining, "run_experiment", look)
    sources = tuple(
        Corpus(name, tuple(f"{name}{d:03}{'.' * (LENGTH - 4)}".encode() * 6 for d in range(60)), name) for name in "ab"
    )
    monkeypatch.setattr(text_mixtraining, "read_sources", lambda *_, **__: sources)
    main(config)
    assert all(len(found) > 5 for found in seen.values())
    assert sum(map(len, seen.values())) == len(set.union(*seen.values()))


def test_a_dry_run_prints_the_plan_and_writes_nothing(config, tmp_path, capsys):
    main(dataclasses.replace(config, out=tmp_path / "out", dry_run=True))
    assert "180 examples to train on" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"batch_size": 181}, "--batch-size 181 is more than the 180"),
        ({"length": 600}, r"class 'digits'.*0 window\(s\) of 600 bytes"),
        ({"windows": 0}, "--windows"),
        ({"test_fraction": 1.0}, "--test-fraction"),
        ({"ssl_mask": 0.01}, "hides none"),
    ],
)
def test_what_cannot_be_run_is_refused_before_compute(config, tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        main(dataclasses.replace(config, out=tmp_path / "out", **change))
    assert not (tmp_path / "out").exists()


def test_one_source_has_no_labels(config, folder):
    with pytest.raises(InputError, match="at least two sources"):
        main(dataclasses.replace(config, sources=(str(folder / "digits.jsonl"),)))


def test_the_reference_reads_bytes_as_they_are():
    """Two classes that differ in the order of two bytes, which are no valid UTF-8."""
    rows = np.frombuffer(b"\xff\xfe\xff\xfe" * 30 + b"\xff\xff\xfe\xfe" * 30, np.uint8).reshape(-1, 4)
    examples = Labels(rows, np.repeat(np.arange(2, dtype=np.int32), 30))
    assert list(linear_on_ngrams(examples, examples).values()) == [1.0]


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_complete_configurations(name):
    assert parse(TextMixTraining, PRESETS, ["--preset", name]) == PRESETS[name]
