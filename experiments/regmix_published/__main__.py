"""Check our RegMix against RegMix's own published runs.

    python -m experiments.regmix_published --data ../shared/data/regmix --out experiments/results/regmix_published

A regression on the 512 published runs of 1M-parameter models ranks mixtures that it has not seen: 256 at 1M, the same
256 at 60M, and 64 at 1B parameters (arXiv:2407.01492, section 4 and table 2; files: github.com/sail-sg/regmix, data/).
Pile-CC with boosted trees at 1M is expected near 0.989, as published. Takes three minutes on one core.
"""

import dataclasses
import time
from pathlib import Path

from experiments.harness.command_line import run
from experiments.harness.data_sets import file_record
from experiments.harness.folder_lock import claimed_folder
from experiments.harness.provenance import provenance
from experiments.harness.result_files import write_json, write_report
from experiments.regmix_published.data import read_runs
from experiments.regmix_published.report import QUESTION, regmix_report
from experiments.regmix_published.results import (
    HELD_OUT,
    MODELS,
    SUBSET_SEED,
    RegmixPublished,
    rank_correlations,
    with_few_runs,
)
from experiments.reporting.json_files import to_builtins
from mixmin_jax.errors import InputError
from mixmin_jax.stats.comparison import LEAST_POINTS


@dataclasses.dataclass(frozen=True)
class Config:
    """Fit RegMix's regressions to its 512 published runs and rank the held-out ones.

    Prints Spearman rank correlations between predicted and reached loss, per domain and size of model, and how they
    fall with the number of runs; writes metrics.json and a report.
    """

    data: Path
    """Folder with RegMix's published CSV files: {train,test}_mixture_SIZE.csv and {train,test}_pile_loss_SIZE.csv."""

    out: Path
    """Folder for the results."""

    subset_runs: tuple[int, ...] = (17, 34, 64, 128, 256)
    """Sizes of random subsets of the training runs to fit as well; boosted trees are left out below 64."""

    subset_repeats: int = 5
    """Subsets drawn per size (seed 0); their results are averaged."""

    overwrite: bool = False
    """Replace the results that --out holds."""

    no_locks: bool = False
    """Go on where the file system of --out has no locks. Nothing then keeps two runs from writing there at once, which
    mixes their results."""


def main(config: Config) -> None:
    def path(name: str) -> Path:
        return config.data / f"{name}.csv"

    names = [("train", "1m"), *(("test", size) for size in HELD_OUT)]
    runs = {(p, s): read_runs(path(f"{p}_mixture_{s}"), path(f"{p}_pile_loss_{s}")) for p, s in names}
    train, tests = runs["train", "1m"], {size: runs["test", size] for size in HELD_OUT}
    for size, test in tests.items():
        if (test.sources, test.domains) != (train.sources, train.domains):
            raise InputError(f"{config.data}: the columns of the {size} test files are not those of the training files")
        if len(test.losses_RxD) < LEAST_POINTS:
            raise InputError(
                f"{config.data}: the {size} test files hold {len(test.losses_RxD)} runs, and rank correlations need at"
                f" least {LEAST_POINTS}"
            )
    if not all(2 <= size <= len(train.losses_RxD) for size in config.subset_runs) or config.subset_repeats < 1:
        raise InputError(f"--subset-runs must lie between 2 and {len(train.losses_RxD)}, --subset-repeats from 1 on")
    with claimed_folder(
        config.out, ("metrics.json", "report.md", "report.html"), config.overwrite, config.no_locks
    ) as place:
        made_by = provenance("mixmin_jax", "numpy", "scipy", "scikit-learn")
        started = time.perf_counter()
        spearman = {model: rank_correlations(train, tests, model) for model in MODELS}
        few = with_few_runs(train, tests["1m"], config.subset_runs, config.subset_repeats)
        data_sets = tuple(
            file_record("published runs", path(f"{part}_{kind}_{size}"), {"runs": len(found.losses_RxD)})
            for (part, size), found in runs.items()
            for kind in ("mixture", "pile_loss")
        )
        subsets = {"subset_runs": list(config.subset_runs), "subset_repeats": config.subset_repeats}
        metrics = RegmixPublished(
            experiment=QUESTION.name,
            seeds=(SUBSET_SEED,),
            made_by=made_by,
            config=to_builtins(config),
            identity=subsets | {"data": {found.name: found.sha256 for found in data_sets}},
            data_sets=data_sets,
            seconds={"fits": time.perf_counter() - started},
            stage_commits=(str(made_by.git_commit),),
            num_sources=len(train.sources),
            num_runs={"train": len(train.losses_RxD)} | {size: len(test.losses_RxD) for size, test in tests.items()},
            spearman=spearman,
            spearman_by_num_runs=few,
        ).derived()
        write_json(place / "metrics.json", metrics)
        report = regmix_report(metrics)
        write_report(place, report)
    print(report.markdown)


if __name__ == "__main__":
    run(Config, main)
