"""Every MixTraining experiment from its domain on: the plan, the stages, the results."""

import functools
import io
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.harness.devices import batch_mesh
from experiments.harness.progress import RunProgress
from experiments.harness.provenance import provenance
from experiments.harness.result_files import rendering, write_bytes, write_json
from experiments.harness.run_folder import run_folder
from experiments.harness.stages import Product, Running, Stages
from experiments.mixtraining.config import ARMS, Arm, ArmSettings, MixTrainingOptions
from experiments.mixtraining.costs import step_costs
from experiments.mixtraining.domain import Domain
from experiments.mixtraining.plan import Study, Trial
from experiments.mixtraining.report import PICTURES, QUESTION, verdict
from experiments.mixtraining.results import (
    Foundations,
    MixTrainingMetrics,
    Run,
    build_metrics,
    costs_of,
    identity,
    references_of,
    run_entry,
    stage_inputs,
)
from experiments.mixtraining.runs import Cell
from experiments.mixtraining.trial import arrays, run_trial
from experiments.mixtraining.tuning import check_search, search_flops, tune
from mixmin_jax.training.proxies import Diverged

DISTRIBUTIONS = ("mixmin_jax", "jax", "jaxlib", "flax", "optax", "numpy", "scikit-learn", "pillow", "matplotlib")
FAILED = "failed"  # folder of the last good parameters of runs that failed
# patterns of the files that a run writes
RESULTS = ("metrics.json", "report.md", "report.html", "summary.md", "*.png", PICTURES, f"{FAILED}/*.npz")

Reconstruct = Callable[[Any, float], Mapping[str, np.ndarray]]  # (parameters, mask ratio) -> reconstructions.npz


def run_experiment(
    experiment: str,
    domain: Domain,
    options: MixTrainingOptions,
    *,
    demonstration: bool,
    reconstruct: Reconstruct | None = None,
) -> MixTrainingMetrics | None:
    """Train every arm at every fraction and seed, and write metrics.json, report.md and figures after each seed.

    Finished stages are found again. Returns the metrics (nothing for a dry run).

    Raises:
        InputError: what cannot be run, before any compute.
        Diverged: training failed in some run; after all others are done and everything is written.
        NotRendered: the report cannot be rendered; metrics.json is whole.
    """
    study = Study(domain, options)
    batch_mesh(options)  # refuses what is not there
    settings = {arm: options.settings(arm) for arm in ARMS}
    trials = study.trials(settings)
    if options.tune:
        check_search(study)
    total = sum(map(study.cost, trials)) + (search_flops(study) if options.tune else 0.0)
    print(_describe(experiment, study, trials, total), flush=True)
    if options.dry_run:
        return None
    with run_folder(options, identity(experiment, study), RESULTS) as folder:
        made_by = provenance(*DISTRIBUTIONS)
        stages = folder.stages(RunProgress(total), made_by)
        shared = stage_inputs(experiment, study)
        base = _foundations(study, settings, stages, shared)
        runs: list[Run] = []
        for seed in range(options.seeds):
            for trial in (trial for trial in base.trials if trial.seed == seed):
                product = _product(study, trial, stages, shared, reconstruct)
                _write_arrays(options.out, trial, product)
                runs.append(run_entry(trial, product))
            metrics = build_metrics(experiment, base, runs, stages, made_by, demonstration)
            write_json(options.out / "metrics.json", metrics)
            with rendering(options.out):
                QUESTION.write(options.out, {"": metrics})
    print(f"\n{options.out / 'report.md'}\n{verdict(metrics)}")
    if failed := [run for run in runs if run.failure]:
        raise Diverged(
            f"{len(failed)} of {len(runs)} runs failed; all others are done, and the report leaves the failed ones out."
            f" Their last good parameters are in {options.out / FAILED}. Lower the learning rate, or look for broken"
            " inputs or labels"
        )
    return metrics


