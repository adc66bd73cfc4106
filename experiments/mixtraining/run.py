"""Every MixTraining experiment from its domain on: the plan, the stages, the results."""

import dataclasses
import functools
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.harness.devices import batch_mesh
from experiments.harness.options import numbers_of
from experiments.harness.progress import RunProgress
from experiments.harness.provenance import provenance
from experiments.harness.result_files import rendering, write_json
from experiments.harness.run_folder import run_folder
from experiments.harness.run_record import run_fields
from experiments.harness.stages import Product, Stages
from experiments.mixtraining.config import Arm, ArmSettings, MixTrainingOptions
from experiments.mixtraining.costs import step_costs
from experiments.mixtraining.domain import Domain
from experiments.mixtraining.final_model import MODEL, final_cost, train_final, write_final
from experiments.mixtraining.plan import Study, Trial
from experiments.mixtraining.report import COMPRESSION, PICTURES, QUESTION, recommendation, verdict
from experiments.mixtraining.results import (
    Dataset,
    MixTrainingMetrics,
    Model,
    Run,
    identity,
    run_of,
    settings_of,
    shared_results,
    stage_inputs,
)
from experiments.mixtraining.trial import arrays, run_trial, write_npz
from experiments.mixtraining.tuning import check_search, search_flops, tune
from experiments.reporting.json_files import to_builtins, typed
from experiments.reporting.render import report
from experiments.reporting.schema import MadeBy
from mixmin_jax.training.nonfinite import Diverged

DISTRIBUTIONS = ("mixmin_jax", "jax", "jaxlib", "flax", "optax", "numpy", "scikit-learn", "pillow", "matplotlib")
FAILED = "failed"  # folder of the last good parameters of runs that failed
# patterns of the files that a run writes
RESULTS = (
    "metrics.json",
    "report.md",
    "report.html",
    "summary.md",
    COMPRESSION,
    "*.png",
    PICTURES,
    f"{FAILED}/*.npz",
    MODEL,
)

Reconstruct = Callable[..., Mapping[str, np.ndarray]]  # (parameters, mask ratio) -> reconstructions.npz


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
    settings = {arm: options.settings(arm) for arm in study.arms}
    trials = study.trials(settings)
    if options.tune:
        check_search(study)
    last = final_cost(study, settings)
    total = sum(map(study.cost, trials)) + (search_flops(study) if options.tune else 0.0) + last
    plan = {"experiment": experiment, "study": study, "trials": trials, "total": total, "final_cost": last}
    print(report("mixtraining_plan", "", {}, **plan).markdown.strip(), flush=True)
    if options.dry_run:
        return None
    with run_folder(options, identity(experiment, study), RESULTS) as folder:
        made_by = provenance(*DISTRIBUTIONS)
        stages = folder.stages(RunProgress(total), made_by)
        shared = stage_inputs(experiment, study)
        tuning, model_written = None, ""
        if options.tune:
            settings, tuning = tune(study, stages, shared)
            trials = study.trials(settings)  # now: what the search found may have made one impossible
        metrics = dataclasses.replace(
            _record_without_runs(experiment, study, settings, _shared_stages(study, settings, stages, shared), made_by),
            demonstration=demonstration,
            tuning=tuning,
        )
        for seed in range(options.seeds):
            done = tuple(
                _run(study, trial, stages, shared, folder.place, reconstruct) for trial in trials if trial.seed == seed
            )
            metrics = dataclasses.replace(
                metrics,
                runs=metrics.runs + done,
                seeds=tuple(range(seed + 1)),
                complete=seed == options.seeds - 1,
                **run_fields(options, stages.records, made_by, domain.data_sets),
            ).derived()
            _write(folder.place, metrics)
        if found := train_final(study, settings, stages, shared, metrics):
            fields = run_fields(options, stages.records, made_by, domain.data_sets)
            metrics = dataclasses.replace(metrics, final=found[0], **fields)
            model_written = write_final(folder.place, metrics, found[1])
            _write(folder.place, metrics)
    if model_written:
        print(f"\n{options.out / MODEL}: {model_written}")
    print(f"\n{options.out / 'report.md'}\n{recommendation(metrics)}\n{verdict(metrics)}")
    if failed := [run for run in metrics.runs if run.failure]:
        raise Diverged(
            f"{len(failed)} of {len(metrics.runs)} runs failed; all others are done, and the report leaves the failed"
            f" ones out. Their last good parameters are in {options.out / FAILED}. Lower the learning rate, or look for"
            " broken inputs or labels"
        )
    if metrics.final and metrics.final.failure:
        raise Diverged("the training of the final model failed: lower the learning rate, or name another arm (--final)")
    return metrics


