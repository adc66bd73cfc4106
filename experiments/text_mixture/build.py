"""From what the stages of each seed found to the record of one target."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.harness.options import numbers_of
from experiments.harness.run_record import run_fields, worst_certificate
from experiments.harness.stages import Product, Stages
from experiments.reporting.schema import (
    SHARE_OF_TOKENS,
    Comparison,
    DataSet,
    MadeBy,
    Note,
    mean_weights,
    paired,
)
from experiments.text_mixture import costs
from experiments.text_mixture.config import TextMixture
from experiments.text_mixture.data import Target
from experiments.text_mixture.divergence import divergence_records
from experiments.text_mixture.plan import Plan
from experiments.text_mixture.results import (
    Arm,
    Data,
    Extension,
    Flops,
    Gain,
    Monitors,
    Multiple,
    NearDuplicate,
    Overlap,
    RandomMixture,
    Regmix,
    RungResult,
    Search,
    Seen,
    SourceText,
    TargetText,
    TextMetrics,
    Tokens,
    compute_multiplier,
)
from experiments.text_mixture.search import CALIBRATION, CALIBRATION_LEVEL, LEAST_GAIN
from experiments.text_mixture.stages import SeedResult, proxy_stages, rung_stage
from mixmin_jax.data.text.documents import Corpus
from mixmin_jax.stats.comparison import (
    RANDOM_MIXTURE,
    Point,
    Summary,
    fidelity,
    paired_bootstrap_over_documents,
    summary,
)
from mixmin_jax.training.language_model import LanguageModelRun
from mixmin_jax.training.source_monitor import ERRORS, RISE

NUM_WORST = 5  # near-duplicates that the report shows; overlap.json has all


def build_metrics(
    plan: Plan,
    target: Target,
    results: Sequence[SeedResult],
    overlap: Product,
    stages: Stages,
    made_by: MadeBy,
    data_sets: Sequence[DataSet],
    extension: Extension | None = None,
) -> TextMetrics:
    """The numbers of one target from the seeds that are done; `complete` says whether those are all."""
    config = plan.config
    arms = {arm: _arm(arm, target, results, plan) for arm in plan.arms}
    solved: dict[str, Any] = {
        arm: worst_certificate({result.seed: result.solutions[arm] for result in results})
        for arm in results[0].solutions
    }
    records = stages.records_of(target.name)
    multiples = tuple(Multiple(times, bits) for times, bits in results[0].multiples.items())
    return TextMetrics(
        experiment="text_mixture",
        weights_unit=SHARE_OF_TOKENS,
        demonstration=config.demonstration,
        complete=len(results) == config.seeds,
        seeds=tuple(result.seed for result in results),
        config=config_record(config),
        identity=identity(plan),
        target=target.name,
        sources=plan.names,
        arms=arms,
        comparisons=comparisons_of(arms, [result.test_nats for result in results], _bytes(target), config.matters),
        **solved,
        search=_search(plan, target, results[0], {name: record.seconds for name, record in records.items()}),
        extension=extension,
        multiples=multiples,
        compute_multiplier=compute_multiplier(arms, multiples),
        fidelity=fidelity(_points(arms, results)),
        random_mixtures=tuple(
            RandomMixture(result.seed, float(reached), named(w_K, plan.names))
            for result in results
            for w_K, reached in zip(result.random_RxK, result.random_reached_R, strict=True)
        ),
        overlap=_overlap(overlap, target),
        monitors=_monitors(plan, results) if arms else None,
        unlearned=tuple(found for result in results for found in result.unlearned),
        source_notes={name: Note(**dataclasses.asdict(note)) for name, note in plan.care.notes.items()},
        flops=Flops(
            **costs.of_target(plan, target, len(results[0].rungs)),
            finding=costs.finding(plan, target, _climbing(results[0])),
        ),
        tokens=Tokens(_tokens(plan.run("random")) if plan.num_random else None, _tokens(config.model)),
        regmix=_regmix(plan, target, results[0]),
        max_epochs=config.max_epochs,
        data=Data({corpus.name: _source(plan, corpus) for corpus in plan.sources}, _target(target, config)),
        **run_fields(config, records, made_by, data_sets),
    )


def _search(plan: Plan, target: Target, result: SeedResult, seconds: Mapping[str, float]) -> Search:
    """The search of the first seed; the time of what all targets share counts in full."""

    def taken(index: int) -> float:
        found = proxy_stages(plan.rungs[index], target.name, result.seed)
        names = (name for name in seconds if name.rpartition("/")[0] in found)
        return sum(seconds[name] for name in names) + seconds.get(rung_stage(target.name, index, result.seed), 0.0)

    rungs = tuple(
        RungResult(
            kind=rung["kind"],
            tokens=rung["tokens"],
            rows=rung["rows"],
            weights=named(rung["weights"], plan.names),
            predicted_gain=rung["predicted_gain"],
            excess=rung["excess"],
            noise=rung["noise"],
            changed=rung["changed"],
            flops=rung["flops"],
            seconds=taken(index),
        )
        for index, rung in enumerate(result.rungs)
    )
    kept = max(index for index, rung in enumerate(rungs) if rung.changed)
    bounds = zip(result.rungs[kept]["lower"], result.rungs[kept]["upper"], strict=True)
    group = next((f"train-{name}-seed{result.seed}" for name in ("shared-arms",) if plan.shared_arms), None)
    return Search(
        rungs=rungs,
        kept=kept,
        interval=dict(zip(plan.names, ((float(low), float(high)) for low, high in bounds), strict=True)),
        unconverged=result.rungs[kept]["unconverged"],
        gain=expected_gain(rungs[kept], plan.config.ngram_order),
        share=_climbing(result) / costs.training(plan, "target"),
        seconds=sum(rung.seconds for rung in rungs),
        target_seconds=seconds[group] / len(plan.shared_arms) if group else None,
    )


def _regmix(plan: Plan, target: Target, result: SeedResult) -> Regmix | None:
    if not plan.num_random:
        return None
    more = costs.random_flops(plan, target.documents("fit")) > _climbing(result)
    return Regmix(plan.regmix_model, plan.num_random, more)


def _tokens(run: LanguageModelRun) -> int:
    return run.num_windows * run.sequence_length


def _climbing(result: SeedResult) -> float:
    """FLOPs of all rungs that were reached."""
    return sum(rung["flops"] for rung in result.rungs)


def expected_gain(rung: RungResult, order: int) -> Gain:
    """A predicted gain, scaled as the benchmark of fidelity found for these proxies and rows; else as predicted."""
    scale, predicted = CALIBRATION.get((rung.kind, rung.rows, order)), rung.predicted_gain
    if scale is None or predicted <= LEAST_GAIN:
        return Gain(predicted, None, None, None, CALIBRATION_LEVEL)
    low, middle, high = (predicted * factor for factor in scale)
    return Gain(predicted, middle, low, high, CALIBRATION_LEVEL)


def config_record(config: TextMixture) -> dict[str, Any]:
    """The configuration as JSON, with what is needed to run it again."""
    return numbers_of(json.loads(json.dumps(dataclasses.asdict(config), default=str)))


def identity(plan: Plan) -> dict[str, Any]:
    """What makes two runs the same: everything that the results depend on, and nothing else."""
    # known by the hashes of what is trained on, except for how much is kept where that is a sample
    data = ("sources", "sources_info", "drop_duplicates", "target", "field", "max_unreadable", "source_bytes")
    elsewhere = (*data, "tokens_on", "compare", "price_per_hour", "extend")
    sampled = any(corpus.whole for corpus in (*plan.sources, *(target.corpus for target in plan.targets)))
    kept = {"source_bytes": plan.config.limits.max_bytes} if sampled else {}
    return {key: value for key, value in config_record(plan.config).items() if key not in elsewhere} | {
        **kept,
        "data": plan.inputs["sources"],
        "sizes": plan.sizes_K.tolist(),
        "compared": {name: weights_K.tolist() for name, weights_K in plan.compared.items()},
        "targets": {target.name: target.corpus.fingerprint for target in plan.targets},
    }


def _bytes(target: Target) -> np.ndarray:
    return np.array([len(document) for document in target.documents("test")])


def levels(arm: str, nats: Sequence[Mapping[str, np.ndarray]], bytes_D: np.ndarray) -> Summary:
    """Test loss in bits per byte."""
    bits = math.log(2) * bytes_D.sum()
    return summary([float(seed[arm].sum() / bits) for seed in nats])


def _arm(arm: str, target: Target, results: Sequence[SeedResult], plan: Plan) -> Arm:
    epochs_SxK = np.stack([result.draws[arm] for result in results]) / plan.store.windows_K
    weights = tuple(named(result.weights[arm], plan.names) for result in results)
    return Arm(
        test_bits_per_byte=levels(arm, [result.test_nats for result in results], _bytes(target)),
        weights=mean_weights(weights),
        weights_per_seed=weights,
        epochs=named(epochs_SxK.mean(0), plan.names),
        predicted_bits_per_byte={
            row: summary([result.predicted[arm][row] for result in results]) for row in results[0].predicted[arm]
        },
    )


def comparisons_of(
    arms: Mapping[str, Arm], nats: Sequence[Mapping[str, np.ndarray]], bytes_D: np.ndarray, matters: float
) -> dict[str, Comparison]:
    """`mixmin` less each other arm: paired over seeds or, with one seed, over the test documents."""
    found = {}
    for arm in arms:
        if arm == "mixmin":
            continue
        difference = paired(arms["mixmin"].test_bits_per_byte, arms[arm].test_bits_per_byte)
        if len(nats) == 1:
            difference = paired_bootstrap_over_documents(nats[0]["mixmin"], nats[0][arm], bytes_D)
        found[arm] = Comparison.of(difference, matters=matters)
    return found


def _points(arms: Mapping[str, Arm], results: Sequence[SeedResult]) -> list[Point]:
    """Predicted and reached losses of every model trained on a mixture, in bits per byte of the test part."""
    return [
        *(
            Point(result.seed, arm, "target", found.test_bits_per_byte.per_seed[s], result.predicted[arm])
            for s, result in enumerate(results)
            for arm, found in arms.items()
        ),
        *(
            Point(result.seed, RANDOM_MIXTURE, "proxy", float(reached), predicted)
            for result in results
            for predicted, reached in zip(result.random_predicted, result.random_reached_R, strict=True)
        ),
    ]


def _overlap(product: Product, target: Target) -> Overlap:
    found = Overlap(
        product["ngram"],
        product["threshold"],
        product["sources"],
        near_duplicates(product["matches"][:NUM_WORST], target),
    )
    if "dropped" not in product:
        return found
    sources, matches = product["dropped"]["sources"], product["dropped"]["matches"]
    worst = sorted(matches, key=lambda match: -match["share"])[:NUM_WORST]
    return dataclasses.replace(
        found,
        dropped={name: len(documents) for name, documents in sources.items()},
        target_documents_repeated=len({match["document"] for match in matches}),
        worst_dropped=near_duplicates(worst, target),
    )


def near_duplicates(matches: Sequence[Mapping[str, Any]], target: Target | None = None) -> tuple[NearDuplicate, ...]:
    """Matches of overlap.json; with `target`, the part that the document is in."""

    def part(document: int) -> str:
        parts = [name for name in ("fit", "test") if document in getattr(target, name)]
        return (parts or ["unused"])[0]

    return tuple(
        NearDuplicate(
            **{**match, "source_documents": tuple(match["source_documents"])},
            part=part(match["document"]) if target else "",
        )
        for match in matches
    )


def _monitors(plan: Plan, results: Sequence[SeedResult]) -> Monitors:
    def seen(result: SeedResult, arm: str) -> Seen:
        monitor, asked_K = result.monitors[arm], result.weights[arm]
        bits_KxS = monitor.loss_SxMxK[:, 0].T / math.log(2)
        return Seen(
            seed=result.seed,
            asked=named(asked_K / asked_K.sum(), plan.names),
            sampled=named(monitor.sampled_MxK[0], plan.names),
            bits_per_byte={
                name: tuple(float(bits) if math.isfinite(bits) else None for bits in bits_S)
                for name, bits_S in zip(plan.names, bits_KxS, strict=True)
            },
        )

    return Monitors(
        steps=tuple(results[0].monitors["mixmin"].ends_S.tolist()),
        windows=plan.config.model.num_windows,
        rise=RISE,
        errors=ERRORS,
        arms={arm: tuple(seen(result, arm) for result in results) for arm in plan.arms},
        divergences=tuple(
            record
            for arm in plan.arms
            for result in results
            for record in divergence_records(plan, result.seed, arm, result.monitors[arm], result.weights[arm])
        ),
    )


def _source(plan: Plan, corpus: Corpus) -> SourceText:
    dropped = read_as = None
    if plan.care.deduplicated is not None:
        dropped, read_as = len(plan.care.deduplicated.dropped[corpus.name]), plan.care.read_as[corpus.name]
    whole = (corpus.whole.documents, corpus.whole.bytes) if corpus.whole else (None, None)
    kept = corpus.num_documents, corpus.num_bytes, corpus.fingerprint
    return SourceText(*kept, corpus.num_skipped, dropped, read_as, *whole)


def _target(target: Target, config: TextMixture) -> TargetText:
    corpus = target.corpus
    return TargetText(
        name=target.name,
        documents=corpus.num_documents,
        bytes=corpus.num_bytes,
        sha256=corpus.fingerprint,
        split_seed=config.split_seed,
        fit_fraction=config.fit_fraction,
        fit_documents=len(target.fit),
        fit_bytes=sum(map(len, target.documents("fit"))),
        test_documents=len(target.test),
        test_bytes=sum(map(len, target.documents("test"))),
        fit_document_numbers=tuple(target.fit.tolist()),
        test_document_numbers=tuple(target.test.tolist()),
        empty_documents_skipped=corpus.num_skipped,
    )


def named(values_K: Sequence[float] | np.ndarray, names: Sequence[str]) -> dict[str, float]:
    return {name: float(value) for name, value in zip(names, values_K, strict=True)}
