"""The main job end to end, tiny: three sources, two targets, one seed."""

import dataclasses
import errno
import json
import random
import shutil
import subprocess
import sys

import numpy as np
import pytest

from experiments import command_line, stages, text_mixture, text_mixture_stages
from experiments.text_mixture import main
from experiments.text_mixture_config import PRESETS, TextMixture
from experiments.text_mixture_data import read_text, split_target
from experiments.text_mixture_plan import ARMS, make_plan
from mixmin_jax.errors import InputError
from mixmin_jax.models.transformer import TransformerConfig
from mixmin_jax.training.language_model import LanguageModelRun

TINY = LanguageModelRun(TransformerConfig(8, 1, 1), tokens=50 * 2 * 16, sequence_length=16, batch_size=2)


def sentences(words, count, seed):
    rng = random.Random(seed)
    return [" ".join(rng.choices(words, k=15)) for _ in range(count)]


def write_lines(path, texts):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    (folder / "sources").mkdir()
    vocabularies = {"digits": list("0123456789"), "lower": ["abba", "cede", "fig"], "upper": ["XYZ", "WVU", "T"]}
    for seed, (name, words) in enumerate(vocabularies.items()):
        write_lines(folder / "sources" / f"{name}.jsonl", sentences(words, 120, seed))
    write_lines(folder / "numbers.jsonl", sentences(vocabularies["digits"], 40, 10))
    write_lines(folder / "both.jsonl", sentences(vocabularies["lower"] + vocabularies["upper"], 40, 11))
    return folder


@pytest.fixture(scope="session")
def config(data, tmp_path_factory):
    return TextMixture(
        sources=(str(data / "sources"),),
        target=(str(data / "numbers.jsonl"), str(data / "both.jsonl")),
        out=tmp_path_factory.mktemp("run") / "out",
        proxy=TINY,
        model=TINY,
        mesh_source=1,
    )


@pytest.fixture(scope="session")
def finished(config):
    main(config)
    return config.out


def load(out, target="numbers", name="metrics.json"):
    return json.loads((out / target / name).read_text())


def without_times(metrics):
    return {key: value for key, value in metrics.items() if key not in ("seconds", "command", "git_commit")}


def test_every_target_gets_its_files(finished):
    for target in ("numbers", "both"):
        assert {path.name for path in (finished / target).iterdir()} == {
            "weights.json", "metrics.json", "report.md", "weights.png", "loss.png", "gap.png", "fidelity.png",
        }  # fmt: skip
    assert json.loads((finished / "status.json").read_text()) == {"complete": True}


def test_metrics_hold_what_readers_rely_on(finished):
    metrics = load(finished)
    assert metrics["schema_version"] == 1 and list(metrics["arms"]) == list(ARMS)
    for arm in metrics["arms"].values():
        level = arm["test_bits_per_byte"]
        assert level["mean"] == level["per_seed"][0] and level["std"] is None
        assert set(arm["weights"]) == {"digits", "lower", "upper"}
        assert sum(arm["weights"].values()) == pytest.approx(1) and arm["weights_per_seed"] == [arm["weights"]]
    assert {"loss", "gap", "iterations", "converged", "method"} <= set(metrics["mixmin"])
    assert metrics["mixmin"]["converged"] and metrics["mixmin"]["gap"] <= metrics["mixmin"]["tolerance"]
    assert metrics["flops"]["proxies"] > 0 < metrics["flops"]["target"]
    assert metrics["fidelity"]["n"] == len(ARMS) + 3 and "spearman" in metrics["fidelity"]
    for part in ("config", "versions", "device", "command"):
        assert metrics[part]
    assert set(metrics["data"]["sources"]["digits"]) == {"documents", "bytes", "sha256"}
    split = metrics["data"]["target"]
    assert not set(split["fit_document_numbers"]) & set(split["test_document_numbers"])


def test_the_mixture_is_that_of_the_target(finished):
    assert load(finished)["arms"]["mixmin"]["weights"]["digits"] > 0.99
    both = load(finished, "both")["arms"]
    assert both["mixmin_token"]["weights"]["digits"] < 0.05
    assert min(both["mixmin_token"]["weights"][name] for name in ("lower", "upper")) > 0.2
    weights = load(finished, "both", "weights.json")
    assert weights["mixmin"] == both["mixmin"]["weights"] and list(weights) == list(ARMS)