def _write(out: Path, metrics: MixTrainingMetrics) -> None:
    write_json(out / "metrics.json", metrics)
    with rendering(out):
        QUESTION.write(out, {"": metrics})


def _record_without_runs(
    experiment: str,
    study: Study,
    settings: Mapping[Arm, ArmSettings],
    shared_stages: Mapping[str, Product],
    made_by: MadeBy,
) -> MixTrainingMetrics:
    domain, options = study.domain, study.options
    return MixTrainingMetrics(
        experiment=experiment,
        complete=False,
        seeds=(),
        config=numbers_of(to_builtins(options)),
        identity=identity(experiment, study),
        domain=domain.name,
        dataset=typed(dict(domain.dataset), Dataset, "the data"),
        model=typed(dict(domain.model), Model, "the model"),
        fractions=options.shares,
        examples=tuple(len(study.rows(fraction, 0)) for fraction in options.shares),
        joint=options.joint,
        times_cheaper=options.times_cheaper,
        arms={arm: settings_of(settings[arm], arm) for arm in study.arms},
        start=domain.start.taken if domain.start else None,
        runs=(),
        tuning=None,
        price_per_hour=options.price_per_hour,
        ssl_examples=tuple(study.num_pool(share, 0) or 0 for share in options.shares) if study.has_pool else None,
        **shared_results(shared_stages.__getitem__, options.shares),
        **run_fields(options, {}, made_by, domain.data_sets),
    )


def _shared_stages(
    study: Study, settings: Mapping[Arm, ArmSettings], stages: Stages, shared: dict[str, Any]
) -> dict[str, Product]:
    """What steps cost, and the references at each fraction, by the stages' names."""

    def references(fraction: float) -> Product:
        return stages.run(
            f"references-{fraction:g}",
            shared | {"fraction": fraction},
            lambda _: dict(study.domain.references(study.subset(fraction, 0), study.domain.test)),
        )

    masks = {arm: [settings[arm].ssl_mask, settings[arm].joint_mask] for arm in ("ssl_then_sl", "mixtraining")}
    inputs = shared | {"masks": masks, "fraction": min(study.options.shares)}
    inputs |= {"ssl_examples": study.num_pool(min(study.options.shares), 0)} if study.has_pool else {}
    costs = stages.run("costs", inputs, functools.partial(step_costs, study, settings))
    return {"costs": costs} | {f"references-{fraction:g}": references(fraction) for fraction in study.options.shares}


def _run(
    study: Study, trial: Trial, stages: Stages, shared: dict[str, Any], out: Path, reconstruct: Reconstruct | None
) -> Run:
    """One run, found again if it is there; writes its pictures to `out`, and its parameters if it failed."""
    show = None
    cell = trial.arm, trial.budget, trial.fraction, trial.seed
    if reconstruct and cell == ("mixtraining", "schedule", max(study.options.shares), 0):
        show = functools.partial(reconstruct, mask_ratio=trial.settings.ssl_mask)
    product = stages.run(
        trial.name,
        shared | trial.inputs | {"judged_on": "test", "shown": show is not None},
        lambda stage: run_trial(
            study,
            trial,
            study.domain.test,
            stage,
            evaluations=study.options.checkpoints,
            show=show,
            compress=study.options.compress,
        ),
        cost=study.cost(trial),
    )
    if pictures := arrays(product, "pictures"):
        write_npz(out / PICTURES, pictures)
    if failure := product["failure"]:
        path = out / FAILED / f"{trial.name}.npz"
        path.parent.mkdir(exist_ok=True)
        write_npz(path, arrays(product, "params"))
        print(
            f"{trial.name}: not finite in the phase {failure['phase']!r} at step {failure['step']}; the parameters from"
            f" before it are in {path}",
            file=sys.stderr,
        )
    return run_of(product, *cell, trial.settings.learning_rate)
