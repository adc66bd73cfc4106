"""Made-up records of the text experiment."""

import numpy as np

from experiments.reporting.json_files import to_builtins, typed
from experiments.reporting.schema import Certificate, Comparison, MadeBy, mean_weights, paired
from experiments.text_mixture.results import (
    Arm,
    Data,
    Flops,
    Gain,
    Monitors,
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
)
from mixmin_jax.stats.comparison import RANDOM_MIXTURE, Point, fidelity, paired_bootstrap_over_documents, summary

ARMS = ["mixmin", "mixmin_token", "uniform", "natural", "random_search", "regmix"]
LEVELS = dict(zip(ARMS, [3.03, 3.07, 3.26, 3.31, 3.12, 3.10], strict=True))
DOCUMENTS = 240
ROWS = {"mixmin": 0.0, "document": 0.0, "token": 0.1}  # how much too high each predicts


def made_up(num_seeds=3, num_sources=8, levels=LEVELS, noise=0.004, demonstration=False):
    """A run in which arm a reaches `levels[a]`, with `noise` over seeds, in bits per byte."""
    rng = np.random.default_rng(0)
    sources = [f"source_{k}" for k in range(num_sources)]
    noise_AxS = noise * rng.standard_normal((len(ARMS), num_seeds))
    noise_AxS -= noise_AxS.mean(1, keepdims=True)  # means are the levels, so that no verdict is a matter of luck
    arms, points = {}, []
    for arm, noise_S in zip(ARMS, noise_AxS, strict=True):
        reached = summary(levels[arm] + noise_S)
        center_K = np.ones(num_sources) if arm == "uniform" else rng.gamma(0.4, size=num_sources)
        w_SxK = rng.dirichlet(300 * center_K / center_K.sum() + 0.1, size=num_seeds)
        weights = tuple(dict(zip(sources, w_K.tolist(), strict=True)) for w_K in w_SxK)
        epochs = dict(zip(sources, (3 * w_SxK.mean(0)).tolist(), strict=True))
        rows = {row: np.array(reached.per_seed) + 0.4 + more for row, more in ROWS.items()}
        predicted = {row: summary(losses) for row, losses in rows.items()}
        arms[arm] = Arm(reached, mean_weights(weights), weights, epochs, predicted)
        for s, level in enumerate(reached.per_seed):
            off = {row: float(losses[s] + 0.03 * rng.standard_normal()) for row, losses in rows.items()}
            points.append(Point(s, arm, "target", level, off))
    random = []
    for s in range(num_seeds):
        for reached in 3.6 + 0.2 * rng.standard_normal(num_sources):
            predicted = {row: reached + (0.1 + 2 * more) * rng.random() for row, more in ROWS.items()}
            points.append(Point(s, RANDOM_MIXTURE, "proxy", float(reached), predicted))
            random.append(RandomMixture(s, float(reached), arms["uniform"].weights))
    comparisons = {}
    for arm in ARMS[1:]:
        difference = paired(arms["mixmin"].test_bits_per_byte, arms[arm].test_bits_per_byte)
        if num_seeds == 1:
            bytes_D = rng.integers(500, 2000, DOCUMENTS)
            nats_D = levels[arm] * np.log(2) * bytes_D
            less_D = (levels["mixmin"] - levels[arm] + noise * rng.standard_normal(DOCUMENTS)) * bytes_D
            difference = paired_bootstrap_over_documents(nats_D + less_D, nats_D, bytes_D, num_samples=50)
        comparisons[arm] = Comparison.of(difference, matters=0.0)
    history = tuple(tuple(10.0 ** (1 - 1.1 * i - 0.3 * s) for i in range(12)) for s in range(num_seeds))
    solved = Certificate(2.31, 3e-12, 1e-9, 11, True, "interior_point", 0, history)
    seen = {
        arm: tuple(
            Seen(
                seed=s,
                asked=weights,
                sampled={source: round(weight, 4) for source, weight in weights.items()},
                bits_per_byte={
                    source: (7.5, 5.0 + 0.1 * k, 4.0 + 0.1 * k, None if k == 1 else 3.5 + 0.1 * k)
                    for k, source in enumerate(sources)
                },
            )
            for s, weights in enumerate(found.weights_per_seed)
        )
        for arm, found in arms.items()
    }
    target = TargetText(
        "science_news", 440, 550_000, "0" * 64, 0, 0.5, 200, 250_000, DOCUMENTS, 300_000, (0, 2), (1, 3)
    )
    return TextMetrics(
        experiment="text_mixture",
        demonstration=demonstration,
        seeds=tuple(range(num_seeds)),
        made_by=MadeBy("python -m experiments.text_mixture --seeds 3", "cpu", "0123abc", {"jax": "0.10.2"}),
        config={"seeds": num_seeds},
        identity={},
        data_sets=(),
        seconds={"proxies": 12.5, "arms": 100.0},
        target="science_news",
        sources=tuple(sources),
        arms=arms,
        comparisons=comparisons,
        mixmin=solved,
        mixmin_token=solved,
        search=search(arms["mixmin"].weights),
        fidelity=fidelity(points),
        random_mixtures=tuple(random),
        overlap=Overlap(13, 0.5, dict.fromkeys(sources, 0), ()),
        monitors=Monitors((50, 100, 150, 200), 10_000, 0.02, 3.0, seen, ()),
        flops=Flops(2.0e13, 2.0e13, 8.0e13, 1.6e15),
        tokens=Tokens(1_000_000, 4_000_000),
        regmix=Regmix("linear", num_sources, False),
        data=Data(dict.fromkeys(sources, SourceText(1000, 2_000_000, "0" * 64)), target),
    )


def search(weights):
    """Weights from n-grams, and from a transformer that would not change them."""
    rungs = (
        RungResult("ngram", None, "32", weights, 0.10, None, None, True, 4.0e11, 9.0),
        RungResult("transformer", 24_000, "token", weights, 0.25, 0.0004, 0.0021, False, 2.0e12, 30.0),
    )
    interval = {source: (0.9 * weight, min(1.1 * weight, 1.0)) for source, weight in weights.items()}
    return Search(rungs, 0, interval, 0, Gain(0.10, 0.25, 0.15, 0.40, 0.8), 0.03, 39.0, 120.0)


def changed(metrics, **changes):
    """The record with other entries; `__` in a name stands between the keys of a path."""
    held = to_builtins(metrics)
    for path, value in changes.items():
        *places, last = path.split("__")
        part = held
        for place in places:
            part = part[place]
        part[last] = value
    return typed(held, TextMetrics, "made up")
