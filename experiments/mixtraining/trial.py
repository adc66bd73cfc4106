"""One training run of a MixTraining experiment, and what is kept of it.

Axes: T steps.
"""

import io
import itertools
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict

from experiments.harness.devices import batch_mesh
from experiments.harness.result_files import write_bytes
from experiments.harness.stages import Product, Running
from experiments.mixtraining.compressed import compressed_models
from experiments.mixtraining.domain import Labels, accuracy
from experiments.mixtraining.plan import Study, Trial
from experiments.mixtraining.probing import probe, probe_steps
from mixmin_jax.training.loop import BLOCK_STEPS
from mixmin_jax.training.low_rank import merged_learner_params
from mixmin_jax.training.mixtraining import Losses, MixState, train
from mixmin_jax.training.schedule import SL, StepPlan, phase_steps, total_flops

CURVE_POINTS = 60  # stretches of steps whose mean loss a run keeps

Show = Callable[[Any], Mapping[str, np.ndarray]]  # parameters -> pictures


def run_trial(
    study: Study,
    trial: Trial,
    judge_on: Labels,
    stage: Running,
    *,
    evaluations: int = 0,
    show: Show | None = None,
    keep_params: bool = False,
    compress: bool = False,
) -> Product:
    """Train, and evaluate on `judge_on`: at the end on all of it, `evaluations` times before on a part.

    Beside numbers the product holds arrays: `params/...`, the last good parameters, if training failed or with
    `keep_params`, and with `show` the `pictures/...` that it makes of the parameters about where SSL ends: later the
    decoder falls behind the encoder. Adapters are merged into the parameters first. With `compress`, compressed models
    are evaluated too.
    """
    options, plan = study.options, trial.plan
    flops = study.step_flops(trial.settings, budget=trial.budget)
    learner, joint = study.learners(trial.settings)
    mesh = batch_mesh(options)
    some, at = judge_on.spread(options.checkpoint_examples), _evaluation_steps(plan, evaluations)
    features = study.domain.features if options.probe else None
    probe_at = probe_steps(plan, evaluations) if features else []

    def on_block(done: int, of: int, losses: Losses, state: MixState) -> None:
        seen, pictures = notes["seen"], notes["pictures"]
        good, last = int(state.failed_at) < 0, max(seen["step"], default=0)
        if good and done < of and any(last < step <= done for step in at):
            seen["step"].append(done)
            seen["flops"].append(total_flops(StepPlan(*(values[:done] for values in plan)), flops))
            seen["accuracy"].append(accuracy(learner, state.params, some, mesh)[0])
        probed = notes["probed"]
        if good and features and any(max(probed["step"], default=0) < step <= done for step in probe_at):
            fitted = study.subset(trial.fraction, trial.seed).spread(options.checkpoint_examples)
            accuracies = probe(features, state.params, fitted, some, mesh)
            for name, value in (accuracies | {"step": done}).items():
                probed[name].append(value)
        if good and show and not pictures and not (plan.phase[done:] != SL).any():
            shown = show(jax.device_get(state.params))
            pictures.update({name: [array.tolist(), str(array.dtype)] for name, array in shown.items()})
        stage.advance(done, of)

    started = time.perf_counter()
    key = jax.random.key(trial.seed)
    data = (jax.random.fold_in(key, 1), *study.data(trial.fraction, trial.seed, trial.budget))
    train_key = jax.random.fold_in(key, 0)
    with stage.checkpoints() as checkpoints:
        notes = checkpoints.notes  # what is seen on the way is not seen again by a run that goes on
        notes |= {"seen": {"step": [], "flops": [], "accuracy": []}, "pictures": {}}
        notes |= {"probed": {"step": [], "linear": [], "k_nn": []}}
        run = train(
            learner,
            plan,
            study.fetch,
            data,
            options.optimizer,
            train_key,
            on_block=on_block,
            checkpoints=checkpoints,
            on_nonfinite=options.on_nonfinite,
            mesh=mesh,
            initial=study.domain.initial(trial.arm),
            **joint,
        )
    stage.skipped({trial.arm: run.skipped} if run.skipped else {})
    params = merged_learner_params(run.state.params)
    reached, nats = accuracy(learner, params, judge_on, mesh)
    failure = None
    if run.failure is not None:
        too_many = {"too_many": run.failure.too_many} if run.failure.too_many else {}
        failure = {"phase": run.failure.phase, "step": run.failure.step} | too_many
    if failure is None and not math.isfinite(nats):
        failure = {"phase": "evaluation", "step": len(plan.phase)}
    steps, per_epoch = phase_steps(plan), study.steps_per_epoch(trial.fraction, trial.seed)
    leaves = flatten_dict(jax.device_get(params), sep="/") if failure or keep_params else {}
    compressed = compressed_models(learner, params, judge_on, mesh) if compress and not failure else []
    return {
        "accuracy": reached,
        "test_loss": nats if math.isfinite(nats) else None,
        "flops": total_flops(plan, flops),
        "wall_seconds": time.perf_counter() - started + checkpoints.earlier_seconds,
        "steps": dict(steps),
        "epochs": {phase: n / per_epoch for phase, n in steps.items()},
        "failure": failure,
        "curve": loss_curve(plan, run.losses),
        "checkpoints": notes["seen"],
        "compressed": compressed,
        **({"probes": notes["probed"]} if probe_at else {}),
        **{f"params/{path}": np.asarray(leaf) for path, leaf in leaves.items()},
        **{f"pictures/{name}": np.array(values, dtype) for name, (values, dtype) in notes["pictures"].items()},
    }


