"""Whether the devices of a run compute the same bits each time: on a GPU XLA does so only where a flag tells it to."""

import os

import jax

FLAG = "--xla_gpu_deterministic_ops"  # no operation whose order varies, and no choice between programs by their speed


def on_gpu() -> bool:
    return jax.devices()[0].platform in ("gpu", "cuda", "rocm")


def is_deterministic() -> bool:
    """Whether another run of the same program gives the same bits, as far as XLA promises that."""
    if not on_gpu():
        return True
    given = [word.partition("=") for word in os.environ.get("XLA_FLAGS", "").split()]
    values = [value.lower() for name, _, value in given if name == FLAG]
    return bool(values) and values[-1] not in ("false", "0")


def how_to_be_deterministic() -> str:
    """A line to tell where `is_deterministic` says no."""
    return (
        f"note: {jax.devices()[0].device_kind} need not compute the same bits each time, so that a run that is resumed"
        f" may end with other numbers than one that is not; with XLA_FLAGS={FLAG}=true it does, more slowly (see"
        " docs/devices.md)"
    )
