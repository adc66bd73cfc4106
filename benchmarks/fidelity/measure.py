"""The whole measurement: ground truth, predictions of every way, mixtures that were found, and the choice of defaults.

Axes: M mixtures (random ones, then uniform, then natural), K sources, O orders, N bytes, D documents.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence

import numpy as np

from benchmarks.fidelity.data import World, draw_mixtures
from benchmarks.fidelity.numbers import calibrate, choose_rows, choose_text, gain_ratios, quality, ratios
from benchmarks.fidelity.records import FidelityRecord, Found, Mixture, Quality, Way, WorldRecord
from benchmarks.fidelity.settings import RULE_SEEDS, Counted, Settings, Trained
from benchmarks.fidelity.stages import TOGETHER, WorldStages
from benchmarks.fidelity.ways import DOCUMENT, regressions, rows_of
from experiments.harness.language_model_stages import scoring_flops, training_flops
from experiments.harness.stages import Stages
from experiments.reporting.schema import MadeBy
from mixmin_jax import cross_entropy, solve
from mixmin_jax.mixture import rows as mixture_rows
from mixmin_jax.mixture.rows import Rows
from mixmin_jax.training.ngram_proxies import ngram_operations

BITS = 1 / math.log(2)
MDE_ROWS = 1  # Mixture of Data Experts mixes the proxies at every token


@dataclasses.dataclass(frozen=True, eq=False)
class Predictions:
    """What one way predicts in one world for one target, and its share of a target run."""

    proxies: str
    reading: str
    order: int | None
    losses_M: np.ndarray
    flops_share: float
    seconds_share: float


class WorldMeasurement:
    """One world: what was reached on its mixtures, and what every way predicts."""

    def __init__(self, world: World, settings: Settings, stages: Stages) -> None:
        self.world, self.settings, self.stages = world, settings, WorldStages(world, stages)
        self.run = settings.target_run(world.name)
        self.weights_MxK = np.concatenate([world.mixtures_MxK, world.rules_2xK])
        random = self.stages.reached(self.run, "truth", world.mixtures_MxK)
        rules = [self.stages.reached(self.run, f"rules-seed{s}", world.rules_2xK, s) for s in range(RULE_SEEDS)]
        self.reached = {name: np.concatenate([random[name], rules[0][name]]) for name in random}
        self._rules = {name: np.stack([seed[name] for seed in rules]) for name in random}
        self._tokens: dict[str, dict[str, np.ndarray]] = {}

    def record(self) -> WorldRecord:
        parts = -(-len(self.world.mixtures_MxK) // TOGETHER)
        seconds = sum(self.stages.seconds(f"truth-{part}" if parts > 1 else "truth") for part in range(parts))
        return WorldRecord(
            name=self.world.name,
            source_bytes={corpus.name: corpus.num_bytes for corpus in self.world.sources},
            target_tokens=self.run.num_windows * self.run.sequence_length,
            target_flops=training_flops(self.run),
            target_seconds=seconds / len(self.world.mixtures_MxK),
            mixtures=tuple(self.named(weights_K) for weights_K in self.weights_MxK),
            reached={name: tuple(bits_M.tolist()) for name, bits_M in self.reached.items()},
            noise={name: float(bits_SxM.std(axis=0, ddof=1).mean()) for name, bits_SxM in self._rules.items()},
        )

    def named(self, weights_K: np.ndarray) -> Mixture:
        return dict(zip(self.world.names, np.asarray(weights_K, float).tolist(), strict=True))

    def tokens(self, kind: Counted | Trained, order: int | None = None) -> dict[str, np.ndarray]:
        """token_NxK of the fit part of each target."""
        if kind.name not in self._tokens:
            tokens = self.run.num_windows * self.run.sequence_length
            self._tokens[kind.name] = (
                self.stages.counted(kind, self.settings.orders)
                if isinstance(kind, Counted)
                else self.stages.trained(kind, tokens)
            )
        found = self._tokens[kind.name]
        return found if order is None else {name: x[self.settings.orders.index(order)] for name, x in found.items()}

    def predictions(self, target: int) -> Iterator[Predictions]:
        """Of every way, for one target."""
        name, documents = self.world.targets[target].name, self.world.targets[target].documents("fit")
        bytes_D = np.array([len(document) for document in documents])
        one_run = self.record().target_seconds
        lengths: Sequence[int | str] = (*self.settings.lengths, DOCUMENT)
        kinds: list[tuple[Counted | Trained, int | None]] = [
            *((kind, order) for kind in self.settings.counted for order in self.settings.orders),
            *((kind, None) for kind in self.settings.trained),
        ]
        for kind, order in kinds:
            token_NxK = self.tokens(kind, order)[name]
            flops, seconds = self._cost(kind, order, documents)
            for length in lengths:
                rows = rows_of(token_NxK, bytes_D, length)
                losses_M = mixture_losses(rows, self.weights_MxK)
                share = flops / training_flops(self.run)
                yield Predictions(kind.name, str(length), order, losses_M, share, seconds / one_run)
        best = self.settings.trained[-1]
        moe = rows_of(self.tokens(best)[name], bytes_D, MDE_ROWS)
        for num, kind in self.settings.random_runs:
            random_RxK = draw_mixtures(self.world.store, num, seed=1)
            losses_R = self.stages.random_runs(kind.run, random_RxK)[name]
            found = regressions(
                random_RxK,
                losses_R,
                mixture_losses(moe, random_RxK),
                self.weights_MxK,
                mixture_losses(moe, self.weights_MxK),
            )
            flops = num * (training_flops(kind.run) + scoring_flops(kind.run, documents))
            parts = (
                f"random-{kind.run.num_windows * kind.run.sequence_length}-{p}" for p in range(-(-num // TOGETHER))
            )
            seconds = sum(self.stages.seconds(part) for part in parts)
            for reading, losses_M in found.items():
                extra = self._cost(best, None, documents) if reading.startswith("MDE") else (0.0, 0.0)
                yield Predictions(
                    f"{num} runs of {kind.tokens // 1000}k tokens",
                    reading,
                    None,
                    losses_M,
                    (flops + extra[0]) / training_flops(self.run),
                    (seconds + extra[1]) / one_run,
                )

    def _cost(self, kind: Counted | Trained, order: int | None, documents: Sequence[bytes]) -> tuple[float, float]:
        """FLOPs and seconds of proxies and their scores; seconds are those for all targets (and orders) at once."""
        if isinstance(kind, Counted):
            sizes = [min(corpus.num_bytes, kind.limit or corpus.num_bytes) for corpus in self.world.sources]
            operations = ngram_operations(sizes, sum(map(len, documents)), order or max(self.settings.orders))
            return operations, self.stages.seconds(self.stages.stage_name(kind))
        flops = len(self.world.names) * (training_flops(kind.run) + scoring_flops(kind.run, documents))
        return flops, self.stages.seconds(self.stages.stage_name(kind))

    def found(self, target: int, ways: Sequence[tuple[Counted | Trained, int | None, str]]) -> tuple[Found, ...]:
        """Solve for the weights with each of these proxies and rows, and train on all of them."""
        name, documents = self.world.targets[target].name, self.world.targets[target].documents("fit")
        bytes_D = np.array([len(document) for document in documents])
        reached_M, solved = self.reached[name], []
        for kind, order, length in ways:
            rows = rows_of(self.tokens(kind, order)[name], bytes_D, length)
            count = len(rows.logp_RxK)
            weights_K = solve(cross_entropy(rows.logp_RxK, example_weights=np.full(count, 1 / bytes_D.sum()))).weights
            predicted = mixture_losses(rows, np.stack([weights_K, self.weights_MxK[-1]]))
            solved.append((weights_K, float(predicted[1] - predicted[0])))
        weights_MxK = np.stack([weights_K for weights_K, _ in solved])
        reached = self.stages.reached(self.run, f"found-{name}", weights_MxK)[name].tolist()
        return tuple(
            Found(
                proxies=kind.name,
                rows=str(length),
                weights=self.named(weights_K),
                predicted_gain=predicted_gain,
                reached=bits,
                gain=float(reached_M[-1] - bits),
                over_best_random=float(bits - reached_M[: len(self.world.mixtures_MxK)].min()),
            )
            for (kind, order, length), (weights_K, predicted_gain), bits in zip(ways, solved, reached, strict=True)
        )


def measure(
    worlds: Sequence[World], tuning: Sequence[str], settings: Settings, stages: Stages, origin: MadeBy
) -> FidelityRecord:
    """Settings are chosen on the pairs of a world and a target of `tuning`, and confirmed on the others.

    For confirming pairs, mixtures are found with the choice, with single bytes, and as MixMin was published.
    """
    measured = {world.name: WorldMeasurement(world, settings, stages) for world in worlds}
    pairs = {
        f"{world.name}/{target.name}": (measured[world.name], t)
        for world in worlds
        for t, target in enumerate(world.targets)
    }
    tuning_pairs = [pair for pair, (m, t) in pairs.items() if m.world.targets[t].name in tuning]
    confirming_pairs = [pair for pair in pairs if pair not in tuning_pairs]
    predicted = {pair: list(m.predictions(t)) for pair, (m, t) in pairs.items()}
    ways = _ways(predicted, {pair: m.reached[m.world.targets[t].name] for pair, (m, t) in pairs.items()})

    order, text = choose_text(ways, tuning_pairs)
    counted = {kind.name: kind for kind in settings.counted}[text]
    trained = settings.trained[-1]
    lengths: list[str] = [*map(str, settings.tried_lengths), DOCUMENT]
    trained_ways = [(trained, None, rows) for rows in ("1", DOCUMENT)]
    found = {}
    for pair in tuning_pairs:
        m, t = pairs[pair]
        found[pair] = m.found(t, [*((counted, order, rows) for rows in lengths), *trained_ways])
    choice = choose_rows(found, tuning_pairs, order, text)
    for pair in confirming_pairs:
        m, t = pairs[pair]
        found[pair] = m.found(t, [(counted, order, choice.rows), (counted, order, "1"), (trained, None, DOCUMENT)])

    def all_ratios(some: Sequence[str]) -> np.ndarray:
        parts = [np.zeros(0)]
        for pair in some:
            m, t = pairs[pair]
            (way,) = (w for w in predicted[pair] if (w.proxies, w.reading, w.order) == (text, choice.rows, order))
            parts.append(ratios(way.losses_M, m.reached[m.world.targets[t].name]))
        return np.concatenate(parts)

    def found_ratios(some: Sequence[str]) -> np.ndarray:
        own = [o for pair in some for o in found[pair] if (o.proxies, o.rows) == (text, choice.rows)]
        return gain_ratios(np.array([o.predicted_gain for o in own]), np.array([o.gain for o in own]))

    return FidelityRecord(
        made_by=origin,
        worlds=tuple(m.record() for m in measured.values()),
        tuning=tuple(tuning),
        confirming=tuple(t.name for t in worlds[0].targets if t.name not in tuning),
        ways=ways,
        found=found,
        choice=choice,
        calibration=calibrate(all_ratios(tuning_pairs), all_ratios(confirming_pairs), found_ratios(confirming_pairs)),
    )


def _ways(predicted: dict[str, list[Predictions]], reached: dict[str, np.ndarray]) -> tuple[Way, ...]:
    first = next(iter(predicted.values()))
    ways = []
    for index, way in enumerate(first):
        own = {pair: of_pair[index] for pair, of_pair in predicted.items()}
        results: dict[str, Quality] = {pair: quality(one.losses_M, reached[pair]) for pair, one in own.items()}
        ways.append(
            Way(
                proxies=way.proxies,
                reading=way.reading,
                order=way.order,
                flops_share=math.fsum(one.flops_share for one in own.values()) / len(own),
                seconds_share=math.fsum(one.seconds_share for one in own.values()) / len(own),
                quality=results,
            )
        )
    return tuple(ways)


def mixture_losses(found: Rows, weights_MxK: np.ndarray) -> np.ndarray:
    """The loss of each mixture of proxies in bits per byte."""
    return mixture_rows.mixture_losses(found, weights_MxK) * BITS
