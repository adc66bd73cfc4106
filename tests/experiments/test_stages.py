import numpy as np
import pytest

from experiments.stages import Stages, fingerprint


def counted(product):
    calls = []
    return calls, lambda: calls.append(1) or dict(product)


PRODUCT = {"w": np.arange(3.0), "names": ["a", "b"], "nested": {"x": 1}}


def test_a_product_is_computed_once_and_read_back_whole(tmp_path):
    calls, compute = counted(PRODUCT)
    first = Stages(tmp_path)
    first.run("train", {"seed": 0}, compute)
    second = Stages(tmp_path)
    assert second.has("train", {"seed": 0})
    found = second.run("train", {"seed": 0}, compute)
    assert len(calls) == 1
    np.testing.assert_array_equal(found["w"], PRODUCT["w"])
    assert found["names"] == ["a", "b"] and found["nested"] == {"x": 1} and set(found) == set(PRODUCT)
    assert second.seconds == pytest.approx(first.seconds)


def test_other_inputs_compute_anew(tmp_path):
    calls, compute = counted(PRODUCT)
    stages = Stages(tmp_path)
    stages.run("train", {"seed": 0}, compute)
    assert not stages.has("train", {"seed": 1})
    stages.run("train", {"seed": 1}, compute)
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
    def fail():
        raise RuntimeError("mid-way")

    with pytest.raises(RuntimeError):
        Stages(tmp_path).run("train", {}, fail)
    assert list(tmp_path.iterdir()) == []


def test_fingerprints_do_not_depend_on_the_order_of_keys():
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1}) != fingerprint({"a": 1, "b": [3]})


def test_seconds_are_summed_over_seeds_without_other_targets(tmp_path):
    stages = Stages(tmp_path)
    stages.seconds = {"train-seed0": 1.0, "train-seed1": 2.0, "score-x-seed0": 4.0, "score-y-seed0": 8.0}
    assert stages.seconds_by_kind(without=["y"]) == {"train": 3.0, "score-x": 4.0}
