"""The stages of one seed of the experiment that joins both papers, each found again if it was already computed.

Axes: N labeled windows of all tasks, K sources.
"""

import dataclasses
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from flax.traverse_util import flatten_dict

from experiments.harness.certified_weights import TOLERANCE, certified_weights
from experiments.harness.devices import batch_mesh, models_mesh, own_rows, solver_mesh
from experiments.harness.language_model_stages import score_models, train_models, unlearned_records
from experiments.harness.processes import several
from experiments.harness.stages import Product, Running, Stages
from experiments.mixed_mixtraining.config import ARMS
from experiments.mixed_mixtraining.data import as_documents, fingerprint_of
from experiments.mixed_mixtraining.plan import Plan, mixture_of
from experiments.mixed_mixtraining.results import mixtures
from experiments.mixtraining.domain import Labels, accuracy
from experiments.mixtraining.text.data import linear_on_ngrams
from experiments.mixtraining.trial import loss_curve, write_npz
from mixmin_jax.data.text.documents import Corpus
from mixmin_jax.data.text.overlap import find_overlap
from mixmin_jax.mixture.objective import cross_entropy
from mixmin_jax.training.mixtraining import train
from mixmin_jax.training.nonfinite import Diverged
from mixmin_jax.training.schedule import phase_steps
from mixmin_jax.training.unlearned import Learned, frequencies_loss

FAILED = "failed"  # folder of the last good parameters of a training that failed
NGRAM_WORDS, NGRAM_SHARE = 13, 0.5  # a near-duplicate shares this share of its n-grams with a source


def run_seed(plan: Plan, seed: int, stages: Stages, out: Path) -> dict[str, Product]:
    """What the stages of proxies' scores, weights, all arms and references made, by their names.

    Raises `Diverged` if a training fails; its last good parameters are in a folder in `out`.
    """
    examples = plan.labeled(seed)
    products = _solve(plan, seed, as_documents(examples), stages)
    weights = mixtures(products[f"weights-seed{seed}"], plan.store.windows_K)
    products |= {f"{arm}-seed{seed}": _run(plan, arm, seed, weights, examples, stages, out) for arm in ARMS}
    for number, (own, task) in enumerate(zip(examples, plan.tasks, strict=True)):
        name = f"reference-{number}-seed{seed}"
        products[name] = stages.run(
            name,
            {"train": fingerprint_of(as_documents([own])), "test": fingerprint_of(as_documents([task.test]))},
            lambda stage, own=own, task=task: dict(linear_on_ngrams(own, task.test)),  # type: ignore[misc]
        )
    return products


def overlap_stage(plan: Plan, stages: Stages) -> Product:
    """How many of the tasks' documents share much of their text with a source, by source."""

    def compute(_stage: Running) -> Product:
        corpora = {corpus.fingerprint: corpus for task in plan.tasks for corpus in task.corpora}
        documents = tuple(document for corpus in corpora.values() for document in corpus.documents)
        found = find_overlap(
            Corpus("tasks", documents, "all classes"), plan.sources, words=NGRAM_WORDS, threshold=NGRAM_SHARE
        )
        counts = {"ngram": found.words, "threshold": found.threshold, "documents": len(documents)}
        return counts | {"sources": found.num_matched}

    inputs = {"data": plan.identity["data"], "tasks": plan.identity["tasks"]}
    return stages.run("overlap", inputs | {"words": NGRAM_WORDS, "share": NGRAM_SHARE}, compute)


