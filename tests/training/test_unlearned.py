import math

import numpy as np
import pytest

from mixmin_jax.training.unlearned import Learned, end_losses, frequencies_loss, left_out


def test_the_end_of_a_training_is_its_last_quarter_without_skipped_steps():
    loss_TxM = np.stack([np.arange(8, 0, -1), [5, 4, np.nan, 3, 2, 1, 0.5, np.nan]], axis=1)
    np.testing.assert_allclose(end_losses(loss_TxM), [1.5, 0.5])


def test_frequencies_alone_reach_their_entropy():
    assert frequencies_loss(np.array([7, 7, 9, 200], np.uint8)) == pytest.approx(1.5 * math.log(2))


def test_what_collapsed_is_left_out_unless_all_are_trained_too_little():
    good, bad = Learned(2.0, 3.0), Learned(3.0, 3.0)
    assert left_out({"a": good, "b": bad, "c": good}) == ("b",)
    assert left_out({"a": good, "b": bad}) == left_out({"a": bad, "b": bad, "c": good}) == left_out({}) == ()
