"""The stages of one seed of the text experiment, each found again if it was already computed.

Axes: N rows (documents or tokens), K sources, M models, R random mixtures, D documents.
"""

import dataclasses
import math
import sys
from typing import Any, Literal

import jax
import numpy as np

from experiments.harness.certified_weights import TOLERANCE, certified_weights
from experiments.harness.devices import own_rows, solver_mesh
from experiments.harness.language_model_stages import Models, score_models, train_models
from experiments.harness.stages import Product, Running, Stages
from experiments.text_mixture.data import NGRAM_SHARE, NGRAM_WORDS, Target
from experiments.text_mixture.plan import COMBINED, OWN_ARMS, SHARED_ARMS, Plan, Role
from mixmin_jax.data.text.overlap import Match, find_overlap
from mixmin_jax.mixture.baselines.random_search import best_random_mixture, candidate_mixtures
from mixmin_jax.mixture.baselines.regmix import fit_regmix, propose
from mixmin_jax.mixture.objective import CrossEntropy, Objective, cross_entropy
from mixmin_jax.mixture.solution import TargetLosses
from mixmin_jax.mixture.targets import WorstCase, weighted_sum, worst_case
from mixmin_jax.training.source_monitor import SourceMonitor, divergences


@dataclasses.dataclass(frozen=True)
class Divergence:
    """What went wrong with a source in the training of an arm: its loss rose (bits per byte), or its share is off."""

    seed: int
    arm: str
    source: str
    kind: Literal["loss", "share"]
    before: float  # loss in the third quarter of the run; share that was asked for
    after: float  # loss in the last quarter; share that was sampled

    def __str__(self) -> str:
        where = f"`{self.source}` in the training of `{self.arm}`, seed {self.seed}"
        if self.kind == "share":
            return (
                f"{where}: {self.after:.4%} of the windows were sampled, {self.before:.4%} asked for. This is a defect,"
                " as draws are counted out beforehand: do not use the results"
            )
        return (
            f"{where}: the training loss rises from {self.before:.3f} to {self.after:.3f} bits per byte, from the third"
            " quarter of the run to the last. Lower the learning rate, or look at its text"
        )


def score_stage(models: str, target: str, seed: int) -> str:
    """The stage with the log-likelihoods of the target's documents under some models."""
    return f"score-{models}-{target}-seed{seed}"


def weights_stage(target: str, seed: int) -> str:
    """The stage with the weights of the target's own arms."""
    return f"weights-{target}-seed{seed}"


@dataclasses.dataclass(frozen=True)
class SeedResult:
    """What one seed found for one target; losses in bits per byte."""

    seed: int
    weights: dict[str, np.ndarray]  # arm -> weights_K
    draws: dict[str, np.ndarray]  # arm -> windows drawn from each source
    solutions: dict[str, dict[str, Any]]  # solved arm -> certificate
    test_nats: dict[str, np.ndarray]  # arm -> nats of each test document
    predicted: dict[str, dict[str, float]]  # arm -> {"document", "token"}: loss of the mixture of proxies, test part
    random_RxK: np.ndarray
    random_reached_R: np.ndarray  # test loss of the model trained on each random mixture
    random_predicted: list[dict[str, float]]
    monitors: dict[str, SourceMonitor]  # arm -> that of its one model


