"""What to solve: the options of the solver, checked before anything is computed, and the objective."""

import difflib
from typing import Any

import numpy as np

from experiments.weights_from_file.config import Config
from experiments.weights_from_file.data import Target, is_number
from mixmin_jax import weighted_sum, worst_case
from mixmin_jax.errors import InputError


def solver_options(config: Config, sources: tuple[str, ...], left_out: tuple[str, ...]) -> dict[str, Any]:
    """What `solve` is given beside the objective.

    Raises:
        InputError: errors of `parse_assignments`, or a prior that is not complete.
    """
    caps = parse_assignments(config.upper_bounds, "--upper-bounds", sources, left_out)
    prior = parse_assignments(config.prior, "--prior", sources, left_out)
    if prior and (missing := [name for name in sources if name not in prior]):
        raise InputError(f"--prior must name every source; {missing[0]!r} is missing")
    if bool(prior) != (config.prior_strength is not None):
        raise InputError("--prior and --prior-strength go together")
    options: dict[str, Any] = {"upper_bounds": caps} if caps else {}
    options |= {"prior": prior, "prior_strength": config.prior_strength} if prior else {}
    return options | {"method": config.method, "tolerance": config.tolerance}


def combined(targets: list[Target], config: Config) -> Any:
    """The objective that the options describe.

    Raises:
        InputError: several files without --combine, or options that do not go with what there is.
    """
    if len(targets) == 1:
        for option in ("combine", "target_weights", "relative_to"):
            if getattr(config, option):
                raise InputError(f"--{option.replace('_', '-')} is for several files, and there is one")
        return targets[0].objective()
    if config.combine is None:
        raise InputError(f"{len(targets)} files need --combine weighted or --combine worst_case")
    objectives = [target.objective() for target in targets]
    if config.combine == "weighted":
        if config.relative_to:
            raise InputError("--relative-to goes with --combine worst_case only")
        if config.target_weights and len(config.target_weights) != len(targets):
            raise InputError(f"--target-weights: {len(config.target_weights)} numbers for {len(targets)} files")
        try:
            return weighted_sum(objectives, config.target_weights or None)
        except InputError as error:
            raise InputError(f"--target-weights: {error}") from None
    if config.target_weights:
        raise InputError("--target-weights goes with --combine weighted only")
    num_sources = len(targets[0].table.sources)
    references: dict[str, Any] = {"best": "best", "uniform": np.full(num_sources, 1 / num_sources), "none": None}
    return worst_case(objectives, references[config.relative_to or "none"])


def parse_assignments(
    pairs: tuple[str, ...], option: str, sources: tuple[str, ...], left_out: tuple[str, ...] = ()
) -> dict[str, float]:
    """`NAME=VALUE` pairs of a command-line option as a dictionary.

    Raises:
        InputError: a pair without =, a value that is no number, a source that is not in the file (with the closest name
            that is), is `left_out` or is there twice.
    """
    values: dict[str, float] = {}
    for pair in pairs:
        name, equals, value = pair.rpartition("=")
        if not equals or not is_number(value):
            raise InputError(f"{option} {pair}: expected NAME=VALUE with a number, such as {sources[0]}=0.25")
        if name in left_out:
            raise InputError(f"{option} {pair}: {name!r} is left out (allowed = false in --sources-info)")
        if name not in sources:
            closest = difflib.get_close_matches(name, sources, n=1, cutoff=0.0)[0]
            raise InputError(f"{option} {pair}: no source is called {name!r}; the closest name is {closest!r}")
        if name in values:
            raise InputError(f"{option}: {name!r} is there twice")
        values[name] = float(value)
    return values
