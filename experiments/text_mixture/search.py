"""From log-likelihoods of a target's fit part to the weights of each arm; nothing is trained here.

Axes: N bytes, K sources, D documents, R random mixtures.
"""

import dataclasses
import math
from typing import Any

import jax
import numpy as np
import scipy.stats

from experiments.harness.certified_weights import certified_weights
from experiments.harness.devices import own_rows, solver_mesh
from experiments.text_mixture.plan import Plan
from mixmin_jax.mixture.baselines.olmix import fit_log_linear, propose_near
from mixmin_jax.mixture.baselines.random_search import best_random_mixture, candidate_mixtures
from mixmin_jax.mixture.baselines.regmix import fit_regmix, fit_ridge, propose
from mixmin_jax.mixture.inference.bootstrap import Bootstrap, Comparison, bootstrap
from mixmin_jax.mixture.objective import CrossEntropy, cross_entropy
from mixmin_jax.mixture.rows import Rows, mixture_losses, row_length, rows

AUTO_ROWS = {"ngram": "16", "transformer": "token"}  # for --rows auto; that of n-grams by benchmarks.fidelity
# Reached over predicted gain over natural weights by proxies, rows and order: quantiles over the tuning mixtures of
# benchmarks/results/fidelity-cpu-2-cores.json
CALIBRATION = {("ngram", "16", 3): (1.80, 2.35, 7.83)}
CALIBRATION_LEVEL = 0.8
LEAST_GAIN = 0.005  # bits per byte; there, smaller predicted gains were left out
RESAMPLES = 200  # of the bootstrap: intervals of the weights, and whether another rung would change their worth
LEVEL = 0.95
MDE_CANDIDATES, MDE_TOP = 2000, 128  # mixtures whose loss under the proxies is computed, and those that are averaged
BITS = 1 / math.log(2)
CERTIFICATE = ("loss", "gap", "tolerance", "iterations", "converged", "method", "gap_history")


@dataclasses.dataclass(frozen=True, eq=False)
class Scores:
    """Log-likelihoods of the bytes of some documents under one proxy per source, in nats."""

    token_NxK: np.ndarray
    bytes_D: np.ndarray
    left_out: tuple[int, ...] = ()  # sources without weight: their proxies collapsed

    def rows(self, length: str) -> Rows:
        return rows(self.token_NxK, self.bytes_D, row_length(length))

    def losses(self, weights_MxK: np.ndarray, length: str) -> np.ndarray:
        """Of mixtures of the proxies, in bits per byte."""
        return mixture_losses(self.rows(length), weights_MxK) * BITS

    def split(self, num_first: int) -> tuple["Scores", "Scores"]:
        """Those of the first documents, and of the others."""
        end = int(self.bytes_D[:num_first].sum())
        return (
            Scores(self.token_NxK[:end], self.bytes_D[:num_first], self.left_out),
            Scores(self.token_NxK[end:], self.bytes_D[num_first:], self.left_out),
        )


def chosen_rows(plan: Plan, kind: str) -> str:
    """What a row is for `mixmin`, with proxies of this kind."""
    return AUTO_ROWS[kind] if plan.config.rows == "auto" else plan.config.rows


def objective_of(plan: Plan, scores: Scores, length: str) -> CrossEntropy:
    """The loss of the mixture, in nats per byte; of several processes each has its part of the rows."""
    logp_RxK = scores.rows(length).logp_RxK
    mine_RxK = logp_RxK[own_rows(solver_mesh(plan.config), len(logp_RxK))]
    return cross_entropy(mine_RxK, example_weights=np.full(len(mine_RxK), 1 / scores.bytes_D.sum()), sources=plan.names)


def caps_of(plan: Plan, *scores: Scores) -> np.ndarray | None:
    """The plan's caps, and 0 for what one of the scores leaves out; None without either."""
    out = [k for one in scores for k in one.left_out]
    if not out:
        return plan.upper_bounds_K
    caps_K = np.ones(len(plan.names)) if plan.upper_bounds_K is None else plan.upper_bounds_K.copy()
    caps_K[out] = 0
    return caps_K


