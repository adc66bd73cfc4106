import json

import pytest

from experiments.result_files import claim_run, write_json, write_status, write_text
from mixmin_jax.errors import InputError

CONFIG = {"seeds": 1, "model": {"width": 8}}


def test_a_run_finds_its_own_folder_again(tmp_path):
    for _ in range(2):
        claim_run(tmp_path / "out", CONFIG, overwrite=False)
    assert json.loads((tmp_path / "out" / "config.json").read_text()) == CONFIG


def test_another_run_is_refused_with_what_differs(tmp_path):
    claim_run(tmp_path, CONFIG, overwrite=False)
    with pytest.raises(InputError, match=r"differs in: model\.width \(8 there, 16 now\)\. .*--overwrite"):
        claim_run(tmp_path, CONFIG | {"model": {"width": 16}}, overwrite=False)
    claim_run(tmp_path, CONFIG | {"seeds": 2}, overwrite=True)
    assert json.loads((tmp_path / "config.json").read_text())["seeds"] == 2


def test_overwriting_removes_the_other_runs_results_and_keeps_its_stages(tmp_path):
    claim_run(tmp_path, CONFIG, overwrite=False)
    for name in ("news/metrics.json", "news/loss.png", "stages/a.npz", "notes/mine.txt", "summary.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    claim_run(tmp_path, CONFIG, overwrite=True)
    assert (tmp_path / "news" / "metrics.json").exists()  # the same run: nothing to replace
    claim_run(tmp_path, CONFIG | {"seeds": 2}, overwrite=True)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"config.json", "stages/a.npz", "notes/mine.txt"}


def test_folders_of_others_and_files_are_refused(tmp_path):
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "x").touch()
    with pytest.raises(InputError, match="not empty"):
        claim_run(tmp_path / "foreign", CONFIG, overwrite=False)
    with pytest.raises(InputError, match="is a file"):
        claim_run(tmp_path / "foreign" / "x", CONFIG, overwrite=False)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        claim_run(tmp_path / "broken", CONFIG, overwrite=False)


def test_writing_replaces_whole_files_or_nothing(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"x": 1})
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(path, {"x": float("nan")})
    assert json.loads(path.read_text()) == {"x": 1}
    write_text(path, "é")
    assert path.read_bytes() == "é".encode() and list(tmp_path.iterdir()) == [path]


def test_status_says_how_to_go_on(tmp_path):
    write_status(tmp_path, complete=False, how_to_go_on="python -m x")
    assert json.loads((tmp_path / "status.json").read_text()) == {"complete": False, "how_to_go_on": "python -m x"}
