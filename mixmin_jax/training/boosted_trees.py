"""Gradient-boosted trees on weighted examples, by xgboost (Chen and Guestrin, arXiv:1603.02754).

Needs the extra `mixmin_jax[molecules]`.

Axes: N molecules, U molecules that a model is trained on, D bits, M models.
"""

import dataclasses
import importlib.util
import math
from typing import Any

import numpy as np
from jaxtyping import UInt8

from mixmin_jax.errors import InputError
from mixmin_jax.training.checkpoint import Checkpoints
from mixmin_jax.training.weighted_examples import (
    Loss,
    OnProgress,
    Trained,
    WeightedExamples,
    base_scores,
    check_examples,
)


@dataclasses.dataclass(frozen=True)
class TreeRun:
    """One model's boosting. The defaults were chosen on Tox21 (12 assays, held-out folds of the training part)."""

    rounds: int = 50  # trees
    depth: int = 8  # splits from the root to a leaf, at most
    learning_rate: float = 0.2  # shrinkage of each tree
    min_child_weight: float = 0.3  # least sum of second derivatives in a leaf; p (1 - p) per molecule for cross-entropy
    subsample: float = 0.8  # share of the molecules that a tree sees
    colsample: float = 0.1  # share of the bits that a split may choose from
    l2: float = 1.0  # penalty on leaf values

    def __post_init__(self) -> None:
        if min(self.rounds, self.depth) < 1:
            raise InputError(f"rounds and depth must be positive, got {self.rounds}, {self.depth}")
        for name in ("learning_rate", "subsample", "colsample"):
            if not 0 < getattr(self, name) <= 1:
                raise InputError(f"{name} must be in (0, 1], got {getattr(self, name)}")
        for name in ("min_child_weight", "l2"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} must not be negative, got {getattr(self, name)}")


@dataclasses.dataclass(frozen=True)
class TreeLearner:
    """`train_trees` as a learner; see `weighted_examples.Learner`."""

    run: TreeRun = TreeRun()
    loss: Loss = "cross_entropy"

    @property
    def settings(self) -> dict[str, Any]:
        require_xgboost()
        import xgboost

        return {"learner": "trees", "xgboost": xgboost.__version__, "loss": self.loss, **dataclasses.asdict(self.run)}

    @property
    def cautious(self) -> "TreeLearner":
        """Leaves of any weight, and all bits to choose from."""
        free = dataclasses.replace(self.run, min_child_weight=0.0, subsample=1.0, colsample=1.0)
        return dataclasses.replace(self, run=free)

    def __call__(
        self, features_NxD: UInt8[np.ndarray, "N D"], examples: WeightedExamples, seed: int, **options: Any
    ) -> Trained:
        options.pop("on_skipped", None)  # trees have no steps to skip
        return train_trees(self.run, features_NxD, examples, seed, loss=self.loss, **options)

    def flops(self, num_molecules: int, num_bits: int, num_models: int) -> None:
        return None


def has_xgboost() -> bool:
    """Whether xgboost is installed."""
    return importlib.util.find_spec("xgboost") is not None


def require_xgboost() -> None:
    """Raise InputError, with the command that installs it, if xgboost is missing."""
    if not has_xgboost():
        raise InputError('xgboost is not installed: pip install "mixmin_jax[molecules]"')


def train_trees(
    run: TreeRun,
    features_NxD: UInt8[np.ndarray, "N D"],
    examples: WeightedExamples,
    seed: int,
    *,
    loss: Loss = "cross_entropy",
    names: tuple[str, ...] | None = None,
    on_progress: OnProgress | None = None,
    checkpoints: Checkpoints | None = None,
) -> Trained:
    """Boost M models one after the other and score all molecules with each.

    Each model starts from its best constant score. Bits are given to xgboost as a sparse matrix with zeros "missing":
    the trees are the same as with dense bits, in a twentieth of the time. Each model's matrix has only its own
    molecules (weight above 0), so others cost nothing and take no part in `subsample`.

    A model's weights are scaled to the effective number of molecules, (sum a)^2 / sum a^2 (Kish). `min_child_weight`
    and `l2` are relative to these weights.

    Args:
        run: settings.
        features_NxD: bits of all molecules.
        examples: targets and weights.
        seed: the same for all models.
        loss, names, on_progress: as in `weighted_examples.Learner`.
        checkpoints: of whole models; their steps are trees.

    Returns:
        Scores. They depend on the seed and on xgboost's version only.

    Raises:
        InputError: examples that cannot be trained on, or xgboost is not installed.
    """
    require_xgboost()
    import xgboost
    from scipy.sparse import csr_matrix

    num_models, num_molecules = examples.weight_MxN.shape
    check_examples(features_NxD, examples, loss, names or tuple(f"model {m}" for m in range(num_models)))
    bits_NxD = csr_matrix(features_NxD).astype(np.float32)
    everything = xgboost.DMatrix(bits_NxD)
    base_M = base_scores(examples, loss).astype(np.float64)
    found = Trained.empty(num_molecules, num_models)
    scores_NxM = found.scores_NxM
    trained, rounds = 0, num_models * run.rounds
    if checkpoints and (restored := checkpoints.restore(scores_NxM)):
        trained, scores_NxM = restored[0] // run.rounds, restored[1]
    for m in range(trained, num_models):
        used_N = examples.weight_MxN[m] > 0
        weight_U = examples.weight_MxN[m, used_N].astype(np.float64)
        weight_U *= weight_U.sum() / (weight_U**2).sum()  # in all the effective number of molecules
        matrix = xgboost.QuantileDMatrix(bits_NxD[used_N], label=examples.target_MxN[m, used_N], weight=weight_U)
        probability = loss == "cross_entropy"
        params = {
            "objective": "binary:logistic" if probability else "reg:squarederror",
            "base_score": float(1 / (1 + np.exp(-base_M[m])) if probability else base_M[m]),
            "tree_method": "hist",
            "max_depth": run.depth,
            "eta": run.learning_rate,
            "min_child_weight": run.min_child_weight,
            "subsample": run.subsample,
            "colsample_bynode": run.colsample,
            "lambda": run.l2,
            "seed": seed,
        }
        booster = xgboost.train(params, matrix, run.rounds)
        scores_NxM[:, m] = booster.predict(everything, output_margin=True)
        if on_progress:
            on_progress(m + 1, num_models)
        if checkpoints and checkpoints.due((m + 1) * run.rounds, rounds):
            checkpoints.save((m + 1) * run.rounds, rounds, scores_NxM)
    return dataclasses.replace(found, scores_NxM=scores_NxM)
