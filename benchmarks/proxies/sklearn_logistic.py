"""scikit-learn's logistic regressions of an assay each, that do the work of `training.logistic_learner`.

Axes: N molecules, D bits, M models (assays), C penalties.
"""

import numpy as np
from jaxtyping import Float, UInt8
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from threadpoolctl import threadpool_limits

from mixmin_jax.training.inner_folds import NUM_FOLDS, random_folds
from mixmin_jax.training.logistic_learner import LogisticRun
from mixmin_jax.training.weighted_examples import WeightedExamples


@threadpool_limits.wrap(limits=1)  # on vectors this short, the threads of L-BFGS mostly wait for each other
def train_sklearn(
    run: LogisticRun, features_NxD: UInt8[np.ndarray, "N D"], examples: WeightedExamples, seed: int
) -> Float[np.ndarray, "N M"]:
    """The scores of `train_logistic` for labels of 0 and 1 and equal weights, up to the solvers' tolerances.

    Penalties, folds and the choice by them are the same, and each fold's solver starts from the solution of the penalty
    before. With equal weights n is the number of molecules, so a penalty c is scikit-learn's C = 1 / c.
    """
    bits_NxD = csr_matrix(features_NxD, dtype=np.float64)
    penalty_C = np.sort(run.penalties)[::-1]
    fold_N, columns = random_folds(len(features_NxD), seed), []
    for target_N, weight_N in zip(examples.target_MxN, examples.weight_MxN, strict=True):
        own_N = weight_N > 0
        loss_C = (np.log(penalty_C / run.usual) / run.spread) ** 2 / 2
        for fold in range(NUM_FOLDS):
            kept_N, left_out_N = own_N & (fold_N != fold), own_N & (fold_N == fold)
            kept_bits, left_out_bits = bits_NxD[kept_N], bits_NxD[left_out_N]
            model = LogisticRegression(max_iter=run.max_iterations, warm_start=True)
            for c, penalty in enumerate(penalty_C):
                model.set_params(C=1 / penalty).fit(kept_bits, target_N[kept_N])
                loss_C[c] += log_loss(target_N[left_out_N], model.predict_proba(left_out_bits), normalize=False)
        model = LogisticRegression(C=1 / penalty_C[loss_C.argmin()], max_iter=run.max_iterations)
        columns.append(model.fit(bits_NxD[own_N], target_N[own_N]).decision_function(bits_NxD))
    return np.stack(columns, axis=1)
