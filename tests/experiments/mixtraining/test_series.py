"""MixTraining on time series: what the domain holds, its references, and a run from end to end."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import series_mixtraining
from experiments.harness.command_line import parse
from experiments.harness.data_sets import path_of, read_again
from experiments.harness.result_files import read_result
from experiments.mixtraining import run as mixtraining_run
from experiments.mixtraining.domain import Labels
from experiments.mixtraining.results import MixTrainingMetrics
from experiments.mixtraining.series import config as series_config
from experiments.mixtraining.series.config import PRESETS, SeriesMixTraining
from experiments.mixtraining.series.data import read_domain
from experiments.mixtraining.series.references import MINIROCKET, other_models, simple_features
from experiments.predict.__main__ import main as predict
from experiments.predict.config import Predict
from mixmin_jax.data.series.sources import read_series
from mixmin_jax.errors import InputError
from mixmin_jax.models.encoder import EncoderConfig
from tests.experiments.mixtraining.test_domains import counted_costs

SMALL = EncoderConfig(width=8, depth=1, heads=1)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Two channels of 12 steps; the class is the sign of the first one's trend, the second is flat or 1000 larger."""
    folder = tmp_path_factory.mktemp("series")
    rng = np.random.default_rng(0)
    for part, count in (("TRAIN", 80), ("TEST", 40)):
        rows = []
        for row in range(count):
            label = ("down", "up")[row % 2]
            trend = (row % 2 * 2 - 1) * np.linspace(-2, 2, 12) + 0.3 * rng.normal(size=12)
            rows.append(":".join([",".join(map(str, trend)), ",".join(["7000"] * 12), label]))
        header = "@univariate false\n@classLabel true down up\n@data\n"
        (folder / f"trends_{part}.ts").write_text(header + "\n".join(rows))
    return SeriesMixTraining(
        out=folder / "out", dataset=f"folder:{folder}", patch_length=3, fractions=(1.0,), seeds=1, ssl_epochs=2,
        sl_epochs=8, batch_size=12, learning_rate=1e-2, sl_learning_rate=1e-2, scratch_learning_rate=1e-2,
        matched=False, checkpoints=0, shift=1,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def small_models(monkeypatch):
    monkeypatch.setitem(series_config.SIZES, "nano", (SMALL, SMALL))


@pytest.mark.slow
def test_channels_are_scaled_by_the_training_part(config):
    domain = read_domain(config)
    train = domain.train.inputs
    assert (len(domain.train), len(domain.validation), len(domain.test)) == (72, 8, 40)
    np.testing.assert_allclose([train[..., 0].mean(), train[..., 0].std()], [0, 1], atol=1e-6)
    assert not train[..., 1].any() and not domain.test.inputs[..., 1].any()  # a flat channel
    assert domain.classes == ("down", "up") and domain.dataset["shape"] == [12, 2] and domain.model["patch_size"] == 3
    model = domain.as_model(domain.learner(0.0, False, True).init(jax.random.key(0)), 1.0)  # scales raw series itself
    raw_NxSxC = read_series(config.dataset).test.series_NxSxC
    np.testing.assert_allclose(
        model.outputs(raw_NxSxC).probabilities_NxA,
        dataclasses.replace(model, series=None).outputs(domain.test.inputs).probabilities_NxA,
        atol=1e-5,
    )
    assert (domain.augment(jax.random.key(0), jnp.asarray(train)) != train).any()  # with --label-fractions, too
    assert domain.learner(0.4, False, False) is domain.learner(0.4, False, False)


def test_records_of_the_data_are_read_again(config):
    train, test = read_domain(config).data_sets
    loaded = {}
    assert [read_again(record, loaded) for record in (train, test)] == [train, test] and len(loaded) == 1
    assert train.counts == {"series": 80} and path_of(test) == config.out.parent
    made = read_domain(SeriesMixTraining()).data_sets[0]
    assert path_of(made) is None and read_again(made, {}) == made


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": "nowhere"}, "known are made, folder:PATH"),
        ({"patch_length": 5}, "patch lengths that fit: 1, 2, 3, 4, 6, 12"),
        ({"shift": 12}, "--shift 12 must be less than the series' 12 steps"),
        ({"shift": -1}, "--shift must be at least 0"),
        ({"jitter": float("nan")}, "--jitter must be at least 0"),
        ({"validation_fraction": 0.001}, "--validation-fraction 0.001: .*leaves class down empty"),
        ({"ssl_mask": 0.05}, "hides none of the 4 tokens"),
    ],
)
def test_bad_input_is_one_error_before_compute(config, tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        series_mixtraining.main(dataclasses.replace(config, out=tmp_path / "out", **change))
    assert not (tmp_path / "out").exists()


def test_every_preset_is_chosen_by_name_and_overridden_by_options():
    for name, preset in PRESETS.items():
        assert parse(SeriesMixTraining, PRESETS, ["--preset", name]) == preset
        assert parse(SeriesMixTraining, PRESETS, ["--preset", name, "--shift", "5"]).shift == 5


def test_simple_features_are_what_they_are_called():
    steps = np.arange(64)
    wave = np.sin(2 * np.pi * steps / 8)[None, :, None]
    (mean, deviation, slope, change, *rest) = simple_features(3 + 2 * wave)[0]
    np.testing.assert_allclose([mean, deviation], [3, np.sqrt(2)], rtol=1e-6)
    assert abs(slope) < 0.1 and change == pytest.approx(np.abs(np.diff(np.sqrt(2) * wave[0, :, 0])).mean())
    assert rest[4] == pytest.approx(1, abs=1e-6) and len(rest) == 6 + 16  # at a lag of one period
    assert np.argmax(rest[6:]) == 3  # frequency 8 of 32, two to a band
    assert np.isfinite(simple_features(np.full((1, 2, 3), 5.0))).all()  # short and flat


def test_references_tell_clear_classes_apart_and_minirocket_needs_nine_steps(config):
    domain = read_domain(config)
    found = other_models(domain.train, domain.test)
    assert min(found.values()) > 0.95 and list(found)[:2] == [
        "logistic regression on simple features", "nearest neighbor",
    ]  # fmt: skip
    short = [Labels(part.inputs[:, :8], part.labels_N) for part in (domain.train, domain.test)]
    assert MINIROCKET not in other_models(*short)


@pytest.mark.slow
def test_a_run_learns_and_its_report_names_what_was_not_compared(config, monkeypatch, capsys):
    monkeypatch.setattr(mixtraining_run, "step_costs", counted_costs)
    series_mixtraining.main(config)
    metrics = read_result(config.out / "metrics.json", MixTrainingMetrics)
    assert metrics.domain == "series" and metrics.complete and not metrics.demonstration
    assert {run.arm for run in metrics.runs} == {"sl", "ssl_then_sl", "mixtraining"}
    assert min(run.accuracy for run in metrics.runs) > 0.9
    report = (config.out / "report.md").read_text()
    assert "examples of 12 x 2 of 2 classes" in report and "patches of 3 steps" in report
    assert ("MiniRocket, which is" in report) != (MINIROCKET in {found.name for found in metrics.references})
    capsys.readouterr()
    test = config.out.parent / "trends_TEST.ts"  # raw, as the file has it
    predict(Predict(config.out / "model", (test,), config.out / "out.csv", labels_from_files=True))
    assert metrics.final and f"accuracy: {100 * metrics.final.accuracy:.1f}%" in capsys.readouterr().out
    assert "series of 12 steps and 2 channels" in (config.out / "model" / "card.md").read_text()
