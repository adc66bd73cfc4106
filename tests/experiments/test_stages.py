import io

import numpy as np
import pytest
from rich.console import Console

from experiments import stages
from experiments.progress import RunProgress
from experiments.stages import fingerprint

MADE_BY = {"git_commit": "abc"}


def Stages(folder, made_by=MADE_BY):
    return stages.Stages(folder, RunProgress(1.0, Console(file=io.StringIO())), made_by)


def counted(product):
    calls = []
    return calls, lambda stage: calls.append(1) or dict(product)


PRODUCT = {"w": np.arange(3.0), "names": ["a", "b"], "nested": {"x": 1}}


def test_a_product_is_computed_once_and_read_back_whole(tmp_path):
    calls, compute = counted(PRODUCT)
    first, second = Stages(tmp_path), Stages(tmp_path, {"git_commit": "later"})
    first.run("train", {"seed": 0}, compute)
    found = second.run("train", {"seed": 0}, compute)
    assert len(calls) == 1
    np.testing.assert_array_equal(found["w"], PRODUCT["w"])
    assert found["names"] == ["a", "b"] and found["nested"] == {"x": 1} and set(found) == set(PRODUCT)
    assert second.records == first.records  # seconds and commit are those of the computation
    assert second.records["train"].made_by == MADE_BY


def test_other_inputs_compute_anew(tmp_path):
    calls, compute = counted(PRODUCT)
    for seed in (0, 1, 1):
        Stages(tmp_path).run("train", {"seed": seed}, compute)
    assert len(calls) == 2


@pytest.mark.parametrize("damage", [lambda b: b[:50], lambda b: b[:-30], lambda b: b"", lambda b: b"\0" * len(b)])
def test_a_damaged_product_is_computed_again(tmp_path, damage):
    calls, compute = counted(PRODUCT)
    Stages(tmp_path).run("train", {}, compute)
    path = tmp_path / "train.npz"
    path.write_bytes(damage(path.read_bytes()))
    Stages(tmp_path).run("train", {}, compute)
    assert len(calls) == 2


def test_a_failing_stage_leaves_nothing(tmp_path):
    def fail(stage):
        raise RuntimeError("mid-way")

    with pytest.raises(RuntimeError):
        Stages(tmp_path).run("train", {}, fail)
    assert list(tmp_path.iterdir()) == []


def test_fingerprints_do_not_depend_on_the_order_of_keys():
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1}) != fingerprint({"a": 1, "b": [3]})


def test_inputs_that_json_cannot_hold_are_refused(tmp_path):
    with pytest.raises(TypeError):
        fingerprint({"weights": np.zeros(5000)})


def test_a_target_rests_on_its_own_stages_and_the_shared_ones(tmp_path):
    run = Stages(tmp_path)
    for name, target in (("train", None), ("score-news", "news"), ("score-science-news", "science-news")):
        run.run(name, {}, lambda stage: {}, target=target)
    assert list(run.records_of("science-news")) == ["train", "score-science-news"]
