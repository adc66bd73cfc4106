"""metrics.json of one target: the record, and how it follows from what the stages of each seed found."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from experiments.harness.options import numbers_of
from experiments.harness.run_record import run_fields, worst_certificate
from experiments.harness.stages import Product, Stages, read_stage
from experiments.reporting.json_files import read_json
from experiments.reporting.schema import (
    Certificate,
    Comparison,
    DataSet,
    MadeBy,
    Note,
    RunRecord,
    Weights,
    mean_weights,
    paired,
)
from experiments.text_mixture import costs
from experiments.text_mixture.config import TextMixture
from experiments.text_mixture.data import Target
from experiments.text_mixture.plan import COMBINED, SEARCHERS, SOLVED_ARMS, Plan
from experiments.text_mixture.search import CALIBRATION, CALIBRATION_LEVEL, LEAST_GAIN
from experiments.text_mixture.stages import (
    Divergence,
    SeedResult,
    divergence_records,
    rung_stage,
    score_stage,
    weights_stage,
)
from mixmin_jax.data.text.documents import Corpus
from mixmin_jax.stats.comparison import (
    RANDOM_MIXTURE,
    Fidelity,
    Point,
    Summary,
    cost_to_reach,
    fidelity,
    paired_bootstrap_over_documents,
    summary,
)
from mixmin_jax.training.language_model import LanguageModelRun
from mixmin_jax.training.source_monitor import ERRORS, RISE

NUM_WORST = 5  # near-duplicates that the report shows; overlap.json has all


@dataclasses.dataclass(frozen=True)
class Arm:
    """A mixture, and what a model trained on it reached."""

    test_bits_per_byte: Summary
    weights: Weights  # mean over seeds
    weights_per_seed: tuple[Weights, ...]
    epochs: dict[str, float]  # how often the target run reads each source, mean over seeds
    predicted_bits_per_byte: dict[str, Summary]  # by the mixture of proxies on the test part, by kind of rows

    def derived(self) -> Self:
        return dataclasses.replace(self, weights=mean_weights(self.weights_per_seed))


@dataclasses.dataclass(frozen=True)
class RungResult:
    """Proxies that weights were found with, and what they found, in one seed."""

    kind: str
    tokens: int | None  # of a trained proxy; None for n-grams
    rows: str
    weights: Weights
    predicted_gain: float  # over natural weights, bits per byte of the fit part
    excess: float | None  # of the weights of the rung below, bits per byte on documents left out; None for the first
    noise: float | None  # what that must exceed
    changed: bool  # whether it does
    flops: float
    seconds: float


@dataclasses.dataclass(frozen=True)
class Gain:
    """What `mixmin` should gain over natural weights, in bits per byte, from the fit part alone."""

    predicted: float  # by the mixture of proxies
    expected: float | None  # after calibration; None where there is none for these proxies and rows
    low: float | None
    high: float | None
    level: float  # of the interval


@dataclasses.dataclass(frozen=True)
class Search:
    """How the weights of `mixmin` were found; of the first seed."""

    rungs: tuple[RungResult, ...]
    kept: int  # the rung whose weights are used
    interval: dict[str, tuple[float, float]]  # of each weight, over resampled documents
    unconverged: int  # resamples whose weights are not solved to tolerance
    gain: Gain
    share: float  # FLOPs of all rungs over those of a target run
    seconds: float
    target_seconds: float | None  # of one target run; None where none was trained


@dataclasses.dataclass(frozen=True)
class Multiple:
    """A run of `natural` on more tokens, in the first seed."""

    times: float
    test_bits_per_byte: float


@dataclasses.dataclass(frozen=True)
class Recommendation:
    """The arm to use, and why."""

    arm: str
    reason: str
    weights: Weights


@dataclasses.dataclass(frozen=True)
class RandomMixture:
    """A random mixture, and what a model of the proxies' size reached on it."""

    seed: int
    test_bits_per_byte: float
    weights: Weights


