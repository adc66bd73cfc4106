"""MixMin and MixTraining in one run, end to end and tiny: three sources, two tasks with heads of their own."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from experiments.harness import certified_weights, language_model_stages
from experiments.harness.command_line import parse
from experiments.harness.replacement import UNFINISHED
from experiments.harness.result_files import NotRendered, read_result
from experiments.mixed_mixtraining import __main__ as command
from experiments.mixed_mixtraining import report
from experiments.mixed_mixtraining import stages as mixed_mixtraining_stages
from experiments.mixed_mixtraining.__main__ import main
from experiments.mixed_mixtraining.config import ARMS, CONVENTIONAL, JOINT_ARMS, MIXTURES, PRESETS, MixedMixTraining
from experiments.mixed_mixtraining.data import read_text
from experiments.mixed_mixtraining.plan import describe_plan, make_plan
from experiments.mixed_mixtraining.results import MixedMetrics
from experiments.mixtraining.text.model import SIZES
from experiments.reporting.schema import SHARE_OF_TOKENS
from mixmin_jax.errors import InputError
from mixmin_jax.models.encoder import EncoderConfig
from mixmin_jax.models.transformer import TransformerConfig
from mixmin_jax.training.language_model import LanguageModelRun
from mixmin_jax.training.nonfinite import Diverged
from mixmin_jax.training.schedule import phase_steps
from tests.experiments.made_up_text import WORDS, sentences, write_lines
from tests.experiments.verify.verified import assert_verified

LENGTH = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    corpora = {f"sources/{name}": (words, 60, seed) for seed, (name, words) in enumerate(WORDS.items())}
    corpora |= {
        "sources/web": (WORDS["digits"], 60, 9),
        "small_or_large/small": ("0123", 30, 10),
        "small_or_large/large": ("6789", 30, 11),
        "even": ("02468", 30, 20),
        "odd": ("13579", 30, 21),
        "both": ("01", 30, 22),
    }
    for name, made in corpora.items():
        write_lines(folder / f"{name}.jsonl", sentences(*made, length=30))
    (folder / "sources" / "sources.toml").write_text('[digits]\nlicence = "CC0-1.0"\n[web]\nallowed = false\n')
    return folder


@pytest.fixture(scope="module")
def config(folder, tmp_path_factory):
    return MixedMixTraining(
        sources=(str(folder / "sources"),),
        task=(
            (str(folder / "small_or_large"),),
            tuple(str(folder / f"{name}.jsonl") for name in ("even", "odd", "both")),
        ),
        out=tmp_path_factory.mktemp("run") / "out",
        labels=20,
        test_windows=40,
        proxy=LanguageModelRun(
            TransformerConfig(8, 1, 1), tokens=60 * 4 * LENGTH, sequence_length=LENGTH, batch_size=4
        ),
        ssl_steps=20,
        sl_steps=60,
        batch_size=16,
        ssl_batch_size=8,
        learning_rate=1e-2,
        sl_learning_rate=1e-2,
    )


@pytest.fixture(scope="module")
def plan(config):
    return make_plan(config)


@pytest.fixture(scope="module")
def finished(config):
    main(config)
    return config.out


@pytest.fixture(scope="module", autouse=True)
def smallest():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SIZES, "nano", (EncoderConfig(8, 1, 1), EncoderConfig(8, 1, 1)))
        yield


def load(out):
    return json.loads((out / "metrics.json").read_text())


@pytest.mark.slow
def test_a_finished_run_is_verified_with_stages_and_data(finished):
    held = assert_verified(finished, with_data=True)
    assert "the record follows from its stages" in held and "weights.json holds what the record says" in held
    roles = [line.split(" (")[0] for line in held if line.startswith("data: ")]
    assert len(roles) == 3 + 5 and "data: class of task 1 even" in roles


@pytest.mark.slow
def test_results_hold_what_readers_rely_on(finished):
    metrics = load(finished)
    assert {path.name for path in finished.iterdir() if path.is_file()} == {
        "config.json", "status.json", "metrics.json", "weights.json", "report.md", "report.html",
        "accuracy.png", "weights.png", "gap.png",
    }  # fmt: skip
    weights = json.loads((finished / "weights.json").read_text())
    assert weights.pop("sources") == metrics["source_notes"] and weights.pop("unit") == SHARE_OF_TOKENS
    assert list(weights) == list(MIXTURES)
    assert all(weights[arm] == metrics["arms"][arm]["weights"] for arm in MIXTURES)
    assert list(metrics["arms"]) == list(ARMS) and metrics["complete"] and metrics["seeds"] == [0, 1]
    assert [task["classes"] for task in metrics["tasks"]] == [["large", "small"], ["both", "even", "odd"]]
    text = (finished / "report.md").read_text()
    assert text.count("\n## ") == 6 and "Is choosing the mixture worth it?" in text
    assert "| `digits` | CC0-1.0 |  | yes |" in text and "| `web` |  |  | **no**: left out |" in text
    assert metrics["source_notes"]["digits"]["licence"] == "CC0-1.0" and list(metrics["data"]) == sorted(WORDS)


@pytest.mark.slow
def test_the_mixture_is_that_of_the_tasks_and_both_heads_learn(finished):
    metrics = load(finished)
    arms = metrics["arms"]
    assert arms["mixmin"]["weights"]["digits"] > 0.95
    assert arms["mixmin"]["proxy_loss"]["mean"] < min(arms[arm]["proxy_loss"]["mean"] for arm in ("natural", "uniform"))
    assert metrics["mixmin"]["converged"] and metrics["mixmin"]["gap"] <= metrics["mixmin"]["tolerance"]
    assert arms["target_text"]["epochs"] == {name: 0 for name in WORDS}
    drawn = sum(arms["uniform"]["epochs"][name] * metrics["data"][name]["windows"] for name in WORDS)
    assert drawn == pytest.approx(20 * 8)  # steps with self-supervision, windows in each
    first, second = arms["sl"]["accuracy_per_task"]
    assert first["mean"] > 0.9 and second["mean"] > 0.6  # of two and of three classes


@pytest.mark.slow
def test_arms_with_self_supervision_cost_the_same(finished):
    metrics = load(finished)
    flops = metrics["flops"]["arms"]
    assert len({flops[arm] for arm in JOINT_ARMS}) == 1 and flops["sl"] < flops["mixmin"]
    assert [flops[arm] for arm in ("sl_matched", CONVENTIONAL)] == pytest.approx([flops["mixmin"]] * 2, rel=0.02)
    assert metrics["arms"]["mixmin"]["steps"] == {"ssl": 10, "joint": 10, "sl": 50}
    assert metrics["arms"]["sl"]["steps"] == {"ssl": 0, "joint": 0, "sl": 60}


def test_batches_hold_what_their_arm_is_named_after(plan):
    examples = plan.labeled(0)
    weights = np.array([0.0, 1.0, 0.0])  # lower
    fetch = jax.jit(plan.fetch)

    def batches(arm):
        data = jax.device_put(plan.data(arm, weights, examples, 0))
        return [fetch(step, jax.random.key(9), *data) for step in range(20)]

    mixed, own = batches("mixmin"), batches("target_text")
    lower, target, conventional = (
        b"".join(np.asarray(batch.ssl).tobytes() for batch in found) for found in (mixed, own, batches(CONVENTIONAL))
    )
    assert set(lower) <= set(b"abcdefgi \xff") and set(target) <= set(b"0123456789 \xff")
    assert set(conventional) <= set(b"abcdefgi \xff")
    assert mixed[0].ssl.shape == (8, LENGTH)
    for task, found in zip(mixed[3].sl, examples, strict=True):
        rows = {(row.tobytes(), int(label)) for row, label in zip(found.inputs, found.labels_N, strict=True)}
        assert {(np.asarray(row).tobytes(), int(label)) for row, label in zip(*task, strict=True)} <= rows
        assert len(task.labels) == 16
    other = jax.device_put(plan.data("mixmin", weights, examples, 1))
    assert (fetch(0, jax.random.key(9), *other).ssl != mixed[0].ssl).any()


def test_the_conventional_arm_has_the_mixture_and_the_flops_of_mixmin_without_a_joint_step(plan):
    steps, step_flops = phase_steps(plan.steps(CONVENTIONAL)), plan.step_flops
    assert steps["joint"] == 0 and abs(plan.flops(CONVENTIONAL) - plan.flops("mixmin")) <= max(step_flops.values()) / 2
    assert steps["ssl"] / steps["sl"] == pytest.approx(20 / 60, rel=0.05)
    assert (np.diff(plan.steps(CONVENTIONAL).phase) >= 0).all()  # SSL first
    data = plan.data(CONVENTIONAL, np.array([0.25, 0.75, 0.0]), plan.labeled(0), 0)
    drawn_K = np.asarray(data[1].counts_K)
    assert drawn_K.sum() == 8 * steps["ssl"] and drawn_K[1] == pytest.approx(3 * drawn_K[0], abs=2)
    assert drawn_K[2:].tolist() == [0, 0]


@pytest.mark.slow
def test_ssl_steps_that_see_mask_tokens_cost_more_and_are_another_run(plan, config):
    other = dataclasses.replace(plan, config=dataclasses.replace(config, ssl_sees="all_tokens"))
    assert other.step_flops["ssl"] > 1.1 * plan.step_flops["ssl"]
    assert [other.step_flops[phase] for phase in ("joint", "sl")] == [plan.step_flops[p] for p in ("joint", "sl")]
    assert other.identity == plan.identity | {"ssl_sees": "all_tokens"} and "ssl_sees" not in plan.identity


def test_weights_are_part_of_what_each_arm_with_a_mixture_is_made_from(plan, tmp_path):
    inputs = {}

    class Stages:
        def run(self, name, given, compute, cost):
            inputs[name] = given

    weights = {arm: np.full(3, number / 3) for number, arm in enumerate(MIXTURES)}
    for arm in ARMS:
        mixed_mixtraining_stages._run(plan, arm, 0, weights, (), Stages(), tmp_path)
    read = {arm: inputs[f"{arm}-seed0"]["weights"] for arm in ARMS}
    assert read == dict.fromkeys(ARMS) | {arm: weights[arm].tolist() for arm in MIXTURES} | {
        CONVENTIONAL: weights["mixmin"].tolist()
    }


def test_a_source_that_is_not_allowed_is_left_out_and_named(plan, config, tmp_path):
    assert plan.names == tuple(WORDS) and len(plan.sources) == 3
    assert [name for name, note in plan.notes.items() if not note.allowed] == ["web"]
    assert "  web                  left out: allowed = false" in describe_plan(plan)
    notes = tmp_path / "notes.toml"

    def identity_with(text):
        notes.write_text(text)
        other = dataclasses.replace(config, sources_info=notes)
        sources, tasks, _ = read_text(other)
        return dataclasses.replace(plan, config=other, sources=sources, tasks=tasks).identity

    assert identity_with("[web]\nallowed = false") == plan.identity
    assert list(identity_with("")["data"]) == [*WORDS, "web"]


def test_tested_documents_are_read_nowhere(plan):
    for task in plan.tasks:
        tested = {row.tobytes() for row in task.test.inputs}
        read = b"\n".join(document for corpus in task.train for document in corpus.documents)
        held = {document for corpus in task.corpora for document in corpus.documents}
        held -= {document for corpus in task.train for document in corpus.documents}
        assert len(held) >= 25 and not any(document in read for document in held)
        assert all(any(window in document for document in held) for window in tested)


@pytest.mark.slow
def test_a_second_run_computes_nothing_and_gives_the_same(finished, config, monkeypatch, tmp_path):
    before = load(finished)
    for module, name in (
        (language_model_stages, "train_on_mixtures"),
        (language_model_stages, "score_documents"),
        (certified_weights, "solve"),
        (mixed_mixtraining_stages, "train"),
        (mixed_mixtraining_stages, "linear_on_ngrams"),
        (mixed_mixtraining_stages, "find_overlap"),
    ):
        monkeypatch.setattr(module, name, None)
    main(config)
    assert load(finished) | {"made_by": None} == before | {"made_by": None}
    with pytest.raises(InputError, match=r"labels \(20 there, 10 now\)"):
        main(dataclasses.replace(config, labels=10))
    copied = shutil.copytree(finished, tmp_path / "copied")
    monkeypatch.setattr(report, "mixed_report", lambda metrics: 1 / 0)
    with pytest.raises(NotRendered, match=r"cannot be rendered, metrics.json is whole \(ZeroDivisionError"):
        main(dataclasses.replace(config, out=copied))
    metrics = read_result(copied / UNFINISHED / "metrics.json", MixedMetrics)
    assert metrics.seeds == (0,) and not metrics.complete
    weights = json.loads((copied / UNFINISHED / "weights.json").read_text())
    assert all(weights[arm] == metrics.arms[arm].weights for arm in MIXTURES)


@pytest.mark.slow
def test_a_training_that_fails_says_where_and_keeps_its_parameters(config, tmp_path, capsys):
    with pytest.raises(Diverged, match=r"sl, seed 0: .*step \d+, in the phase 'sl'"):
        main(dataclasses.replace(config, out=tmp_path / "out", sl_learning_rate=1e30))
    with np.load(tmp_path / "out" / "failed" / "sl-seed0.npz") as file:
        assert all(np.isfinite(file[name]).all() for name in file.files)
    assert json.loads((tmp_path / "out" / "status.json").read_text())["complete"] is False


def test_a_dry_run_prints_the_plan_and_writes_nothing(plan, config, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command, "make_plan", lambda config: plan)
    main(dataclasses.replace(config, out=tmp_path / "out", dry_run=True))
    plan = capsys.readouterr().out
    assert "large or small; 20 labeled windows of each class, 80 windows to test on" in plan
    assert all(f"  {arm} " in plan for arm in ARMS) and set(MIXTURES) < set(ARMS)
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_run_is_refused_before_compute(config, folder, tmp_path):
    lone = str(folder / "even.jsonl")
    digits = str(folder / "sources" / "digits.jsonl")
    long_windows = dataclasses.replace(config.proxy, tokens=10**6, sequence_length=400)
    for change, message in (
        ({"task": ()}, "--sources is given without --task: the labels come from it"),
        ({"sources": ()}, "--task is given without --sources"),
        ({"task": ((lone,),)}, f"--task {lone} is no task"),
        ({"task": ((lone, digits),)}, "hold the same documents"),
        ({"batch_size": 41}, "--batch-size 41 is more than the 40 labeled windows"),
        ({"labels": 5}, "--batch-size 16 is more than the 10"),
        ({"proxy": long_windows}, r"0 window\(s\) of 400 bytes"),
        ({"mix_ratio": 0.0}, "no joint step.*mixmin_ssl_then_sl is the arm without any"),
        ({"ssl_steps": 1, "sl_steps": 1, "mix_ratio": 1.0}, "matched compute, mixmin_ssl_then_sl: .*--sl-steps"),
        ({"sl_steps": 0}, "--sl-steps must be at least 1"),
        ({"test_fraction": 0.0}, "--test-fraction"),
    ):
        with pytest.raises(InputError, match=message):
            main(dataclasses.replace(config, out=tmp_path / "out", **change))
    assert not (tmp_path / "out").exists()


def test_the_option_task_is_given_once_per_task():
    parsed = parse(MixedMixTraining, PRESETS, ["--sources", "s", "--task", "a", "b", "--task", "c"])
    assert parsed.task == (("a", "b"), ("c",))
