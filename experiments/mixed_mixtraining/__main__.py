"""Both papers in one run: MixMin picks the text of self-supervision, MixTraining trains on it and on few labels.

    python -m experiments.mixed_mixtraining                demonstration on text that Python carries (minutes)
    python -m experiments.mixed_mixtraining --sources DIR --task FILE FILE [...] --out DIR [--preset small]

MixMin (Thudi et al., arXiv:2502.10510): one small proxy per source, the log-likelihoods of the labeled windows under
each, certified weights. MixTraining (Li et al., arXiv:2502.19513): self-supervision on windows of the sources by these
weights, beside labeled windows of the task, in joint steps that encode both at once.

What MixMin is worth, the arms `natural`, `uniform` and `target_text` say, with other text for self-supervision; what
the joint steps are worth, `mixmin_ssl_then_sl`, which spends the same FLOPs on the same mixture by SSL steps and then
SL ones; what both are worth, `sl` and `sl_matched`, which see labels alone.
"""

from experiments.harness.command_line import run
from experiments.harness.devices import see_devices
from experiments.harness.processes import together
from experiments.harness.progress import RunProgress
from experiments.harness.provenance import provenance
from experiments.harness.result_files import rendering, write_json
from experiments.harness.run_folder import run_folder
from experiments.mixed_mixtraining.config import PRESETS, MixedMixTraining
from experiments.mixed_mixtraining.plan import describe_plan, make_plan
from experiments.mixed_mixtraining.report import QUESTION, verdict
from experiments.mixed_mixtraining.results import build_metrics
from experiments.mixed_mixtraining.stages import FAILED, overlap_stage, run_seed

DISTRIBUTIONS = ("mixmin_jax", "jax", "jaxlib", "flax", "optax", "numpy", "scipy", "scikit-learn", "matplotlib")
# patterns of the files that a run writes
RESULTS = ("metrics.json", "weights.json", "report.md", "report.html", "*.png", f"{FAILED}/*.npz")


def main(config: MixedMixTraining) -> None:
    see_devices(config)
    with together():
        plan = make_plan(config)
    print(describe_plan(plan), flush=True)
    if config.dry_run:
        return
    with run_folder(config, plan.identity, RESULTS) as folder:
        made_by = provenance(*DISTRIBUTIONS)
        stages = folder.stages(RunProgress(plan.flops_in_all), made_by)
        products = {"overlap": overlap_stage(plan, stages)}
        for seed in range(config.seeds):
            products |= run_seed(plan, seed, stages, folder.place)
            metrics = build_metrics(plan, range(seed + 1), products, stages, made_by)
            write_json(folder.place / "metrics.json", metrics)
            for name, content in QUESTION.files(metrics).items():
                write_json(folder.place / name, content)
            with rendering(folder.place):
                QUESTION.write(folder.place, {"": metrics})
    print(f"\n{config.out / 'report.md'}\n{verdict(metrics)}")


if __name__ == "__main__":
    run(MixedMixTraining, main, PRESETS)
