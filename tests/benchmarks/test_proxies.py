"""The benchmark of proxies: its data, that its methods train the same models, its arithmetic, and what it writes."""

import dataclasses
import json
import os

import jax
import numpy as np
import pytest

from benchmarks.options import Rounds
from benchmarks.proxies import __main__ as proxies
from benchmarks.proxies import cases as proxies_cases
from benchmarks.proxies import methods as proxies_methods
from benchmarks.proxies.cases import ONE_PROGRAM, MoleculeCase, TextCase
from benchmarks.proxies.measure import measure, results
from benchmarks.proxies.methods import Answer, Method, compilations, make_method, other_process
from benchmarks.proxies.ngrams import NgramCase
from benchmarks.proxies.records import CaseRecord, ProxiesRecord
from benchmarks.proxies.report import report
from benchmarks.timing import Call, Stopped
from experiments.harness.command_line import parse
from experiments.reporting.json_files import dumps, typed
from mixmin_jax.errors import InputError
from mixmin_jax.models.transformer import TransformerConfig
from mixmin_jax.training.boosted_trees import TreeRun
from mixmin_jax.training.language_model import LanguageModelRun
from mixmin_jax.training.logistic_learner import LogisticRun
from mixmin_jax.training.mlp_learner import MlpRun
from mixmin_jax.training.proxies import TrainedModels
from tests.benchmarks.made_up import MADE_BY, cells, quick_run, timing

MOLECULES = MoleculeCase(
    150, 32, 3, 0.5, MlpRun((4,), steps=6, batch_size=32), LogisticRun((1.0, 10.0, 1e2)), TreeRun(rounds=3, depth=2)
)
TEXT = TextCase(2, LanguageModelRun(TransformerConfig(8, 1, 2), tokens=128, sequence_length=8))