def _foundations(study: Study, settings: dict[Arm, ArmSettings], stages: Stages, shared: dict[str, Any]) -> Foundations:
    """The search, what steps cost, and the references."""
    tuning = None
    if study.options.tune:
        settings, tuning = tune(study, stages, shared)
    trials = study.trials(settings)  # what the search found may have made one impossible: better now than after hours
    masks = {arm: [settings[arm].ssl_mask, settings[arm].joint_mask] for arm in ("ssl_then_sl", "mixtraining")}
    costs = stages.run(
        "costs",
        shared | {"masks": masks, "fraction": min(study.options.fractions)},
        functools.partial(step_costs, study, settings),
    )
    references = [
        found
        for fraction in study.options.fractions
        for found in references_of(
            fraction,
            stages.run(
                f"references-{fraction:g}",
                shared | {"fraction": fraction},
                functools.partial(_references, study, fraction),
            ),
        )
    ]
    return Foundations(study, settings, trials, tuning, costs_of(costs), references)


def _references(study: Study, fraction: float, _stage: Running) -> Product:
    return dict(study.domain.references(study.subset(fraction, 0), study.domain.test))


def _product(
    study: Study, trial: Trial, stages: Stages, shared: dict[str, Any], reconstruct: Reconstruct | None
) -> Product:
    """One run, found again if it is there."""
    shown = (trial.arm, trial.budget, trial.fraction, trial.seed)
    show = None
    if reconstruct and shown == ("mixtraining", "schedule", max(study.options.fractions), 0):
        show = functools.partial(_shown, reconstruct, trial.settings.ssl_mask)
    return stages.run(
        trial.name,
        shared | trial.inputs | {"judged_on": "test", "shown": show is not None},
        lambda stage: run_trial(
            study, trial, study.domain.test, stage, evaluations=study.options.checkpoints, show=show
        ),
        cost=study.cost(trial),
    )


def _shown(reconstruct: Reconstruct, mask_ratio: float, params: Any) -> Mapping[str, np.ndarray]:
    return reconstruct(params, mask_ratio)


def _write_arrays(out: Path, trial: Trial, product: Product) -> None:
    """reconstructions.npz, and the parameters of a run that failed."""
    if pictures := arrays(product, "pictures"):
        _write_npz(out / PICTURES, pictures)
    if failure := product["failure"]:
        path = out / FAILED / f"{trial.name}.npz"
        path.parent.mkdir(exist_ok=True)
        _write_npz(path, arrays(product, "params"))
        print(
            f"{trial.name}: not finite in the phase {failure['phase']!r} at step {failure['step']}; the parameters from"
            f" before it are in {path}",
            file=sys.stderr,
        )


def _write_npz(path: Path, named: Mapping[str, np.ndarray]) -> None:
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **named)
    write_bytes(path, content.getvalue())


def _describe(experiment: str, study: Study, trials: Sequence[Trial], total: float) -> str:
    """The plan, for --dry-run and the top of a log."""
    domain, options = study.domain, study.options
    lines = [
        f"{experiment}: {domain.dataset['name']}, {len(domain.train):,} examples to train on,"
        f" {len(domain.validation):,} to validate, {len(domain.test):,} to test; {len(domain.classes)} classes",
        f"{len(trials)} runs"
        + (f" after a search of {options.tune_trials} settings per arm" if options.tune else "")
        + f"; {total:.3g} FLOPs of training in all",
    ]
    for trial in (trial for trial in trials if trial.seed == 0):
        epochs = ", ".join(f"{segment.epochs:.3g} {segment.phase}" for segment in trial.epochs)
        arm = Cell(trial.arm, trial.budget).name
        lines.append(
            f"  {trial.fraction:g} of the data, {arm}: {len(study.rows(trial.fraction, trial.seed)):,} examples,"
            f" {epochs}; {len(trial.plan.phase)} steps"
        )
    return "\n".join(lines)
