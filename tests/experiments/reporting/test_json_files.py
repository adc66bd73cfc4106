"""Records as JSON and back."""

import dataclasses
from typing import NamedTuple

import pytest

from experiments.reporting.json_files import dumps, typed
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