@pytest.fixture(scope="module", autouse=True)
def unoptimized():
    """Programs compile in half the time, and run as fast where all is small; also in other processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
        jax.config.update("jax_disable_most_optimizations", True)
        yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module")
def molecules():
    return MOLECULES.data()


def test_made_up_molecules(molecules):
    jax.tree.map(np.testing.assert_array_equal, MOLECULES.data()[:3], molecules[:3])
    assert molecules.is_train_N.sum() == 120
    labelled_NxA = ~np.isnan(molecules.values_NxA)
    assert labelled_NxA[molecules.is_train_N].sum(0).tolist() == [60] * 3  # equally many: their programs have one shape
    assert labelled_NxA[~molecules.is_train_N].sum(0).tolist() == [15] * 3
    np.testing.assert_array_equal(molecules.examples.weight_MxN > 0, labelled_NxA.T & molecules.is_train_N)
    whole = MoleculeCase(2000, 2048, 2, 1.0).data()
    assert 35 < whole.features_NxD.sum(1).mean() < 65
    np.testing.assert_allclose(np.mean(whole.values_NxA, axis=0), 0.15, atol=0.01)
    with pytest.raises(InputError, match="assay 0 labels 1 of 58 molecules, all of one class"):
        dataclasses.replace(MOLECULES, labelled=0.01).data()


def test_labels_can_be_learned_from_the_bits():
    case = MoleculeCase(1000, 64, 1, 1.0, MlpRun((8,), learning_rate=0.05, weight_decay=0.1))
    data = case.data()
    learned, nothing = case.quality(data, case.train_all(data, 1)), case.nothing_learned(data)
    assert learned["log_loss"] < nothing["log_loss"] - 0.02
    assert learned["average_precision"] > nothing["average_precision"] + 0.2
    assert nothing["average_precision"] == pytest.approx(0.15, abs=0.05)


@pytest.fixture(scope="module")
def together_NxM(molecules):
    """Scores of the models of one program."""
    return MOLECULES.train_all(molecules, 2)


def test_molecule_methods_train_the_same_models_and_compile_once(molecules, together_NxM):
    with compilations() as found:
        first_Nx1 = MOLECULES.train_one(molecules, 0)
    assert len(found) > 0
    with compilations() as found:
        rest_NxM = [MOLECULES.train_one(molecules, m) for m in (1, 2)]
    assert len(found) == 0
    np.testing.assert_allclose(np.concatenate([first_Nx1, *rest_NxM], axis=1), together_NxM, rtol=1e-4, atol=1e-5)
    assert np.abs(np.diff(together_NxM, axis=1)).max() > 1e-2  # and they are three models
    alone = make_method("one_after_another", MOLECULES, molecules, None).flops
    assert alone < make_method(ONE_PROGRAM, MOLECULES, molecules, None).flops  # judged on their own molecules only


@pytest.mark.slow
def test_another_process_compiles_anew_for_every_model(molecules, together_NxM):
    case = dataclasses.replace(MOLECULES, assays=2)
    with compilations() as found, other_process() as child:
        method = make_method("compiled_anew", case, molecules, child)
        first, later = method.call.run(), method.call.run()
        assert method.call.pid != os.getpid()
    assert len(found) == 0 and method.compiles_always
    assert later.programs == (first.programs[0], 2 * first.programs[0]) and first.programs[0] > 0
    assert method.call.own_seconds(later) > 0
    assert first.outputs.shape == (150, 1)  # one model
    np.testing.assert_allclose(later.outputs, together_NxM[:, :2], rtol=1e-4, atol=1e-5)


def test_scikit_learn_solves_the_same_regressions(molecules):
    """All choose 10 here; without the prior of penalties, or with other folds, some would not."""
    with compilations() as found:
        theirs_NxM = MOLECULES.train_sklearn(molecules)
    assert not found
    # scikit-learn's solver stops early: its scores differ by 0.001 to 0.0025 on different processors
    np.testing.assert_allclose(theirs_NxM, MOLECULES.train_logistic(molecules, 2), atol=5e-3)
    assert theirs_NxM.std(axis=0).min() > 0.1


def test_text_models_learn():
    data = TEXT.data()
    assert (data.windows_K >= TEXT.run.num_windows).all()  # no window comes twice
    loss_Tx1 = TEXT.train_one(data, 0)
    assert loss_Tx1.shape == (TEXT.run.num_steps, 1)
    assert TEXT.quality(data, loss_Tx1)["loss"] < TEXT.nothing_learned(data)["loss"] + 0.5


@pytest.fixture
def trained(monkeypatch):
    """The arguments of trainings of text models, whose losses are the numbers of their sources."""
    seen = []

    def train(run, store, weights_MxK, key, *, mesh):
        seen.append((run, store, key, weights_MxK.tolist()))
        return TrainedModels({}, (weights_MxK @ [0.0, 1.0])[None], weights_MxK, np.zeros(len(weights_MxK), int))

    monkeypatch.setattr(proxies_cases, "train_on_mixtures", train)
    return seen


def test_text_models_are_the_same_alone(trained):
    """`tests/training/test_proxies.py` shows that rows of weights are trained alike, whatever stands beside them."""
    data = TEXT.data()
    together_TxM, alone_Tx1 = TEXT.train_all(data, 2), TEXT.train_one(data, 1)
    np.testing.assert_array_equal(alone_Tx1, together_TxM[:, 1:])
    (*of_all, weights_MxK), (*of_one, weights_1xK) = trained
    assert of_all == of_one and weights_MxK == [[1, 0], [0, 1]] and weights_1xK == weights_MxK[1:]


def test_text_record(trained):
    record = measure(TEXT, ("one_after_another", "logistic", "xgboost"), Rounds(1, 1.0))
    assert list(record.results) == [ONE_PROGRAM, "one_after_another"]
    assert list(record.absent) == ["logistic", "xgboost"] and not record.stopped
    one, after = record.results.values()
    assert after.difference == 0 and one.quality == {"loss": 0.5}  # of sources 0 and 1
    assert one.flops == after.flops == 2 * TextCase(1, TEXT.run).flops(None) > 0
    assert record.num_models == 2 and record.sizes["run"]["tokens"] == 128
    assert typed(json.loads(dumps(record)), CaseRecord, "a case") == record


@pytest.mark.slow
def test_ngrams_are_read_like_those_of_a_public_tool():
    """NLTK's differ where documents begin, and a little in the shares of single bytes."""
    pytest.importorskip("nltk")
    case = NgramCase(2, 20_000, 3, 400)
    data = case.data()
    assert [sum(map(len, documents)) for documents in data.sources] == [20_000] * 2
    assert sum(map(len, data.scored)) == 400
    (ours, _), (theirs, _) = (case.methods(data)[name] for name in ("ngrams", "nltk"))
    inside = np.arange(400) % 200 >= 2  # of the two documents
    np.testing.assert_allclose(ours()[inside], theirs()[inside], atol=0.05)
    assert case.quality(data, ours())["loss"] < 2.5 < case.nothing_learned(data)["loss"]


