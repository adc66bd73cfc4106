import dataclasses
import errno
import io
import os
import re
import shutil
import signal
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from rich.console import Console

from experiments.harness import stages
from experiments.harness.interruption import Interrupted, Interruption
from experiments.harness.progress import RunProgress
from experiments.harness.provenance import provenance
from experiments.harness.stages import fingerprint
from experiments.reporting.schema import MadeBy
from mixmin_jax.errors import InputError
from mixmin_jax.training.checkpoint import Checkpoints

MADE_BY = MadeBy("python", "1 x cpu", "abc", {})


def Stages(folder, made_by=MADE_BY, told=None, **options):
    return stages.Stages(folder, RunProgress(1.0, Console(file=told or io.StringIO())), made_by, **options)


def counted(product):
    calls = []
    return calls, lambda stage: calls.append(1) or dict(product)


PRODUCT = {"w": np.arange(3.0), "names": ["a", "b"], "nested": {"x": 1}}


def test_a_product_is_computed_once_and_read_back_whole(tmp_path):
    calls, compute = counted(PRODUCT)
    first, second = Stages(tmp_path), Stages(tmp_path, dataclasses.replace(MADE_BY, git_commit="later"))
    first.run("train", {"seed": 0}, compute)
    found = second.run("train", {"seed": 0}, compute)
    assert len(calls) == 1
    np.testing.assert_array_equal(found["w"], PRODUCT["w"])
    assert found["names"] == ["a", "b"] and found["nested"] == {"x": 1} and set(found) == set(PRODUCT)
    assert second.records == first.records  # seconds and commit are those of the computation
    assert second.records["train"].made_by == MADE_BY


def test_other_inputs_compute_anew_without_a_warning(tmp_path):
    calls, compute = counted(PRODUCT)
    told = io.StringIO()
    for seed in (0, 1, 1):
        Stages(tmp_path, told=told).run("train", {"seed": seed}, compute)
    assert len(calls) == 2 and "cannot be read" not in told.getvalue()


def test_a_product_that_an_earlier_version_made_is_made_again(tmp_path, monkeypatch):
    calls, compute = counted(PRODUCT)
    for version in (1, stages.FORMAT):
        monkeypatch.setattr(stages, "FORMAT", version)
        Stages(tmp_path).run("train", {"seed": 0}, compute)
    assert len(calls) == 2


@pytest.mark.parametrize("damage", [lambda b: b[:50], lambda b: b[:-30], lambda b: b"", lambda b: b"\0" * len(b)])
def test_a_damaged_product_is_computed_again_and_told_of(tmp_path, damage):
    folder = tmp_path / "[stages]"
    calls, compute = counted(PRODUCT)
    Stages(folder).run("train", {}, compute)
    path = folder / "train.npz"
    path.write_bytes(damage(path.read_bytes()))
    told = io.StringIO()
    Stages(folder, told=told).run("train", {}, compute)
    assert len(calls) == 2
    warning, *_ = told.getvalue().splitlines()
    assert re.fullmatch(rf"train: {re.escape(str(path))} cannot be read \(.+\); it is made again", warning)


