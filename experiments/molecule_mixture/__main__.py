"""Find how to mix the data of other assays for a target assay, train on that mixture, and show if it was worth it.

    python -m experiments.molecule_mixture                          demonstration on structures that RDKit ships
    python -m experiments.molecule_mixture --assays FILE.csv.gz [--target ASSAY ...] --out DIR

MixMin (Thudi et al., arXiv:2502.10510): one proxy per assay, the likelihood of the target's labels under each, a
convex problem over those, then one training on the mixture found. Proxies are cross-fitted: no label is judged by a
model that saw its molecule.
"""

from experiments.harness.command_line import run
from experiments.harness.devices import see_devices
from experiments.harness.processes import together
from experiments.harness.progress import RunProgress
from experiments.harness.provenance import provenance
from experiments.harness.result_files import rendering, write_json
from experiments.harness.run_folder import RunFolder, run_folder
from experiments.molecule_mixture.config import MoleculeMixture
from experiments.molecule_mixture.data import read_molecules
from experiments.molecule_mixture.plan import Plan, describe_plan, identity, make_plan
from experiments.molecule_mixture.report import QUESTION, conclusion
from experiments.molecule_mixture.results import MoleculeMetrics, build_metrics
from experiments.molecule_mixture.stages import SeedResult, choose_learner, fingerprint_stage, run_seed
from experiments.reporting import markdown as md

DISTRIBUTIONS = (
    *("mixmin_jax", "jax", "jaxlib", "flax", "optax", "numpy", "scipy", "scikit-learn"),
    *("rdkit", "xgboost-cpu", "matplotlib"),
)
RESULTS = (  # patterns of the files that a run writes
    *(f"*/{name}" for name in ("metrics.json", "weights.json", "report.md", "report.html", "*.png")),
    *("summary.md", "gains.md", "index.html", "gains.png", "growth.png"),
)


def main(config: MoleculeMixture) -> None:
    see_devices(config)
    with together():
        plan = make_plan(read_molecules(config))
    print(describe_plan(plan), flush=True)
    if config.dry_run:
        return
    with run_folder(config, identity(plan), RESULTS) as folder:
        results = run_plan(plan, folder)
    for name, metrics in results.items():
        print(f"\n{metrics.target}: {config.out / name / 'report.md'}\n{conclusion(metrics)}")
        print(md.weights("mixmin", metrics.arms["mixmin"].weights or {}))
    print(f"\nAll targets: {config.out / 'summary.md'}")


def run_plan(plan: Plan, folder: RunFolder) -> dict[str, MoleculeMetrics]:
    """Run every stage, {folder of a target: its record}; what a finished seed shows is written before the next."""
    out, made_by = folder.place, provenance(*DISTRIBUTIONS)
    stages = folder.stages(RunProgress(plan.cost_in_all), made_by)
    features_NxD = fingerprint_stage(plan, stages)
    choice = choose_learner(plan, stages, features_NxD)
    learner = choice.best if choice else plan.config.learner
    done: dict[str, list[SeedResult]] = {target.name: [] for target in plan.targets}
    results: dict[str, MoleculeMetrics] = {}
    for seed in range(plan.config.seeds):
        for name, result in run_seed(plan, seed, stages, features_NxD, learner).items():
            done[name].append(result)
        for target in plan.targets:
            metrics, place = (
                build_metrics(plan, target, done[target.name], learner, choice, stages, made_by),
                out / target.file_name,
            )
            results[target.file_name] = metrics
            place.mkdir(parents=True, exist_ok=True)
            for file, content in {"metrics.json": metrics, **QUESTION.files(metrics)}.items():
                write_json(place / file, content)
        with rendering(out):
            QUESTION.write(out, results)
    return results


if __name__ == "__main__":
    run(MoleculeMixture, main)
