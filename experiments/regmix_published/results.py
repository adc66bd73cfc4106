"""How well RegMix's regressions rank runs that they have not seen."""

import dataclasses
from typing import Any, Self

import numpy as np
from scipy.stats import spearmanr

from experiments.regmix_published.data import Runs
from experiments.reporting.schema import RunRecord
from mixmin_jax.mixture.baselines.regmix import MIN_RUNS_FOR_TREES, fit_regmix

MODELS: dict[str, dict[str, Any]] = {
    "least_squares": {"model": "linear", "ridge": 0.0},
    "ridge": {"model": "linear"},
    "boosted_trees": {"model": "boosted_trees"},
}
SUBSET_SEED = 0  # of the random subsets of the training runs
HELD_OUT = ("1m", "60m", "1B")

Correlations = dict[str, dict[str, float]]  # {size of the held-out models: {domain: Spearman}}


@dataclasses.dataclass(frozen=True, kw_only=True)
class RegmixPublished(RunRecord):
    """Rank correlations of predicted and reached loss, by regression."""

    num_sources: int
    num_runs: dict[str, int]  # "train", and by the size of the held-out models
    spearman: dict[str, Correlations]
    spearman_mean: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)  # over domains
    # on the smallest held-out models, over domains and subsets: {number of runs: {regression: mean}}
    spearman_by_num_runs: dict[str, dict[str, float | None]]

    def derived(self) -> Self:
        means = {
            model: {size: float(np.mean(list(by_domain.values()))) for size, by_domain in by_size.items()}
            for model, by_size in self.spearman.items()
        }
        return dataclasses.replace(self, spearman_mean=means)


def rank_correlations(train: Runs, tests: dict[str, Runs], model: str) -> Correlations:
    """Spearman correlation of predicted and reached loss, `{test set: {domain: rho}}`; `model` is a key of MODELS."""
    correlations: Correlations = {name: {} for name in tests}
    for d, domain in enumerate(train.domains):
        predictor = fit_regmix(train.mixtures_RxK, train.losses_RxD[:, d], **MODELS[model])
        for name, test in tests.items():
            predicted_R = predictor(test.mixtures_RxK)
            # a constant prediction ranks nothing
            varies = np.ptp(predicted_R) > 0
            correlations[name][domain] = float(spearmanr(predicted_R, test.losses_RxD[:, d])[0]) if varies else 0.0
    return correlations


def with_few_runs(train: Runs, test: Runs, sizes: tuple[int, ...], repeats: int) -> dict[str, dict[str, float | None]]:
    """Mean rank correlation over domains and random subsets of the training runs, `{size: {model: rho}}`."""
    rng = np.random.default_rng(SUBSET_SEED)

    def mean_correlation(rows: np.ndarray, model: str) -> float:
        part = dataclasses.replace(train, mixtures_RxK=train.mixtures_RxK[rows], losses_RxD=train.losses_RxD[rows])
        return float(np.mean(list(rank_correlations(part, {"test": test}, model)["test"].values())))

    table: dict[str, dict[str, float | None]] = {}
    for size in sizes:
        subsets = [rng.choice(len(train.losses_RxD), size, replace=False) for _ in range(repeats)]
        fitted = [model for model in MODELS if model != "boosted_trees" or size >= MIN_RUNS_FOR_TREES]
        means = {model: float(np.mean([mean_correlation(rows, model) for rows in subsets])) for model in fitted}
        table[str(size)] = dict.fromkeys(MODELS) | means
    return table