def test_what_does_not_depend_on_the_target_is_the_same_for_all(finished):
    numbers, both = (load(finished, target) for target in ("numbers", "both"))
    assert numbers["arms"]["natural"]["weights"] == both["arms"]["natural"]["weights"]
    names = {path.name for path in (finished / "stages").iterdir()}
    assert sum(name.startswith("train-") for name in names) == 5  # proxies, random mixtures, shared, two targets' arms


def test_the_reported_loss_is_nats_over_bytes(finished, config):
    metrics = load(finished)
    with np.load(finished / "stages" / "score-shared-arms-numbers-seed0.npz") as file:
        nats, num_bytes = -file["array/document_DxM"], file["array/bytes_D"]
    assert num_bytes.sum() == metrics["data"]["target"]["test_bytes"]
    expected = nats.sum(0) / (num_bytes.sum() * np.log(2))
    reported = [metrics["arms"][arm]["test_bits_per_byte"]["mean"] for arm in ("uniform", "natural")]
    np.testing.assert_allclose(reported, expected, rtol=1e-12)


def forbid(*_, **__):
    raise AssertionError("computed again")


def test_a_second_run_computes_nothing_and_gives_the_same(finished, config, monkeypatch, capsys):
    before = load(finished)
    monkeypatch.setattr(text_mixture_stages, "train_on_mixtures", forbid)
    monkeypatch.setattr(text_mixture_stages, "score_documents", forbid)
    monkeypatch.setattr(text_mixture_stages, "find_overlap", forbid)
    main(config)
    assert without_times(load(finished)) == without_times(before)


def test_another_run_is_refused_unless_told(finished, config, tmp_path, monkeypatch):
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    other = dataclasses.replace(config, out=out, split_seed=1)
    with pytest.raises(InputError, match=r"split_seed \(0 there, 1 now\)"):
        main(other)
    assert load(out)["data"]["target"]["split_seed"] == 0
    trained = []
    original = text_mixture_stages.train_on_mixtures
    monkeypatch.setattr(
        text_mixture_stages, "train_on_mixtures", lambda *a, **k: trained.append(k["names"]) or original(*a, **k)
    )
    main(dataclasses.replace(other, overwrite=True))
    assert load(out)["data"]["target"]["split_seed"] == 1
    assert len(trained) == 2  # the arms of two targets; what does not depend on the split is kept
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        main(dataclasses.replace(config, out=tmp_path / "foreign"))


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_what_is_finished_survives_and_the_rest_follows(finished, config, tmp_path, monkeypatch, capsys, fault):
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    shutil.rmtree(out / "both")
    for path in (out / "stages").glob("*arms-both*"):
        path.unlink()
    with monkeypatch.context() as patch:

        def fail(*_, **__):
            raise fault

        patch.setattr(stages.np, "savez", fail)
        with pytest.raises(type(fault)):
            main(dataclasses.replace(config, out=out))
    status = json.loads((out / "status.json").read_text())
    assert status["complete"] is False and status["how_to_go_on"]
    assert "incomplete" in capsys.readouterr().err
    assert not list((out / "stages").glob(".*"))  # no half-written files
    assert load(out)["arms"]  # what was there can still be read
    main(dataclasses.replace(config, out=out))
    assert without_times(load(out, "both")) == without_times(load(finished, "both"))


