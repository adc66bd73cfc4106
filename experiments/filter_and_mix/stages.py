"""The stages of a run, each found again if it was already computed.

Axes: N documents of all sources, K buckets, S sources, R rows of a target, C cells, D test documents, M arms.
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from experiments.filter_and_mix import search
from experiments.filter_and_mix.contents import look_into
from experiments.filter_and_mix.cutting import Cells, Cutting, cut_cells, cut_sources
from experiments.filter_and_mix.limits import Limits, limits_of
from experiments.filter_and_mix.plan import Plan
from experiments.harness.language_model_stages import score_models, train_models
from experiments.harness.stages import Product, Running, Stages
from experiments.text_mixture.data import Target
from mixmin_jax.data.buckets import Buckets, label_buckets
from mixmin_jax.data.text.telling import telling
from mixmin_jax.data.text.topics import topics
from mixmin_jax.mixture.rows import mixture_losses, row_length
from mixmin_jax.training.target_quality import target_quality

FILTERING = ("filter", "filter_then_mix")  # arms that take no document below a threshold
NUM_WORDS = 3  # that a report shows of a bucket


@dataclasses.dataclass(frozen=True, eq=False)
class Searched:
    """What was found for one target, before anything is trained."""

    target: Target
    cutting: Cutting
    product: Product  # of the stage: weights of all arms, and how they were found
    contents: Product  # of the stage: `look_into`, and the most telling words of each bucket

    def weights(self, arm: str, seed: int) -> np.ndarray:
        """Of buckets; random ones by seed."""
        if arm == "random":
            return np.array(self.product["random"][str(seed)])
        return np.array(self.product["weights"][arm])


def search_stages(plan: Plan, stages: Stages) -> list[Searched]:
    """Buckets and weights for every target."""
    found_topics = _topics(plan, stages)
    return [_search(plan, target, found_topics, stages) for target in plan.texts.targets]


def _topics(plan: Plan, stages: Stages) -> Buckets | None:
    """Of all documents, for all targets."""
    count = plan.config.cut.topics
    if count is None:
        return None

    def compute(_stage: Running) -> Product:
        documents = [document for source in plan.texts.sources for document in source.documents]
        found = topics(documents, count, plan.config.split_seed)
        return {"topic_N": found.topic_D}

    product = stages.run("topics", plan.inputs | {"topics": count, "seed": plan.config.split_seed}, compute)
    return label_buckets([f"topic{topic + 1}" for topic in product["topic_N"]])


def _quality(plan: Plan, target: Target, stages: Stages) -> np.ndarray:
    """Of every document, higher is better."""
    sources = plan.texts.sources
    brought = [source.quality_D for source in sources if source.quality_D is not None]
    if brought:
        return np.concatenate(brought)

    def compute(stage: Running) -> Product:
        documents = [document for source in sources for document in source.documents]
        return {"quality_N": target_quality(documents, target.documents("fit"), plan.config.ngram_order, stage.advance)}

    inputs = plan.inputs | {"fit": _described(target, "fit"), "order": plan.config.ngram_order}
    return np.asarray(stages.run(f"quality-{target.name}", inputs, compute, target=target.name)["quality_N"])


def _search(plan: Plan, target: Target, found_topics: Buckets | None, stages: Stages) -> Searched:
    config = plan.config
    quality_N = _quality(plan, target, stages)
    least = config.model.sequence_length + 2  # tokens of one training window
    cutting = cut_sources(plan.texts.sources, quality_N, config.cut.quality, found_topics, least)
    fit, test = target.documents("fit"), target.documents("test")
    length = row_length(config.rows)
    inputs = plan.inputs | {
        "cut": hashlib.sha256(cutting.bucket_N.astype(np.int64).tobytes() + quality_N.tobytes()).hexdigest(),
        "fit": _described(target, "fit"),
        "test": _described(target, "test"),
        "order": config.ngram_order,
        "rows": config.rows,
    }

    def score(stage: Running) -> Product:
        parts = cutting.parts
        logp_RxK = search.score_rows(parts, fit + test, config.ngram_order, length, stage.advance)
        return {"logp_RxK": logp_RxK}

    scored = stages.run(f"scores-{target.name}", inputs, score, target=target.name)
    both = search.rows_of(scored["logp_RxK"], fit + test, length)
    is_fit_R = both.document_R < len(fit)
    fit_rows, test_rows = (
        both._replace(
            logp_RxK=both.logp_RxK[mask_R], tokens_R=both.tokens_R[mask_R], document_R=both.document_R[mask_R]
        )
        for mask_R in (is_fit_R, ~is_fit_R)
    )

    def compute(_stage: Running) -> Product:
        return _weights(plan, cutting, target, fit_rows, test_rows)

    settings: dict[str, Any] = {
        "limits": [config.max_epochs, config.max_share, config.min_share, plan.target_tokens],
        "licences": {name: note.licence for name, note in plan.texts.notes.items()},
        "arms": list(config.trained_arms),
        "seeds": config.seeds,
        "search": [search.DROPPED, search.FOLDS, search.RESAMPLES, search.LEVEL],
    }
    product = stages.run(f"weights-{target.name}", inputs | settings, compute, target=target.name)
    contents = stages.run(
        f"contents-{target.name}",
        inputs | {"words": NUM_WORDS},
        lambda _: look_into(cutting) | {"words": list(map(list, telling(cutting.parts, top=NUM_WORDS)))},
        target=target.name,
    )
    return Searched(target, cutting, product, contents)


def _weights(plan: Plan, cutting: Cutting, target: Target, fit: search.Rows, test: search.Rows) -> Product:
    """Weights of all arms, how they were found, and what the proxies say of each."""
    config, tokens_K = plan.config, cutting.tokens_K
    natural_K = tokens_K / tokens_K.sum()
    of_buckets = _limits(plan, cutting.owners, tokens_K)
    of_buckets.check()
    found = search.filter_and_mix(fit, tokens_K, of_buckets)
    weights, costs = {"filter_and_mix": found.solution.weights}, dict[str, float]()
    tried, mixed = search.filters(fit, cutting), {"mix": -np.inf}
    thresholds = {"filter": tried.threshold_T[tried.best], "filter_then_mix": tried.threshold_T[tried.best_mixed]}
    if "filter" in config.trained_arms:
        kept_K = search.kept_tokens(cutting, thresholds["filter"])
        weights["filter"] = _limits(plan, cutting.owners, kept_K).nearest(kept_K / kept_K.sum())
    if "filter_then_mix" in config.trained_arms:
        mixed["filter_then_mix"] = thresholds["filter_then_mix"]
    for arm, threshold in mixed.items():
        if arm not in config.trained_arms:
            continue
        kept_K = search.kept_tokens(cutting, threshold)
        kept_S = np.bincount(cutting.owner_K, kept_K)
        left = np.flatnonzero(kept_S).tolist()  # sources of which something is
        parts = [cutting.documents((cutting.source_N == s) & (cutting.quality_N >= threshold)) for s in left]
        logp_RxS = search.score_rows(parts, target.documents("fit"), config.ngram_order, row_length(config.rows))
        limits = _limits(plan, [cutting.sources[s].name for s in left], kept_S[left])
        weights_S = np.zeros(len(kept_S))
        weights_S[left] = search.mix(fit._replace(logp_RxK=logp_RxS.astype(np.float64)), limits)
        weights[arm] = search.of_sources(weights_S, cutting, kept_K)
        costs[arm] = plan.scores_flops(target, [sum(map(len, part)) for part in parts])
    if "natural" in config.trained_arms:
        weights["natural"] = of_buckets.nearest(natural_K)
    random = {str(seed): of_buckets.nearest(search.random_weights(tokens_K, seed)) for seed in range(config.seeds)}
    return {
        "weights": {arm: (w_K / w_K.sum()).tolist() for arm, w_K in weights.items()},
        "random": {seed: w_K.tolist() for seed, w_K in random.items()},
        "predicted": {
            arm: dict(zip(("fit", "test"), _losses(w_K, fit, test), strict=True)) for arm, w_K in weights.items()
        },
        "thresholds": {arm: float(value) for arm, value in thresholds.items()},
        "filters": {name: value.tolist() for name, value in dataclasses.asdict(tried).items()},
        "found": search.record(found),
        "costs": costs,
    }


def _limits(plan: Plan, owners: Sequence[str], tokens_U: np.ndarray) -> Limits:
    names = [source.name for source in plan.texts.sources]
    return limits_of(plan.config, names, owners, tokens_U, plan.texts.notes, plan.target_tokens)


def _losses(weights_K: np.ndarray, fit: search.Rows, test: search.Rows) -> list[float]:
    """Bits per byte."""
    return [float(mixture_losses(rows, weights_K[None])[0] * search.BITS) for rows in (fit, test)]


def train_stages(plan: Plan, searched: Searched, seed: int, stages: Stages) -> Product:
    """Train every arm with one seed: log-likelihoods of the test documents, `document_DxM`, and `bytes_D`."""
    config, target, arms = plan.config, searched.target, plan.config.trained_arms
    cells = cells_of(plan, searched)
    thresholds = searched.product["thresholds"]
    weights_MxC = np.stack([cells.weights(searched.weights(arm, seed), thresholds.get(arm)) for arm in arms])
    models = train_models(
        stages,
        f"train-{target.name}-seed{seed}",
        config.model,
        cells.store,
        weights_MxC / weights_MxC.sum(axis=1, keepdims=True),
        jax.random.fold_in(jax.random.key(seed), 1),
        plan.inputs | {"cells": hashlib.sha256(cells.store.tokens.tobytes()).hexdigest(), "seed": seed},
        labels=arms,
        mesh=plan.mesh(len(arms)),
        on_nonfinite=config.on_nonfinite,
        target=target.name,
    )
    return score_models(
        stages,
        f"test-{target.name}-seed{seed}",
        models,
        target.documents("test"),
        {"test": _described(target, "test")},
        mesh=plan.mesh(len(arms)),
        target=target.name,
    )


def cells_of(plan: Plan, searched: Searched) -> Cells:
    """What all arms of a target are trained on."""
    filtering = [searched.product["thresholds"][arm] for arm in FILTERING if arm in plan.config.trained_arms]
    return cut_cells(searched.cutting, filtering, plan.config.model.sequence_length)


def _described(target: Target, part: str) -> list[Any]:
    """What decides which documents a part of a target has, as JSON."""
    return [target.corpus.fingerprint, getattr(target, part).tolist()]
