"""Find the weights of text sources for a target, train on them, and show whether that was worth it.

    python -m experiments.text_mixture                      demonstration on text that Python carries (under 4 minutes)
    python -m experiments.text_mixture --sources DIR --target FILE [FILE ...] --out DIR --arms none     only the weights
    python -m experiments.text_mixture --sources DIR --target FILE [FILE ...] --out DIR [--preset small] [--seeds 3]
    python -m experiments.text_mixture ... --out DIR --extend              with another source or target, a week later

MixMin (Thudi et al., arXiv:2502.10510): one cheap proxy model per source, the target's log-likelihoods under each, a
convex problem over those, then one training run on the mixture found.
"""

from collections.abc import Sequence

from experiments.harness.command_line import run
from experiments.harness.devices import see_devices
from experiments.harness.processes import together
from experiments.harness.progress import RunProgress
from experiments.harness.provenance import provenance
from experiments.harness.result_files import rendering, write_json
from experiments.harness.run_folder import RunFolder, run_folder
from experiments.harness.shared_reading import share_reading
from experiments.reporting import markdown as md
from experiments.reporting.schema import DataSet
from experiments.text_mixture.build import build_metrics, identity
from experiments.text_mixture.config import PRESETS, TextMixture
from experiments.text_mixture.costs import check_search, describe_plan, in_all
from experiments.text_mixture.data import data_sets, read_text, split_target, take_care
from experiments.text_mixture.extension import (
    EXTENDS,
    Before,
    describe_change,
    extension_record,
    planned_change,
    read_before,
)
from experiments.text_mixture.overlap import overlap_stage
from experiments.text_mixture.plan import Plan, make_plan
from experiments.text_mixture.report import QUESTION, verdict
from experiments.text_mixture.results import TextMetrics
from experiments.text_mixture.stages import SeedResult, run_seed

DISTRIBUTIONS = (
    *("mixmin_jax", "jax", "jaxlib", "flax", "optax", "grain", "numpy", "scipy", "scikit-learn", "matplotlib"),
)
RESULTS = (  # patterns of the files that a run writes
    *(f"*/{name}" for name in ("metrics.json", "weights.json", "overlap.json", "report.md", "report.html", "*.png")),
    *("summary.md", "summary.png", "index.html"),
)


def main(config: TextMixture) -> None:
    see_devices(config)
    share_reading(config.sources, config.target, config.field, config.limits, config.sources_info)
    with together():
        sources, targets = read_text(config.sources, config.target, config.field, config.limits, config.sources_info)
        records = data_sets(sources, targets, None if config.demonstration else config.field)  # of all that was read
        sources, care = take_care(sources, targets, config.sources, config.sources_info, config.drop_duplicates)
        splits = tuple(
            split_target(target, config.fit_fraction, config.split_seed, config.fit_bytes, config.test_bytes)
            for target in targets
        )
        plan = make_plan(config, sources, splits, care)
        check_search(plan)
        change = planned_change(plan) if config.extend else None
    print(describe_plan(plan), flush=True)
    if change is not None:
        print(describe_change(plan, change), flush=True)
    if config.dry_run:
        return
    with run_folder(config, identity(plan), RESULTS, extends=EXTENDS, extend=config.extend) as folder:
        runs = run_plan(plan, folder, records, read_before(plan))
    for name, metrics in runs.items():
        print(f"\n{name}: {config.out / name / 'report.md'}\n{verdict(metrics)}\n")
        print(md.weights(metrics.recommended.arm, metrics.recommended.weights))


def run_plan(
    plan: Plan, folder: RunFolder, data_sets: Sequence[DataSet], before: Before | None = None
) -> dict[str, TextMetrics]:
    """Run every stage, with the records of the data; what a finished seed shows is written before the next begins.

    `before`: the results that this run extends.
    """
    made_by = provenance(*DISTRIBUTIONS)
    stages = folder.stages(RunProgress(in_all(plan)), made_by)
    overlaps = {target.name: overlap_stage(plan, target, stages) for target in plan.targets}
    done: dict[str, list[SeedResult]] = {target.name: [] for target in plan.targets}
    runs: dict[str, TextMetrics] = {}
    for seed in range(plan.config.seeds):
        for name, result in run_seed(plan, seed, stages, before.weights(plan) if before else None).items():
            done[name].append(result)
        for target in plan.targets:
            overlap, place = overlaps[target.name], folder.place / target.name
            found = done[target.name]
            extension = extension_record(plan, target, found[0], before) if before else None
            metrics = build_metrics(plan, target, found, overlap, stages, made_by, data_sets, extension)
            runs[target.name] = metrics
            place.mkdir(parents=True, exist_ok=True)
            for name, content in {"metrics.json": metrics, "overlap.json": overlap, **QUESTION.files(metrics)}.items():
                write_json(place / name, content)
        with rendering(folder.place):
            QUESTION.write(folder.place, runs)
    return runs


if __name__ == "__main__":
    run(TextMixture, main, PRESETS)