def arrays(product: Product, kind: str) -> dict[str, np.ndarray]:
    """The arrays of a product called `kind`/..., "params" or "pictures"."""
    return {name.removeprefix(f"{kind}/"): value for name, value in product.items() if name.startswith(f"{kind}/")}


def numbers(product: Product) -> dict[str, Any]:
    """All of a product but its arrays."""
    return {name: value for name, value in product.items() if not isinstance(value, np.ndarray)}


def write_npz(path: Path, named: Mapping[str, np.ndarray]) -> None:
    """Arrays by name, as one file that is written whole or not at all."""
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **named)
    write_bytes(path, content.getvalue())


def loss_curve(plan: StepPlan, losses: Losses, points: int = CURVE_POINTS) -> dict[str, list[Any]]:
    """Mean losses over stretches of steps, none of which crosses a phase border; null where a loss is not computed."""
    num_steps = len(plan.phase)
    borders = np.flatnonzero(np.diff(plan.phase)) + 1
    regular = np.linspace(0, num_steps, min(points, num_steps) + 1).astype(int)
    edges = np.unique(np.concatenate([regular, borders]))
    curve: dict[str, list[Any]] = {"step": [], "phase": [], "ssl": [], "sl": []}
    for first, last in itertools.pairwise(edges):
        curve["step"].append((int(first) + int(last)) / 2)
        curve["phase"].append(int(plan.phase[first]))
        for name in ("ssl", "sl"):
            part = getattr(losses, name)[first:last]
            known = part[np.isfinite(part)]
            curve[name].append(float(known.mean(dtype=np.float64)) if known.size else None)
    return curve


def _evaluation_steps(plan: StepPlan, count: int) -> list[int]:
    """Steps after which to evaluate, evenly over those from the first with labels on; a run ends with an evaluation."""
    labelled = np.flatnonzero(plan.alpha < 1)
    if not count or not labelled.size:
        return []
    first, num_steps = int(labelled[0]), len(plan.phase)
    steps = np.linspace(first, num_steps, count + 2)[1:-1]
    return [int(step) for step in steps if step - first >= min(BLOCK_STEPS, (num_steps - first) / 2)]
