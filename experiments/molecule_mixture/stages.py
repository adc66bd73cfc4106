"""The stages of one seed of the molecule experiment, each found again if it was already computed.

Axes: N molecules, T target's molecules of one part, A assays, K sources, F folds, M models, R random mixtures, D bits.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from experiments.harness.certified_weights import TOLERANCE, certified_weights
from experiments.harness.devices import own_rows, solver_mesh
from experiments.harness.result_files import file_name
from experiments.harness.stages import Product, Running, Stages, fingerprint
from experiments.molecule_mixture.plan import Plan, Target, growth_arm
from mixmin_jax.data.molecules.cleaning import rdkit_version
from mixmin_jax.data.molecules.features import molecule_bits
from mixmin_jax.errors import InputError
from mixmin_jax.mixture.baselines.random_search import best_random_mixture
from mixmin_jax.mixture.objective import Objective, cross_entropy, squared_error
from mixmin_jax.training.calibration import calibrate
from mixmin_jax.training.collapse import collapsed, train_soundly
from mixmin_jax.training.multitask import train_multitask
from mixmin_jax.training.nearest_actives import nearest_active
from mixmin_jax.training.weighted_examples import WeightedExamples, example_losses, mixture_examples


@dataclasses.dataclass(frozen=True)
class ModelCounts:
    """How trainings went: models in all, those that collapsed and were trained again, those that stayed useless."""

    trained: int
    retrained: int
    collapsed: int
    gradient_norm: float | None  # the largest that a solver stopped at; None: learners that do not solve

    @classmethod
    def over(cls, counts: Iterable["ModelCounts"]) -> "ModelCounts":
        """Of several stages or seeds together."""
        found = list(counts)
        norms = [count.gradient_norm for count in found if count.gradient_norm is not None]
        trained, retrained, collapsed = (
            sum(getattr(count, name) for count in found) for name in ("trained", "retrained", "collapsed")
        )
        return cls(trained, retrained, collapsed, max(norms, default=None))


@dataclasses.dataclass(frozen=True)
class SeedResult:
    """What one seed found for one target, by model: those of the arms, and those with fewer sources."""

    seed: int
    weights: dict[str, np.ndarray]  # model -> weights of all assays
    solutions: dict[str, dict[str, Any]]  # solved model -> certificate
    test_scores: dict[str, np.ndarray]  # model -> score of every test molecule of the target
    collapsed_sources: tuple[str, ...]  # left out, as their proxies learned nothing; of `mixmin_own`, the target too
    flat_sources: tuple[str, ...]  # the other ones whose calibrated proxies are constant
    collapsed_arms: tuple[str, ...]
    models: ModelCounts  # of the whole seed
    predicted: dict[str, np.ndarray]  # model -> the mixture of proxies' prediction for every test molecule
    random_scores_RxFxT: np.ndarray  # test scores of the models trained on each random mixture, without each fold
    random_predicted_RxT: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class CrossFitted:
    """Scores of M mixtures' models: of training molecules by models that did not see them, of test molecules by all.

    Calibrated, unless switched off, on each mixture's own training labels.
    """

    inputs: Any
    weights_MxA: np.ndarray  # the mixtures
    heldout_NxM: np.ndarray  # test molecules: NaN
    test_FxNxM: np.ndarray  # in the order of the test molecules
    is_collapsed_M: np.ndarray  # in any fold
    is_flat_M: np.ndarray  # calibrated to a constant, as held-out scores tell nothing of the labels

    def columns(self, cut: slice) -> "CrossFitted":
        """Some of the mixtures."""
        return CrossFitted(
            [self.inputs, [cut.start, cut.stop]],
            self.weights_MxA[cut],
            self.heldout_NxM[:, cut],
            self.test_FxNxM[..., cut],
            self.is_collapsed_M[cut],
            self.is_flat_M[cut],
        )


class SeedStages:
    """Runs the stages of one seed."""

    def __init__(self, plan: Plan, seed: int, stages: Stages, features_NxD: np.ndarray, learner: str) -> None:
        self._plan, self._seed, self._stages, self._features_NxD = plan, seed, stages, features_NxD
        self._learner = plan.learners[learner]
        self._data = plan.split.inputs() | {
            "fingerprints": [plan.config.fingerprints, plan.config.radius, plan.config.bits, rdkit_version()],
            "balanced": plan.config.balanced,
            "seed": seed,
        }
        self._inputs = self._data | {"learner": self._learner.settings}
        self.counts: list[ModelCounts] = []

    def crossfit(self, name: str, weights_MxA: np.ndarray, labels: Sequence[str]) -> CrossFitted:
        """Train a model per mixture and fold, without that fold."""
        plan, num_models, num_folds = self._plan, len(weights_MxA), self._plan.config.folds
        fold_N = plan.split.folds(self._seed)
        inputs = self._inputs | {"folds": num_folds, "weights": _stamp(weights_MxA)}

        without = [self._examples(weights_MxA, (fold_N >= 0) & (fold_N != f)) for f in range(num_folds)]
        products = [
            self._train(
                f"{name}-fold{fold}",
                examples,
                [f"{label}, without fold {fold}" for label in labels],
                inputs | {"fold": fold},
                num_models * plan.crossfit_cost / num_folds,
            )
            for fold, examples in enumerate(without)
        ]
        scores_FxNxM = [product["scores_NxM"] for product in products]
        is_collapsed_M = np.any([product["is_collapsed_M"] for product in products], axis=0)

        def compute(_stage: Running) -> Product:
            heldout_NxM = np.full((len(fold_N), num_models), np.nan, np.float32)
            for fold, scores_NxM in enumerate(scores_FxNxM):
                heldout_NxM[fold_N == fold] = scores_NxM[fold_N == fold]
            # held-out scores of a fold by the line of the others, so that no label is judged by a line that saw it
            fitted_on = [*without, self._examples(weights_MxA, plan.train_N)]
            lines = [calibrate(heldout_NxM, examples, plan.loss) for examples in fitted_on]
            slopes, intercepts = (np.stack(parts) for parts in zip(*lines, strict=True))
            test_FxNxM = np.stack([scores_NxM[fold_N < 0] for scores_NxM in scores_FxNxM])
            lines_F1xM = {"slope_F1xM": slopes, "intercept_F1xM": intercepts}
            return {"heldout_NxM": heldout_NxM, "test_FxNxM": test_FxNxM} | lines_F1xM

        product = self._stages.run(f"{name}-seed{self._seed}", inputs, compute)
        heldout_NxM, test_FxNxM = product["heldout_NxM"], product["test_FxNxM"]
        if not plan.config.calibrate:
            is_flat_M = np.zeros(num_models, bool)
            return CrossFitted([inputs, "raw"], weights_MxA, heldout_NxM, test_FxNxM, is_collapsed_M, is_flat_M)
        slope_F1xM, intercept_F1xM = product["slope_F1xM"], product["intercept_F1xM"]
        # test molecules have no held-out score; their fold, -1, is that of the last line, which was fitted on all folds
        heldout_NxM = slope_F1xM[fold_N] * heldout_NxM + intercept_F1xM[fold_N]
        test_FxNxM = slope_F1xM[-1] * test_FxNxM + intercept_F1xM[-1]
        return CrossFitted(inputs, weights_MxA, heldout_NxM, test_FxNxM, is_collapsed_M, slope_F1xM[-1] == 0)

    def train(self, name: str, weights_MxA: np.ndarray, labels: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Train a model per mixture on all training molecules: scores of the test molecules, and which collapsed."""
        plan = self._plan
        examples, inputs = self._examples(weights_MxA, plan.train_N), self._inputs | {"weights": _stamp(weights_MxA)}
        product = self._train(name, examples, labels, inputs, float(len(weights_MxA)))
        return product["scores_NxM"][plan.split.is_test_N], product["is_collapsed_M"]

    def heldout_losses(self, proxies: CrossFitted) -> np.ndarray:
        """The mean loss of every mixture's own training labels, under models that did not see them."""
        train_N = self._plan.train_N
        examples = self._examples(proxies.weights_MxA, train_N)
        score_MxN = np.where(train_N, proxies.heldout_NxM.T, 0).astype(np.float32)
        loss_MxN = example_losses(score_MxN, examples.target_MxN, self._plan.loss)
        return (examples.weight_MxN * np.asarray(loss_MxN, np.float64)).sum(1)

    def multitask(self) -> np.ndarray:
        """Scores of all molecules by one network on all assays, N x T targets."""
        plan, columns = self._plan, self._plan.proxy_columns
        scored_T = np.searchsorted(columns, [target.column for target in plan.targets])
        run = dataclasses.asdict(plan.config.multitask)
        inputs = self._data | {"multitask": run, "assays": columns.tolist(), "scored": scored_T.tolist()}

        def compute(stage: Running) -> Product:
            with stage.checkpoints() as checkpoints:
                trained = train_multitask(
                    plan.config.multitask,
                    self._features_NxD,
                    plan.split.values_NxA[:, columns],
                    plan.train_N,
                    scored_T,
                    self._seed,
                    loss=plan.loss,
                    balanced=plan.config.balanced,
                    names=tuple(plan.split.names[a] for a in columns),
                    on_progress=stage.advance,
                    checkpoints=checkpoints,
                )
            return {"scores_NxT": trained.scores_NxM, "stopped_T": trained.chosen_M}

        return self._stages.run(f"multitask-seed{self._seed}", inputs, compute)["scores_NxT"]

    def collapsed_on_targets(self, scores_NxT: np.ndarray) -> np.ndarray:
        """Whether scores tell no more of each target's own training molecules than a constant."""
        own_TxA = np.eye(len(self._plan.split.names))[[target.column for target in self._plan.targets]]
        return collapsed(scores_NxT, self._examples(own_TxA, self._plan.train_N), self._plan.loss)

    def _examples(self, weights_MxA: np.ndarray, train_N: np.ndarray) -> WeightedExamples:
        """What models on these mixtures and molecules are trained on."""
        used_A = np.flatnonzero(weights_MxA.any(0))  # the others need not have data in every fold
        return mixture_examples(
            self._plan.split.values_NxA[:, used_A],
            weights_MxA[:, used_A],
            train_N,
            balanced=self._plan.config.balanced,
            names=tuple(self._plan.split.names[a] for a in used_A),
        )

    def _train(self, name: str, examples: WeightedExamples, labels: Sequence[str], inputs: Any, cost: float) -> Product:
        """One model per row of examples: scores of all molecules, N x M, and how the trainings went."""

        def compute(stage: Running) -> Product:
            with stage.checkpoints() as checkpoints:
                found = train_soundly(
                    self._learner,
                    self._features_NxD,
                    examples,
                    self._seed,
                    self._plan.loss,
                    names=tuple(labels),
                    on_progress=stage.advance,
                    checkpoints=checkpoints,
                    on_skipped=stage.skipped,
                )
            return {
                "scores_NxM": found.trained.scores_NxM,
                "chosen_M": found.trained.chosen_M,
                "gradient_norm_M": found.trained.gradient_norm_M,
                "is_retrained_M": found.is_retrained_M,
                "is_collapsed_M": found.is_collapsed_M,
            }

        product = self._stages.run(f"{name}-seed{self._seed}", inputs, compute, cost=cost)
        norm_M = product["gradient_norm_M"]
        norm = None if np.isnan(norm_M).all() else float(np.nanmax(norm_M))
        again, useless = int(product["is_retrained_M"].sum()), int(product["is_collapsed_M"].sum())
        self.counts.append(ModelCounts(len(norm_M), again, useless, norm))
        return product

    def weights(self, target: Target, proxies: CrossFitted, random: CrossFitted) -> Product:
        """The weights of the target's own arms, from its training labels: {arm: {assay: weight}}, with certificates.

        The arm of a smaller number of sources is called `mixmin-NUMBER`.
        """
        plan = self._plan
        own_too = np.sort(np.append(target.source_columns, target.column))
        problems = {"mixmin": target.source_columns, "mixmin_own": own_too}
        for number in plan.numbers_of_sources:
            problems[growth_arm("mixmin", number)] = plan.subset(target, self._seed, number)
        problems = {arm: self._sound(target, columns_K, proxies) for arm, columns_K in problems.items()}

        def compute(_stage: Running) -> Product:
            rows = TargetRows(plan, target, plan.train_N)
            weights, solutions = {}, {}
            for arm, columns_K in problems.items():
                solution = self._solve(rows, columns_K, proxies)
                weights[arm] = plan.named(plan.over_assays(columns_K, np.array(solution.pop("weights"))))
                solutions[arm] = solution
            losses_R = rows.losses(rows.of(random.heldout_NxM))
            weights["random_search"] = plan.named(best_sound_mixture(random, losses_R))
            return {"weights": weights, "solutions": solutions}

        inputs = {
            "proxies": proxies.inputs,
            "random": random.inputs,
            "target": target.name,
            "columns": {arm: columns_K.tolist() for arm, columns_K in problems.items()},
            "method": plan.config.method,
            "tolerance": TOLERANCE,
        }
        return self._stages.run(weights_stage(target.name, self._seed), inputs, compute, target=target.name)

    def _sound(self, target: Target, columns_K: np.ndarray, proxies: CrossFitted) -> np.ndarray:
        """These columns without those whose proxies learned nothing."""
        sound_K = columns_K[~proxies.is_collapsed_M[np.searchsorted(self._plan.proxy_columns, columns_K)]]
        if not len(sound_K):
            raise InputError(
                f"none of the {len(columns_K)} sources of {target.name} has a proxy that learned anything (seed"
                f" {self._seed}): give sources with more positives (--min-positives) or another learner (--learner)"
            )
        return sound_K

    def _solve(self, rows: "TargetRows", columns_K: np.ndarray, proxies: CrossFitted) -> dict[str, Any]:
        plan = self._plan
        score_TxK = rows.of(proxies.heldout_NxM[:, np.searchsorted(plan.proxy_columns, columns_K)])
        mesh = solver_mesh(plan.config)
        mine = own_rows(mesh, len(score_TxK))
        names = [plan.split.names[a] for a in columns_K]
        objective: Objective = (
            cross_entropy(rows.log_likelihoods(score_TxK)[mine], example_weights=rows.weight_T[mine], sources=names)
            if plan.config.task == "classification"
            else squared_error(score_TxK[mine], rows.value_T[mine], sources=names)
        )
        return certified_weights(objective, method=plan.config.method, mesh=mesh)[0]

    def result(
        self,
        target: Target,
        weights: dict[str, np.ndarray],
        solutions: dict[str, dict[str, Any]],
        scores: Mapping[str, np.ndarray],
        collapsed: tuple[str, ...],
        proxies: CrossFitted,
        random: CrossFitted,
    ) -> SeedResult:
        """Everything about one target, from the products of the stages; `scores` and `collapsed` by trained model."""
        plan = self._plan
        rows = TargetRows(plan, target, plan.split.is_test_N)
        tested_T = np.searchsorted(np.flatnonzero(plan.split.is_test_N), rows.index_T)  # rows among the test molecules
        proxies_FxTxK = proxies.test_FxNxM[:, tested_T]

        def predicted(weights_A: np.ndarray) -> np.ndarray:
            return rows.mixture_predictions(proxies_FxTxK, weights_A[plan.proxy_columns])

        def sources(is_one_K: np.ndarray) -> tuple[str, ...]:
            of_target = (target.column, *target.source_columns)
            return tuple(plan.split.names[a] for a in plan.proxy_columns[is_one_K] if a in of_target)

        return SeedResult(
            self._seed,
            weights=weights,
            solutions=solutions,
            test_scores={model: score_N[tested_T] for model, score_N in scores.items()},
            collapsed_sources=sources(proxies.is_collapsed_M),
            flat_sources=sources(proxies.is_flat_M & ~proxies.is_collapsed_M),
            collapsed_arms=collapsed,
            models=ModelCounts.over(self.counts),
            predicted={model: predicted(weights_A) for model, weights_A in weights.items()},
            random_scores_RxFxT=np.moveaxis(random.test_FxNxM[:, tested_T], -1, 0),
            random_predicted_RxT=np.stack([predicted(weights_A) for weights_A in random.weights_MxA]),
        )


