"""Where numbers come from: versions, settings, device, commit; and whether the same run gives the same bits."""

import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path

import jax

from experiments.reporting.schema import MadeBy
from mixmin_jax.data.text.shards import without_secrets

_SETTINGS = (
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_disable_jit",
    "jax_disable_most_optimizations",
    "jax_enable_x64",
    "jax_high_dynamic_range_gumbel",
    "jax_numpy_dtype_promotion",
    "jax_random_seed_offset",
    "jax_threefry_partitionable",
)
_TF32 = "NVIDIA_TF32_OVERRIDE"
_SAME_NUMBERS = ("--xla_dump", "--xla_force_host_platform_device_count")  # the devices are on record anyway

DETERMINISTIC = "--xla_gpu_deterministic_ops"  # no operation whose order varies, no choice of programs by their speed


def provenance(*distributions: str) -> MadeBy:
    """Where numbers come from; to be called at the start, so that it is the commit of the code which runs."""
    versions = {"python": platform.python_version()} | {name: _version(name) for name in distributions}
    return MadeBy(shlex.join(map(without_secrets, command_words())), device(), git_commit(), versions, settings())


def settings() -> dict[str, str]:
    """The settings of JAX and XLA that can change numbers, by name, wherever they were set."""
    flags = [flag for flag in os.environ.get("XLA_FLAGS", "").split() if not flag.startswith(_SAME_NUMBERS)]
    # those that no context can change are no attributes
    found = {name: str(getattr(jax.config, name, jax.config.values.get(name))) for name in _SETTINGS}
    return found | {"XLA_FLAGS": " ".join(sorted(flags)) or "none", _TF32: os.environ.get(_TF32, "none")}


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"  # an optional extra, or a checkout that is run in place


def device() -> str:
    """Number and kind of JAX's devices, with the cores of a CPU, and whether a GPU computes deterministically."""
    devices = jax.devices()
    cores = f" on {cpu_cores()} cores" if devices[0].platform == "cpu" else ""
    processes = f" in {jax.process_count()} processes" if jax.process_count() > 1 else ""
    deterministic = " with deterministic operations" if on_gpu() and is_deterministic() else ""
    return f"{len(devices)} x {devices[0].device_kind}{cores}{processes}{deterministic}"


def on_gpu() -> bool:
    return jax.devices()[0].platform in ("gpu", "cuda", "rocm")


def is_deterministic() -> bool:
    """Whether another run of the same program gives the same bits, as far as XLA promises that."""
    if not on_gpu():
        return True
    given = [word.partition("=") for word in os.environ.get("XLA_FLAGS", "").split()]
    values = [value.lower() for name, _, value in given if name == DETERMINISTIC]
    return bool(values) and values[-1] not in ("false", "0")


def how_to_be_deterministic() -> str:
    """A line to tell where `is_deterministic` says no."""
    return (
        f"note: {jax.devices()[0].device_kind} need not compute the same bits each time, so that a run that is resumed"
        f" may end with other numbers than one that is not; with XLA_FLAGS={DETERMINISTIC}=true it does, more slowly"
        " (see docs/devices.md)"
    )


def cpu_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def git_commit() -> str | None:
    """The commit of this checkout, with "+changes" if more than results is uncommitted; None outside a checkout."""
    folder = Path(__file__).parents[2]

    def git(*arguments: str) -> str:
        return subprocess.run(
            ("git", *arguments), cwd=folder, capture_output=True, text=True, check=True, timeout=30
        ).stdout.strip()

    code = ".", ":(exclude)experiments/results", ":(exclude)benchmarks/results"  # results do not make results
    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "-uno", "--", *code) else "")
    except (OSError, subprocess.SubprocessError):
        return None


def command_words() -> list[str]:
    """The command line as a user would type it, in words."""
    module = main_module()
    return ["python", *(("-m", module) if module else (Path(sys.argv[0]).name,)), *sys.argv[1:]]


def main_module() -> str | None:
    """What stands behind `python -m`; None for a script."""
    spec = sys.modules["__main__"].__spec__
    return spec.name.removesuffix(".__main__") if spec else None
