"""Find how to mix the data of other assays for a target assay, train on that mixture, and show if it was worth it.

    python -m experiments.molecule_mixture                          demonstration on structures that RDKit ships
    python -m experiments.molecule_mixture --assays FILE.csv.gz [--target ASSAY ...] --out DIR

MixMin (Thudi et al., arXiv:2502.10510): one proxy per assay, the likelihood of the target's labels under each, a
convex problem over those, then one training on the mixture found.  Proxies are cross-fitted: no label is judged by a
model that saw its molecule.
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
from experiments.harness.stages import Stages
from experiments.molecule_mixture.config import MoleculeMixture
from experiments.molecule_mixture.data import read_molecules
from experiments.molecule_mixture.plan import Plan, Target, describe_plan, identity, make_plan
from experiments.molecule_mixture.report import conclusion
from experiments.molecule_mixture.report_files import write_report, write_summary
from experiments.molecule_mixture.results import build_metrics
from experiments.molecule_mixture.stages import SeedResult, fingerprint_stage, run_seed
from experiments.reporting import markdown as md

DISTRIBUTIONS = (
    "mixmin_jax",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "numpy",
    "scipy",
    "scikit-learn",
    "rdkit",
    "xgboost-cpu",
    "matplotlib",
)
RESULTS = (  # patterns of the files that a run writes
    *(f"*/{name}" for name in ("metrics.json", "weights.json", "report.md", "*.png")),
    *("summary.md", "gains.md", "gains.png", "growth.png"),
)


def main(config: MoleculeMixture) -> None:
    see_devices(config)
    with together():
        plan = make_plan(read_molecules(config))
    print(describe_plan(plan), flush=True)
    if config.dry_run:
        return
    with run_folder(config, identity(plan), RESULTS) as folder:
        runs = run_plan(plan, folder)
    for target, metrics in zip(plan.targets, runs, strict=True):
        print(f"\n{target.name}: {config.out / target.file_name / 'report.md'}\n{conclusion(metrics)}")
        print(md.weights("mixmin", metrics["arms"]["mixmin"]["weights"]))
    print(f"\nAll targets: {config.out / 'summary.md'}")


def run_plan(plan: Plan, folder: RunFolder) -> list[dict[str, Any]]:
    """Run every stage; what a finished seed shows is written before the next begins."""
    made_by = provenance(*DISTRIBUTIONS)
    stages = folder.stages(RunProgress(plan.cost_in_all), made_by)
    features_NxD = fingerprint_stage(plan, stages)
    done: dict[str, list[SeedResult]] = {target.name: [] for target in plan.targets}
    runs: list[dict[str, Any]] = []
    for seed in range(plan.config.seeds):
        for name, result in run_seed(plan, seed, stages, features_NxD).items():
            done[name].append(result)
        runs = [write_target(plan, target, done[target.name], stages, made_by) for target in plan.targets]
        write_summary(plan.config.out, runs)
    return runs


def write_target(
    plan: Plan, target: Target, results: Sequence[SeedResult], stages: Stages, made_by: dict[str, Any]
) -> dict[str, Any]:
    """Write one target's folder from the seeds that are done, and return its metrics."""
    folder = plan.config.out / target.file_name
    folder.mkdir(parents=True, exist_ok=True)
    metrics = build_metrics(plan, target, results, stages, made_by)
    write_json(folder / "metrics.json", metrics)
    write_json(folder / "weights.json", {arm: result["weights"] for arm, result in metrics["arms"].items()})
    write_report(folder, metrics)
    return metrics


if __name__ == "__main__":
    run(MoleculeMixture, main)