class TargetRows:
    """A target's molecules among some, with their labels, their weights, and losses on them.

    Cross-entropy in nats per molecule (positives and negatives with half of the weight each if balanced), or the mean
    squared error of standardised values.
    """

    def __init__(self, plan: Plan, target: Target, is_member_N: np.ndarray) -> None:
        value_N = plan.split.values_NxA[:, target.column]
        self.index_T = np.flatnonzero(is_member_N & np.isfinite(value_N))
        self.value_T = value_N[self.index_T].astype(np.float64)
        self._is_classification = plan.config.task == "classification"
        self.weight_T = np.full(len(self.value_T), 1 / len(self.value_T))
        if plan.config.balanced:
            is_positive_T = self.value_T == 1
            count_T = np.where(is_positive_T, is_positive_T.sum(), (~is_positive_T).sum())
            self.weight_T = 1 / (2 * count_T)

    def of(self, values_NxM: np.ndarray) -> np.ndarray:
        """The target's rows of what all molecules have, in float64."""
        return values_NxM[self.index_T].astype(np.float64)

    def log_likelihoods(self, score_TxM: np.ndarray) -> np.ndarray:
        """log p(y | x) of the labels under scores that are logits."""
        return -np.logaddexp(0, np.where(self.value_T[:, None] == 1, -score_TxM, score_TxM))

    def losses(self, score_TxM: np.ndarray) -> np.ndarray:
        """The loss of each column of scores."""
        if self._is_classification:
            return -self.weight_T @ self.log_likelihoods(score_TxM)
        return self.weight_T @ (score_TxM - self.value_T[:, None]) ** 2

    def mixture_predictions(self, score_FxTxK: np.ndarray, weights_K: np.ndarray) -> np.ndarray:
        """What the mixture of K proxies predicts, each the mean of its F folds' models: a logit, or a value."""
        used_K = weights_K > 0
        score_FxTxK, weights_K = score_FxTxK[..., used_K].astype(np.float64), weights_K[used_K]
        if not self._is_classification:
            return score_FxTxK.mean(0) @ weights_K
        log_odds = []
        for sign in (1, -1):  # log of the probability of 1, and of 0
            log_p_FxTxK = -np.logaddexp(0, -sign * score_FxTxK) + np.log(weights_K) - np.log(len(score_FxTxK))
            log_odds.append(np.logaddexp.reduce(np.logaddexp.reduce(log_p_FxTxK, axis=0), axis=1))
        return log_odds[0] - log_odds[1]


