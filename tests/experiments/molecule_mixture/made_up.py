"""A made-up record of the molecule experiment: two seeds, three sources, nothing trained."""

import dataclasses

from experiments.molecule_mixture import results
from experiments.molecule_mixture.plan import GROWTH_ARMS, MIXED_ARMS, SOLVED_ARMS
from experiments.reporting.schema import Certificate, MadeBy, mean_weights
from mixmin_jax.data.molecules.cleaning import Unparsable
from mixmin_jax.stats.comparison import RANDOM_MIXTURE, Point, summary

METRICS = ("average_precision", "roc_auc")
INTERVALS = {"wins": (0.1, 0.3), "ties": (-0.1, 0.1), "loses": (-0.3, -0.1)}


def arm(number, *weights):
    return results.Arm(
        scores={metric: summary([0.5 + 0.01 * number, 0.6 + 0.01 * number]) for metric in METRICS},
        test_loss=summary([0.7, 0.8]),
        predicted_loss=summary([0.6, 0.7]),
        weights=mean_weights(weights),
        weights_per_seed=weights,
    )


def without_mixture(number):
    return dataclasses.replace(arm(-number), predicted_loss=None, weights=None)


def record(**changes):
    weights = {"a": 0.75, "b": 0.25}, {"a": 1.0}
    points = [
        Point(seed, name, "all molecules", 0.5 + seed, {"molecule": 0.5}) for seed in (0, 1) for name in MIXED_ARMS
    ]
    points += [Point(0, RANDOM_MIXTURE, "without a fold", 0.1 * r, {"molecule": 0.2 * r}) for r in range(4)]
    fidelity = results.MoleculeFidelity.of(points)
    found = results.MoleculeMetrics(
        experiment="molecule_mixture",
        seeds=(0, 1),
        made_by=MadeBy("python -m experiments.molecule_mixture", "1 x cpu", "0123abc", {"python": "3.13"}),
        config={"split": "scaffold"},
        identity={"targets": ["target"]},
        data_sets=(),
        seconds={"fingerprints": 1.5},
        target="target",
        task="classification",
        learner="logistic",
        balanced=True,
        calibrated=True,
        loss="nats per molecule, classes alike",
        metrics=METRICS,
        arms={name: arm(number, *weights) for number, name in enumerate(MIXED_ARMS)}
        | {name: without_mixture(number) for number, name in enumerate(("multitask", "nearest"))},
        resamples=1000,
        comparisons=(),
        growth=tuple(results.Growth(2, name, {metric: (0.4, 0.5) for metric in METRICS}) for name in GROWTH_ARMS),
        solved={
            name: Certificate(0.6, 1e-10, 1e-9, 2, True, "active_set", 0, ((0.1, 1e-10), (0.1, 1e-11)))
            for name in SOLVED_ARMS
        },
        fidelity={"average_precision": fidelity, "loss": fidelity},
        cost=results.Cost(4.0, 3.0, 11.0, 1, 2, 3, 1e9),
        data=results.Data(
            table="table.csv",
            rows=101,
            salts=1,
            duplicates=0,
            conflicts=2,
            molecules=100,
            train_molecules=80,
            test_molecules=20,
            assays=5,
            target_train=results.Counts(60, 20),
            target_test=results.Counts(16, 4),
            sources={"a": 50, "b": 40, "c": 30},
            shared={"a": 30, "b": 40, "c": 15},
            unparsable=(Unparsable(7, "no | molecule", "not valid SMILES"),),
            unusable_assays={"rare": "one class only"},
            ignored_columns={"name": "text"},
        ),
    )
    return with_verdicts(dataclasses.replace(found, **changes))


def with_verdicts(found, verdict="ties", **others):
    """Every comparison with this verdict, but those of `mixmin` less an arm in `others`, by name."""
    comparisons = []
    for arm, other in results.COMPARED:
        word = others.get(other, verdict) if arm == "mixmin" else verdict
        low, high = INTERVALS[word]
        comparisons += [
            results.Compared(arm, other, metric, (low + high) / 2, low, high, 0.95, word) for metric in found.metrics
        ]
    return dataclasses.replace(found, comparisons=tuple(comparisons))