@pytest.mark.parametrize("where", ["open", "load"])
def test_a_product_that_the_file_system_does_not_give_is_not_overwritten(tmp_path, monkeypatch, where):
    calls, compute = counted(PRODUCT)
    Stages(tmp_path).run("train", {}, compute)
    path = tmp_path / "train.npz"
    before = path.read_bytes()

    def fail(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(*{"open": (Path, "open", fail), "load": (stages.np, "load", fail)}[where])
        with pytest.raises(InputError, match=r"train\.npz cannot be read \(Input/output error\), and may be whole:"):
            Stages(tmp_path).run("train", {}, compute)
    assert len(calls) == 1 and path.read_bytes() == before


def test_a_failing_stage_leaves_nothing(tmp_path):
    def fail(stage):
        raise RuntimeError("mid-way")

    with pytest.raises(RuntimeError):
        Stages(tmp_path).run("train", {}, fail)
    assert list(tmp_path.iterdir()) == []


def trained(stage):
    """A training of three blocks."""
    with stage.checkpoints() as checkpoints:
        began, seen = checkpoints.restore(np.zeros(6)) or (0, np.zeros(6))
        for done in range(began + 2, 7, 2):
            seen[done - 2 : done] = done
            stage.advance(done, 6)
            if checkpoints.due(done, 6):
                checkpoints.save(done, 6, seen)
    return {"seen": seen, "began": began}


def test_a_signal_saves_a_training_and_its_checkpoints_go_when_the_product_is_there(tmp_path):
    def stopping(stage):
        return trained(stage._replace(advance=lambda *_: os.kill(os.getpid(), signal.SIGTERM)))

    with Interruption() as interruption, pytest.raises(Interrupted):  # deferred until a block has ended
        Stages(tmp_path, interruption=interruption).run("train", {}, stopping)
    left = tmp_path / "train.checkpoints"
    shutil.copytree(left, tmp_path / "copy")
    product = Stages(tmp_path).run("train", {}, trained)
    assert product["seen"].tolist() == [2, 2, 4, 4, 6, 6] and product["began"] == 2 and not left.exists()
    (tmp_path / "copy").rename(left)  # as if killed after the product was written
    Stages(tmp_path).run("train", {}, trained)
    assert not left.exists()


def test_a_stage_counts_the_seconds_of_earlier_attempts(tmp_path, monkeypatch):
    monkeypatch.setattr(Checkpoints, "earlier_seconds", 1000.0)
    resumed = Stages(tmp_path)
    resumed.run("train", {}, trained)
    resumed.run("solve", {}, lambda stage: {})
    assert resumed.records["train"].seconds > 1000 > resumed.records["solve"].seconds


def test_a_product_that_cannot_be_written_names_its_file(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(stages.np, "savez", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*train\.npz'"):
        Stages(tmp_path).run("train", {}, lambda stage: {})
    assert list(tmp_path.iterdir()) == []


def squares(labels, done):
    def compute(stage, missing):
        done.append(missing)
        for steps in (2, 1):  # of a model that is trained again
            stage.skipped({label: steps for label in missing if label == "b"})
        for label in missing:
            yield {"x": np.array([ord(label) ** 2])}

    return {label: {"of": label} for label in labels}, compute


def test_each_label_is_a_stage_and_the_missing_ones_are_computed_together(tmp_path):
    done, told = [], io.StringIO()
    Stages(tmp_path).run_each("square", *squares("ac", done))
    run = Stages(tmp_path, told=told)
    products = run.run_each("square", *squares("cba", done), target="news")
    assert done == [["a", "c"], ["b"]] and list(products) == ["c", "b", "a"]
    assert {label: product["x"].tolist() for label, product in products.items()} == {
        label: [ord(label) ** 2] for label in "abc"
    }
    assert "square (2 of 3): found" in told.getvalue() and "square for b: " in told.getvalue()
    assert list(run.records_of("news")) == ["square/c", "square/b", "square/a"] and not run.records_of("other")
    assert run.records["square/b"].skipped == {"b": 3} and not run.records["square/a"].skipped
    changed, compute = squares("abc", done)
    run.run_each("square", changed | {"c": {"of": "another"}}, compute)
    assert done[2:] == [["c"]]


def test_products_that_came_before_a_failure_are_kept_and_a_damaged_one_is_made_again(tmp_path):
    def failing(stage, missing):
        yield {"x": 1}
        raise RuntimeError("mid-way")

    done = []
    inputs, compute = squares("abc", done)
    with pytest.raises(RuntimeError, match="mid-way"):
        Stages(tmp_path).run_each("square", inputs, failing)
    (tmp_path / "square" / "a.npz").write_bytes(b"")
    Stages(tmp_path).run_each("square", inputs, compute)
    Stages(tmp_path).run_each("square", inputs, compute)
    assert done == [["a", "b", "c"]]


def test_the_seconds_of_stages_that_were_computed_together_are_shared(tmp_path):
    def slow(stage, missing):
        time.sleep(0.2)
        return [{}, {}]

    run = Stages(tmp_path)
    run.run_each("square", {"a": 0, "b": 0}, slow)
    seconds = [record.seconds for record in run.records.values()]
    assert min(seconds) >= 0.1 and sum(seconds) < 0.4


def test_labels_are_file_names_and_a_product_that_went_is_an_error(tmp_path):
    labels = ("web/train", "web_train", "..")
    products = Stages(tmp_path).run_each("square", {label: {} for label in labels}, lambda stage, missing: [{}, {}, {}])
    assert len([*tmp_path.rglob("*.npz")]) == 3 == len([*(tmp_path / "square").iterdir()])
    shutil.rmtree(tmp_path / "square")
    with pytest.raises(InputError, match=r"web_train\.npz: it was written, but it cannot be read here and now"):
        products["web_train"]


def test_a_stop_between_products_keeps_those_that_are_there(tmp_path):
    done = []
    inputs, compute = squares("abc", done)

    def stopping(stage, missing):
        for product in compute(stage, missing):
            os.kill(os.getpid(), signal.SIGTERM)
            yield product

    with Interruption() as interruption, pytest.raises(Interrupted), interruption.deferred():
        Stages(tmp_path, interruption=interruption).run_each("square", inputs, stopping)
    assert [path.name for path in (tmp_path / "square").iterdir()] == ["a.npz"]
    Stages(tmp_path).run_each("square", inputs, compute)
    assert done == [["a", "b", "c"], ["b", "c"]]


def test_fingerprints_do_not_depend_on_the_order_of_keys_and_refuse_what_json_cannot_hold():
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1}) != fingerprint({"a": 1, "b": [3]})
    with pytest.raises(TypeError):
        fingerprint({"weights": np.zeros(5000)})


def test_stages_that_were_made_elsewhere_are_on_record_and_told_of_once(tmp_path):
    def made_by(device, jax, **versions):
        return MadeBy("python", device, "abc", {"python": "3", "jax": jax, **versions})

    there = made_by("1 x cpu", "1.0")
    here = made_by("8 x [gpu]", "2.0", optax="1")  # which an earlier version did not record
    first = Stages(tmp_path, there)
    first.run("train", {}, lambda stage: {})
    first.run("score", {}, lambda stage: {})
    assert stages.made_elsewhere(first.records, there) == ([], {})
    told = io.StringIO()
    second = Stages(tmp_path, here, told)
    second.run("train", {}, lambda stage: {})
    assert stages.made_elsewhere(second.records, here) == (["1 x cpu"], {"jax": ["1.0"]})
    assert "warning" not in told.getvalue()  # all of them were made in one place
    for name in ("solve", "score", "report"):
        second.run(name, {}, lambda stage: {})
    (warning,) = (line for line in told.getvalue().splitlines() if line.startswith("warning: "))
    assert "were made on 1 x cpu (now 8 x [gpu]), with jax 1.0 (now 2.0): the numbers" in warning
    assert stages.made_elsewhere(second.records, here) == (["1 x cpu", "8 x [gpu]"], {"jax": ["1.0", "2.0"]})


def test_settings_of_jax_that_change_numbers_are_on_record_and_differing_ones_told_of(tmp_path, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=/tmp --xla_force_host_platform_device_count=8")
    with jax.enable_x64(False):
        there = provenance("jax")
    Stages(tmp_path, there).run("train", {}, lambda stage: {})
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    with jax.enable_x64(True), jax.default_prng_impl("rbg"), jax.default_matmul_precision("bfloat16"):
        here, told = provenance("jax"), io.StringIO()
    second = Stages(tmp_path, here, told)
    for name in ("train", "score"):
        second.run(name, {}, lambda stage: {})
    told = " ".join(told.getvalue().split())
    for change in (
        "jax_enable_x64 False (now True)",
        "jax_default_prng_impl threefry2x32 (now rbg)",
        "jax_default_matmul_precision None (now bfloat16)",
        "XLA_FLAGS none (now --xla_cpu_enable_fast_math=true)",
    ):
        assert f"with {change}" in told
    _, differing = stages.made_elsewhere(second.records, here)
    assert differing["jax_enable_x64"] == ["False", "True"] and "jax_disable_jit" not in differing
    old = dataclasses.replace(here, settings={})  # by an earlier version, which did not record any
    record = dataclasses.replace(second.records["score"], made_by=old)
    assert stages.made_elsewhere({"score": record}, here) == ([], {})


def test_a_target_rests_on_its_own_stages_and_the_shared_ones(tmp_path):
    run = Stages(tmp_path)
    for name, target in (("train", None), ("score-news", "news"), ("score-science-news", "science-news")):
        run.run(name, {}, lambda stage: {}, target=target)
    assert list(run.records_of("science-news")) == ["train", "score-science-news"]