def best_sound_mixture(random: CrossFitted, losses_R: np.ndarray) -> np.ndarray:
    """The random mixture of least loss, without those that collapsed (with all, where all did)."""
    is_kept_R = ~random.is_collapsed_M | random.is_collapsed_M.all()
    return best_random_mixture(random.weights_MxA[is_kept_R], losses_R[is_kept_R])


def weights_stage(target: str, seed: int) -> str:
    """The name of the stage that finds a target's weights."""
    return f"weights-{file_name(target)}-seed{seed}"


def fingerprint_stage(plan: Plan, stages: Stages) -> np.ndarray:
    """What models see of all molecules, N x D of 0 and 1."""
    smiles, kind, train_N = plan.split.molecules.smiles, plan.config.fingerprints, plan.train_N
    sizes = {"radius": plan.config.radius, "num_bits": plan.config.bits}
    trained_on = fingerprint(train_N.tolist()) if kind == "ecfp_descriptors" else None
    inputs = {"smiles": fingerprint(smiles), "kind": kind, "train": trained_on, "rdkit": rdkit_version()} | sizes

    def compute(stage: Running) -> Product:
        bits_NxD = molecule_bits(smiles, kind, train_N, **sizes, on_progress=stage.advance)
        return {"packed": np.packbits(bits_NxD, axis=1), "bits": bits_NxD.shape[1]}

    product = stages.run("fingerprints", inputs, compute)
    return np.unpackbits(product["packed"], axis=1, count=product["bits"])


