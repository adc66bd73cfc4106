"""The options of `experiments.weights_from_file`, and the objective that they describe."""

import dataclasses
import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from experiments.weights_from_file.data import Target, is_number
from mixmin_jax import weighted_sum, worst_case
from mixmin_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Config:
    """Find the mixture of data sources that explains a target best, from a file of log-likelihoods.

    Minimizes the cross-entropy - sum_n v_n log sum_k w_k p_nk over the weights w, where p_nk is the likelihood of
    example n under the model trained on source k alone (MixMin, arXiv:2502.10510). Prints the weights and a bound on
    their error; writes weights.json ({"mixmin": {source: weight}}, with --sources-info also {"sources": {source:
    {"licence", "note", "allowed"}}}) and metrics.json, and a report of them.

    Without lengths every example has v_n = 1/N, and the loss is in nats per example. With lengths (tokens per
    example) every example has v_n = 1 / (sum of all lengths), and the loss is in nats per token of the whole file:
    total nats / total tokens, not the mean over examples of each one's nats per token. Both give the same weights,
    as all examples count alike, except with a prior, whose strength is in the unit of the loss.

    Several files are several targets, each with its loss f_t: --combine weighted minimizes sum_t lambda_t f_t, and
    --combine worst_case minimizes max_t (f_t - r_t), so that no target is left behind.
    """

    log_likelihoods: tuple[Path, ...]
    """The file: .npz (log_likelihoods N x K, sources, optional lengths), .csv or .parquet (a column per source and,
    optionally, `length`); spaces around names are dropped. Natural logarithms; -inf where a model excludes an example.
    Errors count rows from 0. Several files, one per target, need --combine; columns are matched by name."""

    out: Path
    """Folder for weights.json, metrics.json and the report; one that holds results already is refused."""

    rows: str | None = None
    """For files of tokens, with the document of each (.npz: documents; else a column `document`): what one row of the
    mixture is. `document`, `token`, or a number of consecutive tokens of a document, such as 64."""

    combine: Literal["weighted", "worst_case"] | None = None
    """What to minimize over several files: the weighted sum of their losses, or the worst of them."""

    target_weights: tuple[float, ...] = ()
    """With --combine weighted: lambda_t, one per file in their order; by default 1 / their number each."""

    relative_to: Literal["best", "uniform", "none"] | None = None
    """With --combine worst_case, what each loss is compared to (r_t): the least that the allowed weights can reach for
    that target alone, that of uniform weights, or nothing (the default)."""

    method: Literal["auto", "interior_point", "active_set", "projected_gradient", "mirror_descent"] = "auto"
    """Solver; every one returns a certified gap. auto takes the fastest; a worst case needs it or interior_point."""

    sources_info: Path | None = None
    """A TOML file with a table per source: licence, note, and allowed = false for a source that may not be used. Such
    a source is left out of everything, as if it had no column; the notes go into weights.json."""

    upper_bounds: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE ...")] = ()
    """Largest weight that a source may have, for as many sources as you like: code=0.2 news=0.5."""

    prior: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE ...")] = ()
    """Weights to stay close to, one per source, summing to 1: adds strength * KL(w || prior) to the loss."""

    prior_strength: float | None = None
    """Strength of the prior, in the unit of the loss (nats per example; with lengths, total nats / total tokens)."""

    tolerance: float = 1e-9
    """Largest gap accepted, relative to the sum of v_n (of several targets: their weighted sum, or the largest)."""

    overwrite: bool = False
    """Replace the results that --out holds."""


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
