"""Which cheap predictions pick the right mixture?  Ground truth, and every way to predict it on the same footing.

    python -m benchmarks.fidelity --sources DIR --target FILE [FILE ...]     # about 100 minutes on two cores
    python -m benchmarks.fidelity                                            # the built-in sources and target alone
    python -m benchmarks.fidelity --quick                                    # two minutes
    python -m benchmarks.fidelity --report benchmarks/results/fidelity-cpu-2-cores.json

The target model is trained on random mixtures, once for all targets. Count-based and trained proxies, read in rows of
many lengths, and regressions on small runs predict its losses from the fit parts of the targets. Settings are chosen
on the targets of --tuning, by rules that the code fixes, and confirmed on the others.
"""

import dataclasses
from pathlib import Path

from benchmarks.fidelity.data import read_worlds
from benchmarks.fidelity.measure import measure
from benchmarks.fidelity.records import FidelityRecord
from benchmarks.fidelity.report import report, summary
from benchmarks.fidelity.settings import QUICK, WHOLE
from benchmarks.machine import device_slug
from benchmarks.options import PUBLISHED, TRIALS
from benchmarks.records import made_by, write_record, write_report
from experiments.harness.command_line import run
from experiments.harness.paths import Place
from experiments.harness.progress import RunProgress
from experiments.harness.provenance import cpu_cores
from experiments.harness.stages import Stages
from mixmin_jax.errors import InputError
from mixmin_jax.training.mesh import split_cpu


@dataclasses.dataclass(frozen=True)
class Config:
    """Measure how well cheap predictions of a mixture's loss rank what training reaches."""

    sources: tuple[Place, ...] = ()
    """Sources, as in `experiments.text_mixture`; the built-in ones are measured as well."""
    target: tuple[Place, ...] = ()
    """Targets, as in `experiments.text_mixture`; the built-in one is measured as well."""
    tuning: tuple[str, ...] = ("scipy_docs", "science_news")
    """Names of the targets that settings are chosen on; they are confirmed on the others."""
    quick: bool = False
    """Small models and few mixtures; writes to runs/benchmarks instead of the published results."""
    out: Path | None = None
    """Folder for the result files; benchmarks/results, with --quick runs/benchmarks."""
    work: Path = Path("runs/fidelity")
    """Folder for what is computed; the same command goes on from there."""
    report: Path | None = None
    """Measure nothing: read this result file (.json) and write its report again, beside it."""


def main(config: Config) -> None:
    """Measure, print, write."""
    if config.report:
        return write_report(config.report, FidelityRecord, report)
    split_cpu(min(cpu_cores(), 8))  # as the experiments do
    settings = QUICK if config.quick else WHOLE
    worlds = read_worlds(config.sources, config.target, settings)
    names = [target.name for target in worlds[0].targets]
    tuning = tuple(name for name in names if name in config.tuning)
    unknown = [name for name in config.tuning if name not in names]
    if not tuning or (unknown and config.tuning != Config.tuning):
        raise InputError(f"--tuning names {(unknown or ['nothing'])[0]!r}, but the targets are {', '.join(names)}")
    origin = made_by("mixmin_jax", "jax", "jaxlib", "flax", "optax", "numpy", "scipy", "scikit-learn")
    stages = Stages(config.work / ("quick" if config.quick else "whole"), RunProgress(settings.flops(worlds)), origin)
    record = measure(worlds, tuning, settings, stages, origin)
    record = dataclasses.replace(record, summary=summary(record))
    folder = config.out or (TRIALS if config.quick else PUBLISHED)
    kind = "-quick" if config.quick else "" if config.sources else "-part"
    write_record(folder / f"fidelity-{device_slug()}{kind}", record, report)


if __name__ == "__main__":
    run(Config, main)
