"""Mixture weights from log-likelihoods that models of any framework wrote to files.

    python -m experiments.weights_from_file --log-likelihoods scores.npz --out runs/weights

The file holds the log-likelihood (nats) of N target examples under K models, one model per data source:

    .npz        log_likelihoods (N x K), sources (K names) and, if you like, lengths (N)
    .csv        a column per source, headed by its name, and, if you like, a column `length`
    .parquet    the same columns

Several targets, one file each, the same sources in all of them (columns are matched by name):

    python -m experiments.weights_from_file --log-likelihoods code.npz news.npz --combine worst_case --relative-to best
        --out runs/weights
"""

import dataclasses
import difflib
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from experiments.harness.command_line import run
from experiments.harness.data_sets import file_record
from experiments.harness.folder_lock import claimed_folder
from experiments.harness.provenance import provenance
from experiments.harness.result_files import write_json
from experiments.weights_from_file.data import Target, is_number, read_targets
from mixmin_jax import NotConverged, Solution, solve, weighted_sum, worst_case
from mixmin_jax.data.text.source_notes import allowed_names, as_record, find_source_notes
from mixmin_jax.errors import InputError

RESULTS = ("weights.json", "metrics.json")


@dataclasses.dataclass(frozen=True)
class Config:
    """Find the mixture of data sources that explains a target best, from a file of log-likelihoods.

    Minimises the cross-entropy - sum_n v_n log sum_k w_k p_nk over the weights w, where p_nk is the likelihood of
    example n under the model trained on source k alone (MixMin, arXiv:2502.10510). Prints the weights and a bound on
    their error; writes weights.json ({"mixmin": {source: weight}}, with --sources-info also {"sources": {source:
    {"licence", "note", "allowed"}}}) and metrics.json.

    Without lengths every example has v_n = 1/N, and the loss is in nats per example. With lengths (tokens per
    example) every example has v_n = 1 / (sum of all lengths), and the loss is in nats per token of the whole file:
    total nats / total tokens, not the mean over examples of each one's nats per token. Both give the same weights,
    as all examples count alike, except with a prior, whose strength is in the unit of the loss.

    Several files are several targets, each with its loss f_t: --combine weighted minimises sum_t lambda_t f_t, and
    --combine worst_case minimises max_t (f_t - r_t), so that no target is left behind.
    """

    log_likelihoods: tuple[Path, ...]
    """The file: .npz (log_likelihoods N x K, sources, optional lengths), .csv or .parquet (a column per source and,
    optionally, `length`); spaces around names are dropped. Natural logarithms; -inf where a model excludes an example.
    Errors count rows from 0. Several files, one per target, need --combine; columns are matched by name."""

    out: Path
    """Folder for weights.json and metrics.json; one that holds results already is refused."""

    combine: Literal["weighted", "worst_case"] | None = None
    """What to minimise over several files: the weighted sum of their losses, or the worst of them."""

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


def main(config: Config) -> None:
    """Solve, print, write; exits with status 1, writing nothing, if the solver does not reach the tolerance."""
    targets = read_targets(config.log_likelihoods)
    notes = find_source_notes(targets[0].table.sources, file=config.sources_info)
    sources = allowed_names(targets[0].table.sources, notes)
    left_out = tuple(name for name in targets[0].table.sources if name not in sources)
    if left_out:
        targets = [dataclasses.replace(target, table=target.table.restricted(sources)) for target in targets]
    caps = parse_assignments(config.upper_bounds, "--upper-bounds", sources, left_out)
    prior = parse_assignments(config.prior, "--prior", sources, left_out)
    if prior and (missing := [name for name in sources if name not in prior]):
        raise InputError(f"--prior must name every source; {missing[0]!r} is missing")
    if bool(prior) != (config.prior_strength is not None):
        raise InputError("--prior and --prior-strength go together")

    objective = combined(targets, config)
    options: dict[str, Any] = {"upper_bounds": caps} if caps else {}
    options |= {"prior": prior, "prior_strength": config.prior_strength} if prior else {}
    options |= {"method": config.method, "tolerance": config.tolerance}
    solve(objective, max_iterations=0, throw=False, **options)  # finds what is wrong with the options
    with claimed_folder(config.out, RESULTS, config.overwrite):
        try:
            solution = solve(objective, **options)
        except NotConverged as error:
            solution = error.solution
        for name in RESULTS if not solution.converged else ("weights.json",):
            # only now, as a run that is stopped leaves all as it was; old results are never taken for those of this run
            (config.out / name).unlink(missing_ok=True)
        weights = dict(zip(sources, np.asarray(solution.weights, np.float64).tolist(), strict=True))
        result = {
            "loss": float(solution.loss),
            "penalty": float(solution.penalty),
            "gap": float(solution.gap),
            "tolerance": float(solution.goal),
            "converged": bool(solution.converged),
            "status": str(solution.status),
            "iterations": int(solution.iterations),
            "method": str(solution.method),
        }
        records = per_target(targets, solution)
        uniform = combined_loss(config.combine, records, [target.uniform_loss for target in targets])
        print(render(config, targets, weights, uniform, result, records))
        if left_out:
            print(f"left out (allowed = false in {config.sources_info}): {', '.join(left_out)}")
        if any((target.table.logp_NxK > 0).any() for target in targets):
            print("note: some log-likelihoods are above 0, which densities may be and probabilities may not")
        if not solution.converged:
            print("error: the gap is above the tolerance, so no weights were written", file=sys.stderr)
            raise SystemExit(1)
        paths = [str(target.path) for target in targets]
        several = len(targets) > 1
        record = {
            "schema_version": 1,
            "experiment": "weights_from_file",
            "seeds": [],  # nothing here is random
            "config": dataclasses.asdict(config)
            | {"log_likelihoods": paths if several else paths[0], "out": str(config.out)}
            | {"sources_info": str(config.sources_info) if config.sources_info else None},
            **provenance("mixmin_jax", "jax", "numpy", "pyarrow"),
            "unit": targets[0].unit,
            "mixmin": result,
            "arms": {
                "mixmin": {"loss": result["loss"], "weights": weights},
                "uniform": {"loss": uniform, "weights": dict.fromkeys(sources, 1 / len(sources))},
            },
            "data_sets": [file_record("log-likelihoods", target.path, target.counts) for target in targets],
            **({"targets": records} if several else targets[0].record()),
            "source_notes": as_record(notes),
        }
        write_json(config.out / "metrics.json", record)
        write_json(config.out / "weights.json", {"mixmin": weights} | ({"sources": as_record(notes)} if notes else {}))


