"""A model's folder: what is read is what was written, to the bit, and anything else is refused with its name."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
import safetensors.numpy

import mixmin_jax
from mixmin_jax.errors import InputError
from mixmin_jax.trained import folder as model_folder
from mixmin_jax.trained.folder import load_model, save_model
from tests.trained.small_models import IMAGES, SCALE, SERIES, TEXT, params_of, small_model, some_inputs


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "runs" / "model"
    save_model(small_model(IMAGES, resize=True), path, card="a card\n")
    return path


@pytest.fixture
def copied(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "model")


def changed(folder, **entries):
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def test_what_is_loaded_predicts_the_same_to_the_bit(saved, tmp_path):
    text, series = tmp_path / "text", tmp_path / "series"
    save_model(small_model(TEXT), text)
    save_model(small_model(SERIES), series)
    for folder, config in ((saved, IMAGES), (text, TEXT), (series, SERIES)):
        before, after, inputs = small_model(config), mixmin_jax.load_model(folder), some_inputs(config, 7)
        assert (after.config, after.classes, after.temperature) == (config, tuple("abc"), 1.3)
        for ours, theirs in zip(before.outputs(inputs), after.outputs(inputs), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert load_model(saved).resize and not load_model(text).resize and load_model(series).series == SCALE
    changed(series, preprocessing={"mean": [0, 0], "deviation": [1, 1], "power": 2})
    with pytest.raises(InputError, match="the preprocessing has power, which this version"):
        load_model(series)
    assert {path.name for path in text.iterdir()} == {"model.json", "params.safetensors", "params"}
    assert (saved / "card.md").read_text() == "a card\n"


def test_orbax_reads_the_same_parameters(saved):
    with ocp.StandardCheckpointer() as checkpointer:
        found = checkpointer.restore(saved.absolute() / "params", params_of(IMAGES))
    jax.tree.map(np.testing.assert_array_equal, found, params_of(IMAGES))


def test_a_model_is_written_whole_or_not_at_all(copied, monkeypatch):
    before = (copied / "params.safetensors").read_bytes()
    other = dataclasses.replace(small_model(IMAGES), params=jax.tree.map(lambda leaf: leaf + 1, params_of(IMAGES)))
    with pytest.raises(InputError, match=r"holds a model: .*overwrite=True"):
        save_model(other, copied)
    with monkeypatch.context() as patch:
        patch.setattr(model_folder.json, "dumps", lambda *_, **__: 1 / 0)  # at the last file
        with pytest.raises(ZeroDivisionError):
            save_model(other, copied, overwrite=True)
    rename = Path.rename

    def fails_at_last(path, to):
        if to == copied and ".before" not in path.name:
            raise OSError("no room")
        return rename(path, to)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", fails_at_last)
        with pytest.raises(OSError, match="no room"):
            save_model(other, copied, overwrite=True)
    assert (copied / "params.safetensors").read_bytes() == before
    save_model(other, copied, overwrite=True)
    assert (copied / "params.safetensors").read_bytes() != before and not (copied / "card.md").exists()
    assert [path.name for path in copied.parent.iterdir()] == ["model"]


def test_a_folder_of_something_else_is_not_replaced(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds no model"):
        save_model(small_model(IMAGES), tmp_path, overwrite=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"format": 2}, "a model of format 2, and this version of mixmin_jax reads format 1"),
        ({"format": None}, "of no format that it names"),
        ({"kind": "smells"}, "a model of 'smells'; known are images, text"),
        ({"classes": ["a", "b"]}, "heads for 3 classes, and 2 are named"),
        ({"classes": 3}, "no description of a model"),
        ({"moods": 1}, "no description of a model .*moods"),
        ({"kind": "text"}, r"model\.json: .*length"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(copied, entries, message):
    changed(copied, **entries)
    with pytest.raises(InputError, match=message):
        load_model(copied)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patch_size": 3}, "do not split into patches of 3 x 3"),
        ({"registers": 4}, "has registers, which this version of mixmin_jax does not know"),
        ({"channels": 3}, r"encoder/patch_embedding/kernel is float32\[16, 8\] and should be float32\[48, 8\]"),
        ({"encoder": {"width": 8, "depth": 2, "heads": 2}}, "block_1/.* is missing"),
        ({"decoder": {"width": 8, "depth": 1, "heads": 2, "smoke": 1}}, "has smoke, which"),
    ],
)
def test_a_configuration_that_does_not_fit_the_parameters_is_refused(copied, change, message):
    config = json.loads((copied / "model.json").read_text())["config"]
    changed(copied, config=config | change)
    with pytest.raises(InputError, match=message):
        load_model(copied)


def test_files_that_are_missing_or_damaged_are_named(saved, copied, tmp_path):
    params = copied / "params.safetensors"
    content = bytearray(params.read_bytes())
    content[-5] ^= 1
    params.write_bytes(content)
    with pytest.raises(InputError, match=r"params\.safetensors: not the file that model\.json was written with"):
        load_model(copied)
    params.unlink()
    with pytest.raises(InputError, match=r"params\.safetensors: cannot be read \(No such file"):
        load_model(copied)
    (copied / "model.json").write_text((saved / "model.json").read_text()[:-20])
    with pytest.raises(InputError, match=r"model\.json: cannot be read"):
        load_model(copied)
    for folder, message in ((tmp_path / "none", "no such folder"), (tmp_path, r"holds no model\.json")):
        with pytest.raises(InputError, match=message):
            load_model(folder)
    shutil.copytree(saved, tmp_path / "run" / "model")
    with pytest.raises(InputError, match=re.escape(f"the model of that run is {tmp_path / 'run' / 'model'}")):
        load_model(tmp_path / "run")


def test_parameters_that_do_not_fit_are_not_saved(tmp_path):
    model = small_model(IMAGES)
    part = dataclasses.replace(model, params=params_of(IMAGES) | {"sl": {}, "moods": {"a": np.ones(1, np.float32)}})
    with pytest.raises(InputError, match=r"sl/heads_0/bias is missing.*moods/a is not the model's"):
        save_model(part, tmp_path / "model")
    broken = jax.tree.map(lambda leaf: np.full_like(leaf, np.nan), params_of(IMAGES))
    with pytest.raises(InputError, match="not finite in encoder/"):
        save_model(dataclasses.replace(model, params=broken), tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_safetensors_have_the_names_of_the_tree(saved):
    named = safetensors.numpy.load_file(saved / "params.safetensors")
    np.testing.assert_array_equal(named["sl/heads_0/kernel"], params_of(IMAGES)["sl"]["heads_0"]["kernel"])
