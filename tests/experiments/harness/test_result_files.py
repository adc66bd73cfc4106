import json
import re

import pytest

from experiments.harness.result_files import NotRendered, rendering, write_json, write_text
from experiments.reporting import render


def test_writing_replaces_whole_files_or_nothing(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"x": 1})
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(path, {"x": float("nan")})
    assert json.loads(path.read_text()) == {"x": 1}
    write_text(path, "é")
    assert path.read_bytes() == "é".encode() and list(tmp_path.iterdir()) == [path]


def test_a_report_that_cannot_be_rendered_is_one_line_that_says_what_is_whole(tmp_path):
    why = f"{tmp_path}: the report cannot be rendered, metrics.json is whole (UndefinedError: "
    with pytest.raises(NotRendered, match=f"^{re.escape(why)}.*$"), rendering(tmp_path):
        render.report("index", "a context without verdicts", {})
