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
import sys
import time

from experiments.harness.command_line import run
from experiments.harness.folder_lock import claimed_folder
from experiments.harness.provenance import provenance
from experiments.harness.result_files import write_json
from experiments.reporting.schema import Note
from experiments.weights_from_file.config import Config
from experiments.weights_from_file.data import read_targets
from experiments.weights_from_file.plan import combined, solver_options
from experiments.weights_from_file.report import QUESTION, tables
from experiments.weights_from_file.results import build_metrics
from mixmin_jax import NotConverged, solve
from mixmin_jax.data.text.source_notes import allowed_names, find_source_notes

RESULTS = ("weights.json", "metrics.json")


def main(config: Config) -> None:
    """Solve, print, write; exits with status 1, writing nothing, if the solver does not reach the tolerance."""
    targets = read_targets(config.log_likelihoods)
    notes = find_source_notes(targets[0].table.sources, file=config.sources_info)
    sources = allowed_names(targets[0].table.sources, notes)
    left_out = tuple(name for name in targets[0].table.sources if name not in sources)
    if left_out:
        targets = [dataclasses.replace(target, table=target.table.restricted(sources)) for target in targets]
    options = solver_options(config, sources, left_out)
    objective = combined(targets, config)
    solve(objective, max_iterations=0, throw=False, **options)  # finds what is wrong with the options
    with claimed_folder(config.out, RESULTS, config.overwrite):
        made_by, started = provenance("mixmin_jax", "jax", "numpy", "pyarrow"), time.perf_counter()
        try:
            solution = solve(objective, **options)
        except NotConverged as error:
            solution = error.solution
        for name in RESULTS if not solution.converged else ("weights.json",):
            # only now, as a run that is stopped leaves all as it was; old results are never taken for those of this run
            (config.out / name).unlink(missing_ok=True)
        described = {name: Note(**dataclasses.asdict(note)) for name, note in notes.items()}
        metrics = build_metrics(config, targets, solution, described, made_by, time.perf_counter() - started)
        print(tables(metrics))
        if left_out:
            print(f"left out (allowed = false in {config.sources_info}): {', '.join(left_out)}")
        if any((target.table.logp_NxK > 0).any() for target in targets):
            print("note: some log-likelihoods are above 0, which densities may be and probabilities may not")
        if not solution.converged:
            print("error: the gap is above the tolerance, so no weights were written", file=sys.stderr)
            raise SystemExit(1)
        for name, content in ({"metrics.json": metrics} | QUESTION.files(metrics)).items():
            write_json(config.out / name, content)


if __name__ == "__main__":
    run(Config, main)
