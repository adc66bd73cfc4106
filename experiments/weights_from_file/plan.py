"""What a run will solve: targets, constraints and a mixture to compare with, checked before anything is computed."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from experiments.harness.assignments import parse_assignments
from experiments.harness.options import check_matters
from experiments.reporting.schema import Weights
from experiments.weights_from_file.config import Config
from experiments.weights_from_file.data import Roles
from experiments.weights_from_file.reference import read_reference
from experiments.weights_from_file.targets import Target, read_targets
from mixmin_jax import cross_entropy, solve, weighted_sum, worst_case
from mixmin_jax.data.text.source_notes import SourceNote, allowed_names, find_source_notes
from mixmin_jax.errors import InputError, read_each

RESAMPLES = 200  # with --reference


@dataclasses.dataclass(frozen=True)
class Plan:
    """Checked options, and what they name; `targets` have the columns of the sources that may be used."""

    config: Config
    targets: tuple[Target, ...]
    notes: Mapping[str, SourceNote]
    objective: Any
    constraints: Mapping[str, Any]  # of `solve`, `bootstrap` and `leave_one_out`
    num_resamples: int | None  # None: no intervals
    reference: tuple[Literal["natural", "reference"], Weights] | None  # an arm and its weights

    @property
    def sources(self) -> tuple[str, ...]:
        return self.targets[0].table.sources


def make_plan(config: Config) -> Plan:
    """Read what the options name.

    Raises:
        InputError: files that cannot be read or do not fit each other, options that do not go together.
    """
    several, files = config.combine is not None, config.log_likelihoods
    if twice := [name for name in files if files.count(name) > 1]:
        raise InputError(f"--log-likelihoods names {twice[0]} twice")
    if config.groups is not None and config.bootstrap is None and config.reference is None:
        raise InputError("--groups says what --bootstrap and --reference draw together: give one of them")
    if config.reference_arm is not None and config.reference is None:
        raise InputError("--reference-arm goes with --reference")
    if config.bootstrap is not None and config.bootstrap < 2:
        raise InputError(f"--bootstrap takes a number of resamples from 2 on, not {config.bootstrap}")
    check_matters(config.matters)
    if several and (config.bootstrap is not None or config.groups is not None):
        option = "--groups" if config.bootstrap is None else "--bootstrap"
        raise InputError(f"{option} is for one target, not with --combine: run it for each target alone")
    if config.worth and config.combine == "worst_case":
        raise InputError("--worth is for one target or --combine weighted, not for --combine worst_case")

    roles = Roles(config.groups, config.length_column, config.ignore, config.densities)
    targets = read_targets(config.log_likelihoods, config.rows, roles)
    everything = targets[0].table.sources
    notes = find_source_notes(everything, file=config.sources_info)
    sources = allowed_names(everything, notes)
    left_out = tuple(name for name in everything if name not in sources)
    if left_out:
        targets = [target.restricted(sources) for target in targets]
    objective = combined(targets, config)

    reference = None
    if config.reference is not None:
        reference = read_reference(config.reference, config.reference_arm, sources, left_out, notes)
    num_resamples = config.bootstrap
    if num_resamples is None and reference is not None and not several:
        num_resamples = RESAMPLES
    if num_resamples is not None or config.worth:
        option = "--worth" if config.worth else "--reference" if config.bootstrap is None else "--bootstrap"
        if len(sources) < 2:
            raise InputError(f"{option} needs at least two sources; there is only {sources[0]!r}")
    if num_resamples is not None and targets[0].num_groups < 2:
        what = "row" if targets[0].table.group_N is None else "group of rows"
        raise InputError(f"{targets[0].name}: only one {what} to draw from, but intervals need at least two")

    constraints = _constraints(config, sources, left_out)
    limits: dict[str, Any] = {"method": config.method, "tolerance": config.tolerance}
    solve(objective, max_iterations=0, throw=False, **constraints, **limits)  # finds what is wrong with the options
    return Plan(config, tuple(targets), notes, objective, constraints, num_resamples, reference)


def _constraints(config: Config, sources: tuple[str, ...], left_out: tuple[str, ...]) -> dict[str, Any]:
    caps = parse_assignments(config.upper_bounds, "--upper-bounds", sources, left_out)
    for name, cap in caps.items():
        if cap > 1:
            raise InputError(
                f"--upper-bounds {name}={cap:g}: weights are shares of 1, so that a cap above 1 says nothing; for"
                f" {cap:g} % say {name}={cap / 100:g}"
            )
    floors = parse_assignments(config.lower_bounds, "--lower-bounds", sources, left_out)
    prior = parse_assignments(config.prior, "--prior", sources, left_out)
    if prior and (missing := [name for name in sources if name not in prior]):
        raise InputError(f"--prior must name every source; {missing[0]!r} is missing")
    if bool(prior) != (config.prior_strength is not None):
        raise InputError("--prior and --prior-strength go together")
    given: dict[str, Any] = {"upper_bounds": caps} if caps else {}
    given |= {"lower_bounds": floors} if floors else {}
    return given | ({"prior": prior, "prior_strength": config.prior_strength} if prior else {})


def combined(targets: Sequence[Target], config: Config) -> Any:
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
    objectives = read_each(targets, Target.objective)
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


def pooled(targets: Sequence[Target], prices: Sequence[float]) -> Any:
    """The weighted sum of the targets' losses as one cross-entropy over the rows of all."""
    return cross_entropy(
        np.concatenate([target.table.logp_NxK for target in targets]),
        np.concatenate(
            [
                np.full(target.num_rows, price * target.example_weight)
                for target, price in zip(targets, prices, strict=True)
            ]
        ),
        targets[0].table.sources,
        densities=True,  # signs are checked
    )