def test_ngram_record(monkeypatch):
    monkeypatch.setattr(NgramCase, "_transformers", lambda case, data: np.zeros((400, 2)))
    case = NgramCase(2, 300_000, 3, 400)
    record = measure(case, ("xgboost", "counting_alone", "nltk"), Rounds(1, 1.0))
    assert record.name == "ngrams_large" and record.base == "ngrams"
    assert list(record.results) == ["ngrams", "counting_alone"] and list(record.absent) == ["nltk"]
    assert record.results["counting_alone"].quality == {} and record.results["ngrams"].quality["loss"] < 2.5
    assert record.results["counting_alone"].flops < record.results["ngrams"].flops
    assert typed(json.loads(dumps(record)), CaseRecord, "a case") == record


def test_what_cannot_be_trained_says_why(molecules, monkeypatch):
    assert make_method("logistic", TEXT, None, None) == "it learns from fingerprints, not from text"
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    assert "one device only" in make_method("one_device", MOLECULES, molecules, None)

    def absent():
        raise InputError("xgboost is not installed: do this")

    monkeypatch.setattr(proxies_methods, "require_xgboost", absent)
    assert make_method("xgboost", MOLECULES, molecules, None) == "xgboost is not installed: do this"


def test_a_process_that_fails_does_not_cost_the_other_times():
    class Breaking:
        def submit(self, task, *_):
            if task is not os.getpid:
                raise proxies_methods.BrokenProcessPool("killed")
            return self

        def result(self):
            return 7

    method = make_method("compiled_anew", TEXT, TEXT.data(), Breaking())
    with pytest.raises(Stopped, match="its process failed: killed"):
        method.call.run()


@pytest.fixture
def record(molecules):
    """Made-up times: one program 2 s, one after the other 3 s, other models 1 s, one that failed."""
    scores_NxM = np.zeros((150, 3), np.float32)
    methods = {name: Method(Call(lambda: None), 4e9) for name in (ONE_PROGRAM, "one_after_another", "one_device")}
    methods["compiled_anew"] = Method(Call(lambda: None), 4e9, compiles_always=True)
    methods["xgboost"] = Method(Call(lambda: None), None)
    timings = {
        ONE_PROGRAM: timing(1.0, 2.0, 2.5, last=Answer(scores_NxM, (5, 0, 0))),
        "one_after_another": timing(3.0, 3.0, 4.0, last=Answer(scores_NxM + 1e-3, (4, 0, 1))),
        "compiled_anew": timing(8.0, last=Answer(scores_NxM, (9, 9))),
        "xgboost": timing(1.0, last=Answer(scores_NxM + 1, (0, 0))),
        "one_device": Stopped("no memory"),
    }
    case = CaseRecord(
        name="molecules",
        what="some molecules",
        num_models=3,
        base=ONE_PROGRAM,
        sizes={},
        nothing_learned=MOLECULES.nothing_learned(molecules),
        results=results(MOLECULES, molecules, methods, timings),
        absent={"sklearn": "so"},
        stopped={"one_device": "no memory"},
    )
    return ProxiesRecord(made_by=MADE_BY, settings=Rounds(1, 1.0), methods=proxies_methods.WHAT, cases=(case,))


