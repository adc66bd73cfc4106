"""The benchmark of fidelity: its numbers on predictions with known answers, and the whole of it, tiny."""

import numpy as np
import pytest

from benchmarks.fidelity import __main__ as fidelity
from benchmarks.fidelity import data, numbers, settings
from benchmarks.fidelity.measure import mixture_losses
from benchmarks.fidelity.numbers import calibrate, choose_rows, choose_text, gain_ratios, quality, ratios
from benchmarks.fidelity.records import FidelityRecord, Found, Quality, Way
from benchmarks.fidelity.report import report
from benchmarks.fidelity.settings import Counted, Settings, Trained
from benchmarks.fidelity.ways import DOCUMENT, regressions, rows_of
from benchmarks.options import PUBLISHED
from experiments.harness.result_files import read_result
from experiments.text_mixture.config import TextMixture
from experiments.text_mixture.search import AUTO_ROWS, CALIBRATION, CALIBRATION_LEVEL, LEAST_GAIN
from mixmin_jax.data.text.documents import Corpus
from mixmin_jax.errors import InputError
from mixmin_jax.models.transformer import TransformerConfig
from mixmin_jax.training import scoring
from mixmin_jax.training.language_model import LanguageModelRun
from tests.experiments.made_up_text import WORDS, sentences

REACHED_M = np.array([3.0, 2.5, 2.8, 3.2])  # the last one is natural


def test_perfect_predictions_lose_nothing():
    found = quality(REACHED_M + 0.7, REACHED_M)
    assert found == Quality(spearman=pytest.approx(1), regret=0, slope=pytest.approx(1), error=pytest.approx(0))


def test_a_gain_that_is_predicted_too_small_shows_in_slope_and_error_alone():
    found = quality(3.2 - (3.2 - REACHED_M) / 10, REACHED_M)
    assert found.slope == pytest.approx(10) and found.spearman == pytest.approx(1) and found.regret == 0
    assert found.error == pytest.approx(0.9 * np.sqrt(np.mean((3.2 - REACHED_M) ** 2)))


def test_regret_is_what_the_best_prediction_loses():
    assert quality(np.array([1.0, 3.0, 2.0, 4.0]), REACHED_M).regret == pytest.approx(0.5)
    assert quality(np.ones(4), REACHED_M).slope is None


def test_losses_of_mixed_proxies_are_those_of_logaddexp():
    rng = np.random.default_rng(0)
    rows = rows_of(rng.normal(-300, 200, size=(50, 3)), np.array([20, 30]), 7)
    weights_MxK = np.concatenate([rng.dirichlet(np.ones(3), size=4), np.eye(3)])
    with np.errstate(divide="ignore"):
        expected = [-np.logaddexp.reduce(rows.logp_RxK + np.log(w_K), axis=1).sum() for w_K in weights_MxK]
    np.testing.assert_allclose(mixture_losses(rows, weights_MxK), np.array(expected) / (50 * np.log(2)), rtol=1e-12)


def test_every_regression_learns_a_law_that_is_its_own():
    rng = np.random.default_rng(0)
    random_RxK, weights_MxK = rng.dirichlet(np.ones(3), size=80), rng.dirichlet(np.ones(3), size=20)
    slope_K = np.array([1.0, 2.0, 3.0])
    moe_R, moe_M = (np.log(1 + w @ slope_K**2) for w in (random_RxK, weights_MxK))
    found = regressions(random_RxK, random_RxK @ slope_K + moe_R, moe_R, weights_MxK, moe_M)
    errors = {name: np.abs(losses - weights_MxK @ slope_K - moe_M).max() for name, losses in found.items()}
    assert list(errors) == [
        "RegMix, linear", "Olmix, log-linear", "MDE, linear with the loss of mixed proxies", "RegMix, boosted trees",
    ]  # fmt: skip
    assert errors.pop("MDE, linear with the loss of mixed proxies") < 1e-3 < min(errors.values())
    assert max(errors.values()) < 0.3 * np.ptp(weights_MxK @ slope_K + moe_M)


def way(proxies, reading, order, spearman):
    quality = {"w/a": Quality(spearman=spearman, regret=0.0, slope=1.0, error=0.0)}
    return Way(proxies=proxies, reading=reading, order=order, flops_share=0.1, seconds_share=0.2, quality=quality)


def test_order_and_text_are_chosen_by_rank_at_middling_rows_and_rows_by_what_was_reached():
    ways = [way("all", "32", 4, 0.8), way("all", "1", 4, 1.0), way("some", "64", 5, 0.9), way("net", "32", None, 1.0)]
    assert choose_text(ways, ["w/a"]) == (5, "some")
    found = {
        "w/a": [
            Found(proxies=p, rows=r, weights={}, predicted_gain=0.1, reached=x, gain=0.1, over_best_random=0.0)
            for p, r, x in [("some", "32", 2.6), ("some", DOCUMENT, 2.5), ("net", "1", 2.4)]
        ]
    }
    choice = choose_rows(found, ["w/a"], 5, "some")
    assert choice.rows == DOCUMENT and choice.mean_loss == pytest.approx({"32": 0.1, DOCUMENT: 0.0})


