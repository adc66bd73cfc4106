"""How long JAX has compiled in this process, so that an estimate of the time left can leave it out."""

import jax

_EVENTS = ("/jax/core/compile/jaxpr_to_mlir_module_duration", "/jax/core/compile/backend_compile_duration")
_durations: list[float] = []


def compile_seconds() -> float:
    """Seconds of lowering and compiling so far, from when this module was imported."""
    return sum(_durations)


def _listen(event: str, duration_secs: float, **_: str | int) -> None:
    if event in _EVENTS:
        _durations.append(duration_secs)


jax.monitoring.register_event_duration_secs_listener(_listen)
