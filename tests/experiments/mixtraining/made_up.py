"""Results of a MixTraining experiment that was never run: plausible numbers, levels as a test wants them."""

import dataclasses

import numpy as np

from experiments.mixtraining.results import (
    Checkpoints,
    Curve,
    Dataset,
    MixTrainingMetrics,
    Model,
    Reference,
    Run,
    Settings,
    StepCost,
)
from experiments.reporting.schema import MadeBy

LEVELS = {  # accuracy by cell at the smallest fraction; each further fraction adds 0.06
    ("sl", "schedule"): 0.421,
    ("sl", "matched"): 0.447,
    ("ssl_then_sl", "schedule"): 0.490,
    ("mixtraining", "schedule"): 0.502,
    ("mixtraining", "matched"): 0.511,
}
EPOCHS = dict(zip(LEVELS, [(0, 0, 16), (0, 0, 22), (16, 0, 16), (8, 8, 8), (11, 10, 11)], strict=True))
PHASES = {"ssl": "ssl", "joint": "joint_visible", "sl": "sl"}  # with their kinds of steps
STEPS = {  # FLOPs and ms of a step
    "ssl": (3.4e9, 55.0),
    "sl": (9.7e9, 154.0),
    "joint_visible": (6.2e9, 105.0),
    "joint_all_tokens": (10.9e9, 171.0),
    "joint_two_passes": (13.1e9, 208.0),
}
SETTINGS = {
    "sl": Settings(1e-3),
    "ssl_then_sl": Settings(1e-3, 1e-3, 0.75),
    "mixtraining": Settings(1e-3, 1e-3, 0.75, 0.5, 0.5, "linear 1.0 to 0.0"),
}
CHECKPOINTS, STRETCHES, STEPS_PER_EPOCH_OF_ALL = 8, 40, 400


def made_up(num_seeds=3, fractions=(0.1, 0.25), levels=None, noise=0.004, slower=1.0, domain="images", **changes):
    """A record in which an (arm, budget) reaches `levels` on average, with `noise` over seeds.

    `slower` stretches the time that the arms other than ssl_then_sl take.
    """
    rng, runs = np.random.default_rng(0), []
    for f, fraction in enumerate(fractions):
        noise_CxS = noise * rng.standard_normal((len(LEVELS), num_seeds))
        noise_CxS -= noise_CxS.mean(1, keepdims=True)  # means are the levels, so that no verdict is a matter of luck
        for (cell, level), noise_S in zip((LEVELS | (levels or {})).items(), noise_CxS, strict=True):
            runs += [one_run(*cell, fraction, s, float(level + 0.06 * f + noise_S[s])) for s in range(num_seeds)]
    config = {"seeds": num_seeds, "checkpoint_examples": 2000, "ssl_epochs": 16, "sl_epochs": 16}
    config |= {"restart_learning_rate": True, "restart_moments": False}
    shape, patch = {"images": ((32, 32, 3), 4), "text": (None, None), "series": ((96, 3), 8)}[domain]
    found = MixTrainingMetrics(
        experiment=f"{domain}_mixtraining",
        seeds=tuple(range(num_seeds)),
        made_by=MadeBy("python -m experiments.image_mixtraining --seeds 3", "2 x cpu", "0123abc", {"jax": "0.10.2"}),
        config=config,
        identity={},
        data_sets=(),
        seconds={"all": 4321.0},
        domain=domain,
        dataset=Dataset("cifar10", "made up", tuple("abc"), 45_000, 5000, 10_000, 0, shape, "0123abcd"),
        model=Model("micro", 612_345, 455_040, 96, 4, 3, patch),
        fractions=tuple(fractions),
        examples=tuple(round(45_000 * fraction) for fraction in fractions),
        joint="visible",
        times_cheaper=None,
        arms=SETTINGS,
        runs=tuple(runs),
        steps={kind: StepCost(flops, ms, 0.96 * ms, 1.08 * ms) for kind, (flops, ms) in STEPS.items()},
        tuning=None,
        references=tuple(
            Reference("logistic regression on pixels", fraction, 0.31 + 0.02 * f)
            for f, fraction in enumerate(fractions)
        ),
        price_per_hour=None,
    )
    found = dataclasses.replace(found, **changes).derived()
    for cell in LEVELS:
        if slower != 1 and cell[0] != "ssl_then_sl":
            found = changed(found, cell, change=lambda run: {"seconds": slower * run.seconds})
    return found


def one_run(arm, budget, fraction, seed, accuracy):
    epochs = EPOCHS[arm, budget]
    steps = [round(STEPS_PER_EPOCH_OF_ALL * fraction) * count for count in epochs]
    borders = np.cumsum([0, *steps])
    flops = np.cumsum([0.0, *(count * STEPS[kind][0] for count, kind in zip(steps, PHASES.values(), strict=True))])
    at = np.linspace(0, borders[-1], CHECKPOINTS + 1).round()[1:]
    with_labels = np.maximum(at - borders[1], 0) / (borders[-1] - borders[1])  # which accuracy comes with
    middle = (np.arange(STRETCHES) + 0.5) / STRETCHES * borders[-1]
    phases = np.searchsorted(borders[1:], middle, side="right").tolist()
    losses = (1 + np.exp(-3 * middle / borders[-1])).tolist()
    return Run(
        arm,
        budget,
        fraction,
        seed,
        learning_rate=1e-3,
        accuracy=accuracy,
        test_loss=3.0 * (1 - accuracy),
        flops=0.0,
        wall_seconds=1.0,
        steps=dict(zip(PHASES, steps, strict=True)),
        epochs=dict(zip(PHASES, map(float, epochs), strict=True)),
        failure=None,
        curve=Curve(
            tuple(middle.tolist()),
            tuple(phases),
            tuple(loss if phase < 2 else None for loss, phase in zip(losses, phases, strict=True)),
            tuple(loss if phase > 0 else None for loss, phase in zip(losses, phases, strict=True)),
        ),
        checkpoints=Checkpoints(
            tuple(map(int, at)),
            tuple(np.interp(at, borders, flops).tolist()),
            tuple((0.1 + (accuracy - 0.1) * with_labels**0.5).tolist()),
        ),
    )


def changed(metrics, cell, fraction=None, seed=None, change=None, **values):
    """The record with `values`, or what `change` makes of a run, in the runs of a cell; of all fractions and seeds
    where none is named."""

    def new(run):
        if (run.arm, run.budget) != cell or fraction not in (None, run.fraction) or seed not in (None, run.seed):
            return run
        return dataclasses.replace(run, **values, **(change(run) if change else {}))

    return dataclasses.replace(metrics, runs=tuple(map(new, metrics.runs)))


def made_up_reconstructions(num_images=6, channels=3):
    """The arrays of reconstructions.npz."""
    rng = np.random.default_rng(0)
    images_ExHxWxC = rng.integers(0, 256, (num_images, 32, 32, channels), np.uint8)
    hidden = np.kron(rng.random((num_images, 8, 8)) < 0.75, np.ones((4, 4), bool))[..., None]
    pictures = {"original": images_ExHxWxC, "masked": np.where(hidden, np.uint8(127), images_ExHxWxC)}
    arrays = {f"{name}_ExHxWxC": value for name, value in (pictures | {"reconstructed": images_ExHxWxC}).items()}
    return arrays | {"mask_ratio": np.array(0.75), "arm": np.array("mixtraining")}
