import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mixmin_jax.errors import InputError
from mixmin_jax.models.masking import num_hidden, random_view


@pytest.mark.parametrize("ratio, hidden", [(0.0, 0), (0.01, 0), (0.25, 4), (0.5, 8), (0.75, 12), (0.99, 15)])
def test_visible_and_hidden_tokens_are_all_tokens_once(ratio, hidden):
    view = random_view(jax.random.key(0), 5, 16, ratio)
    assert view.visible_BxV.shape == (5, 16 - hidden) and view.hidden_BxH.shape == (5, hidden)
    assert view.visible_BxV.dtype == view.hidden_BxH.dtype == jnp.int32
    both = np.sort(np.concatenate(view, axis=1), axis=1)
    np.testing.assert_array_equal(both, np.broadcast_to(np.arange(16), (5, 16)))


def test_every_order_of_the_tokens_comes_equally_often():
    """Chi-squared over the 24 orders of four tokens; a correct shuffle fails for one key in a million."""
    rows = 24 * 500
    view = random_view(jax.random.key(3), rows, 4, 0.5)
    orders = np.concatenate(view, axis=1) @ np.array([64, 16, 4, 1])
    counts = np.unique(orders, return_counts=True)[1]
    assert len(counts) == 24
    assert stats.chisquare(counts).pvalue > 1e-6


def test_a_view_is_a_function_of_its_key():
    first, again, other = (random_view(jax.random.key(seed), 3, 64, 0.75) for seed in (1, 1, 2))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert (first.visible_BxV != other.visible_BxV).any()
    assert (first.visible_BxV[0] != first.visible_BxV[1]).any()


def test_where_nothing_is_hidden_tokens_keep_their_order():
    np.testing.assert_array_equal(random_view(jax.random.key(0), 2, 6, 0.0).visible_BxV, [range(6)] * 2)


@pytest.mark.parametrize("ratio", [-0.1, 1.0, 1.5, float("nan")])
def test_a_mask_ratio_outside_its_range_is_refused(ratio):
    with pytest.raises(InputError, match="mask_ratio"):
        num_hidden(16, ratio)


def test_one_token_always_stays_visible():
    assert num_hidden(1, 0.9) == 0
    assert num_hidden(2, 0.99) == 1