def _solve(plan: Plan, seed: int, windows: list[bytes], stages: Stages) -> dict[str, Product]:
    """MixMin on the labeled windows, a row each: the products of the stages `scores` and `weights`, by their names."""
    scores, weights = f"scores-seed{seed}", f"weights-seed{seed}"
    mesh = models_mesh(plan.config, len(plan.names))
    proxies = train_models(
        stages,
        f"proxies-seed{seed}",
        plan.config.proxy,
        plan.store,
        np.eye(len(plan.names)),
        jax.random.fold_in(jax.random.key(seed), 2),
        plan.source_inputs | {"seed": seed},
        labels=plan.names,
        on_nonfinite=plan.config.on_nonfinite,
        mesh=mesh,
        tokens_on="host" if several() else "device",
    )
    learned = {
        name: Learned(float(loss), frequencies_loss(plan.store.tokens_of(name)))
        for name, loss in zip(plan.names, () if proxies.end_loss_M is None else proxies.end_loss_M, strict=False)
    }
    unlearned = unlearned_records("proxies", seed, learned)
    for record in unlearned:
        print(f"warning: {record}", file=sys.stderr)
    caps = {record.source: 0.0 for record in unlearned if record.then == "left out"} or None
    described = {"windows": fingerprint_of(windows)}
    scored = score_models(stages, scores, proxies, windows, described, mesh=mesh)
    logp_NxK, bytes_N = scored["document_DxM"], scored["bytes_D"]

    def compute(_stage: Running) -> Product:
        rows_mesh = solver_mesh(plan.config)
        mine_NxK = logp_NxK[own_rows(rows_mesh, len(logp_NxK))]
        per_byte_N = np.full(len(mine_NxK), 1 / bytes_N.sum())
        objective = cross_entropy(mine_NxK, example_weights=per_byte_N, sources=plan.names)
        record, _ = certified_weights(objective, method=plan.config.method, upper_bounds=caps, mesh=rows_mesh)
        return record | {"unlearned": [dataclasses.asdict(one) for one in unlearned]}

    inputs = {"proxies": proxies.inputs, **described, "method": plan.config.method, "tolerance": TOLERANCE}
    return {scores: scored, weights: stages.run(weights, inputs, compute)}


def _run(
    plan: Plan,
    arm: str,
    seed: int,
    weights: Mapping[str, np.ndarray],
    examples: tuple[Labels, ...],
    stages: Stages,
    out: Path,
) -> Product:
    """One training, found again if it is there."""
    mixture = mixture_of(arm)
    weights_K = weights[mixture or "natural"]  # which arms without a mixture do not draw from
    inputs = {key: value for key, value in plan.identity.items() if key != "seeds"}
    inputs |= {"arm": arm, "seed": seed, "weights": weights_K.tolist() if mixture else None}
    return stages.run(
        f"{arm}-seed{seed}",
        inputs,
        lambda stage: _train(plan, arm, seed, weights_K, examples, stage, out),
        cost=plan.flops(arm),
    )


def _train(
    plan: Plan, arm: str, seed: int, weights_K: np.ndarray, examples: tuple[Labels, ...], stage: Running, out: Path
) -> Product:
    """Train an arm and test it. Raises `Diverged` if its loss is not finite, with the last good parameters kept."""
    started, steps, mesh = time.perf_counter(), plan.steps(arm), batch_mesh(plan.config)
    data = plan.data(arm, weights_K, examples, seed)
    with stage.checkpoints() as checkpoints:
        run = train(
            plan.learner,
            steps,
            plan.fetch,
            data,
            plan.config.optimizer,
            jax.random.fold_in(jax.random.key(seed), 0),
            on_block=lambda done, of, losses, state: stage.advance(done, of),
            checkpoints=checkpoints,
            on_nonfinite=plan.config.on_nonfinite,
            mesh=mesh,
            **plan.joint,
        )
    stage.skipped({arm: run.skipped} if run.skipped else {})
    if run.failure is not None:
        path = out / FAILED / f"{arm}-seed{seed}.npz"
        path.parent.mkdir(exist_ok=True)
        write_npz(path, flatten_dict(jax.device_get(run.state.params), sep="/"))
        raise Diverged(f"{arm}, seed {seed}: {run.failure}. The parameters are in {path}")
    judged = [
        accuracy(plan.learner, run.state.params, task.test, mesh, number) for number, task in enumerate(plan.tasks)
    ]
    return {
        "accuracies": [reached for reached, _ in judged],
        "test_losses": [nats for _, nats in judged],
        "wall_seconds": time.perf_counter() - started + checkpoints.earlier_seconds,
        "steps": dict(phase_steps(steps)),
        "curve": loss_curve(steps, run.losses),
        "draws": np.asarray(data[1].counts_K).tolist() if (steps.alpha > 0).any() else None,
    }