class SeedStages:
    """Runs the stages of one seed."""

    def __init__(self, plan: Plan, seed: int, stages: Stages) -> None:
        self._plan, self._seed, self._stages = plan, seed, stages

    def train(
        self, name: str, role: Role, weights_MxK: np.ndarray, labels: tuple[str, ...], target: str | None = None
    ) -> Models:
        """Train one model per row of weights; caps hold in target runs, and monitors warn on stderr."""
        plan = self._plan
        models = train_models(
            self._stages,
            f"train-{name}-seed{self._seed}",
            plan.run(role),
            plan.store,
            weights_MxK,
            jax.random.fold_in(jax.random.key(self._seed), 0 if role == "proxy" else 1),
            plan.inputs | {"role": role, "seed": self._seed},
            labels=labels,
            max_epochs=plan.config.max_epochs if role == "target" else None,
            mesh=plan.mesh(len(weights_MxK)),
            tokens_on=plan.tokens_on,
            on_nonfinite=plan.config.on_nonfinite,
            target=target,
            monitor_sources=role == "target",
        )
        if models.monitor is not None:
            for m, arm in enumerate(labels):
                for record in divergence_records(plan, self._seed, arm, models.monitor.of_model(m), weights_MxK[m]):
                    print(f"warning: {record}", file=sys.stderr)
        return models

    def score(self, name: str, models: Models, target: Target, parts: tuple[str, ...], tokens: bool) -> Product:
        """Log-likelihoods of the target's documents: `document_DxM`, and with `tokens` also `token_NxM`, in nats."""
        return score_models(
            self._stages,
            score_stage(name, target.name, self._seed),
            models,
            [document for part in parts for document in target.documents(part)],
            {
                "target": target.corpus.fingerprint,
                "documents": [getattr(target, part).tolist() for part in parts],
            },
            tokens=tokens,
            mesh=self._plan.mesh(len(models.draws_MxK)),
            target=target.name,
        )

    def weights(self, target: Target, scored: Product, random_DxR: np.ndarray, inputs: Any) -> Product:
        """The weights of the target's own arms, from the fit part: {arm: weights}, with the solver's certificates."""
        plan, seed = self._plan, self._seed

        def compute(_stage: Running) -> Product:
            fit, _ = _split_rows(scored, len(target.fit))
            num_bytes, random_RxK = fit["bytes_D"].sum(), plan.random_RxK(seed)
            random_loss_R = -random_DxR[: len(target.fit)].sum(0) / num_bytes
            rows = {"mixmin": fit["document_DxM"], "mixmin_token": fit["token_NxM"]}
            objectives = {arm: _objective(plan, logp_NxK, num_bytes) for arm, logp_NxK in rows.items()}
            solutions: dict[str, Any] = {arm: _solve(plan, objective) for arm, objective in objectives.items()}
            weights = {arm: solution.pop("weights") for arm, solution in solutions.items()} | {
                "random_search": best_random_mixture(random_RxK, random_loss_R).tolist(),
                "regmix": _regmix(plan, random_RxK, random_loss_R, seed).tolist(),
            }
            return {"weights": weights, "solutions": solutions}

        settings = _solver_settings(plan) | {
            "regmix": plan.regmix_model,
            "num_random": plan.num_random,
            "num_fit": len(target.fit),
        }
        name = weights_stage(target.name, seed)
        return self._stages.run(name, {"scores": inputs} | settings, compute, target=target.name)

    def combined_weights(self, scored: list[Product], inputs: Any) -> Product:
        """One mixture for all targets, from the documents of their fit parts, with the solver's certificate."""
        plan = self._plan

        def compute(_stage: Running) -> Product:
            objectives = []
            for target, scores in zip(plan.targets, scored, strict=True):
                fit, _ = _split_rows(scores, len(target.fit))
                objectives.append(_objective(plan, fit["document_DxM"], fit["bytes_D"].sum()))
            if plan.config.combine == "weighted":
                return _solve(plan, weighted_sum(objectives))
            return _solve(plan, worst_case(objectives, relative_to="best"))

        settings = _solver_settings(plan) | {"combine": plan.config.combine}
        return self._stages.run(f"weights-{COMBINED}-seed{self._seed}", {"scores": inputs} | settings, compute)


