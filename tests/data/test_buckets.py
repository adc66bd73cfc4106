"""Items in buckets: sizes, ties, labels and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mixmin_jax import InputError
from mixmin_jax.data.buckets import Buckets, cross, label_buckets, merge_small, quantile_buckets

NUMBERS = st.integers(-5, 5).map(float)


def test_quantiles_by_size():
    found = quantile_buckets(np.array([3.0, 1, 2, 4]), 2, np.array([1, 1, 1, 3]))
    assert found.bucket_D.tolist() == [0, 0, 0, 1] and found.labels == ("quality1of2", "quality2of2")
    assert quantile_buckets(np.array([3.0, 1, 2, 4]), 2).bucket_D.tolist() == [1, 0, 0, 1]
    assert not found.notices


@given(arrays(np.float64, st.integers(2, 30), elements=NUMBERS), st.integers(1, 8), st.randoms())
def test_buckets_rise_with_the_value_and_no_order_of_items_changes_them(values_D, count, random):
    if count > 1 and len(set(values_D.tolist())) == 1:
        with pytest.raises(InputError, match="tells nothing apart"):
            quantile_buckets(values_D, count)
        return
    found = quantile_buckets(values_D, count)
    assert set(found.bucket_D.tolist()) == set(range(len(found.labels))) and len(found.labels) <= count
    assert (np.diff(found.bucket_D[np.argsort(values_D)]) >= 0).all()
    assert all(len(set(found.bucket_D[values_D == value].tolist())) == 1 for value in values_D)
    order = np.array(random.sample(range(len(values_D)), len(values_D)))
    assert (quantile_buckets(values_D[order], count).bucket_D == found.bucket_D[order]).all()
    assert bool(found.notices) == (len(found.labels) < count)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([1.0, np.nan, np.inf], "nan for item 1 and not finite for 2 in all"),
        (["good", "bad"], "must be numbers"),
        (["0.7", "0.1"], "not str"),
        ([True, False], "not bool"),
        ([0.5, None], "must be numbers"),
        ([2.0, 2.0], "2 for all 2 items"),
        ([], "one number for each item"),
    ],
)
def test_values_that_are_no_quality(values, says):
    with pytest.raises(InputError, match=says):
        quantile_buckets(values, 2)


def test_labels_and_both():
    topics = label_buckets(["b", "a", "b", "c"])
    assert topics.labels == ("b", "a", "c") and topics.bucket_D.tolist() == [0, 1, 0, 2]
    both = cross(Buckets(np.array([0, 0, 1, 1]), ("low", "high")), topics)
    assert [both.labels[bucket] for bucket in both.bucket_D] == ["lowxb", "lowxa", "highxb", "highxc"]
    assert topics.take(np.array([1, 3])).labels == ("a", "c")


def test_small_buckets_join_the_one_beside():
    found = merge_small(Buckets(np.array([0, 1, 2, 2]), ("a", "b", "c")), np.array([1, 9, 1, 1]), 3)
    assert found.bucket_D.tolist() == [0, 0, 0, 0] and found.labels == ("b",)
    assert "joined to the one beside: a, c" in found.notices[0]
    kept = Buckets(np.array([0, 1]), ("a", "b"))
    assert merge_small(kept, np.array([5, 5]), 3).labels == ("a", "b")
    with pytest.raises(InputError, match="all items together"):
        merge_small(kept, np.array([1, 1]), 3)
