"""From log-likelihoods of a target under every bucket's n-grams to the weights of each arm; nothing is trained here.

Axes: R rows of a target's documents, K buckets, S sources, T thresholds, N documents of the sources, J strengths.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from experiments.filter_and_mix.cutting import Cutting
from experiments.filter_and_mix.limits import Limits
from experiments.harness.certified_weights import TOLERANCE
from mixmin_jax.data.text.tokens import join_documents
from mixmin_jax.mixture.baselines.random_search import random_mixtures
from mixmin_jax.mixture.inference.bootstrap import bootstrap
from mixmin_jax.mixture.inference.prior_strength import PriorStrength, choose_prior_strength
from mixmin_jax.mixture.inference.short_list import ShortList, shorten
from mixmin_jax.mixture.objective import CrossEntropy, cross_entropy
from mixmin_jax.mixture.rows import Rows, mixture_losses, rows
from mixmin_jax.mixture.solution import Solution
from mixmin_jax.mixture.solve import solve
from mixmin_jax.models.ngram import count_ngrams
from mixmin_jax.training.ngram_proxies import for_sources, ngram_score

DROPPED = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # shares of all tokens that `filter` may leave out
FOLDS = 5  # of the target's documents, to choose the strength of the prior
RESAMPLES = 200  # of the bootstrap
LEVEL = 0.95  # of intervals, and of the test that a bucket can be left out
BITS = 1 / np.log(2)


def score_rows(
    parts: Sequence[Sequence[bytes]],
    documents: Sequence[bytes],
    order: int,
    length: int | None,
    on_part: Callable[[int, int], None] = lambda done, of: None,
) -> Float[np.ndarray, "R K"]:
    """log p of every row of a target's documents under the n-grams of each part, in nats (float32)."""
    bytes_D = np.array([len(document) for document in documents])

    def one(part: Sequence[bytes]) -> np.ndarray:
        logp_1xN = ngram_score(count_ngrams(join_documents(part), order), documents, (order,))
        return rows(logp_1xN.T, bytes_D, length).logp_RxK[:, 0].astype(np.float32)

    columns = []
    for column in for_sources(one, parts):
        columns.append(column)
        on_part(len(columns), len(parts))
    return np.stack(columns, axis=1)


def rows_of(logp_RxK: np.ndarray, documents: Sequence[bytes], length: int | None) -> Rows:
    """`score_rows` with what each row is made of."""
    bytes_D = np.array([len(document) for document in documents])
    return rows(np.zeros((bytes_D.sum(), 1)), bytes_D, length)._replace(logp_RxK=logp_RxK.astype(np.float64))


def objective_of(found: Rows) -> CrossEntropy:
    """The loss of a mixture in nats per byte."""
    weight_R = np.full(len(found.logp_RxK), 1 / found.tokens_R.sum())
    return cross_entropy(found.logp_RxK, example_weights=weight_R)


@dataclasses.dataclass(frozen=True, eq=False)
class Found:
    """Weights of buckets that filter and mix at once."""

    strength: PriorStrength
    short: ShortList
    lower_K: Float[np.ndarray, " K"]  # of intervals over resampled documents of the target
    upper_K: Float[np.ndarray, " K"]
    unconverged: int  # resamples that missed the tolerance

    @property
    def solution(self) -> Solution:
        return self.short.solution


def filter_and_mix(fit: Rows, tokens_K: Float[np.ndarray, " K"], limits: Limits) -> Found:
    """One convex problem over all buckets, held to their natural weights as strongly as other documents ask for.

    1. The strength of the prior, by cross-validation over the target's documents.
    2. The solve, and again over as few buckets as cost nothing measurable.
    3. Intervals over resampled documents, of the buckets that are left.
    """
    objective = objective_of(fit)
    natural_K = limits.nearest(tokens_K / tokens_K.sum())
    strength = choose_prior_strength(
        objective, natural_K, jax.random.key(0), num_folds=FOLDS, groups=fit.document_R, **limits.options("group_caps")
    )
    penalty: dict[str, Any] = {"prior_strength": strength.strength, "tolerance": TOLERANCE}
    short = shorten(
        objective, groups=fit.document_R, level=LEVEL, prior=natural_K, **penalty, **limits.options("group_caps")
    )
    is_kept_K = short.solution.weights > 0
    kept_K = np.where(is_kept_K, natural_K, 0)
    caps = limits.options("group_caps")
    caps["upper_bounds"] = np.where(is_kept_K, 1.0 if limits.upper_U is None else limits.upper_U, 0)
    resampled = bootstrap(
        objective,
        RESAMPLES,
        jax.random.key(0),
        groups=fit.document_R,
        level=LEVEL,
        prior=kept_K / kept_K.sum(),
        prior_strength=strength.strength,
        **caps,
        throw=False,
    )
    return Found(strength, short, resampled.lower, resampled.upper, int((~resampled.converged).sum()))


