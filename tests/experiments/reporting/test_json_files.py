"""Records as JSON and back."""

import dataclasses
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from experiments.reporting.json_files import LINE, dumps, read_json, typed
from mixmin_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Part:
    number: int
    note: str | None = None


@dataclasses.dataclass(frozen=True)
class Whole:
    parts: tuple[Part, ...]
    by_name: dict[str, Part]
    tags: tuple[str, ...] = ()


def test_defaults_that_a_file_leaves_out_are_written_again():
    found = typed({"parts": [{"number": 1}], "by_name": {"a": {"number": 2}}}, Whole, "x")
    expected = Whole((Part(1),), {"a": Part(2)})
    assert found == expected and dumps(found) == dumps(expected) and '"note": null' in dumps(found)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ({"parts": []}, "x holds no Whole: Object missing required field `by_name`"),
        ({"parts": [{"number": "1"}], "by_name": {}}, "Expected `int`, got `str`"),
        ({"parts": [], "by_name": {"a": {"number": 1, "more": 2}}}, r"nothing is called \$.by_name.a.more"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(value, why):
    with pytest.raises(InputError, match=why):
        typed(value, Whole, "x")


class Row(NamedTuple):
    number: int
    reason: str


@dataclasses.dataclass(frozen=True)
class Rows:
    rows: tuple[Row, ...]


def test_a_named_tuple_keeps_its_names():
    found = typed({"rows": [[7, "unreadable"]]}, Rows, "x")
    assert found.rows[0].reason == "unreadable" and dumps(found) == '{"rows": [[7, "unreadable"]]}\n'


def test_a_record_of_plain_values_stands_on_one_line():
    part = Part(1, "a|é\n" + "x" * LINE)
    whole = Whole((part,) * 2, {"a": part}, tags=("long",) * 200)
    line = '{"number": 1, "note": "a|é\\n' + "x" * LINE + '"}'
    lines = dumps(whole).splitlines()
    assert lines[:5] == ["{", ' "parts": [', f"  {line},", f"  {line}", " ],"]
    # a list of plain values is not broken, whatever its length
    assert len(lines) == 10 and max(map(len, lines)) > 2 * LINE
    assert dumps(part) == line + "\n" and typed(json.loads(dumps(whole)), Whole, "x") == whole


def test_paths_and_numbers_of_numpy_are_json_and_arrays_are_not():
    assert json.loads(dumps({"path": Path("a"), "number": np.float64(0.1)})) == {"path": "a", "number": 0.1}
    with pytest.raises(TypeError, match="ndarray is no JSON"):
        dumps({"array": np.zeros(2)})


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_json_does_not_know_are_refused(tmp_path, number):
    with pytest.raises(ValueError, match="Out of range float"):
        dumps({"inner": [{"number": number}]})
    (tmp_path / "a.json").write_text(json.dumps({"number": number}))
    with pytest.raises(InputError, match=r"a\.json cannot be read \(-?(NaN|Infinity) is no JSON\)"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000])
def test_what_is_no_json_is_refused(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.json cannot be read"):
        read_json(tmp_path / "a.json")
