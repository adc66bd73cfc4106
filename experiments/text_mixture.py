"""Find the weights of text sources for a target, train on them, and show whether that was worth it.

    python -m experiments.text_mixture                      demonstration on text that Python carries (under 5 minutes)
    python -m experiments.text_mixture --sources DIR --target FILE [FILE ...] --out DIR [--preset small] [--seeds 3]

MixMin (Thudi et al., arXiv:2502.10510): one small proxy model per source, the target's log-likelihoods under each, a
convex problem over those, then one training run on the mixture found.
"""

import contextlib
import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experiments.command_line import run
from experiments.progress import RunProgress
from experiments.provenance import command, cpu_cores
from experiments.result_files import claim_run, write_bytes, write_status, write_text
from experiments.stages import Stages
from experiments.text_mixture_config import PRESETS, TextMixture
from experiments.text_mixture_data import read_text, split_target
from experiments.text_mixture_plan import Plan, describe_plan, make_plan
from experiments.text_mixture_results import build_metrics, write_target
from experiments.text_mixture_stages import overlap_stage, run_seed
from experiments.text_mixture_summary import summary_figure, summary_table
from mixmin_jax.figures import figure_png
from mixmin_jax.report import conclusion
from mixmin_jax.training.mesh import split_cpu


def main(config: TextMixture) -> None:
    if config.mesh_source or config.mesh_data > 1:
        split_cpu((config.mesh_source or 1) * config.mesh_data)
    else:
        split_cpu(min(cpu_cores(), 8))
    sources, targets = read_text(config.sources, config.target)
    splits = tuple(
        split_target(target, config.fit_fraction, config.split_seed, config.fit_bytes, config.test_bytes)
        for target in targets
    )
    plan = make_plan(config, sources, splits)
    print(describe_plan(plan), flush=True)
    if config.dry_run:
        return
    claim_run(config.out, run_record(plan), config.overwrite)
    with incomplete_until_done(config.out):
        run_plan(plan)


def run_record(plan: Plan) -> dict[str, Any]:
    """The configuration as JSON, without what does not change the results, and the data's hashes."""
    record = json.loads(json.dumps(dataclasses.asdict(plan.config), default=str))
    for name in ("out", "dry_run", "overwrite", "sources", "target"):
        del record[name]
    targets = {target.name: target.corpus.fingerprint for target in plan.targets}
    return record | {"data": plan.inputs["sources"], "targets": targets}


def run_plan(plan: Plan) -> None:
    out, stages, progress = plan.config.out, Stages(plan.config.out / "stages"), RunProgress(plan.flops_in_all)
    overlaps = {target.name: overlap_stage(plan, target, stages, progress) for target in plan.targets}
    by_seed = [run_seed(plan, seed, stages, progress) for seed in range(plan.config.seeds)]
    runs = []
    for target in plan.targets:
        results = [result[target.name] for result in by_seed]
        seconds = stages.seconds_by_kind(without=[other.name for other in plan.targets if other is not target])
        metrics = build_metrics(plan, target, results, overlaps[target.name], run_record(plan), seconds)
        write_target(out / target.name, metrics)
        runs.append(metrics)
        print(f"\n{target.name}: {out / target.name / 'report.md'}\n{conclusion(metrics)}", flush=True)
    write_text(out / "summary.md", summary_table(runs) + "\n")
    write_bytes(out / "summary.png", figure_png(summary_figure(runs)))


@contextlib.contextmanager
def incomplete_until_done(out: Path) -> Iterator[None]:
    """Say in `out`/status.json, and on the way out, that a run which stopped early is incomplete and how to go on."""
    write_status(out, complete=False, how_to_go_on=command())
    try:
        yield
    except BaseException:
        print(f"incomplete: finished stages are kept in {out}; the same command goes on from there", file=sys.stderr)
        raise
    write_status(out, complete=True)


if __name__ == "__main__":
    run(TextMixture, main, PRESETS)
