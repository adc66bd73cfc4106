"""Mixture weights from log-likelihoods that models of any framework wrote to files.

    python -m experiments.weights_from_file --log-likelihoods scores.npz --out runs/weights

The file holds the log-likelihood (nats) of N target examples under K models, one model per data source:

    .npz        log_likelihoods (N x K), sources (K names) and, if you like, lengths (N), documents (N)
    .csv        a column per source, headed by its name, and, if you like, columns `length`, `document`
    .parquet    the same columns

Several targets, one file each, the same sources in all of them (columns are matched by name):

    python -m experiments.weights_from_file --log-likelihoods code.npz news.npz --combine worst_case --relative-to best
        --out runs/weights
"""

import sys
import time
from typing import Any

from experiments.harness.command_line import run
from experiments.harness.folder_lock import claimed_folder
from experiments.harness.provenance import provenance
from experiments.harness.result_files import write_json
from experiments.weights_from_file.config import Config, combined, parse_assignments
from experiments.weights_from_file.data import read_targets
from experiments.weights_from_file.report import QUESTION, printed
from experiments.weights_from_file.results import build_metrics
from mixmin_jax import NotConverged, solve
from mixmin_jax.data.text.source_notes import allowed_names, find_source_notes
from mixmin_jax.errors import InputError

RESULTS = ("metrics.json", "weights.json", "report.md", "report.html")


def main(config: Config) -> None:
    """Solve, print, write; exits with status 1, writing nothing, if the solver does not reach the tolerance."""
    targets = read_targets(config.log_likelihoods, config.rows)
    notes = find_source_notes(targets[0].table.sources, file=config.sources_info)
    sources = allowed_names(targets[0].table.sources, notes)
    left_out = tuple(name for name in targets[0].table.sources if name not in sources)
    if left_out:
        targets = [target.restricted(sources) for target in targets]
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
        made_by = provenance("mixmin_jax", "jax", "numpy", "pyarrow")
        started = time.perf_counter()
        try:
            solution = solve(objective, **options)
        except NotConverged as error:
            solution = error.solution
        metrics = build_metrics(config, targets, notes, solution, made_by, time.perf_counter() - started)
        for name in RESULTS if not solution.converged else RESULTS[1:]:
            # only now, as a run that is stopped leaves all as it was; old results are never taken for those of this run
            (config.out / name).unlink(missing_ok=True)
        print(printed(metrics))
        if not solution.converged:
            print("error: the gap is above the tolerance, so no weights were written", file=sys.stderr)
            raise SystemExit(1)
        write_json(config.out / "metrics.json", metrics)
        for name, content in QUESTION.files(metrics).items():
            write_json(config.out / name, content)
        QUESTION.write(config.out, {"": metrics})


if __name__ == "__main__":
    run(Config, main)
