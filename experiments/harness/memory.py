"""One line for a run that has no more memory: how much was asked for, and which options lower it."""

import dataclasses
import re
from collections.abc import Iterator
from typing import Any

import jax

from mixmin_jax.mixture.scale.memory import ran_out

_LOWER_IT = ("batch_size", "ssl_batch_size", "image_size", "length", "max_bytes", "source_bytes", "sources", "bits")
_AMOUNT = re.compile(r"\d[\d.,]* ?(?:[KMGT]i?B|bytes)\b", re.IGNORECASE)


def out_of_memory(error: BaseException, config: Any) -> str | None:
    """What to tell if an error of the host or of JAX says that memory ran out; None for any other error."""
    if not (isinstance(error, MemoryError | jax.errors.JaxRuntimeError) and ran_out(error)):
        return None
    amount = _AMOUNT.search(str(error))
    what = f"{amount[0]} could not be had" if amount else "an allocation failed"
    named = () if config is None else _options(config)
    options = ", ".join(f"--{name.replace('_', '-')} (now {value})" for name, value in named)
    lower = f"lower {options}, or " if options else ""
    return f"memory ran out: {what}; {lower}use a machine with more memory"


def _options(config: Any, before: str = "") -> Iterator[tuple[str, int]]:
    """The options of numbers that take memory, also those of parts, as on the command line."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from _options(value, f"{before}{field.name}.")
        elif field.name in _LOWER_IT and type(value) is int:
            yield before + field.name, value