@dataclasses.dataclass(frozen=True)
class LearnerChoice:
    """Why a learner was taken: the mean loss of some sources' left-out training labels under each.

    losses: of each learner, one number per assay, of seed 0.
    """

    assays: tuple[str, ...]
    losses: dict[str, tuple[float, ...]]
    collapsed: dict[str, int] = dataclasses.field(default_factory=dict)  # models of each that learned nothing

    @property
    def best(self) -> str:
        """The learner with the least mean loss, of those of which the fewest models learned nothing."""
        return min(
            self.losses, key=lambda learner: (self.collapsed.get(learner, 0), float(np.mean(self.losses[learner])))
        )


def choose_learner(plan: Plan, stages: Stages, features_NxD: np.ndarray) -> LearnerChoice | None:
    """Compare all learners by cross-fitting on some of the sources; None where there is one only."""
    if len(plan.learners) == 1:
        return None
    columns, assays = plan.choice_columns, tuple(plan.split.names[a] for a in plan.choice_columns)
    losses, collapsed = {}, {}
    for learner in plan.learners:
        stage = SeedStages(plan, 0, stages, features_NxD, learner)
        proxies = stage.crossfit(f"choice-{learner}", np.eye(len(plan.split.names))[columns], assays)
        losses[learner] = tuple(stage.heldout_losses(proxies).tolist())
        collapsed[learner] = int(proxies.is_collapsed_M.sum())
    return LearnerChoice(assays, losses, collapsed)


