"""The notebooks run as they are: every cell, in order, with warnings as errors."""

import ast
import json
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

NOTEBOOKS = sorted(Path(__file__).parent.parent.glob("docs/notebooks/*.ipynb"))


def cells(path):
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


def marks(path):
    return () if path.stem == "results" else pytest.mark.slow


@pytest.mark.parametrize("path", [pytest.param(path, marks=marks(path), id=path.stem) for path in NOTEBOOKS])
def test_every_cell_runs_and_its_last_value_can_be_shown(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    names = {}
    for cell in cells(path):
        *body, last = ast.parse("".join(cell["source"])).body
        shown = isinstance(last, ast.Expr)
        exec(compile(ast.Module(body if shown else [*body, last], []), path.name, "exec"), names)
        if shown:
            value = eval(compile(ast.Expression(last.value), path.name, "eval"), names)
            assert repr(value) and getattr(value, "_repr_html_", lambda: "nothing")()
    assert plt.get_fignums()
    plt.close("all")


def test_there_are_notebooks_and_they_are_kept_without_outputs():
    assert len(NOTEBOOKS) >= 3
    assert not [path.name for path in NOTEBOOKS for cell in cells(path) if cell["outputs"] or cell["execution_count"]]