@dataclasses.dataclass(frozen=True)
class NearDuplicate:
    """A target document that shares much of its text with a source."""

    document: int
    source: str
    share: float  # of its n-grams
    source_documents: tuple[int, ...]
    excerpt: str
    part: str = ""  # of the target: fit, test, or unused under a byte budget


@dataclasses.dataclass(frozen=True)
class Overlap:
    """Near-duplicates of target documents in each source; what --drop-duplicates took out before, if it was given."""

    ngram: int
    threshold: float  # share of n-grams from which a document counts
    sources: dict[str, int]
    worst: tuple[NearDuplicate, ...]
    dropped: dict[str, int] | None = None  # documents of each source, for all targets
    target_documents_repeated: int = 0  # of this target
    worst_dropped: tuple[NearDuplicate, ...] = ()


@dataclasses.dataclass(frozen=True)
class Seen:
    """What one training saw of each source."""

    seed: int
    asked: Weights
    sampled: Weights
    bits_per_byte: dict[str, tuple[float | None, ...]]  # training loss over the run; None: not drawn


@dataclasses.dataclass(frozen=True)
class Monitors:
    """What the trainings of the arms saw, and where a loss or a share went wrong."""

    steps: tuple[int, ...]  # at which the stretches of the run end
    windows: int
    rise: float  # of a loss over the second half of a run that counts, relative
    errors: float  # and in standard errors
    arms: dict[str, tuple[Seen, ...]]
    divergences: tuple[Divergence, ...]


@dataclasses.dataclass(frozen=True)
class Flops:
    """Costs of one target: all proxies and all random mixtures in one seed, one target run, and all seeds."""

    proxies: float
    random_mixtures: float
    target: float
    total: float
    finding: dict[str, float] = dataclasses.field(default_factory=dict)  # the weights of each arm, in one seed


@dataclasses.dataclass(frozen=True)
class Tokens:
    """Training tokens of one run on a random mixture, and of one target run."""

    proxy: int | None  # None: there were none
    target: int


@dataclasses.dataclass(frozen=True)
class Regmix:
    """How `regmix` was fitted."""

    model: str
    runs: int
    more_compute_than_mixmin: bool


@dataclasses.dataclass(frozen=True)
class SourceText:
    """The text of a source, as it was trained on."""

    documents: int
    bytes: int
    sha256: str
    empty_documents_skipped: int = 0
    near_duplicates_dropped: int | None = None  # by --drop-duplicates
    sha256_as_read: str | None = None  # before that


@dataclasses.dataclass(frozen=True)
class TargetText:
    """The documents of the target: those that weights are fitted on, and those that losses are reported on."""

    name: str
    documents: int
    bytes: int
    sha256: str
    split_seed: int
    fit_fraction: float
    fit_documents: int
    fit_bytes: int
    test_documents: int
    test_bytes: int
    fit_document_numbers: tuple[int, ...]
    test_document_numbers: tuple[int, ...]
    empty_documents_skipped: int = 0