def per_target(targets: list[Target], solution: Solution) -> list[dict[str, Any]]:
    """A record of each of several targets: its loss, that to which it is compared, its price, and its file."""
    if solution.targets is None:
        return []
    found = zip(targets, *map(np.ndarray.tolist, dataclasses.astuple(solution.targets)), strict=True)
    return [
        {
            "file": str(target.path),
            "loss": loss,
            "reference": reference,
            "excess": loss - reference,
            "price": price,
            "loss_uniform": target.uniform_loss,
            **target.record(),
        }
        for target, loss, reference, price in found
    ]


def combined_loss(combine: str | None, records: list[dict[str, Any]], losses: list[float]) -> float:
    """What is minimised, where the targets have these losses."""
    if combine is None:
        return losses[0]
    if combine == "weighted":
        return sum(record["price"] * loss for record, loss in zip(records, losses, strict=True))
    return max(loss - record["reference"] for record, loss in zip(records, losses, strict=True))


def render(
    config: Config,
    targets: list[Target],
    weights: dict[str, float],
    uniform: float,
    result: dict[str, Any],
    records: list[dict[str, Any]],
) -> str:
    """The tables that are printed: sources by falling weight, several targets, the losses and the certificate."""
    width = max(len("source"), *(len(name) for name in weights))
    alone_KxT = np.stack([target.loss_alone_K for target in targets], axis=1)
    order = sorted(zip(weights.items(), alone_KxT, strict=True), key=lambda item: -item[0][1])
    about = f"{len(weights)} sources; losses in {targets[0].unit}"
    files = [f"{target.path}: {target.num_rows} examples" for target in targets]
    if not records:
        heading, alone = [f"{files[0]}, {about}"], ["loss alone"]
        losses, loss, of_uniform = [], "loss of this mixture", "loss of uniform"
    else:
        heading = [*(f"target {t}: {file}" for t, file in enumerate(files, 1)), about]
        alone = [f"alone on {t}" for t in range(1, len(targets) + 1)]
        losses = [*render_targets(config, records), ""]
        relative = config.relative_to not in (None, "none")
        loss = "weighted loss" if config.combine == "weighted" else "worst excess" if relative else "worst loss"
        of_uniform = f"{loss} of uniform"
    wide = max(len("penalty of the prior"), len(of_uniform)) + 2
    return "\n".join(
        [
            *heading,
            "",
            f"{'source':<{width}}  weight  {'  '.join(alone)}",
            *(
                f"{name:<{width}}  {weight:6.4f}  {'  '.join(f'{alone:10.4f}' for alone in alone_T)}"
                for (name, weight), alone_T in order
            ),
            "",
            *losses,
            f"{loss:<{wide}}{result['loss']:.6f}",
            *([f"{'penalty of the prior':<{wide}}{result['penalty']:.6f}"] if result["penalty"] else []),
            f"{'certified gap':<{wide}}{result['gap']:.1e}  (no weights allowed are better by more than this)",
            f"{of_uniform:<{wide}}{uniform:.6f}",
            result["status"],
        ]
    )


def render_targets(config: Config, records: list[dict[str, Any]]) -> list[str]:
    """A line per target: its loss, that of uniform weights, its excess where it is compared, and what it weighs."""
    columns = {"loss": "loss", "of uniform": "loss_uniform"}
    if config.relative_to not in (None, "none"):
        columns |= {f"of {config.relative_to}": "reference", "excess": "excess"}  # uniform is there already
    columns["weight" if config.combine == "weighted" else "price"] = "price"
    lines = ["  ".join(["target", *(f"{title:>10}" for title in columns)])]
    for t, record in enumerate(records, 1):
        lines.append("  ".join([f"{t:>6}", *(f"{record[key]:10.4f}" for key in columns.values())]))
    return lines


if __name__ == "__main__":
    run(Config, main)
