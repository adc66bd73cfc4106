"""metrics.json of a MixTraining experiment that was never run: plausible numbers, levels as a test wants them."""

import json

import numpy as np

ARMS = ("sl", "ssl_then_sl", "mixtraining")
CELLS = (("sl", "schedule"), ("sl", "matched"), ("ssl_then_sl", "schedule"), ("mixtraining", "schedule"))
CELLS += (("mixtraining", "matched"),)
# accuracy at the smallest fraction; each further fraction adds 0.06
LEVELS = dict(zip(CELLS, [0.421, 0.447, 0.490, 0.502, 0.511], strict=True))
EPOCHS = dict(zip(CELLS, [(0, 0, 16), (0, 0, 22), (16, 0, 16), (8, 8, 8), (11, 10, 11)], strict=True))  # SSL, joint, SL
PHASES = ("ssl", "joint", "sl")
STEPS = {  # FLOPs and ms of a step
    "ssl": (3.4e9, 55.0),
    "sl": (9.7e9, 154.0),
    "joint_visible": (6.2e9, 105.0),
    "joint_all_tokens": (10.9e9, 171.0),
    "joint_two_passes": (13.1e9, 208.0),
}
STEPS_PER_EPOCH_OF_ALL = 400
CHECKPOINTS = 8


def mixtraining_metrics(num_seeds=3, fractions=(0.1, 0.25), levels=LEVELS, noise=0.004, seconds=1.0, domain="images"):
    """metrics.json of a run in which an (arm, budget) reaches `levels` on average, with `noise` over seeds.

    `seconds` stretches the time that the arms other than ssl_then_sl take.
    """
    rng = np.random.default_rng(0)
    runs = []
    for f, fraction in enumerate(fractions):
        noise_CxS = noise * rng.standard_normal((len(CELLS), num_seeds))
        noise_CxS -= noise_CxS.mean(1, keepdims=True)  # means are the levels, so that no verdict is a matter of luck
        for cell, noise_S in zip(CELLS, noise_CxS, strict=True):
            level = levels.get(cell, LEVELS[cell]) + 0.06 * f
            runs += [one_run(*cell, fraction, s, level + noise_S[s], seconds, rng) for s in range(num_seeds)]
    size = {"images": {"shape": [32, 32, 3]}, "text": {"shape": None}}[domain]
    metrics = {
        "schema_version": 1,
        "experiment": f"{domain}_mixtraining",
        "demonstration": False,
        "complete": True,
        "domain": domain,
        "metric": "accuracy",
        "dataset": size
        | {
            "name": "cifar10",
            "origin": "folder:../shared/data/images/cifar10",
            "classes": [f"class_{c}" for c in range(10)],
            "train": 45_000,
            "validation": 5000,
            "test": 10_000,
            "skipped": 0,
            "fingerprint": "0123abcd",
        },
        "model": {
            "name": "micro",
            "parameters": 612_345,
            "encoder_parameters": 455_040,
            "width": 96,
            "depth": 4,
            "heads": 3,
            "patch_size": 4 if domain == "images" else None,
        },
        "config": {"seeds": num_seeds, "checkpoint_examples": 2000, "arms": arm_settings()},
        "identity": {"experiment": f"{domain}_mixtraining"},
        "data_sets": [],
        "seeds": list(range(num_seeds)),
        "fractions": list(fractions),
        "examples": {str(fraction): round(45_000 * fraction) for fraction in fractions},
        "schedule": {
            "ssl_epochs": 16,
            "sl_epochs": 16,
            "mix_ratio": 0.5,
            "alpha": {"kind": "linear", "start": 1.0, "end": 0.0},
            "ssl_mask": 0.75,
            "joint_mask": 0.5,
            "joint": "visible",
            "restart_learning_rate": True,
            "restart_moments": False,
        },
        "arms": list(ARMS),
        "times_cheaper": None,
        "runs": runs,
        "steps": {
            kind: {"flops": flops, "ms": ms, "ms_low": 0.96 * ms, "ms_high": 1.08 * ms}
            for kind, (flops, ms) in STEPS.items()
        },
        "tuning": None,
        "settings": {
            "chosen_on": "validation",
            "text": "Learning rates of every arm are the best of four on the validation split, seed 0.",
        },
        "references": [
            {"name": "logistic regression on pixels", "fraction": fraction, "accuracy": 0.31 + 0.02 * f}
            for f, fraction in enumerate(fractions)
        ],
        "price_per_hour": None,
        "made_by": {
            "versions": {"python": "3.11.2", "jax": "0.10.2"},
            "device": "2 x cpu on 2 cores",
            "git_commit": "0123abc",
            "command": "python -m experiments.image_mixtraining --seeds 3",
        },
        "command": "python -m experiments.image_mixtraining --seeds 3",
        "seconds_in_all": 4321.0,
    }
    return json.loads(json.dumps(metrics, allow_nan=False))  # as a reader of the file gets it