def run_seed(plan: Plan, seed: int, stages: Stages) -> dict[str, SeedResult]:
    """All stages of one seed; returns {target name: result}."""
    stage, num_sources, random_RxK = SeedStages(plan, seed, stages), len(plan.names), plan.random_RxK(seed)
    proxies = stage.train("proxies", "proxy", np.eye(num_sources), plan.names)
    groups = [  # as many at once as there are proxies, so that one compiled program serves both
        stage.train(
            f"random-mixtures-{first // num_sources}",
            "proxy",
            random_RxK[first : first + num_sources],
            tuple(f"random mixture {first + r}" for r in range(len(random_RxK[first : first + num_sources]))),
        )
        for first in range(0, plan.num_random, num_sources)
    ]
    shared = stage.train("shared-arms", "target", np.stack([plan.uniform_K, plan.natural_K]), SHARED_ARMS)
    scored, random, scored_from = {}, {}, {}
    for target in plan.targets:
        scored[target.name] = stage.score("proxies", proxies, target, ("fit", "test"), tokens=True)
        random[target.name] = np.concatenate(
            [
                stage.score(f"random-mixtures-{g}", group, target, ("fit", "test"), tokens=False)["document_DxM"]
                for g, group in enumerate(groups)
            ],
            axis=1,
        )
        scored_from[target.name] = [
            [models.inputs for models in (proxies, *groups)],
            target.corpus.fingerprint,
            target.fit.tolist(),
            target.test.tolist(),
        ]
    common = {"uniform": plan.uniform_K, "natural": plan.natural_K}
    common_models: list[tuple[str, tuple[str, ...], Models]] = [("shared-arms", SHARED_ARMS, shared)]
    common_solutions: dict[str, Any] = {}
    if plan.config.combine is not None:
        solution = stage.combined_weights(list(scored.values()), list(scored_from.values()))
        common_solutions[COMBINED] = {key: value for key, value in solution.items() if key != "weights"}
        common[COMBINED] = np.array(solution["weights"])
        combined = stage.train(f"{COMBINED}-arm", "target", common[COMBINED][None], (COMBINED,))
        common_models.append((f"{COMBINED}-arm", (COMBINED,), combined))
    results = {}
    for target in plan.targets:
        fit_and_test, random_DxR = scored[target.name], random[target.name]
        found = stage.weights(target, fit_and_test, random_DxR, scored_from[target.name])
        weights = {arm: np.array(w_K) for arm, w_K in found["weights"].items()}
        own_MxK = np.stack([weights[arm] for arm in OWN_ARMS])
        own = stage.train(f"arms-{target.name}", "target", own_MxK, OWN_ARMS, target.name)
        weights |= common
        test_nats: dict[str, np.ndarray] = {}
        draws: dict[str, np.ndarray] = {}
        monitors: dict[str, SourceMonitor] = {}
        for label, arms, models in (*common_models, ("arms", OWN_ARMS, own)):
            logp_DxM = stage.score(label, models, target, ("test",), tokens=False)["document_DxM"]
            test_nats |= dict(zip(arms, -logp_DxM.T, strict=True))
            draws |= dict(zip(arms, models.draws_MxK, strict=True))
            if models.monitor is not None:
                monitors |= {arm: models.monitor.of_model(m) for m, arm in enumerate(arms)}
        _, test = _split_rows(fit_and_test, len(target.fit))
        bits = math.log(2) * test["bytes_D"].sum()
        results[target.name] = SeedResult(
            seed,
            weights,
            draws,
            found["solutions"] | common_solutions,
            test_nats,
            predicted={arm: _predicted(w_K, test) for arm, w_K in weights.items()},
            random_RxK=random_RxK,
            random_reached_R=-random_DxR[len(target.fit) :].sum(0) / bits,
            random_predicted=[_predicted(w_K, test) for w_K in random_RxK],
            monitors=monitors,
        )
    return results


def divergence_records(
    plan: Plan, seed: int, arm: str, monitor: SourceMonitor, weights_K: np.ndarray
) -> list[Divergence]:
    """What `divergences` finds in the training of one arm."""
    found = [(one, math.log(2) if one.kind == "loss" else 1.0) for one in divergences(monitor, weights_K[None])]
    return [
        Divergence(seed, arm, plan.names[one.source], one.kind, one.before / unit, one.after / unit)
        for one, unit in found
    ]