def solved(plan: Plan, objective: Any, *scores: Scores) -> tuple[dict[str, Any], Any]:
    """The weights that minimize a loss of scores, in nats per byte, with their certificate, and the solution."""
    caps_K = caps_of(plan, *scores)
    return certified_weights(objective, method=plan.config.method, upper_bounds=caps_K, mesh=solver_mesh(plan.config))


def rung_result(plan: Plan, scores: Scores, kind: str, earlier_K: np.ndarray | None) -> dict[str, Any]:
    """Weights from one rung: the certificate's record with rows, intervals, the predicted gain, and what changed.

    `excess` is the loss of the weights of the rung below less that of the weights found here, in bits per byte, on
    documents that were left out of a resample (`bootstrap`). They changed if that is more than `noise`, Student's
    quantile at LEVEL times its standard error over documents.
    """
    length = chosen_rows(plan, kind)
    record, solution = solved(plan, objective_of(plan, scores, length), scores)
    found = scores.rows(length)
    natural_K = plan.rule_K("natural")
    resampled, comparison = _resampled(plan, scores, found, natural_K if earlier_K is None else earlier_K)
    ours, natural = mixture_losses(found, np.stack([solution.weights, natural_K])) * BITS
    noise = comparison.standard_error * scipy.stats.t.ppf(LEVEL, resampled.num_clusters - 1)
    return record | {
        "rows": length,
        "lower": resampled.lower.tolist(),
        "upper": resampled.upper.tolist(),
        "unconverged": int((~resampled.converged).sum()),
        "predicted_gain": float(natural - ours),
        "excess": None if earlier_K is None else float(comparison.gain * BITS),
        "noise": None if earlier_K is None else float(noise * BITS),
        "changed": earlier_K is None or bool(comparison.gain > noise),
    }


def gain_over(plan: Plan, scores: Scores, length: str, before_K: np.ndarray) -> dict[str, Any]:
    """The gain of the weights found over earlier ones on documents left out, in bits per byte, and if it is noise."""
    _, comparison = _resampled(plan, scores, scores.rows(length), before_K)
    return {
        "gain": comparison.gain * BITS,
        "standard_error": comparison.standard_error * BITS,
        "distinguishable": comparison.distinguishable,
    }


def _resampled(plan: Plan, scores: Scores, found: Rows, reference_K: np.ndarray) -> tuple[Bootstrap, Comparison]:
    weights_R = np.full(len(found.logp_RxK), 1 / scores.bytes_D.sum())
    resampled = bootstrap(
        cross_entropy(found.logp_RxK, example_weights=weights_R),
        RESAMPLES,
        jax.random.key(0),
        groups=found.document_R,
        reference=reference_K,
        level=LEVEL,
        upper_bounds=caps_of(plan, scores),
        throw=False,
    )
    assert resampled.comparison is not None
    return resampled, resampled.comparison


def searched(plan: Plan, losses_R: np.ndarray, proxies: Scores | None, seed: int) -> dict[str, list[float]]:
    """Weights of the arms that come from runs on random mixtures, by their losses on the fit part in bits per byte."""
    random_RxK = plan.random_RxK(seed)
    candidates_MxK = candidate_mixtures(plan.sizes_K, seed, upper_bounds_K=plan.upper_bounds_K)
    weights: dict[str, np.ndarray] = {}
    for arm in plan.arms:
        if arm == "random_search":
            weights[arm] = best_random_mixture(random_RxK, losses_R)
        elif arm == "regmix":
            weights[arm] = propose(fit_regmix(random_RxK, losses_R, plan.regmix_model), candidates_MxK)
        elif arm == "olmix":
            law = fit_log_linear(random_RxK, losses_R)
            weights[arm] = propose_near(law, plan.rule_K("natural"), upper_bounds_K=plan.upper_bounds_K)
        elif arm == "mde":
            assert proxies is not None
            near_MxK = candidates_MxK[:: len(candidates_MxK) // MDE_CANDIDATES]
            mixed_R, mixed_M = (proxies.losses(some, "token") for some in (random_RxK, near_MxK))
            predictor, _ = fit_ridge(np.column_stack([random_RxK, mixed_R]), losses_R)
            best_M = np.argsort(predictor(np.column_stack([near_MxK, mixed_M])), kind="stable")[:MDE_TOP]
            weights[arm] = near_MxK[best_M].mean(0)
    return {arm: (w_K / w_K.sum()).tolist() for arm, w_K in weights.items()}
