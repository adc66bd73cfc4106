"""MixTraining with one thing changed at a time: which joint step, alpha, mix ratio, mask and restarts are best?

Judged on the validation part, paired by seed. Every variant starts from the options' own settings; `ssl_then_sl` is
there too, with restarts and without.
"""

import dataclasses
import functools
from collections.abc import Collection, Mapping
from typing import Any, Literal, NamedTuple, get_args

from experiments.harness.devices import batch_mesh
from experiments.harness.progress import RunProgress
from experiments.harness.provenance import provenance
from experiments.harness.result_files import rendering, write_json
from experiments.harness.run_folder import run_folder
from experiments.harness.run_record import run_fields
from experiments.mixtraining.config import Arm, ArmSettings, MixTrainingOptions
from experiments.mixtraining.domain import Domain
from experiments.mixtraining.plan import Study
from experiments.mixtraining.results import Dataset, identity, settings_of
from experiments.mixtraining.trial import run_trial
from experiments.mixtraining.variants_report import (
    BASE,
    QUESTION,
    REFERENCE,
    VariantRun,
    VariantsMetrics,
    stage_name,
    variant_run,
    variants_table,
)
from experiments.reporting.json_files import typed
from mixmin_jax.training.schedule import Alpha

Change = Literal["joint", "alpha", "mix_ratio", "mask", "restarts"]
CHANGES: tuple[Change, ...] = get_args(Change)


class Variant(NamedTuple):
    """An arm with some of its options and settings changed; always run where no `change` is named."""

    change: Change | None
    arm: Arm = "mixtraining"
    options: Mapping[str, Any] = {}
    settings: Mapping[str, Any] = {}

    def study(self, study: Study) -> Study:
        return Study(study.domain, dataclasses.replace(study.options, **self.options)) if self.options else study

    def changed(self, options: MixTrainingOptions) -> ArmSettings:
        return dataclasses.replace(options.settings(self.arm), **self.settings)


CARRY_ON = {"restart_learning_rate": False, "restart_moments": False}
VARIANTS: dict[str, Variant] = {
    BASE: Variant(None),
    REFERENCE: Variant(None, "ssl_then_sl"),
    "joint: all tokens": Variant("joint", options={"joint": "all_tokens"}),
    "joint: two passes": Variant("joint", options={"joint": "two_passes"}),
    "alpha: linear 1 to 0": Variant("alpha", settings={"alpha": Alpha("linear", 1.0, 0.0)}),
    "alpha: cosine 1 to 0": Variant("alpha", settings={"alpha": Alpha("cosine", 1.0, 0.0)}),
    "alpha: constant 0.5": Variant("alpha", settings={"alpha": Alpha.constant(0.5)}),
    "alpha: constant 0.1": Variant("alpha", settings={"alpha": Alpha.constant(0.1)}),
    "mix ratio 0.25": Variant("mix_ratio", settings={"mix_ratio": 0.25}),
    "mix ratio 0.5": Variant("mix_ratio", settings={"mix_ratio": 0.5}),
    "mix ratio 0.75": Variant("mix_ratio", settings={"mix_ratio": 0.75}),
    "mix ratio 1": Variant("mix_ratio", settings={"mix_ratio": 1.0}),
    "joint mask 0.25": Variant("mask", settings={"joint_mask": 0.25}),
    "joint mask 0.5": Variant("mask", settings={"joint_mask": 0.5}),
    "joint mask 0.75": Variant("mask", settings={"joint_mask": 0.75}),
    "moments carry on": Variant("restarts", options={"restart_moments": False}),
    "learning rate carries on": Variant("restarts", options={"restart_learning_rate": False}),
    "both carry on": Variant("restarts", options=CARRY_ON),
    "ssl_then_sl, moments carry on": Variant("restarts", "ssl_then_sl", options={"restart_moments": False}),
    "ssl_then_sl, learning rate carries on": Variant(
        "restarts", "ssl_then_sl", options={"restart_learning_rate": False}
    ),
    "ssl_then_sl, both carry on": Variant("restarts", "ssl_then_sl", options=CARRY_ON),
}


def run_variants(
    experiment: str, domain: Domain, options: MixTrainingOptions, changes: Collection[Change] = CHANGES
) -> VariantsMetrics | None:
    """Train every variant of these changes that differs from the others; write variants.json and variants.md.

    At the first fraction; the base and `ssl_then_sl` are always among them.
    """
    study = Study(domain, options)
    batch_mesh(options)  # refuses what is not there
    variants = distinct(options, changes)
    studies = {name: variant.study(study) for name, variant in variants.items()}
    trials = {
        (name, seed): studies[name].trial(variant.arm, variant.changed(options), options.shares[0], seed)
        for name, variant in variants.items()
        for seed in range(options.seeds)
    }
    total = sum(studies[name].cost(trial) for (name, _), trial in trials.items())
    print(f"{experiment}: {len(variants)} variants, {options.seeds} seeds; {total:.3g} FLOPs of training", flush=True)
    for notice in study.notices:
        print(notice, flush=True)
    if options.dry_run:
        return None
    shared = identity(experiment, study)
    made_by = provenance("mixmin_jax", "jax", "jaxlib", "flax", "optax", "numpy", "scikit-learn", "pillow")
    done: dict[str, list[VariantRun]] = {name: [] for name in variants}
    with run_folder(options, shared, (QUESTION.result_file, "variants.md")) as folder:
        stages = folder.stages(RunProgress(total), made_by)
        for seed in range(options.seeds):
            for name, its in studies.items():
                trial = trials[name, seed]
                product = stages.run(
                    stage_name(name, seed),
                    shared | trial.inputs | {"options": dict(variants[name].options)},
                    functools.partial(run_trial, its, trial, domain.validation),
                    cost=its.cost(trial),
                )
                done[name].append(variant_run(product))
            record = VariantsMetrics(
                experiment=experiment,
                complete=seed == options.seeds - 1,
                seeds=tuple(range(seed + 1)),
                config=shared["options"],
                identity=shared,
                dataset=typed(dict(domain.dataset), Dataset, "the data"),
                fraction=options.shares[0],
                examples=len(study.rows(options.shares[0], 0)),
                base=settings_of(options.settings(BASE), BASE),
                variants={name: tuple(runs) for name, runs in done.items()},
                **run_fields(options, stages.records, made_by, domain.data_sets),
            ).derived()
            write_json(folder.place / QUESTION.result_file, record)
            with rendering(folder.place):
                QUESTION.write(folder.place, {"": record})
    print(f"\n{options.out / 'variants.md'}\n{variants_table(record)}")
    return record


def distinct(options: MixTrainingOptions, changes: Collection[Change] = CHANGES) -> dict[str, Variant]:
    """The variants of these changes, without those that are the base under another name."""
    found: dict[str, Variant] = {}
    seen: set[Any] = set()
    for name, variant in VARIANTS.items():
        if variant.change is not None and variant.change not in changes:
            continue
        changed = dataclasses.replace(options, **variant.options)
        carries_on = changed.restart_learning_rate, changed.restart_moments
        what = variant.arm, variant.changed(options), changed.joint, carries_on
        if what not in seen:
            seen.add(what)
            found[name] = variant
    return found
