"""Check our RegMix against RegMix's own published runs.

    python -m experiments.regmix_published --data ../shared/data/regmix --out experiments/results/regmix_published

A regression on the 512 published runs of 1M-parameter models ranks mixtures that it has not seen: 256 at 1M, the same
256 at 60M, and 64 at 1B parameters (arXiv:2407.01492, section 4 and table 2; files: github.com/sail-sg/regmix, data/).
Pile-CC with boosted trees at 1M is expected near 0.989, as published. Takes three minutes on one core.
"""

import csv
import dataclasses
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.stats import spearmanr

from experiments.harness.command_line import run
from experiments.harness.data_sets import file_record
from experiments.harness.folder_lock import claimed_folder
from experiments.harness.provenance import provenance
from experiments.harness.result_files import file_fingerprint, write_json, write_text
from mixmin_jax.errors import InputError
from mixmin_jax.mixture.baselines.regmix import MIN_RUNS_FOR_TREES, fit_regmix

MODELS: dict[str, dict[str, Any]] = {
    "least_squares": {"model": "linear", "ridge": 0.0},
    "ridge": {"model": "linear"},
    "boosted_trees": {"model": "boosted_trees"},
}
SUBSET_SEED = 0  # of the random subsets of the training runs
HELD_OUT = ("1m", "60m", "1B")
FILE_KINDS = ("mixture", "pile_loss")


@dataclasses.dataclass(frozen=True)
class Config:
    """Fit RegMix's regressions to its 512 published runs and rank the held-out ones.

    Prints Spearman rank correlations between predicted and reached loss, per domain and size of model, and how they
    fall with the number of runs; writes metrics.json and report.md.
    """

    data: Path
    """Folder with RegMix's published CSV files: {train,test}_mixture_SIZE.csv and {train,test}_pile_loss_SIZE.csv."""

    out: Path
    """Folder for metrics.json and report.md."""

    subset_runs: tuple[int, ...] = (17, 34, 64, 128, 256)
    """Sizes of random subsets of the training runs to fit as well; boosted trees are left out below 64."""

    subset_repeats: int = 5
    """Subsets drawn per size (seed 0); their results are averaged."""

    overwrite: bool = False
    """Replace the results that --out holds."""


@dataclasses.dataclass(frozen=True)
class Runs:
    """Published runs: row r of both arrays is one run; columns carry the names in `sources` and `domains`."""

    sources: tuple[str, ...]
    domains: tuple[str, ...]
    mixtures_RxK: Float[np.ndarray, "R K"]
    losses_RxD: Float[np.ndarray, "R D"]


def read_runs(mixture_path: Path, loss_path: Path) -> Runs:
    """Join mixtures and losses by their key, the first column; rows and columns may come in any order.

    Columns are sorted by name, rows by key, and `train_the_pile_NAME` and `metric/the_pile_NAME_val_loss` both become
    NAME.

    Raises:
        InputError: a missing or unreadable file, a key that is there twice or in one file only, a cell that is no
            finite number.
    """
    sources, mixtures = _read_table(mixture_path)
    domains, losses = _read_table(loss_path)
    if unmatched := sorted(mixtures.keys() ^ losses.keys()):
        here, there = (mixture_path, loss_path) if unmatched[0] in mixtures else (loss_path, mixture_path)
        raise InputError(f"run {unmatched[0]} is in {here} only, not in {there} ({len(unmatched)} without a match)")
    keys = sorted(mixtures)
    return Runs(sources, domains, np.array([mixtures[k] for k in keys]), np.array([losses[k] for k in keys]))


def _read_table(path: Path) -> tuple[tuple[str, ...], dict[str, list[float]]]:
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    rows = csv.reader(io.StringIO(text, newline=""))
    try:
        header = next(rows, [])
        names = [name.removeprefix("train_the_pile_").removeprefix("metric/the_pile_") for name in header[1:]]
        names = [name.removesuffix("_val_loss") for name in names]
        if not names or len(set(names)) < len(names):
            raise InputError(f"{path}: the first line must name a key column and distinct value columns")
        order = np.argsort(names)
        table: dict[str, list[float]] = {}
        for key, *cells in filter(None, rows):
            try:
                values = [float(cell) for cell in cells]
            except ValueError as error:
                raise InputError(f"{path}: line {rows.line_num}: {error}") from None
            if len(values) != len(names) or not np.isfinite(values).all():
                raise InputError(f"{path}: line {rows.line_num}: {len(names)} finite numbers expected after the key")
            if key in table:
                raise InputError(f"{path}: line {rows.line_num}: key {key} is there twice")
            table[key] = [values[i] for i in order]
    except csv.Error as error:
        raise InputError(f"{path}: line {rows.line_num}: cannot be read as CSV: {error}") from None
    if not table:
        raise InputError(f"{path}: no runs")
    return tuple(names[i] for i in order), table


def rank_correlations(train: Runs, tests: dict[str, Runs], model: str) -> dict[str, dict[str, float]]:
    """Spearman correlation of predicted and reached loss, `{test set: {domain: rho}}`; `model` is a key of MODELS."""
    correlations: dict[str, dict[str, float]] = {name: {} for name in tests}
    for d, domain in enumerate(train.domains):
        predictor = fit_regmix(train.mixtures_RxK, train.losses_RxD[:, d], **MODELS[model])
        for name, test in tests.items():
            predicted_R = predictor(test.mixtures_RxK)
            # a constant prediction ranks nothing
            varies = np.ptp(predicted_R) > 0
            correlations[name][domain] = float(spearmanr(predicted_R, test.losses_RxD[:, d])[0]) if varies else 0.0
    return correlations