def test_an_interval_is_made_on_tuning_ratios_and_tried_on_others():
    predicted_M = np.array([2.0, 3.1, 2.999, 3.0])
    np.testing.assert_allclose(ratios(predicted_M, np.array([1.0, 9.0, 9.0, 3.0])), [2.0])  # others predict no gain
    assert not gain_ratios(np.array([0.0, 0.001]), np.array([0.3, 0.3])).size
    found = calibrate(np.linspace(0, 10, 101), np.array([0.5, 1.5, 5.0, 8.5, 9.5]), np.array([2.0, 20.0]))
    assert (found.low, found.middle, found.high) == pytest.approx((1, 5, 9))
    assert (found.held, found.held_found) == (0.6, 0.5)
    assert calibrate(np.ones(3), np.zeros(0), np.zeros(0)).held is None


@pytest.fixture
def tiny(monkeypatch):
    """Three sources in two worlds and two targets, in place of text that takes long."""
    sources = tuple(
        Corpus(name, tuple(t.encode() for t in sentences(words, 40, seed)), "made up")
        for seed, (name, words) in enumerate(WORDS.items())
    )
    targets = tuple(
        Corpus(name, tuple(t.encode() for t in sentences(WORDS[words], 40, 9)), "made up")
        for name, words in (("numbers", "digits"), ("letters", "lower"))
    )
    given, built_in = (sources, targets[:1]), (sources[::-1], targets[1:])  # as many: they share programs
    monkeypatch.setattr(data, "read_text", lambda names, _: given if names else built_in)
    run = LanguageModelRun(TransformerConfig(8, 1, 1), tokens=640, sequence_length=16, batch_size=2)
    kind = Trained(64 * 16, 6e-3, True, width=8, depth=1)
    tiny = Settings(run, 640, 4, (2, 3), (Counted(None),), (kind,), ((4, kind),), (1, 32), (1, 32), 2000, 2000)
    monkeypatch.setattr(fidelity, "QUICK", tiny)
    monkeypatch.setattr(scoring, "BATCHES", 2)  # rows that are scored at once; documents are few and short


@pytest.mark.slow
def test_the_whole_of_it_tiny(tiny, tmp_path, capsys):
    config = fidelity.Config(("s",), ("t",), ("numbers",), quick=True, out=tmp_path, work=tmp_path / "work")
    fidelity.main(config)
    (path,) = tmp_path.glob("fidelity-*-quick.json")
    record = read_result(path, FidelityRecord)
    pairs = {f"{world}/{target}" for world in ("given", "built_in") for target in ("numbers", "letters")}
    assert [world.name for world in record.worlds] == ["given", "built_in"] and record.confirming == ("letters",)
    assert set(record.found) == pairs
    confirmed = [(one.proxies, one.rows) for one in record.found["given/letters"]]
    assert confirmed[:2] == [("n-grams", record.choice.rows), ("n-grams", "1")] and confirmed[2][1] == DOCUMENT
    assert all(len(world.mixtures) == 6 == len(world.reached["numbers"]) for world in record.worlds)
    for found in record.ways:
        assert set(found.quality) == pairs and found.flops_share > 0 and found.seconds_share > 0
    assert {found.reading for found in record.ways if found.order} == {"1", "32", DOCUMENT}
    assert {one.rows for one in record.found["given/numbers"]} == {"1", "32", DOCUMENT}
    assert record.choice.rows in record.choice.mean_loss
    text = report(record)[".md"]
    assert text == path.with_suffix(".md").read_text() and "nan" not in text
    assert capsys.readouterr().out.splitlines()[-1] == record.summary

    def no_training(*_, **__):
        raise AssertionError("trained again")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("experiments.harness.language_model_stages.train_on_mixtures", no_training)
        fidelity.main(config)
    assert read_result(path, FidelityRecord).found == record.found


def test_targets_to_tune_on_must_be_there(tiny, tmp_path):
    with pytest.raises(InputError, match="--tuning names 'prose', but the targets are numbers, letters"):
        fidelity.main(fidelity.Config(("s",), ("t",), ("prose",), quick=True, out=tmp_path))


def test_the_published_settings_have_enough_mixtures_and_runs():
    assert settings.WHOLE.num_mixtures >= 32
    assert max(num for num, _ in settings.WHOLE.random_runs) >= 64  # boosted trees need as many


def test_the_defaults_of_the_text_experiment_are_those_of_the_published_record():
    record = read_result(PUBLISHED / "fidelity-cpu-2-cores.json", FidelityRecord)
    choice, found = record.choice, record.calibration
    assert (choice.order, choice.text) == (TextMixture.ngram_order, "n-grams") and choice.rows == AUTO_ROWS["ngram"]
    (scale,) = (CALIBRATION["ngram", choice.rows, choice.order],)
    assert scale == pytest.approx((found.low, found.middle, found.high), abs=0.005)
    assert found.level == CALIBRATION_LEVEL and LEAST_GAIN == numbers.LEAST_GAIN
