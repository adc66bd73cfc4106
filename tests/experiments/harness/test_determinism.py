"""What is said of GPUs, on devices that only say that they are some: none was there to try it."""

import io
import types
from pathlib import Path

import jax
import pytest

from experiments.harness import provenance
from experiments.harness.provenance import DETERMINISTIC as FLAG
from tests.experiments.harness.test_stages import Stages

GPU = types.SimpleNamespace(platform="gpu", device_kind="NVIDIA H100")


def told(folder, monkeypatch, device, flags):
    monkeypatch.setattr(jax, "devices", lambda: [device])
    monkeypatch.setenv("XLA_FLAGS", flags)
    lines = io.StringIO()
    stages = Stages(folder, told=lines)
    for name in ("first", "second"):
        stages.run(name, {}, lambda stage: {"x": 1})
    return [line for line in lines.getvalue().splitlines() if line.startswith("note:")]


@pytest.mark.parametrize(
    "flags", ["", "--xla_dump_to=x", f"{FLAG}=false", f"{FLAG}=true {FLAG}=0", "--xla_gpu_exclude_nondeterministic_ops"]
)
def test_a_run_that_computes_on_a_gpu_without_the_flag_says_so_once(tmp_path, monkeypatch, flags):
    (line,) = told(tmp_path, monkeypatch, GPU, flags)
    assert "NVIDIA H100 need not compute the same bits" in line and f"XLA_FLAGS={FLAG}=true" in line
    assert told(tmp_path, monkeypatch, GPU, flags) == []  # which finds all, and computes nothing
    assert provenance.device() == "1 x NVIDIA H100"


@pytest.mark.parametrize("flags", [FLAG, f"{FLAG}=true", f"--xla_dump_to=x {FLAG}=1"])
def test_with_the_flag_nothing_is_said_and_it_is_on_record(tmp_path, monkeypatch, flags):
    assert told(tmp_path, monkeypatch, GPU, flags) == []
    assert provenance.device() == "1 x NVIDIA H100 with deterministic operations"


def test_nothing_is_said_of_cpus(tmp_path, monkeypatch):
    cpu = types.SimpleNamespace(platform="cpu", device_kind="cpu")
    assert told(tmp_path, monkeypatch, cpu, "") == []
    assert provenance.device().startswith("1 x cpu on ")


def test_the_flag_is_on_the_page_of_devices():
    page = Path(__file__).parents[3] / "docs" / "devices.md"
    assert f"export XLA_FLAGS={FLAG}=true" in page.read_text()
