"""Predictions of files and folders: the table, what is left out, accuracy, embeddings."""

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.harness.command_line import parse
from experiments.predict.__main__ import main
from experiments.predict.config import Predict
from mixmin_jax.errors import InputError
from mixmin_jax.trained.folder import save_model
from mixmin_jax.trained.inputs import read_windows
from tests.trained.small_models import IMAGES, SERIES, TEXT, small_model, some_inputs

PICTURES = some_inputs(IMAGES, 6)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for name, config in (("images", IMAGES), ("text", TEXT), ("series", SERIES)):
        save_model(small_model(config), folder / name)
    return folder


@pytest.fixture
def pictures(tmp_path):
    """Six pictures, two of each class; below the folders of classes at any depth."""
    for number, picture in enumerate(PICTURES):
        path = tmp_path / "pictures" / "abc"[number // 2] / str(number) / f"{number}.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(picture[..., 0]).save(path)
    (tmp_path / "pictures" / "notes.md").write_text("no image")
    return tmp_path / "pictures"


def rows(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_folder_of_images_becomes_a_table(models, pictures, tmp_path, capsys):
    out, embeddings = tmp_path / "out.csv", tmp_path / "out.npz"
    config = Predict(
        models / "images", (pictures,), out, all_probabilities=True, embeddings=embeddings,
        labels_from_folders=True, batch_size=4,
    )  # fmt: skip
    main(config)
    expected, found = small_model(IMAGES).outputs(PICTURES), rows(out)
    assert list(found[0]) == ["path", "predicted", "probability", "p_a", "p_b", "p_c"]
    assert [row["path"] for row in found] == [str(pictures / "abc"[i // 2] / str(i) / f"{i}.png") for i in range(6)]
    best_N = expected.probabilities_NxA.argmax(axis=1)
    assert [row["predicted"] for row in found] == ["abc"[best] for best in best_N]
    for row, probability_A in zip(found, expected.probabilities_NxA, strict=True):
        shares = [float(row[f"p_{name}"]) for name in "abc"]
        np.testing.assert_allclose(shares, probability_A, atol=1e-6)
        assert float(row["probability"]) == max(shares)
    with np.load(embeddings) as kept:
        np.testing.assert_allclose(kept["embedding_NxD"], expected.embeddings_NxD, rtol=1e-4, atol=1e-6)
        assert kept["path"].tolist() == [row["path"] for row in found]
    right = int((best_N == np.repeat(np.arange(3), 2)).sum())
    assert f"accuracy: {100 * right / 6:.1f}% ({right} of 6)" in capsys.readouterr().out


def test_what_cannot_be_read_is_named_and_left_out(models, pictures, tmp_path, capsys):
    (pictures / "a" / "0" / "0.png").write_bytes(b"no image")
    Image.fromarray(np.zeros((5, 9), np.uint8)).save(pictures / "b" / "9.png")
    config = Predict(models / "images", (pictures,), tmp_path / "out.csv")
    with pytest.raises(SystemExit, match="1"):
        main(config)
    said = capsys.readouterr()
    assert "0.png: not an image of a known format" in said.err and "9.png: 9 x 5 pixels" in said.err
    assert "left out: 2" in said.err and "5 predictions" in said.out
    assert len(rows(config.out)) == 5
    (pictures / "a" / "0" / "0.png").unlink()
    main(dataclasses.replace(config, convert=True, overwrite=True))
    assert len(rows(config.out)) == 6 and rows(config.out)[3]["path"].endswith("9.png")


def test_documents_are_the_mean_of_their_windows(models, tmp_path, capsys):
    texts = {"a": ["twelve bytes" * 3 + "and more", "another one, longer than a window"], "b": ["short", "x" * 12]}
    for name, documents in texts.items():
        lines = [json.dumps({"text": text}) for text in documents]
        (tmp_path / "texts").mkdir(exist_ok=True)
        (tmp_path / "texts" / f"{name}.jsonl").write_text("\n".join([*lines, "{broken"]))
    config = Predict(models / "text", (tmp_path / "texts",), tmp_path / "out.csv", labels_from_folders=True)
    with pytest.raises(SystemExit, match="1"):
        main(config)
    said, found, model = capsys.readouterr(), rows(config.out), small_model(TEXT)
    assert "b.jsonl: document 0: 5 bytes, and the model reads windows of 12" in said.err
    assert said.err.count("line 3: ") == 2 and "left out: 3" in said.err
    assert [(row["document"], row["windows"]) for row in found] == [("0", "3"), ("1", "2"), ("1", "1")]
    for row, text in zip(found, [*texts["a"], texts["b"][1]], strict=True):
        probability_A = model.outputs(read_windows(model, text.encode())).probabilities_NxA.mean(axis=0)
        assert row["predicted"] == "abc"[probability_A.argmax()]
        assert float(row["probability"]) == pytest.approx(probability_A.max(), abs=2e-6)


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("images", {"inputs": (Path("nowhere"),)}, "nowhere: no such file"),
        ("images", {"inputs": (Path("."),)}, "no image in it"),
        ("images", {"labels_from_folders": True}, "pictures is no class of the model, which knows a, b, c"),
        ("text", {"convert": True}, "--convert is for images"),
        ("text", {}, "unsupported kind of file"),
        ("text", {"labels_from_files": True}, "--labels-from-files.* are for series"),
        ("series", {"labels_from_folders": True}, "--labels-from-folders is for images and text"),
        ("series", {"convert": True}, "--convert is for images"),
        ("series", {}, "name its files of series"),
    ],
)
def test_bad_input_is_one_error_and_nothing_is_written(models, tmp_path, monkeypatch, kind, change, message):
    (tmp_path / "pictures").mkdir()
    Image.fromarray(PICTURES[0, ..., 0]).save(tmp_path / "pictures" / "1.png")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    config = Predict(models / kind, (tmp_path / "pictures",), tmp_path / "out.csv")
    with pytest.raises(InputError, match=message):
        main(dataclasses.replace(config, **change))
    assert not config.out.exists()


def test_a_run_in_which_nothing_can_be_read_writes_nothing(models, tmp_path):
    (tmp_path / "1.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"nothing could be predicted: .*1\.png: empty file"):
        main(Predict(models / "images", (tmp_path / "1.png",), tmp_path / "out.csv"))
    assert [path.name for path in tmp_path.iterdir()] == ["1.png"]


def test_options_that_do_not_fit_are_refused(tmp_path):
    (tmp_path / "there.csv").write_text("mine")
    for options, message in (
        ({"inputs": ()}, "give files or folders"),
        ({"batch_size": 0}, "--batch-size"),
        ({"out": tmp_path / "there.csv"}, "is there already"),
        ({"out": tmp_path / "none" / "out.csv"}, "--out .*: no such folder"),
        ({"embeddings": tmp_path / "x.csv"}, "give it that ending"),
    ):
        with pytest.raises(InputError, match=message):
            Predict(**{"model": tmp_path, "inputs": (tmp_path,), "out": tmp_path / "new.csv", **options})


def test_the_command_line_takes_a_model_and_files():
    config = parse(Predict, None, ["m", "a.png", "b.png", "--out", "x.csv", "--all-probabilities"])
    assert [str(path) for path in (config.model, *config.inputs, config.out)] == ["m", "a.png", "b.png", "x.csv"]
    assert config.all_probabilities


def test_series_of_files_are_scaled_resampled_and_judged_if_asked(models, tmp_path, capsys):
    path, model, series_NxSxC = tmp_path / "x.npz", small_model(SERIES), some_inputs(SERIES, 4)
    best_N = model.outputs(series_NxSxC).probabilities_NxA.argmax(axis=1)
    labels = ["abc"[best] for best in best_N[:3]] + ["abc"[best_N[3] - 1]]
    np.savez(path, X=series_NxSxC, y=np.array(labels))
    config = Predict(models / "series", (path,), tmp_path / "out.csv", axes="NSC", labels_from_files=True)
    main(config)
    assert "accuracy: 75.0% (3 of 4)" in capsys.readouterr().out
    found = rows(config.out)
    assert [row["series"] for row in found] == list("0123") and [row["predicted"] for row in found][:3] == labels[:3]
    np.savez(path, X=series_NxSxC)  # without labels
    main(dataclasses.replace(config, labels_from_files=False, overwrite=True))
    assert rows(config.out) == found and "accuracy" not in capsys.readouterr().out
    for labels_from_files, y, message in (
        (True, None, "the arrays X; expected"),
        (True, ["d"] * 4, "row 1: .*: d is no"),
    ):
        np.savez(path, X=series_NxSxC, **({} if y is None else {"y": np.array(y)}))
        with pytest.raises(InputError, match=message):
            main(dataclasses.replace(config, labels_from_files=labels_from_files, overwrite=True))
    assert rows(config.out) == found
    lines = [":".join(",".join("1" * steps) for _ in range(2)) + ":z" for steps in (8, 11)] + ["1,2:?,1:z", "1,2:z"]
    header = ["@classLabel true z", "@data"]
    (tmp_path / "x.ts").write_text("\n".join(header + lines))
    with pytest.raises(SystemExit, match="1"):
        main(Predict(models / "series", (tmp_path / "x.ts",), config.out, overwrite=True))
    said = capsys.readouterr()
    assert "line 5: a value is missing" in said.err and "line 6: 1 channel(s)" in said.err
    assert len(rows(config.out)) == 2
