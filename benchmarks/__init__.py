"""Benchmarks. They run from a clone of the repository: `python -m benchmarks` lists them."""

from pathlib import Path

if not (Path(__file__).parents[1] / "mixmin_jax" / "__init__.py").is_file():
    message = "experiments and benchmarks run in a clone of the mixmin_jax repository: see its README"
    raise ImportError(message, name="benchmarks")  # with its name `python -m` shows the message alone