@dataclasses.dataclass(frozen=True)
class Data:
    """The text of a run."""

    sources: dict[str, SourceText]
    target: TargetText


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextMetrics(RunRecord):
    """All numbers of one target."""

    target: str
    sources: tuple[str, ...]
    arms: dict[str, Arm]
    comparisons: dict[str, Comparison]  # test loss of `mixmin` less that of each other arm
    mixmin: Certificate
    mixmin_document: Certificate | None = None
    mixmin_token: Certificate | None = None
    combined: Certificate | None = None  # of --combine
    search: Search | None = None  # None: of a version that solved from trained proxies alone
    multiples: tuple[Multiple, ...] = ()
    compute_multiplier: float | None = None  # tokens that `natural` needs for the loss of `mixmin`, over its own
    fidelity: Fidelity
    random_mixtures: tuple[RandomMixture, ...]
    overlap: Overlap
    monitors: Monitors | None = None  # None: of a version that had none
    source_notes: dict[str, Note] = dataclasses.field(default_factory=dict)
    flops: Flops
    tokens: Tokens
    regmix: Regmix | None = None
    max_epochs: float | None = None
    data: Data

    @property
    def solved(self) -> dict[str, Certificate]:
        """The certificates of the arms that have one."""
        return {arm: found for arm in (*SOLVED_ARMS, COMBINED) if (found := getattr(self, arm))}

    def derived(self) -> Self:
        if not self.arms:
            return self
        ours = self.arms["mixmin"].test_bits_per_byte
        comparisons = {}
        for arm, held in self.comparisons.items():
            difference = paired(ours, self.arms[arm].test_bits_per_byte)
            if len(self.seeds) == 1:  # its error is over test documents, whose losses are in the stages
                known = {name: getattr(held, name) for name in ("standard_error", "n", "basis")}
                difference = dataclasses.replace(difference, **known)
            comparisons[arm] = Comparison.of(difference)
        return dataclasses.replace(
            self, comparisons=comparisons, compute_multiplier=_compute_multiplier(self.arms, self.multiples)
        )

    @property
    def recommended(self) -> Recommendation:
        """`mixmin`, unless an arm beats it."""
        better = [arm for arm, found in self.comparisons.items() if found.verdict == "loses"]
        if not better:
            weights = self.arms["mixmin"].weights if self.arms else self.found
            ties = [arm for arm, found in self.comparisons.items() if found.verdict == "ties"]
            reason = "no arm beats it" + f"; not distinguishable from {', '.join(ties)}" * bool(ties)
            return Recommendation("mixmin", reason if self.arms else "found, and not tried", weights)
        best = min(better, key=lambda arm: self.arms[arm].test_bits_per_byte.mean)
        lost = self.comparisons[best]
        error = f" ± {lost.standard_error:.3f}" if lost.standard_error else ""
        reason = f"reaches {lost.mean:.3f}{error} bits per byte less than mixmin on the held-out part of the target"
        return Recommendation(best, reason, self.arms[best].weights)

    @property
    def found(self) -> Weights:
        """The weights of `mixmin`, tried or not."""
        assert self.search is not None
        return self.search.rungs[self.search.kept].weights


def _compute_multiplier(arms: Mapping[str, Arm], multiples: Sequence[Multiple]) -> float | None:
    """How many times the tokens `natural` needs to reach the loss of `mixmin`, both of the first seed.

    Linear between the multiples that were run; None if the largest does not reach it.
    """
    if not multiples:
        return None
    ours, natural = (arms[arm].test_bits_per_byte.per_seed[0] for arm in ("mixmin", "natural"))
    times = (1.0, *(run.times for run in multiples))
    losses = (natural, *(run.test_bits_per_byte for run in multiples))
    return cost_to_reach(times, [-loss for loss in losses], -ours)


