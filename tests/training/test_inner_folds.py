import numpy as np
import pytest

from mixmin_jax.training.inner_folds import NUM_FOLDS, heldout_losses, random_folds, without_folds

WEIGHTS = np.float32([[0.5, 0.25, 0.25, 0.0], [0.0, 1.0, 0.0, 0.0]])
FOLDS = np.array([0, 1, 0, 1])


def test_folds_have_equal_size_and_depend_on_the_seed():
    fold_N = random_folds(11, 0)
    assert sorted(np.bincount(fold_N)) == [5, 6] and NUM_FOLDS == 2
    assert not np.array_equal(fold_N, random_folds(11, 1)) and np.array_equal(fold_N, random_folds(11, 0))


def test_a_model_without_a_fold_keeps_the_other_and_all_if_nothing_were_left():
    left_MFxN = np.asarray(without_folds(WEIGHTS, FOLDS))
    np.testing.assert_array_equal(left_MFxN[0], [0, 0.25, 0, 0])
    np.testing.assert_array_equal(left_MFxN[1], [0.5, 0, 0.25, 0])
    np.testing.assert_array_equal(left_MFxN[2:], [WEIGHTS[1], WEIGHTS[1]])  # all of model 1 is in fold 1


@pytest.mark.parametrize(
    ("loss", "of"),
    [("cross_entropy", lambda s, t: np.logaddexp(0, s) - t * s), ("squared_error", lambda s, t: (s - t) ** 2 / 2)],
)
def test_a_molecule_is_judged_by_the_model_without_its_fold(loss, of):
    rng = np.random.default_rng(0)
    score_MxFxN, target_MxN = rng.normal(size=(2, 2, 4)), rng.random((2, 4))
    expected = [
        sum(WEIGHTS[m, n] * of(score_MxFxN[m, FOLDS[n], n], target_MxN[m, n]) for n in range(4)) for m in (0, 1)
    ]
    found = heldout_losses(
        score_MxFxN.reshape(4, 4).astype(np.float32), target_MxN.astype(np.float32), WEIGHTS, FOLDS, loss
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5)