def nearest_stage(plan: Plan, stages: Stages, features_NxD: np.ndarray) -> np.ndarray:
    """Logits of all molecules by the similarity to the nearest training active of each target, N x T."""
    inputs = plan.split.inputs() | {
        "targets": [target.name for target in plan.targets],
        "fingerprints": [plan.config.fingerprints, plan.config.radius, plan.config.bits, rdkit_version()],
        "balanced": plan.config.balanced,
    }

    def compute(_stage: Running) -> Product:
        columns = [target.column for target in plan.targets]
        is_active_NxT = plan.train_N[:, None] & (plan.split.values_NxA[:, columns] == 1)
        bits_NxD = features_NxD[:, : plan.config.bits]  # the fingerprints: similarity is no matter of descriptors
        nearest_NxT = np.stack([nearest_active(bits_NxD, is_active_N) for is_active_N in is_active_NxT.T], axis=1)
        own = mixture_examples(
            plan.split.values_NxA[:, columns], np.eye(len(columns)), plan.train_N, balanced=plan.config.balanced
        )
        line = calibrate(nearest_NxT, own, plan.loss)
        return {"scores_NxT": line.slope_M * nearest_NxT + line.intercept_M}

    return stages.run("nearest", inputs, compute)["scores_NxT"]


def run_seed(plan: Plan, seed: int, stages: Stages, features_NxD: np.ndarray, learner: str) -> dict[str, SeedResult]:
    """All stages of one seed; returns {target name: result}."""
    stage, names = SeedStages(plan, seed, stages, features_NxD, learner), plan.split.names
    proxies = stage.crossfit("proxies", np.eye(len(names))[plan.proxy_columns], [names[a] for a in plan.proxy_columns])
    number = plan.num_random
    all_random = stage.crossfit(
        "random-mixtures",
        np.concatenate([plan.random_RxA(target, seed) for target in plan.targets]),
        [f"random mixture {r} for {target.name}" for target in plan.targets for r in range(number)],
    )
    random = [all_random.columns(slice(t * number, (t + 1) * number)) for t in range(len(plan.targets))]
    found = [stage.weights(target, proxies, random[t]) for t, target in enumerate(plan.targets)]
    weights = [plan.weights_of_models(target, seed, found[t]["weights"]) for t, target in enumerate(plan.targets)]
    models = list(weights[0])
    scores_NxM, is_collapsed_M = stage.train(
        "arms",
        np.stack([weights_of[model] for weights_of in weights for model in models]),
        [f"{model} of {target.name}" for target in plan.targets for model in models],
    )
    scores_NxTxM = scores_NxM.reshape(len(scores_NxM), len(plan.targets), len(models))
    is_collapsed_TxM = is_collapsed_M.reshape(len(plan.targets), len(models))
    others = {"multitask": stage.multitask()}
    if "nearest" in plan.other_arms:
        others["nearest"] = nearest_stage(plan, stages, features_NxD)
    others_collapsed = {arm: stage.collapsed_on_targets(scores_NxT) for arm, scores_NxT in others.items()}
    return {
        target.name: stage.result(
            target,
            weights[t],
            found[t]["solutions"],
            dict(zip(models, scores_NxTxM[:, t].T, strict=True))
            | {arm: scores_NxT[plan.split.is_test_N, t] for arm, scores_NxT in others.items()},
            (
                *(model for model, is_collapsed in zip(models, is_collapsed_TxM[t], strict=True) if is_collapsed),
                *(arm for arm, is_collapsed_T in others_collapsed.items() if is_collapsed_T[t]),
            ),
            proxies,
            random[t],
        )
        for t, target in enumerate(plan.targets)
    }


def _stamp(weights_MxA: np.ndarray) -> str:
    """Weights by their hash: hundreds of mixtures of hundreds of assays are too long to write out."""
    return fingerprint(weights_MxA.tolist())