@dataclasses.dataclass(frozen=True, eq=False)
class Filtered:
    """Qualities below which documents are left out, and what the proxies of the buckets say of each."""

    dropped_T: Float[np.ndarray, " T"]  # share of all tokens below each threshold
    threshold_T: Float[np.ndarray, " T"]
    loss_T: Float[np.ndarray, " T"]  # of the rest as it is, bits per byte of the fit part
    mixed_loss_T: Float[np.ndarray, " T"]  # of the rest with weights of sources

    @property
    def best(self) -> int:
        return int(self.loss_T.argmin())

    @property
    def best_mixed(self) -> int:
        return int(self.mixed_loss_T.argmin())


def filters(fit: Rows, cutting: Cutting) -> Filtered:
    """Try thresholds. What is kept of a bucket counts as the bucket, in proportion to its tokens."""
    order_N = np.argsort(cutting.quality_N, kind="stable")
    below_N = np.cumsum(cutting.tokens_N[order_N]) - cutting.tokens_N[order_N]
    first_T = np.searchsorted(below_N, np.array(DROPPED) * cutting.tokens_N.sum())
    threshold_T = np.unique(cutting.quality_N[order_N[np.minimum(first_T, len(order_N) - 1)]])
    losses, mixed, dropped = [], [], []
    for threshold in threshold_T:
        kept_K = kept_tokens(cutting, threshold)
        dropped.append(1 - kept_K.sum() / cutting.tokens_N.sum())
        losses.append(float(mixture_losses(fit, (kept_K / kept_K.sum())[None])[0] * BITS))
        mixed.append(float(solve(objective_of(fit._replace(logp_RxK=_by_source(fit, cutting, kept_K)))).loss * BITS))
    return Filtered(np.array(dropped), threshold_T, np.array(losses), np.array(mixed))


def _by_source(fit: Rows, cutting: Cutting, kept_K: np.ndarray) -> Float[np.ndarray, "R S"]:
    """log p of rows under each source, as the mixture of its buckets by what is kept of them."""
    columns = []
    for source in np.unique(cutting.owner_K[kept_K > 0]):
        mine = np.flatnonzero((cutting.owner_K == source) & (kept_K > 0))
        columns.append(np.logaddexp.reduce(fit.logp_RxK[:, mine] + np.log(kept_K[mine] / kept_K[mine].sum()), axis=1))
    return np.stack(columns, axis=1)


def kept_tokens(cutting: Cutting, threshold: float) -> Float[np.ndarray, " K"]:
    """Tokens of each bucket in documents that reach a quality."""
    return np.bincount(
        cutting.bucket_N, np.where(cutting.quality_N >= threshold, cutting.tokens_N, 0), len(cutting.names)
    )


def of_sources(weights_S: np.ndarray, cutting: Cutting, tokens_K: np.ndarray) -> Float[np.ndarray, " K"]:
    """Weights of sources spread over their buckets in proportion to tokens, of all or of those kept."""
    total_S = np.bincount(cutting.owner_K, tokens_K, len(weights_S))
    return (weights_S / np.maximum(total_S, 1))[cutting.owner_K] * tokens_K


def random_weights(tokens_K: Float[np.ndarray, " K"], seed: int) -> Float[np.ndarray, " K"]:
    """One random mixture of buckets, as random search draws them."""
    return random_mixtures(1, tokens_K, seed)[0]


def mix(fit: Rows, limits: Limits) -> Float[np.ndarray, " S"]:
    """Weights of sources."""
    return np.asarray(solve(objective_of(fit), tolerance=TOLERANCE, **limits.options()).weights)


def record(found: Found) -> dict[str, Any]:
    """As JSON; losses in bits per byte but for those of the certificate."""
    solution, strength, short = found.solution, found.strength, found.short
    return {
        "loss": solution.loss,
        "penalty": solution.penalty,
        "gap": solution.gap,
        "tolerance": solution.goal,
        "iterations": solution.iterations,
        "converged": solution.converged,
        "method": solution.method,
        "gap_history": [gap if np.isfinite(gap) else None for gap in solution.gap_history.tolist()],
        "strengths": strength.strengths.tolist(),
        "excess": [value if np.isfinite(value) else None for value in (strength.excess * BITS).tolist()],
        "standard_errors": [
            value if np.isfinite(value) else None for value in (strength.standard_errors * BITS).tolist()
        ],
        "strength": strength.strength,
        "strengths_converged": strength.converged,
        "full_weights": short.full.weights.tolist(),
        "cost": short.cost * BITS,
        "noise": short.noise * BITS,
        "lower": found.lower_K.tolist(),
        "upper": found.upper_K.tolist(),
        "unconverged": found.unconverged,
    }
