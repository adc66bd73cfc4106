"""Find the weights of text sources for a target, train on them, and show whether that was worth it.

    python -m experiments.text_mixture                      demonstration on text that Python carries (under 5 minutes)
    python -m experiments.text_mixture --sources DIR --target FILE [FILE ...] --out DIR [--preset small] [--seeds 3]

MixMin (Thudi et al., arXiv:2502.10510): one small proxy model per source, the target's log-likelihoods under each, a
convex problem over those, then one training run on the mixture found.
"""

from collections.abc import Sequence
from typing import Any

from experiments.harness.command_line import run
from experiments.harness.devices import see_devices
from experiments.harness.processes import together
from experiments.harness.progress import RunProgress
from experiments.harness.provenance import provenance
from experiments.harness.result_files import write_json
from experiments.harness.run_folder import RunFolder, run_folder
from experiments.harness.stages import Product, Stages
from experiments.reporting import markdown as md
from experiments.reporting.schema import DataSet
from experiments.text_mixture.config import PRESETS, TextMixture
from experiments.text_mixture.data import Target, data_sets, read_text, split_target, take_care
from experiments.text_mixture.plan import Plan, describe_plan, make_plan
from experiments.text_mixture.report import conclusion
from experiments.text_mixture.report_files import write_report, write_summary
from experiments.text_mixture.results import build_metrics, identity
from experiments.text_mixture.stages import SOLVED_ARMS, SeedResult, overlap_stage, run_seed

DISTRIBUTIONS = (
    *("mixmin_jax", "jax", "jaxlib", "flax", "optax", "grain", "numpy", "scipy", "scikit-learn", "matplotlib"),
)
RESULTS = (  # patterns of the files that a run writes
    *(f"*/{name}" for name in ("metrics.json", "weights.json", "overlap.json", "report.md", "*.png")),
    "summary.md",
    "summary.png",
)


def main(config: TextMixture) -> None:
    see_devices(config)
    with together():
        sources, targets = read_text(config.sources, config.target, config.field)
        records = data_sets(sources, targets, None if config.demonstration else config.field)  # of all that was read
        sources, care = take_care(sources, targets, config.sources, config.sources_info, config.drop_duplicates)
        splits = tuple(
            split_target(target, config.fit_fraction, config.split_seed, config.fit_bytes, config.test_bytes)
            for target in targets
        )
        plan = make_plan(config, sources, splits, care)
    print(describe_plan(plan), flush=True)
    if config.dry_run:
        return
    with run_folder(config, identity(plan), RESULTS) as folder:
        runs = run_plan(plan, folder, records)
    for metrics in runs:
        print(f"\n{metrics['target']}: {config.out / metrics['target'] / 'report.md'}\n{conclusion(metrics)}\n")
        for arm in SOLVED_ARMS:
            print(md.weights(arm, metrics["arms"][arm]["weights"]))


def run_plan(plan: Plan, folder: RunFolder, data_sets: Sequence[DataSet]) -> list[dict[str, Any]]:
    """Run every stage; what a finished seed shows is written before the next begins, with the records of the data."""
    made_by = provenance(*DISTRIBUTIONS)
    stages = folder.stages(RunProgress(plan.flops_in_all), made_by)
    on_record = made_by | {"data_sets": data_sets}
    overlaps = {target.name: overlap_stage(plan, target, stages) for target in plan.targets}
    done: dict[str, list[SeedResult]] = {target.name: [] for target in plan.targets}
    runs: list[dict[str, Any]] = []
    for seed in range(plan.config.seeds):
        for name, result in run_seed(plan, seed, stages).items():
            done[name].append(result)
        runs = [
            write_target(plan, target, done[target.name], overlaps[target.name], stages, on_record)
            for target in plan.targets
        ]
        write_summary(plan.config.out, runs)
    return runs


def write_target(
    plan: Plan,
    target: Target,
    results: Sequence[SeedResult],
    overlap: Product,
    stages: Stages,
    made_by: dict[str, Any],
) -> dict[str, Any]:
    """Write one target's folder from the seeds that are done, and return its metrics."""
    folder = plan.config.out / target.name
    folder.mkdir(parents=True, exist_ok=True)
    metrics = build_metrics(plan, target, results, overlap, stages, made_by)
    write_json(folder / "metrics.json", metrics)
    notes = {"sources": metrics["source_notes"]} if metrics["source_notes"] else {}
    write_json(folder / "weights.json", {arm: result["weights"] for arm, result in metrics["arms"].items()} | notes)
    write_json(folder / "overlap.json", overlap)
    write_report(folder, metrics)
    return metrics


if __name__ == "__main__":
    run(TextMixture, main, PRESETS)
