"""What an installation holds, and what runs from a clone only."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from experiments.harness.listing import commands

ROOT = Path(__file__).parents[1]
PACKAGES = ("experiments", "benchmarks")


def python(*words, folder, path):
    """Status, stdout and stderr of Python in a folder, with another in its path."""
    given = {**os.environ, "PYTHONPATH": str(path)}
    ended = subprocess.run([sys.executable, *words], cwd=folder, env=given, capture_output=True, text=True, timeout=300)
    return ended.returncode, ended.stdout, ended.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder that a wheel is unpacked to; no network is needed."""
    pytest.importorskip("setuptools", minversion="70.1", reason="builds the wheel")
    folder = tmp_path_factory.mktemp("installing")
    ours = (*PACKAGES, "mixmin_jax")
    for name in ours:
        shutil.copytree(ROOT / name, folder / "clone" / name, ignore=shutil.ignore_patterns("results", "__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder / "clone")
    build = "import setuptools.build_meta as build; build.build_wheel('..')"
    status, _, error = python("-c", build, folder=folder / "clone", path="")
    assert status == 0, error
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


def test_the_library_alone_is_installed_and_whole(installed):
    there = {path.name for path in installed.iterdir()}
    assert {name for name in there if not name.endswith(".dist-info")} == {"mixmin_jax"}
    wanted, found = (
        {path.relative_to(top) for path in top.rglob("*.py")} for top in (ROOT / "mixmin_jax", installed / "mixmin_jax")
    )
    assert found == wanted


@pytest.mark.parametrize("package", PACKAGES)
def test_a_users_own_folder_of_that_name_is_the_users(installed, tmp_path, package):
    (tmp_path / package).mkdir()
    mine = "import importlib.util; print(importlib.util.find_spec('mixmin_jax').origin)"
    (tmp_path / package / "mine.py").write_text(mine)
    status, out, error = python("-m", f"{package}.mine", folder=tmp_path, path=installed)
    assert status == 0 and out.startswith(str(installed)), error


@pytest.mark.parametrize("package", PACKAGES)
def test_outside_of_a_clone_one_line_says_so(tmp_path, package):
    shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("results", "__pycache__"))
    for name in commands(ROOT / package):
        status, out, error = python("-m", name, folder=tmp_path, path="")
        assert status == 1 and not out and "run in a clone of the mixmin_jax repository" in error
        assert len(error.splitlines()) == 1


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_lists_its_commands_without_importing_jax(tmp_path, package):
    listing = f"import runpy, sys; runpy.run_module({package!r}, run_name='__main__'); assert 'jax' not in sys.modules"
    status, out, error = python("-c", listing, folder=tmp_path, path=ROOT)
    assert status == 0, error
    lines = dict(line.removeprefix("python -m ").split(maxsplit=1) for line in out.splitlines())
    assert lines == commands(ROOT / package) and all(lines.values())