def arm_settings():
    sl = {"learning_rate": 1e-3}
    conventional = sl | {"sl_learning_rate": 1e-3, "ssl_mask": 0.75}
    mixed = conventional | {"mix_ratio": 0.5, "joint_mask": 0.5, "alpha": "linear 1.0 to 0.0"}
    return dict(zip(ARMS, (sl, conventional, mixed), strict=True))


def one_run(arm, budget, fraction, seed, accuracy, seconds, rng):
    per_epoch = max(1, round(STEPS_PER_EPOCH_OF_ALL * fraction))
    epochs = EPOCHS[arm, budget]
    steps = [per_epoch * count for count in epochs]
    flops_T, seconds_T = (np.repeat([STEPS[kind][i] for kind in ("ssl", "joint_visible", "sl")], steps) for i in (0, 1))
    phase_T = np.repeat([0, 1, 2], steps)
    at = np.linspace(0, len(phase_T), CHECKPOINTS + 1).round().astype(int)[1:]
    labels_T = np.cumsum(phase_T > 0)  # accuracy comes with steps that see labels
    reached = 0.1 + (accuracy - 0.1) * (labels_T[at - 1] / labels_T[-1]) ** 0.5
    edges = np.linspace(0, len(phase_T), 41).astype(int)
    curve = (edges[1:] + edges[:-1]) / 2  # in the middle of stretches
    row = curve.astype(int)
    ssl = 0.4 + 0.5 * np.exp(-3 * curve / len(phase_T)) + 0.005 * rng.standard_normal(len(curve))
    sl = 1.2 + np.exp(-3 * labels_T[row] / labels_T[-1]) + 0.02 * rng.standard_normal(len(curve))
    phases = phase_T[row]
    return {
        "arm": arm,
        "budget": budget,
        "fraction": fraction,
        "seed": seed,
        "accuracy": accuracy,
        "test_loss": 3.0 * (1 - accuracy),
        "flops": float(flops_T.sum()),
        "seconds": float(seconds_T.sum()) / 1000 * (1.0 if arm == "ssl_then_sl" else seconds),
        "wall_seconds": float(seconds_T.sum()) / 900,
        "epochs": dict(zip(PHASES, epochs, strict=True)),
        "steps": dict(zip(PHASES, steps, strict=True)),
        "learning_rate": 1e-3,
        "failure": None,
        "curve": {
            "step": curve.tolist(),
            "phase": phases.tolist(),
            "ssl": [loss if phase < 2 else None for loss, phase in zip(ssl.tolist(), phases, strict=True)],
            "sl": [loss if phase > 0 else None for loss, phase in zip(sl.tolist(), phases, strict=True)],
        },
        "checkpoints": {
            "step": at.tolist(),
            "flops": np.cumsum(flops_T)[at - 1].tolist(),
            "accuracy": reached.tolist(),
        },
    }


def made_up_reconstructions(num_images=6, channels=3):
    """The arrays of reconstructions.npz."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:32, 0:32] / 31
    angle_E = rng.uniform(0, 6, (num_images, 1, 1, channels))
    image = 0.5 + 0.5 * np.sin(angle_E + 9 * x[..., None] * np.cos(angle_E) + 9 * y[..., None])
    hidden = np.kron(rng.random((num_images, 8, 8)) < 0.75, np.ones((4, 4)))[..., None]
    images = {
        "original": image,
        "masked": np.where(hidden, 0.5, image),
        "reconstructed": np.clip(image + 0.1 * hidden, 0, 1),
    }
    arrays = {f"{name}_ExHxWxC": (255 * value).astype(np.uint8) for name, value in images.items()}
    return arrays | {"mask_ratio": np.array(0.75), "arm": np.array("mixtraining")}