def build_metrics(
    plan: Plan,
    target: Target,
    results: Sequence[SeedResult],
    overlap: Product,
    stages: Stages,
    made_by: MadeBy,
    data_sets: Sequence[DataSet],
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
        demonstration=config.demonstration,
        complete=len(results) == config.seeds,
        seeds=tuple(result.seed for result in results),
        config=config_record(config),
        identity=identity(plan),
        target=target.name,
        sources=plan.names,
        arms=arms,
        comparisons=_comparisons(arms, [result.test_nats for result in results], _bytes(target)),
        **solved,
        search=_search(plan, target, results[0], {name: record.seconds for name, record in records.items()}),
        multiples=multiples,
        compute_multiplier=_compute_multiplier(arms, multiples),
        fidelity=fidelity(_points(arms, results)),
        random_mixtures=tuple(
            RandomMixture(result.seed, float(reached), _named(w_K, plan.names))
            for result in results
            for w_K, reached in zip(result.random_RxK, result.random_reached_R, strict=True)
        ),
        overlap=_overlap(overlap, target),
        monitors=_monitors(plan, results) if arms else None,
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
        proxies = plan.rungs[index].name
        names = (
            rung_stage(target.name, index, result.seed),
            *(["score-ngrams"] if plan.rungs[index].run is None else []),
            f"train-{proxies}-seed{result.seed}",
            score_stage(proxies, target.name, result.seed),
        )
        return sum(seconds.get(name, 0.0) for name in names)

    rungs = tuple(
        RungResult(
            kind=rung["kind"],
            tokens=rung["tokens"],
            rows=rung["rows"],
            weights=_named(rung["weights"], plan.names),
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
    data = ("sources", "sources_info", "drop_duplicates", "target", "field")  # by the hashes of what is trained on
    elsewhere = (*data, "tokens_on", "compare", "price_per_hour")
    return {key: value for key, value in config_record(plan.config).items() if key not in elsewhere} | {
        "data": plan.inputs["sources"],
        "sizes": plan.sizes_K.tolist(),
        "compared": {name: weights_K.tolist() for name, weights_K in plan.compared.items()},
        "targets": {target.name: target.corpus.fingerprint for target in plan.targets},
    }


def from_stages(metrics: TextMetrics, stages: Path) -> TextMetrics | None:
    """The record with the weights and test losses of its stages in their place; None where one is missing."""
    own = tuple(arm for arm in metrics.arms if arm in (*SOLVED_ARMS, *SEARCHERS))
    shared = tuple(arm for arm in metrics.arms if arm not in own and arm != COMBINED)
    groups = {"shared-arms": shared, "arms": own, f"{COMBINED}-arm": (COMBINED,) if metrics.combined else ()}
    nats: list[dict[str, np.ndarray]] = []
    weights: list[dict[str, Weights]] = []
    rungs: list[list[dict[str, Any]]] = []
    try:
        for seed in metrics.seeds:
            scored: dict[str, np.ndarray] = {}
            for name, arms_of_group in groups.items():
                if not arms_of_group:
                    continue
                if not arms_of_group:
                    continue
                product, _ = read_stage(stages / f"{score_stage(name, metrics.target, seed)}.npz")
                scored |= dict(zip(arms_of_group, -product["document_DxM"].T, strict=True))
                bytes_D = product["bytes_D"]
            nats.append(scored)
            held: dict[str, Any] = {}
            if len(own) > 1:
                held, _ = read_stage(stages / f"{weights_stage(metrics.target, seed)}.npz")
            rungs.append(_read_rungs(metrics, stages, seed))
            held = {"mixmin": [rung for rung in rungs[-1] if rung["changed"]][-1]["weights"]} | held.get("weights", {})
            weights.append({arm: _named(w_K, metrics.sources) for arm, w_K in held.items()})
    except FileNotFoundError:
        return None
    assert metrics.search is not None  # records without one have no such stages
    stated = ("weights", "predicted_gain", "excess", "noise", "changed")
    found = tuple(
        dataclasses.replace(
            rung, **{name: read[name] for name in stated} | {"weights": _named(read["weights"], metrics.sources)}
        )
        for rung, read in zip(metrics.search.rungs, rungs[0], strict=True)
    )
    kept = rungs[0][metrics.search.kept]
    interval = {
        name: (low, high) for name, low, high in zip(metrics.sources, kept["lower"], kept["upper"], strict=True)
    }
    metrics = dataclasses.replace(metrics, search=dataclasses.replace(metrics.search, rungs=found, interval=interval))
    if not metrics.arms:
        return metrics
    arms = {
        arm: dataclasses.replace(
            held,
            test_bits_per_byte=_levels(arm, nats, bytes_D),
            weights_per_seed=tuple(w[arm] for w in weights) if arm in weights[0] else held.weights_per_seed,
        )
        for arm, held in metrics.arms.items()
    }
    return dataclasses.replace(metrics, arms=arms, comparisons=_comparisons(arms, nats, bytes_D))


def _read_rungs(metrics: TextMetrics, stages: Path, seed: int) -> list[dict[str, Any]]:
    """What the stages of a seed found on each rung, the first one at least."""
    rungs = [read_stage(stages / f"{rung_stage(metrics.target, 0, seed)}.npz")[0]]
    while (path := stages / f"{rung_stage(metrics.target, len(rungs), seed)}.npz").exists():
        rungs.append(read_stage(path)[0])
    return rungs


def problems(metrics: TextMetrics, folder: Path) -> list[str]:
    """What is wrong beyond what `derived` computes again."""
    wrong = [
        f"the point of {point.label}, seed {point.seed}, is not at its test loss"
        for point in metrics.fidelity.points
        if point.label in metrics.arms
        and point.reached
        != dict(zip(metrics.seeds, metrics.arms[point.label].test_bits_per_byte.per_seed, strict=True))[point.seed]
    ]
    path = folder / metrics.target / "overlap.json"
    if path.exists():
        held, stated = read_json(path), metrics.overlap
        counted = {source: sum(match["source"] == source for match in held["matches"]) for source in held["sources"]}
        worst = tuple(dataclasses.replace(found, part="") for found in stated.worst)
        same = Overlap(held["ngram"], held["threshold"], held["sources"], _duplicates(held["matches"][: len(worst)]))
        if counted != held["sources"] or same != dataclasses.replace(
            stated, worst=worst, dropped=None, target_documents_repeated=0, worst_dropped=()
        ):
            wrong.append("overlap.json does not hold the near-duplicates of the record")
    return wrong


def _bytes(target: Target) -> np.ndarray:
    return np.array([len(document) for document in target.documents("test")])


def _levels(arm: str, nats: Sequence[Mapping[str, np.ndarray]], bytes_D: np.ndarray) -> Summary:
    """Test loss in bits per byte."""
    bits = math.log(2) * bytes_D.sum()
    return summary([float(seed[arm].sum() / bits) for seed in nats])


def _arm(arm: str, target: Target, results: Sequence[SeedResult], plan: Plan) -> Arm:
    epochs_SxK = np.stack([result.draws[arm] for result in results]) / plan.store.windows_K
    weights = tuple(_named(result.weights[arm], plan.names) for result in results)
    return Arm(
        test_bits_per_byte=_levels(arm, [result.test_nats for result in results], _bytes(target)),
        weights=mean_weights(weights),
        weights_per_seed=weights,
        epochs=_named(epochs_SxK.mean(0), plan.names),
        predicted_bits_per_byte={
            row: summary([result.predicted[arm][row] for result in results]) for row in results[0].predicted[arm]
        },
    )


def _comparisons(
    arms: Mapping[str, Arm], nats: Sequence[Mapping[str, np.ndarray]], bytes_D: np.ndarray
) -> dict[str, Comparison]:
    """`mixmin` less each other arm: paired over seeds or, with one seed, over the test documents."""
    found = {}
    for arm in arms:
        if arm == "mixmin":
            continue
        difference = paired(arms["mixmin"].test_bits_per_byte, arms[arm].test_bits_per_byte)
        if len(nats) == 1:
            difference = paired_bootstrap_over_documents(nats[0]["mixmin"], nats[0][arm], bytes_D)
        found[arm] = Comparison.of(difference)
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
        _duplicates(product["matches"][:NUM_WORST], target),
    )
    if "dropped" not in product:
        return found
    sources, matches = product["dropped"]["sources"], product["dropped"]["matches"]
    worst = sorted(matches, key=lambda match: -match["share"])[:NUM_WORST]
    return dataclasses.replace(
        found,
        dropped={name: len(documents) for name, documents in sources.items()},
        target_documents_repeated=len({match["document"] for match in matches}),
        worst_dropped=_duplicates(worst, target),
    )


def _duplicates(matches: Sequence[Mapping[str, Any]], target: Target | None = None) -> tuple[NearDuplicate, ...]:
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
            asked=_named(asked_K / asked_K.sum(), plan.names),
            sampled=_named(monitor.sampled_MxK[0], plan.names),
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
    return SourceText(corpus.num_documents, corpus.num_bytes, corpus.fingerprint, corpus.num_skipped, dropped, read_as)


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


def _named(values_K: Sequence[float] | np.ndarray, names: Sequence[str]) -> dict[str, float]:
    return {name: float(value) for name, value in zip(names, values_K, strict=True)}
