"""Decide at once which text to leave out and how much of the rest to take, and show whether that was worth it.

    python -m experiments.filter_and_mix                    demonstration on text that Python carries (under 4 minutes)
    python -m experiments.filter_and_mix --sources DIR --target FILE [FILE ...] --out DIR --arms none     only weights
    python -m experiments.filter_and_mix --sources PILE.jsonl --buckets topics:24 --target FILE --out DIR
    python -m experiments.filter_and_mix --sources DIR --target FILE [FILE ...] --out DIR [--preset small] [--seeds 3]

Sources are cut into buckets by quality and topic; MixMin (Thudi et al., arXiv:2502.10510) finds the weight of each from
n-grams that are counted in it. A bucket without weight is filtered out.
"""

from pathlib import Path

import numpy as np

from experiments.filter_and_mix.config import PRESETS, FilterAndMix
from experiments.filter_and_mix.documents_file import write_buckets, write_documents
from experiments.filter_and_mix.plan import Plan, describe_plan, make_plan
from experiments.filter_and_mix.report import QUESTION, verdict
from experiments.filter_and_mix.results import FilterMetrics, build_metrics
from experiments.filter_and_mix.stages import Searched, search_stages, train_stages
from experiments.harness.command_line import run
from experiments.harness.devices import see_devices
from experiments.harness.processes import is_first, together
from experiments.harness.progress import RunProgress
from experiments.harness.provenance import provenance
from experiments.harness.result_files import rendering, write_json
from experiments.harness.run_folder import RunFolder, run_folder
from experiments.reporting import markdown as md

DISTRIBUTIONS = ("mixmin_jax", "jax", "jaxlib", "flax", "optax", "numpy", "scipy", "scikit-learn", "matplotlib")
RESULTS = (  # patterns of the files that a run writes
    *(
        f"*/{name}"
        for name in ("metrics.json", "weights.json", "documents.parquet", "report.md", "report.html", "*.png")
    ),
    *("*/buckets/*.jsonl.gz", "*/buckets/sources.toml", "summary.md", "summary.png", "index.html"),
)


def main(config: FilterAndMix) -> None:
    see_devices(config)
    with together():
        plan = make_plan(config)
    print(describe_plan(plan), flush=True)
    if config.dry_run:
        return
    with run_folder(config, plan.identity, RESULTS) as folder:
        runs = run_plan(plan, folder)
    for name, metrics in runs.items():
        print(f"\n{name}: {config.out / name / 'report.md'}\n{verdict(metrics)}\n")
        print(md.weights(metrics.recommended, metrics.arms[metrics.recommended].weights))


def run_plan(plan: Plan, folder: RunFolder) -> dict[str, FilterMetrics]:
    """Run every stage; what a finished seed shows is written before the next begins."""
    made_by = provenance(*DISTRIBUTIONS)
    stages = folder.stages(RunProgress(plan.flops_in_all), made_by)
    searched, runs = search_stages(plan, stages), dict[str, FilterMetrics]()
    scores = {found.target.name: list[np.ndarray]() for found in searched}
    for seed in range(plan.config.seeds):
        for found in searched:
            if plan.config.trained_arms:
                scores[found.target.name].append(train_stages(plan, found, seed, stages)["document_DxM"])
        for found in searched:
            metrics = build_metrics(plan, found, scores[found.target.name], stages, made_by)
            runs[found.target.name] = metrics
            if is_first():
                _write(plan, found, metrics, folder.place / metrics.target)
        with rendering(folder.place):
            QUESTION.write(folder.place, runs)
    return runs


def _write(plan: Plan, found: Searched, metrics: FilterMetrics, place: Path) -> None:
    place.mkdir(parents=True, exist_ok=True)
    for name, content in {"metrics.json": metrics, **QUESTION.files(metrics)}.items():
        write_json(place / name, content)
    write_documents(place / "documents.parquet", found, metrics, plan.texts)
    if plan.config.write_buckets:
        write_buckets(place / "buckets", found, metrics)


if __name__ == "__main__":
    run(FilterAndMix, main, PRESETS)