def test_a_damaged_stage_is_made_again(finished, config, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    path = out / "stages" / "score-arms-numbers-seed0.npz"
    path.write_bytes(path.read_bytes()[:-200])
    main(dataclasses.replace(config, out=out))
    assert without_times(load(out)) == without_times(load(finished))


def test_a_cap_binds_in_every_arm(config, tmp_path):
    out = tmp_path / "out"
    main(dataclasses.replace(config, out=out, target=config.target[:1], max_epochs=0.2))
    arms = load(out)["arms"]
    assert max(epochs for arm in arms.values() for epochs in arm["epochs"].values()) <= 0.2
    assert arms["mixmin"]["epochs"]["digits"] > 0.18  # as much as allowed
    with pytest.raises(InputError, match=r"allows at most 0\.10"):
        main(dataclasses.replace(config, out=tmp_path / "other", max_epochs=0.01))


def test_a_dry_run_prints_the_plan_and_writes_nothing(config, tmp_path, capsys):
    main(dataclasses.replace(config, out=tmp_path / "out", dry_run=True, regmix_runs=64))
    plan = capsys.readouterr().out
    assert "67 proxies (3 sources, 64 random mixtures)" in plan and "10 target runs" in plan
    assert "FLOPs" in plan and "1.6 k tokens" in plan
    assert not (tmp_path / "out").exists()


def test_lightgbm_is_fitted_from_64_runs_on(config):
    sources, targets = read_text(config.sources, config.target)
    splits = [split_target(target, 0.5, 0, 10_000, 10_000) for target in targets]
    models = [
        make_plan(dataclasses.replace(config, regmix_runs=runs), sources, tuple(splits)).regmix_model
        for runs in (None, 63, 64)
    ]
    assert models == ["linear", "linear", "lightgbm"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": ()}, "--sources is given without --target"),
        ({"sources": ()}, "--target is given without --sources"),
        ({"sources": ("nowhere",)}, "nowhere: no such folder"),
        ({"target": ("{data}/sources/digits.jsonl",)}, "'digits' is a source and a target"),
        ({"target": ("{data}/copy.jsonl",)}, "hold the same documents"),
        ({"target": ("{data}/few.jsonl",)}, "'few' .* too small to split"),
        ({"target": ("{data}/both.jsonl",) * 2}, "two targets are named 'both'"),
        ({"fit_bytes": 100}, "raise --fit-bytes"),
        ({"mesh_source": 100}, "100 .* devices"),
    ],
)
def test_bad_input_is_one_error_before_compute(config, data, tmp_path, change, message):
    write_lines(data / "few.jsonl", ["one document", "another document", "a third"])
    shutil.copy(data / "sources" / "digits.jsonl", data / "copy.jsonl")
    change = {
        key: tuple(str(v).format(data=data) for v in value) if isinstance(value, tuple) else value
        for key, value in change.items()
    }
    with pytest.raises(InputError, match=message):
        main(dataclasses.replace(config, out=tmp_path / "out", **change))
    assert not (tmp_path / "out").exists()


def test_a_source_shorter_than_a_window_is_named(config, data, tmp_path):
    folder = tmp_path / "sources"
    shutil.copytree(data / "sources", folder)
    write_lines(folder / "tiny.jsonl", ["short"])
    with pytest.raises(InputError, match="source 'tiny' holds 7 tokens"):
        main(dataclasses.replace(config, sources=(str(folder),), out=tmp_path / "out"))


@pytest.mark.parametrize(
    "change",
    [
        {"seeds": 0}, {"max_epochs": 0.0}, {"regmix_runs": 1}, {"fit_bytes": 0}, {"mesh_data": 0}, {"mesh_data": 3},
        {"proxy": dataclasses.replace(TINY, sequence_length=8)},
    ],
)  # fmt: skip
def test_bad_combinations_of_options_are_refused(config, change):
    with pytest.raises(InputError):
        dataclasses.replace(config, **change)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_chosen_by_name_and_overridden_by_options(name):
    parsed = command_line.parse(TextMixture, PRESETS, ["--preset", name, "--proxy.tokens", "123456", "--seeds", "2"])
    assert parsed.model == PRESETS[name].model and parsed.preset == name
    assert parsed.proxy == dataclasses.replace(PRESETS[name].proxy, tokens=123456) and parsed.seeds == 2


def test_unknown_options_and_presets_are_refused(capsys):
    for arguments in (["--nonsense", "1"], ["--preset", "huge"]):
        with pytest.raises(SystemExit) as stopped:
            command_line.parse(TextMixture, PRESETS, arguments)
        assert stopped.value.code == 2


def test_the_command_prints_one_line_for_bad_input_and_explains_itself():
    def call(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "experiments.text_mixture", *arguments], capture_output=True, text=True
        )

    bad = call("--sources", "nowhere", "--target", "nothing.txt")
    assert bad.returncode == 2 and bad.stderr.strip() == "error: nowhere: no such folder of sources"
    shown = call("--help").stdout
    assert "--max-epochs" in shown and "TFDS" in shown and "demonstration" in shown
    assert text_mixture.__doc__