def overlap_stage(plan: Plan, target: Target, stages: Stages) -> Product:
    """Near-duplicates of the target's documents in the sources: all of them, the largest share first.

    With --drop-duplicates nothing is left to find, and `dropped` has what was found before: the documents that each
    source lost, and this target's part in that (`matches`); all counted as they were read.
    """
    inputs = plan.inputs | {"target": target.corpus.fingerprint, "words": NGRAM_WORDS, "share": NGRAM_SHARE}

    def compute(_stage: Running) -> Product:
        overlap = find_overlap(target.corpus, plan.sources, words=NGRAM_WORDS, threshold=NGRAM_SHARE)
        return {
            "ngram": overlap.words,
            "threshold": overlap.threshold,
            "sources": overlap.num_matched,
            "matches": [_match_record(match) for match in overlap.matches],
        }

    product = stages.run(f"overlap-{target.name}", inputs, compute, target=target.name)
    found = plan.care.deduplicated
    if found is None:
        return product
    (own,) = (overlap for overlap in found.overlaps if overlap.target == target.name)
    dropped = {
        "sources": {name: list(documents) for name, documents in found.dropped.items()},
        "matches": [_match_record(match) for match in own.matches],
    }
    return product | {"dropped": dropped}


def _match_record(match: Match) -> dict[str, Any]:
    return {
        "document": match.target_document,
        "source": match.source,
        "share": match.share,
        "source_documents": list(match.source_documents),
        "excerpt": match.excerpt,
    }


def _solver_settings(plan: Plan) -> dict[str, Any]:
    bounds_K = plan.upper_bounds_K
    caps = None if bounds_K is None else bounds_K.tolist()
    return {"method": plan.config.method, "tolerance": TOLERANCE, "caps": caps}


def _objective(plan: Plan, logp_NxK: np.ndarray, num_bytes: int) -> CrossEntropy:
    """The loss of the mixture on the fit part, in nats per byte."""
    mine_NxK = logp_NxK[own_rows(solver_mesh(plan.config), len(logp_NxK))]
    return cross_entropy(mine_NxK, example_weights=np.full(len(mine_NxK), 1 / num_bytes), sources=plan.names)


def _solve(plan: Plan, objective: Objective | WorstCase) -> dict[str, Any]:
    """The weights that minimise a loss in nats per byte, with their certificate."""
    record, solution = certified_weights(
        objective, method=plan.config.method, upper_bounds=plan.upper_bounds_K, mesh=solver_mesh(plan.config)
    )
    return record | ({} if solution.targets is None else {"targets": _per_target(plan, solution.targets)})


def _per_target(plan: Plan, found: TargetLosses) -> dict[str, dict[str, float]]:
    columns = {"loss": found.losses, "excess": found.excess, "price": found.prices}
    return {
        target.name: {what: float(values_T[t]) for what, values_T in columns.items()}
        for t, target in enumerate(plan.targets)
    }


def _regmix(plan: Plan, random_RxK: np.ndarray, losses_R: np.ndarray, seed: int) -> np.ndarray:
    predictor = fit_regmix(random_RxK, losses_R, plan.regmix_model)
    return propose(predictor, candidate_mixtures(plan.store.windows_K, seed, upper_bounds_K=plan.upper_bounds_K))


def _predicted(weights_K: np.ndarray, scores: Product) -> dict[str, float]:
    """Loss of the mixture of proxies in bits per byte, with rows per document and rows per token."""
    bits = math.log(2) * scores["bytes_D"].sum()
    with np.errstate(divide="ignore"):
        log_w_K = np.log(weights_K)
    return {
        row: float(-np.logaddexp.reduce(scores[key] + log_w_K, axis=1).sum() / bits)
        for row, key in (("document", "document_DxM"), ("token", "token_NxM"))
    }


def _split_rows(scores: Product, num_fit: int) -> tuple[Product, Product]:
    """Scores of the fit documents (which come first) and of the test documents."""
    fit_bytes = int(scores["bytes_D"][:num_fit].sum())
    ends = {"document_DxM": num_fit, "bytes_D": num_fit, "token_NxM": fit_bytes}
    fit = {key: scores[key][:end] for key, end in ends.items()}
    return fit, {key: scores[key][end:] for key, end in ends.items()}
