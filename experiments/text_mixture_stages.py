"""The stages of one seed of the text experiment, each found again if it was already computed.

Axes: N rows (documents or tokens), K sources, M models, R random mixtures, D documents.
"""

import dataclasses
import math
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from experiments.progress import RunProgress
from experiments.stages import Product, Stages
from experiments.text_mixture_data import Target
from experiments.text_mixture_plan import OWN_ARMS, SHARED_ARMS, Plan
from mixmin_jax.data.overlap import find_overlap
from mixmin_jax.mixture.baselines import best_random_mixture, candidate_mixtures, random_mixtures
from mixmin_jax.mixture.objective import cross_entropy
from mixmin_jax.mixture.regmix import fit_regmix, propose
from mixmin_jax.mixture.solve import solve
from mixmin_jax.training.language_model import LanguageModelRun
from mixmin_jax.training.proxies import train_on_mixtures
from mixmin_jax.training.scoring import score_documents

SOLVED_ARMS = ("mixmin", "mixmin_token")


@dataclasses.dataclass(frozen=True)
class Models:
    """Trained models and all that determines them."""

    run: LanguageModelRun
    inputs: Any
    params: Any
    draws_MxK: np.ndarray


@dataclasses.dataclass(frozen=True)
class SeedResult:
    """What one seed found for one target; losses in bits per byte."""

    seed: int
    weights: dict[str, np.ndarray]  # arm -> weights_K
    draws: dict[str, np.ndarray]  # arm -> windows drawn from each source
    solutions: dict[str, dict[str, Any]]  # mixmin, mixmin_token -> certificate
    test_nats: dict[str, np.ndarray]  # arm -> nats of each test document
    predicted: dict[str, dict[str, float]]  # arm -> {"document", "token"}: loss of the mixture of proxies, test part
    random_MxK: np.ndarray
    random_reached: np.ndarray  # test loss of the model trained on each random mixture
    random_predicted: list[dict[str, float]]


class SeedStages:
    """Runs the stages of one seed."""

    def __init__(self, plan: Plan, seed: int, stages: Stages, progress: RunProgress) -> None:
        self._plan, self._seed, self._stages, self._progress = plan, seed, stages, progress

    def _stage(self, name: str, inputs: Any, cost: float, compute) -> Product:
        label = f"{name.replace('-', ' ')}, seed {self._seed}"
        full_name = f"{name}-seed{self._seed}"
        if self._stages.has(full_name, inputs):
            self._progress.skip(label, cost)
            return self._stages.run(full_name, inputs, lambda: {})
        with self._progress.stage(label, cost) as advance:
            return self._stages.run(full_name, inputs, lambda: compute(advance))

    def train(
        self, name: str, run: LanguageModelRun, weights_MxK: np.ndarray, labels: tuple[str, ...], capped: bool
    ) -> Models:
        """Train one model per row of weights."""
        plan, config = self._plan, self._plan.config
        key = jax.random.fold_in(jax.random.key(self._seed), int(run is config.model))
        max_epochs = config.max_epochs if capped else None
        inputs = plan.inputs | {
            "run": dataclasses.asdict(run),
            "weights": weights_MxK.tolist(),
            "seed": self._seed,
            "caps": max_epochs,
        }

        def compute(advance) -> Product:
            trained = train_on_mixtures(
                run,
                plan.store,
                weights_MxK,
                key,
                max_epochs=max_epochs,
                mesh=plan.mesh(len(weights_MxK)),
                tokens_on=config.tokens_on,
                on_block=lambda done, of, losses: advance(done, of),
                names=labels,
            )
            params = flatten_dict(jax.device_get(trained.params), sep="/")
            arrays = {f"params/{path}": leaf for path, leaf in params.items()}
            return arrays | {"draws_MxK": trained.draws_MxK, "loss_TxM": trained.loss_TxM}

        flops = plan.target_flops if run is config.model else plan.proxy_flops
        product = self._stage(f"train-{name}", inputs, len(weights_MxK) * flops, compute)
        leaves = {key.removeprefix("params/"): leaf for key, leaf in product.items() if key.startswith("params/")}
        return Models(run, inputs, unflatten_dict(leaves, sep="/"), product["draws_MxK"])

    def score(self, name: str, models: Models, target: Target, parts: tuple[str, ...], tokens: bool) -> Product:
        """Log-likelihoods of the target's documents: `document_DxM`, and with `tokens` also `token_NxM`, in nats."""
        plan = self._plan
        documents = [document for part in parts for document in target.documents(part)]
        inputs = {
            "models": models.inputs,
            "target": target.corpus.fingerprint,
            "tokens": tokens,
            "documents": [getattr(target, part).tolist() for part in parts],
        }
        num_models = len(models.draws_MxK)

        def compute(advance) -> Product:
            scores = score_documents(
                models.run.model,
                models.params,
                documents,
                plan.store.length,
                mesh=plan.mesh(num_models),
                on_block=advance,
            )
            product: Product = {"document_DxM": scores.document_logp_DxM, "bytes_D": scores.bytes_D}
            return product | ({"token_NxM": scores.logp_NxM} if tokens else {})

        cost = num_models * plan.scoring_flops(models.run, documents)
        return self._stage(f"score-{name}-{target.name}", inputs, cost, compute)


