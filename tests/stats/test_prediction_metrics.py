"""Metrics against scikit-learn and SciPy, on samples and on resamples of them."""

import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import average_precision_score, r2_score, roc_auc_score

from mixmin_jax.errors import InputError
from mixmin_jax.stats.prediction_metrics import CLASSIFICATION_METRICS, REGRESSION_METRICS, evaluate

REFERENCES = {
    "average_precision": average_precision_score,
    "roc_auc": roc_auc_score,
    "spearman": lambda values_N, scores_N: scipy.stats.spearmanr(values_N, scores_N).statistic,
    "r_squared": r2_score,
}


def examples(metric, seed, num=200, levels=None):
    """Scores that predict labels or values somewhat; `levels` makes ties."""
    rng = np.random.default_rng(seed)
    values_N = (rng.random(num) < 0.2).astype(float) if metric in CLASSIFICATION_METRICS else rng.normal(size=num)
    scores_N = rng.normal(size=num) + values_N
    if levels is None:
        return scores_N, values_N
    values_N = values_N if metric in CLASSIFICATION_METRICS else np.round(values_N * levels) / levels
    return np.round(scores_N * levels) / levels, values_N


@pytest.mark.parametrize("levels", [None, 1, 3])
@pytest.mark.parametrize("metric", REFERENCES)
def test_metrics_agree_with_independent_ones_on_samples_and_resamples_ties_included(metric, levels):
    for seed in range(5):
        scores_N, values_N = examples(metric, seed, levels=levels)
        resampled_RxN = np.random.default_rng(100 + seed).multinomial(200, np.full(200, 1 / 200), size=4)
        counts_RxN = np.concatenate([np.ones((1, 200), int), resampled_RxN])
        for value, counts_N in zip(evaluate(metric, scores_N, values_N, counts_RxN), counts_RxN, strict=True):
            repeated = np.repeat(np.arange(200), counts_N)
            assert value == pytest.approx(REFERENCES[metric](values_N[repeated], scores_N[repeated]))


@pytest.mark.parametrize(
    ("metric", "scores", "values", "expected"),
    [
        ("average_precision", [5, 4, 3, 2, 1], [1, 1, 0, 0, 0], 1),
        ("average_precision", [0, 0, 0, 0, 0], [1, 1, 0, 0, 0], 0.4),
        ("roc_auc", [5, 4, 3, 2, 1], [1, 1, 0, 0, 0], 1),
        ("roc_auc", [1, 2, 3, 4, 5], [1, 1, 0, 0, 0], 0),
        ("roc_auc", [0, 0, 0, 0, 0], [1, 1, 0, 0, 0], 0.5),
        ("spearman", [1, 2, 3], [0.1, 5, 70], 1),
        ("spearman", [2, 2, 2], [1, 2, 3], 0),
    ],
)
def test_a_perfect_a_reversed_and_a_constant_ranking(metric, scores, values, expected):
    assert evaluate(metric, scores, values) == pytest.approx([expected])


@pytest.mark.parametrize(
    ("metric", "scores", "values", "message"),
    [
        ("average_precision", [1.0, 2], [1, 1], "one class"),
        ("roc_auc", [1.0, np.nan], [1, 0], "score of example 1 is not finite"),
        ("roc_auc", [1.0, 2], [1, 0.5], "0 or 1"),
        ("spearman", [1.0, 2, 3], [1, 0], "equal length"),
        ("spearman", [1.0, 2], [1, 1], "all equal"),
        ("r_squared", [1.0, 2], [1, 1], "all equal"),
        ("r_squared", [1.0, 2], [1, np.inf], "value of example 1 is not finite"),
    ],
)
def test_bad_input_is_named(metric, scores, values, message):
    with pytest.raises(InputError, match=message):
        evaluate(metric, scores, values)


@pytest.mark.parametrize("metric", CLASSIFICATION_METRICS)
def test_a_resample_without_a_class_is_refused(metric):
    with pytest.raises(InputError, match="no positive or no negative"):
        evaluate(metric, [1.0, 2, 3], [1, 0, 0], [[0, 2, 1]])


def test_every_metric_is_named_once():
    assert set(CLASSIFICATION_METRICS + REGRESSION_METRICS) == set(REFERENCES)
