"""Mixture weights from log-likelihoods that models of any framework wrote to files.

    python -m experiments.weights_from_file --log-likelihoods scores.npz --out runs/weights

The file holds the log-likelihood (nats) of N target examples under K models, one model per data source:

    .npz        log_likelihoods (N x K), sources (K names) and, if you like, lengths (N), documents (N)
    .csv        a column per source, headed by its name, and, if you like, columns `length`, `document`
    .parquet    the same columns

Or a per-sample log of the lm-evaluation-harness (`lm_eval --log_samples`) for each source:

    python -m experiments.weights_from_file --log-likelihoods web=web/samples_T.jsonl code=code/samples_T.jsonl
        --reference natural --sources-info sources.toml --worth --out runs/weights

Several targets, one file each, the same sources in all of them (columns are matched by name):

    python -m experiments.weights_from_file --log-likelihoods code.npz news.npz --combine worst_case --relative-to best
        --out runs/weights
"""

import sys

from experiments.harness.command_line import run
from experiments.harness.folder_lock import claimed_folder
from experiments.harness.provenance import provenance
from experiments.harness.result_files import write_json
from experiments.weights_from_file.config import Config
from experiments.weights_from_file.plan import make_plan
from experiments.weights_from_file.report import QUESTION, printed
from experiments.weights_from_file.results import build_metrics
from experiments.weights_from_file.solving import solved

RESULTS = ("metrics.json", "weights.json", "report.md", "report.html", "weights.png")


def main(config: Config) -> None:
    """Solve, write, print; exits with status 1, writing nothing, if the solver does not reach the tolerance."""
    plan = make_plan(config)
    with claimed_folder(config.out, RESULTS, config.overwrite, config.no_locks) as place:
        made_by = provenance("mixmin_jax", "jax", "numpy", "pyarrow", "matplotlib")
        metrics = build_metrics(plan, solved(plan), made_by)
        if not metrics.mixmin.converged:
            print(printed(metrics))
            earlier = f"; {config.out} still holds those of an earlier run" if place != config.out else ""
            print(f"error: the gap is above the tolerance, so no weights were written{earlier}", file=sys.stderr)
            raise SystemExit(1)
        write_json(place / "metrics.json", metrics)
        for name, content in QUESTION.files(metrics).items():
            write_json(place / name, content)
        QUESTION.write(place, {"": metrics})
    print(printed(metrics))


if __name__ == "__main__":
    run(Config, main)