def test_results(record, molecules):
    found = record.cases[0].results
    one, after, anew, trees = found.values()
    assert list(found) == [ONE_PROGRAM, "one_after_another", "compiled_anew", "xgboost"]  # not the one that failed
    assert one.difference is None and one.compile_seconds == 7
    assert after.over(one) == pytest.approx((1.5, 1.2, 4.0))
    assert after.programs == (4, 1) and after.difference == pytest.approx(1e-3)
    assert anew.compile_seconds is anew.first_seconds is None and anew.programs == (9, 9)
    assert trees.flops is trees.compile_seconds is trees.difference is None
    assert one.quality["log_loss"] == pytest.approx(np.log(2))
    with pytest.raises(Stopped, match="gone"):
        results(MOLECULES, molecules, {}, {ONE_PROGRAM: Stopped("gone")})


def test_what_has_no_time_says_why(record):
    text = report(record)[".md"]
    assert "`sklearn` is left out: so. `one_device` has no time: no memory." in text
    rows = {row[0]: row[1:] for row in cells(text)}
    assert "`one_device`" not in rows and rows["`one_after_another`"][6:10] == ["6.00", "4 + 1", "4", "1.33"]


@pytest.mark.slow
def test_quick_run_writes_its_record(tmp_path, capsys):
    pytest.importorskip("xgboost")
    rivals = ("one_device", "logistic", "sklearn", "xgboost")
    sizes = {"molecules": 150, "bits": 16, "assays": 2, "labelled": 0.5, "steps": 6, "repeats": 1}
    config = proxies.Config(quick=True, cases=("molecules",), against=rivals, out=tmp_path / "r", **sizes)
    record, _ = quick_run(proxies, config, ProxiesRecord, capsys)
    (case,) = record.cases
    assert case.sizes["assays"] == 2 and list(case.results) == [ONE_PROGRAM, *rivals] and not case.absent
    for name, found in case.results.items():
        assert found.min_seconds > 0 and set(found.quality) == {"log_loss", "average_precision"}, name
        first, later = found.programs
        assert later == 0 and (first > 0) == (name not in ("sklearn", "xgboost"))
        assert found.difference < 1e-4 if name == "one_device" else found.difference is None
    loss = {name: found.quality["log_loss"] for name, found in case.results.items()}
    assert loss["sklearn"] == pytest.approx(loss["logistic"], abs=1e-3)
    assert len({round(loss[name], 3) for name in (ONE_PROGRAM, "logistic", "xgboost")}) == 3  # other models


def test_settings():
    molecules, text, *counted = proxies.Config().chosen(accelerator=False)
    assert [(case.name, case.sources, case.order) for case in counted] == [("ngrams", 8, 3), ("ngrams_large", 8, 6)]
    assert (molecules.molecules, molecules.bits, molecules.assays, text.run.tokens) == (6000, 2048, 32, 12_800)
    assert proxies.Config(cases=("text",)).chosen(accelerator=True)[0].run.tokens == 102_400
    options = ["--quick", "--assays", "3", "--cases", "text", "molecules", "--against", "xgboost"]
    text, molecules = parse(proxies.Config, arguments=options).chosen(accelerator=False)
    assert isinstance(text, TextCase) and text.run.tokens == 5120 and text.run.model.width == 32
    assert (molecules.assays, molecules.molecules, molecules.run.steps) == (3, 1000, 200)
    assert proxies.Config(repeats=2, assays=32).is_whole(accelerator=False)
    assert not proxies.Config(tokens=12_800).is_whole(accelerator=True)
    assert not proxies.Config(against=("xgboost",)).is_whole(accelerator=False)
