import json

import pytest

from experiments.harness.result_files import write_json, write_text


def test_writing_replaces_whole_files_or_nothing(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"x": 1})
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(path, {"x": float("nan")})
    assert json.loads(path.read_text()) == {"x": 1}
    write_text(path, "é")
    assert path.read_bytes() == "é".encode() and list(tmp_path.iterdir()) == [path]
