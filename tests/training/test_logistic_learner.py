import functools

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from mixmin_jax.errors import InputError
from mixmin_jax.training import logistic_learner
from mixmin_jax.training.inner_folds import random_folds
from mixmin_jax.training.logistic_learner import LogisticRun, models_at_once, train_logistic
from mixmin_jax.training.mesh import make_mesh
from mixmin_jax.training.weighted_examples import WeightedExamples
from tests.training.test_mlp_learner import BITS, EXAMPLES, TARGETS, WEIGHTS, D, M, N
from tests.training.test_resume import go_on, stop

TIGHT = LogisticRun((1.0, 30.0), tolerance=1e-5)
ONE_MODEL = 4 * 2 * (24 * D + 8 * N)  # bytes


def sklearn_scores(c, target_N, weight_N):
    """The same problem: soft labels as both classes, in the sum over molecules instead of the mean."""
    weight_N = weight_N.astype(float) / weight_N.sum()
    both = np.concatenate([weight_N * target_N, weight_N * (1 - target_N)]) / (weight_N**2).sum()
    model = LogisticRegression(C=1 / c, tol=1e-10, max_iter=10_000)
    return model.fit(np.tile(BITS, (2, 1)), np.repeat([1, 0], N), both).decision_function(BITS)


@pytest.fixture(scope="module")
def found():
    return train_logistic(TIGHT, BITS, EXAMPLES, 2)


def test_each_model_is_the_one_that_scikit_learn_finds_at_its_penalty(found):
    for m in range(M):
        expected = sklearn_scores(found.chosen_M[m], TARGETS[m], WEIGHTS[m])
        np.testing.assert_allclose(found.scores_NxM[:, m], expected, rtol=1e-3, atol=1e-3)
    assert (found.gradient_norm_M <= 2e-5).all() and found.gradient_norm_M.dtype == np.float32


def test_the_penalty_is_the_most_probable_of_those_that_predict_left_out_molecules():
    """With a prior that says nothing the choice is that of plain cross-validation; with a narrow one the usual wins."""
    labels = (BITS[:, 0] + BITS[:, 1] + BITS[:, 2] > 1).astype(np.float32)[None]
    examples, fold_N = WeightedExamples(labels, np.ones((1, N), np.float32)), random_folds(N, 0)

    def heldout(c):
        total = 0.0
        for fold in (0, 1):
            score_N = sklearn_scores(c, labels[0], (fold_N != fold).astype(np.float32))
            total += (np.logaddexp(0, score_N) - labels[0] * score_N)[fold_N == fold].sum()
        return total

    penalties = (0.1, 1.0, 10.0, 100.0)
    best = min(penalties, key=heldout)
    assert best != 100.0
    free = train_logistic(LogisticRun(penalties, usual=100.0, spread=1e3), BITS, examples, 0)
    narrow = train_logistic(LogisticRun(penalties, usual=100.0, spread=1e-3), BITS, examples, 0)
    assert free.chosen_M == np.float32(best) and narrow.chosen_M == np.float32(100.0)


def test_squared_error_is_ridge_regression_in_units_of_the_targets():
    values = 7 + 1000 * (BITS @ np.arange(D) + np.random.default_rng(0).normal(size=N))
    weight_N = WEIGHTS[0].astype(float) / WEIGHTS[0].sum()
    found = train_logistic(
        LogisticRun((3.0,), tolerance=1e-5), BITS, WeightedExamples(values[None].astype(np.float32), WEIGHTS[:1]),
        loss="squared_error",
    )  # fmt: skip
    mean = weight_N @ values
    scale, size = np.sqrt(weight_N @ (values - mean) ** 2), 1 / (weight_N**2).sum()
    model = Ridge(alpha=3.0).fit(BITS, (values - mean) / scale, weight_N * size)
    np.testing.assert_allclose(found.scores_NxM[:, 0], mean + scale * model.predict(BITS), rtol=1e-3)


def test_a_mesh_and_groups_of_one_change_no_result(found):
    meshed = train_logistic(TIGHT, BITS, EXAMPLES, 2, mesh=make_mesh(4))
    seen = []
    in_groups = train_logistic(
        TIGHT, BITS, EXAMPLES, 2, max_bytes=ONE_MODEL, on_progress=lambda *done: seen.append(done)
    )
    for other in (meshed, in_groups):
        np.testing.assert_allclose(other.scores_NxM, found.scores_NxM, rtol=1e-3, atol=1e-4)
        np.testing.assert_array_equal(other.chosen_M, found.chosen_M)
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_groups_that_are_solved_are_not_solved_again(tmp_path):
    solve, seen = functools.partial(train_logistic, TIGHT, BITS, EXAMPLES, 2, max_bytes=ONE_MODEL), []
    stop(solve, tmp_path, 2)
    resumed = go_on(functools.partial(solve, on_progress=lambda *done: seen.append(done)), tmp_path)
    for again, whole in zip(resumed.arrays(), solve().arrays(), strict=True):
        np.testing.assert_array_equal(again, whole)
    assert seen == [(3, 3)]


def test_groups_of_one_size_compile_once(monkeypatch):
    traces, original = [], logistic_learner._solve
    monkeypatch.setattr(logistic_learner, "_solve", lambda *args: traces.append(1) or original(*args))
    logistic_learner._choose_and_solve.clear_cache()
    for seed in (0, 1):
        train_logistic(LogisticRun((3.0,)), BITS, EXAMPLES, seed, max_bytes=ONE_MODEL)
    fewer = WeightedExamples(TARGETS, np.where(np.arange(N) % 7 > 0, WEIGHTS, 0))
    train_logistic(LogisticRun((3.0,)), BITS, fewer, max_bytes=ONE_MODEL)
    assert sum(traces) == 2  # the folds, and everything
    logistic_learner._choose_and_solve.clear_cache()


def test_a_model_that_is_not_solved_is_named_with_its_gradient():
    with pytest.raises(InputError, match=r"the regression of [abc] stopped at gradient norm \d.* after 1 iterations"):
        train_logistic(LogisticRun(max_iterations=1, tolerance=1e-6), BITS, EXAMPLES, names=("a", "b", "c"))


@pytest.mark.parametrize(
    "changes",
    [{"penalties": ()}, {"penalties": (0.0,)}, {"usual": 0.0}, {"spread": float("nan")}, {"tolerance": 1.0},
     {"max_iterations": 0}],
)  # fmt: skip
def test_impossible_runs_are_refused(changes):
    with pytest.raises(InputError, match=next(iter(changes))):
        LogisticRun(**changes)


def test_too_little_memory_is_refused():
    with pytest.raises(InputError, match="max_bytes 10 is less than 1 models take"):
        train_logistic(LogisticRun(), BITS, EXAMPLES, max_bytes=10)
    assert models_at_once(9, N, D, 1, 4 * ONE_MODEL) == 3


def test_flops_count_two_products_in_each_iteration():
    assert logistic_learner.LogisticLearner(TIGHT).flops(N, D, M) == M * (2 * 2 + 1) * 9 * 4 * N * D