def run_seed(plan: Plan, seed: int, stages: Stages, progress: RunProgress) -> dict[str, SeedResult]:
    """All stages of one seed; returns {target name: result}."""
    stage, config, num_sources = SeedStages(plan, seed, stages, progress), plan.config, len(plan.names)
    proxies = stage.train("proxies", config.proxy, np.eye(num_sources), plan.names, capped=False)
    random_RxK = random_mixtures(
        plan.num_random,
        plan.store.windows_K,
        seed,
        minimum=1 / config.proxy.num_windows,
        upper_bounds_K=plan.upper_bounds_K,
    )
    groups = [  # as many at once as there are proxies, so that one compiled program serves both
        stage.train(
            f"random-mixtures-{first // num_sources}",
            config.proxy,
            _rows(random_RxK, first, num_sources),
            tuple(f"random mixture {r}" for r in range(first, first + num_sources)),
            capped=False,
        )
        for first in range(0, plan.num_random, num_sources)
    ]
    shared = stage.train(
        "shared-arms", config.model, np.stack([plan.uniform_K, plan.natural_K]), SHARED_ARMS, capped=True
    )
    results = {}
    for target in plan.targets:
        proxy_scores = stage.score("proxies", proxies, target, ("fit", "test"), tokens=True)
        random_scores = [
            stage.score(f"random-mixtures-{g}", group, target, ("fit", "test"), tokens=False)["document_DxM"]
            for g, group in enumerate(groups)
        ]
        random_DxR = np.concatenate(random_scores, axis=1)[:, : plan.num_random]
        fit, test = _split_rows(proxy_scores, len(target.fit))
        solutions = {
            "mixmin": _solve(plan, fit["document_DxM"], fit["bytes_D"].sum()),
            "mixmin_token": _solve(plan, fit["token_NxM"], fit["bytes_D"].sum()),
        }
        random_fit_R = -random_DxR[: len(target.fit)].sum(0) / fit["bytes_D"].sum()
        weights = {arm: np.array(solution.pop("weights_K")) for arm, solution in solutions.items()}
        weights |= {
            "random_search": best_random_mixture(random_RxK, random_fit_R),
            "regmix": _regmix(plan, random_RxK, random_fit_R, seed),
        }
        own = stage.train(
            f"arms-{target.name}", config.model, np.stack([weights[arm] for arm in OWN_ARMS]), OWN_ARMS, capped=True
        )
        weights |= {"uniform": plan.uniform_K, "natural": plan.natural_K}
        test_nats: dict[str, np.ndarray] = {}
        draws: dict[str, np.ndarray] = {}
        for names, models in ((SHARED_ARMS, shared), (OWN_ARMS, own)):
            label = "shared-arms" if models is shared else "arms"
            nats_DxM = -stage.score(label, models, target, ("test",), tokens=False)["document_DxM"]
            test_nats |= dict(zip(names, nats_DxM.T, strict=True))
            draws |= dict(zip(names, models.draws_MxK, strict=True))
        bits = math.log(2) * test["bytes_D"].sum()
        results[target.name] = SeedResult(
            seed,
            weights,
            draws,
            solutions,
            test_nats,
            predicted={arm: _predicted(w_K, test) for arm, w_K in weights.items()},
            random_MxK=random_RxK,
            random_reached=-random_DxR[len(target.fit) :].sum(0) / bits,
            random_predicted=[_predicted(w_K, test) for w_K in random_RxK],
        )
    return results


def overlap_stage(plan: Plan, target: Target, stages: Stages, progress: RunProgress) -> Product:
    """Near-duplicates of the target's documents in the sources."""
    name, inputs = f"overlap-{target.name}", plan.inputs | {"target": target.corpus.fingerprint}

    def compute() -> Product:
        overlap = find_overlap(target.corpus, plan.sources)
        parts = {int(i): "fit" for i in target.fit} | {int(i): "test" for i in target.test}
        return {
            "ngram": overlap.words,
            "threshold": overlap.threshold,
            "sources": overlap.num_matched,
            "worst": [
                {
                    "document": match.target_document,
                    "source": match.source,
                    "share": match.share,
                    "part": parts.get(match.target_document, "unused"),
                    "excerpt": match.excerpt,
                }
                for match in overlap.matches[:5]
            ],
        }

    with progress.stage(f"near-duplicates, {target.name}", 0.0):
        return stages.run(name, inputs, compute)


def _solve(plan: Plan, logp_NxK: np.ndarray, num_bytes: int) -> dict[str, Any]:
    """The weights that minimise the mixture's loss on the fit part, in nats per byte, with their certificate."""
    objective = cross_entropy(logp_NxK, example_weights=np.full(len(logp_NxK), 1 / num_bytes), sources=plan.names)
    solution = solve(objective, method=plan.config.method, upper_bounds=plan.upper_bounds_K, throw=False)
    return {
        "weights_K": solution.weights,
        "loss": solution.loss,
        "gap": solution.gap,
        "iterations": solution.iterations,
        "converged": solution.converged,
        "method": solution.method,
        "tolerance": 1e-9 * len(logp_NxK) / num_bytes,
        "gap_history": solution.gap_history.tolist(),
    }


def _regmix(plan: Plan, random_RxK: np.ndarray, losses_R: np.ndarray, seed: int) -> np.ndarray:
    predictor = fit_regmix(random_RxK, losses_R, plan.regmix_model)
    candidates = candidate_mixtures(plan.store.windows_K, seed, upper_bounds_K=plan.upper_bounds_K)
    return propose(predictor, candidates)


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


def _rows(random_RxK: np.ndarray, first: int, count: int) -> np.ndarray:
    """Rows first, ..., first + count - 1; the last stands in for those past the end."""
    return random_RxK[np.minimum(np.arange(first, first + count), len(random_RxK) - 1)]
