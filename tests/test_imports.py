"""Imports go one way, so that each part can be read, tested and replaced without those above it."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOR_ALL = {"mixmin_jax.errors", "mixmin_jax.mixture", "mixmin_jax.stats"}
MAY_USE = {  # a part, and the other parts of the project that it may import
    "mixmin_jax/errors.py": set(),
    "mixmin_jax/mixture": {"mixmin_jax.errors"},
    "mixmin_jax/stats": {"mixmin_jax.errors"},
    "mixmin_jax/export": {"mixmin_jax.errors"},
    "mixmin_jax/models": FOR_ALL,
    "mixmin_jax/data": FOR_ALL,
    "mixmin_jax/training": FOR_ALL | {"mixmin_jax.models", "mixmin_jax.data"},
    "mixmin_jax/trained": FOR_ALL | {"mixmin_jax.models", "mixmin_jax.data", "mixmin_jax.training"},
    "mixmin_jax/plot.py": FOR_ALL,
    "mixmin_jax/program_cache.py": set(),
    "mixmin_jax": {"mixmin_jax"},
    "experiments/reporting": {"mixmin_jax"},
    "experiments/harness": {"mixmin_jax", "experiments.reporting"},
    "benchmarks": {"mixmin_jax", "experiments"},
}


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("part", MAY_USE)
def test_a_part_imports_only_what_lies_below_it(part):
    place, own = ROOT / part, part.removesuffix(".py").replace("/", ".")
    files = [place] if place.is_file() else sorted(place.rglob("*.py"))
    assert files
    for path in files:
        ours = [name for name in imported(path) if name.split(".")[0] in ("mixmin_jax", "experiments", "benchmarks")]
        allowed = tuple(f"{name}." for name in MAY_USE[part] | {own})
        assert not [name for name in ours if not f"{name}.".startswith(allowed)], path


def test_every_module_belongs_to_a_part():
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "mixmin_jax").rglob("*.py")} - {"mixmin_jax/__init__.py"}
    parts = tuple(part for part in MAY_USE if part != "mixmin_jax")
    assert not [name for name in modules if not name.startswith(parts)]


def test_the_library_knows_no_command_lines_and_writes_no_reports():
    foreign = ("argparse", "tyro", "rich", "jinja2", "matplotlib", "mkdocs", "webbrowser")
    for path in (ROOT / "mixmin_jax").rglob("*.py"):
        used = {name.split(".")[0] for name in imported(path)}
        assert used.intersection(foreign) <= ({"matplotlib"} if path.name == "plot.py" else set()), path


def test_jaxopt_is_imported_in_one_file():
    users = [path.name for path in (ROOT / "mixmin_jax").rglob("*.py") if "jaxopt" in set(imported(path))]
    assert users == ["projected_gradient.py"]
