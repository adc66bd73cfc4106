"""metrics.json of one target: the record, and how it follows from what the stages found.

Axes: N documents of all sources, K buckets, D test documents, M arms.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from experiments.filter_and_mix.config import SUBJECT
from experiments.filter_and_mix.contents import Contents, contents
from experiments.filter_and_mix.limits import licences_of
from experiments.filter_and_mix.plan import Plan
from experiments.filter_and_mix.stages import FILTERING, Searched
from experiments.harness.run_record import run_fields, worst_certificate
from experiments.harness.stages import Stages, read_stage
from experiments.reporting.json_files import to_builtins
from experiments.reporting.schema import (
    Certificate,
    Comparison,
    MadeBy,
    Note,
    RunRecord,
    Weights,
    mean_weights,
    paired,
)
from experiments.text_mixture.search import CERTIFICATE
from mixmin_jax.stats.comparison import Summary, paired_bootstrap_over_documents, summary

EXCERPT = 160  # characters of a document that a report shows
NUM_EXCERPTS = 4


@dataclasses.dataclass(frozen=True)
class Bucket:
    """A part of a source, and what it is worth. Shares are of training tokens."""

    source: str
    documents: int
    tokens: int
    natural: float
    weight: float  # of SUBJECT; 0 for buckets that are left out
    full_weight: float  # before buckets were left out
    lower: float  # of the interval
    upper: float
    noise: float  # share of its tokens that is noise
    words: tuple[str, ...] = ()  # its most telling ones

    @property
    def rate(self) -> float:
        """How many times as often as in natural proportions its text is read."""
        return self.weight / self.natural


@dataclasses.dataclass(frozen=True)
class Arm:
    """A mixture, what it takes, and what a model trained on it reached."""

    weights: Weights  # of buckets, mean over seeds
    weights_per_seed: tuple[Weights, ...]
    threshold: float | None  # quality below which it takes nothing
    noise: float  # share of its tokens that is noise, mean over seeds
    predicted: dict[str, float]  # by the proxies: part of the target -> bits per byte
    test_bits_per_byte: Summary | None = None
    finding_flops: float = 0.0

    def derived(self) -> Self:
        return dataclasses.replace(self, weights=mean_weights(self.weights_per_seed))


@dataclasses.dataclass(frozen=True)
class Strengths:
    """How the strength of the prior was chosen; bits per byte of documents left out, over the least of them."""

    strengths: tuple[float, ...]
    excess: tuple[float | None, ...]
    standard_errors: tuple[float | None, ...]
    strength: float
    converged: bool


@dataclasses.dataclass(frozen=True)
class Filters:
    """Thresholds that were tried: share of the tokens below, and bits per byte of the fit part by the proxies."""

    dropped: tuple[float, ...]
    thresholds: tuple[float, ...]
    natural: tuple[float, ...]  # of the rest as it is
    mixed: tuple[float, ...]  # with weights of sources


@dataclasses.dataclass(frozen=True)
class Excerpt:
    """The beginning of a document near the border between what is left out and what is kept."""

    bucket: str
    kept: bool
    quality: float
    text: str


@dataclasses.dataclass(frozen=True)
class Flops:
    """Costs; of n-grams: operations."""

    target: float  # one target run
    quality: float  # the quality of all documents
    scores: float  # counting every bucket, and scoring the fit part


@dataclasses.dataclass(frozen=True, kw_only=True)
class FilterMetrics(RunRecord):
    """All numbers of one target."""

    target: str
    sources: tuple[str, ...]
    buckets: dict[str, Bucket]
    notices: tuple[str, ...]  # of cutting
    arms: dict[str, Arm]
    comparisons: dict[str, Comparison] = dataclasses.field(default_factory=dict)  # SUBJECT less each other arm
    solved: Certificate
    strengths: Strengths
    cost: float  # of leaving buckets out, bits per byte of the fit part
    noise: float  # that was allowed for it
    unconverged: int  # resamples of the intervals that were not solved to tolerance
    filters: Filters
    excerpts: tuple[Excerpt, ...]
    contents: Contents
    flops: Flops
    fit_documents: int
    test_documents: int
    source_notes: dict[str, Note]

    @property
    def kept(self) -> tuple[str, ...]:
        """Buckets with weight, the largest first."""
        return tuple(sorted((b for b, found in self.buckets.items() if found.weight > 0), key=self._by_weight))

    @property
    def recommended(self) -> str:
        """The arm to use: SUBJECT, or the best one if SUBJECT loses to any."""
        tested = {arm: found.test_bits_per_byte for arm, found in self.arms.items() if found.test_bits_per_byte}
        loses = any(found.verdict == "loses" for found in self.comparisons.values())
        return min(tested, key=lambda arm: tested[arm].mean) if loses else SUBJECT

    def _by_weight(self, bucket: str) -> float:
        return -self.buckets[bucket].weight

    def derived(self) -> Self:
        arms = {arm: found.derived() for arm, found in self.arms.items()}
        # those of one seed are over test documents, whose losses are in the stages
        comparisons = {arm: Comparison.of(found, matters=self.matters) for arm, found in self.comparisons.items()}
        if len(self.seeds) > 1:
            ours = arms[SUBJECT].test_bits_per_byte
            assert ours is not None
            comparisons = {
                arm: Comparison.of(paired(ours, found.test_bits_per_byte), matters=self.matters)
                for arm, found in arms.items()
                if arm != SUBJECT and found.test_bits_per_byte is not None
            }
        return dataclasses.replace(self, arms=arms, comparisons=comparisons)


def build_metrics(
    plan: Plan, searched: Searched, nats: Sequence[np.ndarray], stages: Stages, made_by: MadeBy
) -> FilterMetrics:
    """The numbers of the seeds that are done.

    Args:
        plan: of the run.
        searched: what was found for the target.
        nats: for each seed, document_DxM: log-likelihoods of the test documents under the models of all arms.
        stages: with their records.
        made_by: where this was made.
    """
    config, target, cutting = plan.config, searched.target, searched.cutting
    found, tokens_K = searched.product["found"], cutting.tokens_K
    noise_N = np.concatenate([plan.texts.is_noise[source.name] for source in plan.texts.sources])
    noise_K, documents_K = cutting.share_K(noise_N), np.bincount(cutting.bucket_N)
    weight_K = searched.weights(SUBJECT, 0)
    buckets = {
        name: Bucket(
            source=cutting.owners[k],
            documents=int(documents_K[k]),
            tokens=int(tokens_K[k]),
            natural=float(tokens_K[k] / tokens_K.sum()),
            weight=float(weight_K[k]),
            full_weight=found["full_weights"][k],
            lower=found["lower"][k],
            upper=found["upper"][k],
            noise=float(noise_K[k]),
            words=tuple(searched.contents["words"][k]),
        )
        for k, name in enumerate(cutting.names)
    }
    seeds = range(len(nats)) if nats else range(1)
    bytes_D = np.array([len(document) for document in target.documents("test")])
    quality_flops, scores_flops = plan.quality_flops(target), plan.scores_flops(target, _bytes(searched))
    arms = {
        arm: _arm(arm, searched, seeds, noise_N, quality_flops, scores_flops)
        for arm in config.trained_arms or (SUBJECT,)
    }
    metrics = FilterMetrics(
        experiment="filter_and_mix",
        demonstration=config.demonstration,
        complete=not config.trained_arms or len(nats) == config.seeds,
        seeds=tuple(seeds),
        config=to_builtins(config),
        identity=plan.identity,
        target=target.name,
        sources=tuple(source.name for source in plan.texts.sources),
        buckets=buckets,
        notices=cutting.notices,
        arms=arms,
        solved=worst_certificate({0: {key: found[key] for key in CERTIFICATE}}),
        strengths=Strengths(
            tuple(found["strengths"]),
            tuple(found["excess"]),
            tuple(found["standard_errors"]),
            found["strength"],
            found["strengths_converged"],
        ),
        cost=found["cost"],
        noise=found["noise"],
        unconverged=found["unconverged"],
        filters=Filters(
            *(tuple(searched.product["filters"][key]) for key in ("dropped_T", "threshold_T", "loss_T", "mixed_loss_T"))
        ),
        excerpts=excerpts(searched),
        contents=contents(
            searched.contents,
            cutting,
            weight_K,
            licences_of([source.name for source in plan.texts.sources], plan.texts.notes),
        ),
        flops=Flops(plan.target_flops, quality_flops, scores_flops),
        fit_documents=len(target.fit),
        test_documents=len(target.test),
        source_notes={name: Note(**dataclasses.asdict(note)) for name, note in plan.texts.notes.items()},
        **run_fields(config, stages.records_of(target.name), made_by, plan.texts.records),
    )
    return _with_levels(metrics, list(config.trained_arms), nats, bytes_D)


def _bytes(searched: Searched) -> list[int]:
    cutting = searched.cutting
    return np.bincount(cutting.bucket_N, cutting.bytes_N).astype(int).tolist()


def _arm(arm: str, searched: Searched, seeds: Sequence[int], noise_N: np.ndarray, quality: float, scores: float) -> Arm:
    cutting, product = searched.cutting, searched.product
    threshold = product["thresholds"][arm] if arm in FILTERING else None
    taken_N = np.ones(len(noise_N), bool) if threshold is None else cutting.quality_N >= threshold
    tokens_K, noise_K = (np.bincount(cutting.bucket_N, x_N, len(cutting.names)) for x_N in (
        cutting.tokens_N * taken_N, cutting.tokens_N * (taken_N & noise_N)
    ))  # fmt: skip
    weights_SxK = np.stack([searched.weights(arm, seed) for seed in seeds])
    share_K = noise_K / np.maximum(tokens_K, 1)
    searching = {"natural": 0.0, "random": 0.0, "mix": product["costs"].get("mix", 0.0)}
    searching |= {"filter_then_mix": quality + scores + product["costs"].get("filter_then_mix", 0.0)}
    return Arm(
        weights={},
        weights_per_seed=tuple(dict(zip(cutting.names, w_K.tolist(), strict=True)) for w_K in weights_SxK),
        threshold=threshold,
        noise=float((weights_SxK @ share_K).mean()),
        predicted=product["predicted"].get(arm, {}),
        finding_flops=searching.get(arm, quality + scores),
    ).derived()


def _with_levels(
    metrics: FilterMetrics, arms: Sequence[str], nats: Sequence[np.ndarray], bytes_D: np.ndarray
) -> FilterMetrics:
    """With the test losses in bits per byte, and their comparison: with one seed over documents, else over seeds."""
    if not nats:
        return metrics
    bits = math.log(2) * bytes_D.sum()
    levels_MxS = -np.stack([document_DxM.sum(axis=0) for document_DxM in nats], axis=1) / bits
    found = {
        arm: dataclasses.replace(metrics.arms[arm], test_bits_per_byte=summary(levels_S))
        for arm, levels_S in zip(arms, levels_MxS, strict=True)
    }
    comparisons: dict[str, Comparison] = {}
    if len(nats) == 1:
        nats_MxD = -nats[0].T
        ours_D = nats_MxD[arms.index(SUBJECT)]
        comparisons = {
            arm: Comparison.of(paired_bootstrap_over_documents(ours_D, theirs_D, bytes_D), matters=metrics.matters)
            for arm, theirs_D in zip(arms, nats_MxD, strict=True)
            if arm != SUBJECT
        }
    return dataclasses.replace(metrics, arms=found, comparisons=comparisons).derived()


def excerpts(searched: Searched) -> tuple[Excerpt, ...]:
    """The worst documents that are kept and the best that are left out, by quality."""
    cutting, weight_K = searched.cutting, searched.weights(SUBJECT, 0)
    kept_N = weight_K[cutting.bucket_N] > 0
    order_N = np.argsort(cutting.quality_N, kind="stable")
    worst = order_N[kept_N[order_N]][:NUM_EXCERPTS]
    best = order_N[~kept_N[order_N]][-NUM_EXCERPTS:]
    numbers = np.concatenate([best, worst])
    return tuple(
        Excerpt(
            cutting.names[cutting.bucket_N[number]],
            bool(kept_N[number]),
            float(cutting.quality_N[number]),
            " ".join(document[: 4 * EXCERPT].decode(errors="ignore").split())[:EXCERPT],
        )
        for number, document in zip(numbers, cutting.documents(numbers), strict=True)
    )


def from_stages(metrics: FilterMetrics, stages: Path) -> FilterMetrics | None:
    """The record with the weights and losses that its stages found; None where a stage is missing."""
    try:
        product, _ = read_stage(stages / f"weights-{metrics.target}.npz")
        scored = [read_stage(stages / f"test-{metrics.target}-seed{seed}.npz")[0] for seed in metrics.seeds]
    except FileNotFoundError:
        return None
    names = list(metrics.buckets)

    def named(arm: str, seed: int) -> Weights:
        w_K = product["random"][str(seed)] if arm == "random" else product["weights"][arm]
        return dict(zip(names, w_K, strict=True))

    arms = {
        arm: dataclasses.replace(found, weights_per_seed=tuple(named(arm, seed) for seed in metrics.seeds)).derived()
        for arm, found in metrics.arms.items()
    }
    weights: Mapping[str, Any] = dict(zip(names, product["weights"][SUBJECT], strict=True))
    buckets = {name: dataclasses.replace(found, weight=weights[name]) for name, found in metrics.buckets.items()}
    metrics = dataclasses.replace(metrics, arms=arms, buckets=buckets)
    return _with_levels(metrics, list(arms), [one["document_DxM"] for one in scored], scored[0]["bytes_D"])
