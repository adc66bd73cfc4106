"""The experiments whose results can be verified: which checks each has, and how its reports are written again."""

import dataclasses
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from experiments.harness.result_files import write_text
from experiments.harness.stages import Product
from experiments.mixed_mixtraining import report as mixed_mixtraining_report
from experiments.mixtraining import report_files as mixtraining_report
from experiments.mixtraining.variants import variants_table
from experiments.molecule_mixture import report_files as molecule_mixture_report
from experiments.regmix_published.__main__ import read_runs, render_report
from experiments.text_mixture import report_files as text_mixture_report
from experiments.verify import data as verify_data
from experiments.verify import files as verify_files
from experiments.verify import numbers as verify_numbers
from experiments.verify.files import Rewrite, stage_check
from experiments.verify.findings import Check, Metrics
from mixmin_jax.errors import InputError

RESULT_FILES = ("metrics.json", "variants.json")


@dataclasses.dataclass(frozen=True)
class Kind:
    """Results of one experiment."""

    checks: tuple[Check, ...]  # of every result file
    run_checks: tuple[Check, ...] = ()  # of the run's folder
    rewrite: Rewrite | None = None  # None where there is no report
    by_target: bool = False  # a folder for each target, with a result file each
    schema_versions: tuple[int, ...] = (1,)


def _rewrite_text(run: Path, out: Path, metrics: Mapping[str, Metrics]) -> None:
    for name, found in metrics.items():
        (out / name).mkdir()
        text_mixture_report.write_report(out / name, dict(found))
    text_mixture_report.write_summary(out, [dict(found) for found in metrics.values()])


def _rewrite_molecules(run: Path, out: Path, metrics: Mapping[str, Metrics]) -> None:
    for name, found in metrics.items():
        (out / name).mkdir()
        molecule_mixture_report.write_report(out / name, dict(found))
    molecule_mixture_report.write_summary(out, [dict(found) for found in metrics.values()])


def _rewrite_mixtraining(run: Path, out: Path, metrics: Mapping[str, Metrics]) -> None:
    if (pictures := run / mixtraining_report.PICTURES).exists():
        shutil.copy(pictures, out)
    mixtraining_report.write_report(out, *metrics.values())


def _rewrite_mixed(run: Path, out: Path, metrics: Mapping[str, Metrics]) -> None:
    mixed_mixtraining_report.write_report(out, *metrics.values())


def _rewrite_variants(run: Path, out: Path, metrics: Mapping[str, Metrics]) -> None:
    (found,) = metrics.values()
    write_text(out / "variants.md", variants_table(found) + "\n")


def _rewrite_regmix(run: Path, out: Path, metrics: Mapping[str, Metrics]) -> None:
    (found,) = metrics.values()
    num_sources = found.get("num_sources")
    if num_sources is None:  # an earlier version left it in the data
        folder = Path(found["config"]["data"])
        try:
            num_sources = len(read_runs(folder / "train_mixture_1m.csv", folder / "train_pile_loss_1m.csv").sources)
        except InputError as error:
            raise InputError(f"the number of sources is in the data alone: {error}") from error
    write_text(out / "report.md", render_report(found, num_sources))


def _text_stages(metrics: Metrics) -> dict[str, Callable[[Product], Any]]:
    return {
        f"weights-{metrics['target']}-seed{seed}": lambda product, number=number: (  # type: ignore[misc]
            {arm: list(metrics["arms"][arm]["weights_per_seed"][number].values()) for arm in product["weights"]},
            product["weights"],
        )
        for number, seed in enumerate(metrics["seeds"])
    }


def _mixed_stages(metrics: Metrics) -> dict[str, Callable[[Product], Any]]:
    return {
        f"weights-seed{seed}": lambda product, number=number: (  # type: ignore[misc]
            list(metrics["arms"]["mixmin"]["weights_per_seed"][number].values()),
            product["weights"],
        )
        for number, seed in enumerate(metrics["seeds"])
    }


def _mixtraining_stages(metrics: Metrics) -> dict[str, Callable[[Product], Any]]:
    keys = ("accuracy", "test_loss", "flops", "steps", "failure")
    return {
        f"{run['arm']}-{run['budget']}-{run['fraction']:g}-seed{run['seed']}": lambda product, run=run: (  # type: ignore[misc]
            {key: run[key] for key in keys},
            {key: product[key] for key in keys},
        )
        for run in metrics["runs"]
    }


_COMMON = (verify_files.provenance_there,)
_FOLDER = (verify_files.status,)
_MIXTRAINING = Kind(
    checks=(
        *_COMMON,
        verify_files.config,
        verify_numbers.seeds,
        verify_numbers.mixtraining_runs,
        verify_files.stages,
        stage_check("the runs are those of their stages", _mixtraining_stages),
    ),
    run_checks=_FOLDER,
    rewrite=_rewrite_mixtraining,
)
_VARIANTS = Kind(
    checks=(*_COMMON, verify_files.config, verify_numbers.seeds, verify_numbers.variant_runs, verify_files.stages),
    run_checks=_FOLDER,
    rewrite=_rewrite_variants,
)
KINDS: Mapping[str, Kind] = {
    "text_mixture": Kind(
        checks=(
            *_COMMON,
            verify_files.config,
            verify_numbers.seeds,
            verify_numbers.summaries,
            verify_numbers.weights,
            verify_files.weights_file,
            verify_numbers.certificates,
            verify_numbers.text_comparisons,
            verify_numbers.fidelity,
            verify_files.overlap_file,
            verify_files.stages,
            stage_check("the weights are those of their stages", _text_stages),
        ),
        run_checks=_FOLDER,
        rewrite=_rewrite_text,
        by_target=True,
    ),
    "molecule_mixture": Kind(
        checks=(
            *_COMMON,
            verify_files.config,
            verify_numbers.seeds,
            verify_numbers.summaries,
            verify_numbers.weights,
            verify_files.weights_file,
            verify_numbers.certificates,
            verify_numbers.molecule_comparisons,
            verify_numbers.fidelity,
            verify_files.stages,
        ),
        run_checks=_FOLDER,
        rewrite=_rewrite_molecules,
        by_target=True,
    ),
    "mixed_mixtraining": Kind(
        checks=(
            *_COMMON,
            verify_files.config,
            verify_numbers.seeds,
            verify_numbers.summaries,
            verify_numbers.weights,
            verify_files.weights_file,
            verify_numbers.certificates,
            verify_numbers.mixed_comparisons,
            verify_files.stages,
            stage_check("the weights are those of their stages", _mixed_stages),
        ),
        run_checks=_FOLDER,
        rewrite=_rewrite_mixed,
    ),
    "image_mixtraining": _MIXTRAINING,
    "text_mixtraining": _MIXTRAINING,
    "image_mixtraining_variants": _VARIANTS,
    "weights_from_file": Kind(
        checks=(
            *_COMMON,
            verify_numbers.weights,
            verify_files.weights_file,
            verify_numbers.certificates,
            verify_numbers.file_losses,
            verify_data.losses_on_file,
        )
    ),
    "regmix_published": Kind(checks=(*_COMMON, verify_numbers.regmix_means), rewrite=_rewrite_regmix),
}