def with_few_runs(train: Runs, test: Runs, sizes: tuple[int, ...], repeats: int) -> dict[str, dict[str, float | None]]:
    """Mean rank correlation over domains and random subsets of the training runs, `{size: {model: rho}}`."""
    rng = np.random.default_rng(SUBSET_SEED)
    table: dict[str, dict[str, float | None]] = {}
    for size in sizes:
        subsets = [rng.choice(len(train.losses_RxD), size, replace=False) for _ in range(repeats)]
        table[str(size)] = {model: None for model in MODELS}
        for model in MODELS:
            if model == "boosted_trees" and size < MIN_RUNS_FOR_TREES:
                continue
            means = []
            for rows in subsets:
                part = dataclasses.replace(
                    train, mixtures_RxK=train.mixtures_RxK[rows], losses_RxD=train.losses_RxD[rows]
                )
                means.append(np.mean(list(rank_correlations(part, {"test": test}, model)["test"].values())))
            table[str(size)][model] = float(np.mean(means))
    return table


def main(config: Config) -> None:
    def path(name: str) -> Path:
        return config.data / f"{name}.csv"

    names = [("train", "1m"), *(("test", size) for size in HELD_OUT)]
    runs = {(p, s): read_runs(path(f"{p}_mixture_{s}"), path(f"{p}_pile_loss_{s}")) for p, s in names}
    train, tests = runs["train", "1m"], {size: runs["test", size] for size in HELD_OUT}
    for size, test in tests.items():
        if (test.sources, test.domains) != (train.sources, train.domains):
            raise InputError(f"{config.data}: the columns of the {size} test files are not those of the training files")
    if not all(2 <= size <= len(train.losses_RxD) for size in config.subset_runs) or config.subset_repeats < 1:
        raise InputError(f"--subset-runs must lie between 2 and {len(train.losses_RxD)}, --subset-repeats from 1 on")
    with claimed_folder(config.out, ("metrics.json", "report.md"), config.overwrite):
        spearman = {model: rank_correlations(train, tests, model) for model in MODELS}
        few = with_few_runs(train, tests["1m"], config.subset_runs, config.subset_repeats)
        record = {
            "schema_version": 1,
            "experiment": "regmix_published",
            "seeds": [SUBSET_SEED],
            **provenance("mixmin_jax", "numpy", "scipy", "scikit-learn"),
            "config": dataclasses.asdict(config) | {"data": str(config.data), "out": str(config.out)},
            "data_sets": [
                file_record("published runs", path(f"{p}_{k}_{s}"), {"runs": len(found.losses_RxD)})
                for (p, s), found in runs.items()
                for k in FILE_KINDS
            ],
            "data": {
                path(f"{p}_{k}_{s}").name: file_fingerprint(path(f"{p}_{k}_{s}")) for p, s in names for k in FILE_KINDS
            },
            "num_sources": len(train.sources),
            "num_runs": {"train": len(train.losses_RxD)} | {size: len(test.losses_RxD) for size, test in tests.items()},
            "spearman": spearman,
            "spearman_mean": {
                m: {s: float(np.mean(list(v.values()))) for s, v in r.items()} for m, r in spearman.items()
            },
            "spearman_by_num_runs": few,
        }
        report = render_report(record, len(train.sources))
        write_json(config.out / "metrics.json", record)
        write_text(config.out / "report.md", report)
        print(report)


def render_report(record: Mapping[str, Any], num_sources: int) -> str:
    """The report in Markdown: correlations per domain, then by number of runs."""
    spearman, num_runs = record["spearman"], record["num_runs"]
    columns = [(model, size) for model in MODELS for size in HELD_OUT]

    def row(name: str, values: list[float | None]) -> str:
        return f"| {name} | " + " | ".join("-" if v is None else f"{v:.3f}" for v in values) + " |"

    lines = [
        "# RegMix on its published runs",
        "",
        f"Spearman rank correlation of predicted and reached loss. Trained on {num_runs['train']} runs of 1M-parameter "
        f"models; held out: {', '.join(f'{num_runs[s]} runs at {s}' for s in HELD_OUT)}. No held-out run was used to "
        "fit or to stop. `least_squares` is the published linear regression, `ridge` ours with a leave-one-out "
        "strength, `boosted_trees` (scikit-learn's) has the published settings of LightGBM without early stopping.",
        "",
        f"    {record['command']}",
        "",
        "| domain | " + " | ".join(f"{model} {size}" for model, size in columns) + " |",
        "|---|" + "---:|" * len(columns),
        *(row(domain, [spearman[m][s][domain] for m, s in columns]) for domain in spearman["ridge"]["1m"]),
        row("**mean**", [record["spearman_mean"][m][s] for m, s in columns]),
        "",
        "## With fewer runs",
        "",
        f"Mean over domains and {record['config']['subset_repeats']} random subsets of the training runs; held-out 1M "
        f"runs. There are {num_sources} sources: with about as many runs least squares interpolates them.",
        "",
        "| runs | " + " | ".join(MODELS) + " |",
        "|---:|" + "---:|" * len(MODELS),
        *(row(size, list(by_model.values())) for size, by_model in record["spearman_by_num_runs"].items()),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    run(Config, main)
