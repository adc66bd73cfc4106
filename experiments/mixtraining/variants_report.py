"""variants.json of MixTraining with one thing changed at a time, and the table of it."""

import dataclasses
from pathlib import Path
from typing import Any, Final, Self

from experiments.harness.question import Question, Results
from experiments.harness.result_files import write_text
from experiments.harness.stages import Product, read_stage
from experiments.mixtraining.results import Dataset, Failure, Settings
from experiments.reporting import markdown as md
from experiments.reporting.render import report
from experiments.reporting.schema import Comparison, RunRecord, paired, visible_sizes
from mixmin_jax.stats.comparison import Summary, summary

BASE: Final = "mixtraining"
REFERENCE: Final = "ssl_then_sl"


@dataclasses.dataclass(frozen=True)
class VariantRun:
    """One training, judged on the validation part; the last good parameters if it failed."""

    accuracy: float
    flops: float
    failure: Failure | None
    epochs: dict[str, float]  # by phase


@dataclasses.dataclass(frozen=True, kw_only=True)
class VariantsMetrics(RunRecord):
    """All numbers of a run; `accuracies` and `comparisons` (with BASE and REFERENCE) follow from the trainings."""

    dataset: Dataset
    fraction: float
    examples: int
    base: Settings
    variants: dict[str, tuple[VariantRun, ...]]  # by seed
    accuracies: dict[str, Summary] = dataclasses.field(default_factory=dict)
    comparisons: dict[str, dict[str, Comparison]] = dataclasses.field(default_factory=dict)

    def derived(self) -> Self:
        reached = {name: summary([run.accuracy for run in runs]) for name, runs in self.variants.items()}
        comparisons = {
            name: {
                other: Comparison.of(
                    paired(ours, reached[other]), "higher", matters=self.matters, decides=len(self.seeds) > 1
                )
                for other in (BASE, REFERENCE)
                if other != name
            }
            for name, ours in reached.items()
        }
        return dataclasses.replace(self, accuracies=reached, comparisons=comparisons)


def variants_table(metrics: VariantsMetrics) -> str:
    """A row per variant: validation accuracy, the differences to the base and to `ssl_then_sl`, and its cost.

    Cost is the FLOPs relative to those of `ssl_then_sl`, whose accuracy is to be reached for less.
    """
    digits = md.decimals(visible_sizes(found for pair in metrics.comparisons.values() for found in pair.values()))
    context: dict[str, Any] = {"base": BASE, "reference": REFERENCE, "digits": digits}
    return report("mixtraining_variants", "", {}, metrics=metrics, **context).markdown.strip()


def stage_name(variant: str, seed: int) -> str:
    return f"{variant.replace(' ', '-').replace(',', '').replace(':', '')}-seed{seed}"


def variant_run(product: Product) -> VariantRun:
    """What a stage says of one training."""
    failure = Failure(**product["failure"]) if product["failure"] else None
    return VariantRun(product["accuracy"], product["flops"], failure, product["epochs"])


def from_stages(metrics: VariantsMetrics, stages: Path) -> VariantsMetrics | None:
    """The record with what its stages say in their place; None where one is missing."""
    try:
        found = {
            name: tuple(variant_run(read_stage(stages / f"{stage_name(name, seed)}.npz")[0]) for seed in metrics.seeds)
            for name in metrics.variants
        }
    except FileNotFoundError:
        return None
    return dataclasses.replace(metrics, variants=found)


def problems(metrics: VariantsMetrics, folder: Path) -> list[str]:
    """Variants that lack a seed; nothing in the folder matters."""
    del folder
    expected = len(metrics.seeds)
    return [
        f"{name} has {len(runs)} of {expected} seeds"
        for name, runs in metrics.variants.items()
        if len(runs) != expected
    ]


def _write(folder: Path, results: Results) -> None:
    write_text(folder / "variants.md", variants_table(results[""]) + "\n")


QUESTION = Question(
    "image_mixtraining_variants",
    VariantsMetrics,
    _write,
    result_file="variants.json",
    from_stages=from_stages,
    problems=problems,
)
