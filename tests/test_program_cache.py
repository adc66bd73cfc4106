"""Compiled programs on disk: a second process compiles nothing, and a folder that cannot be written costs one line."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from mixmin_jax.program_cache import cache_programs

SCRIPT = """
import sys
import jax, jax.numpy as jnp
from mixmin_jax import cache_programs, program_cache
program_cache._SECONDS = 0.0
hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append(event) if "cache_hits" in event else None)
print(cache_programs(sys.argv[1]))
print(jax.jit(lambda x: jnp.sin(x) @ x)(jnp.arange(5.0)).tobytes().hex(), len(hits) > 0)
"""


def ran(folder):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("JAX_")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder)], capture_output=True, text=True, check=True, env=environment
    )
    assert not done.stderr
    return done.stdout.split()


def test_a_second_process_takes_programs_from_the_folder(tmp_path):
    (place, first, hit), (again, second, hit_again) = ran(tmp_path), ran(tmp_path)
    assert place == again and Path(place).parent == tmp_path and first == second
    assert (hit, hit_again) == ("False", "True")


@pytest.mark.slow
def test_a_program_that_a_killed_process_left_unfinished_is_written_again(tmp_path):
    _, expected, _ = ran(tmp_path)
    for program in tmp_path.rglob("*-cache"):
        program.write_bytes(program.read_bytes()[:100])
        program.with_name(program.name.removesuffix("-cache") + "-atime").unlink()
        os.utime(program, (0, 0))
    assert [ran(tmp_path)[1:] for _ in range(2)] == [[expected, "False"], [expected, "True"]]


@pytest.fixture
def enabled():
    """JAX's settings as users have them, put back afterwards."""
    names = [
        "jax_enable_compilation_cache",
        "jax_compilation_cache_dir",
        "jax_persistent_cache_min_compile_time_secs",
        "jax_compilation_cache_max_size",
    ]
    before = {name: getattr(jax.config, name) for name in names}
    jax.config.update("jax_enable_compilation_cache", True)
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.mark.usefixtures("enabled")
def test_a_folder_that_cannot_be_written_costs_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    lines = []
    assert cache_programs(tmp_path / "file" / "folder", warn=lines.append) is None
    (line,) = lines
    assert "cannot be kept in" in line and "(Not a directory)" in line and "\n" not in line
    assert jax.config.jax_compilation_cache_dir is None


@pytest.mark.usefixtures("enabled")
def test_a_folder_that_jax_has_is_left_and_so_is_a_cache_that_is_off(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = cache_programs()
    assert found.parent == tmp_path / "mixmin_jax" and found.is_dir()
    assert cache_programs(tmp_path / "other") == found
    jax.config.update("jax_enable_compilation_cache", False)
    assert cache_programs() is None
