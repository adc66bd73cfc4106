import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixmin_jax.data.mixing import apportion, draw, gather_windows, make_plan, shuffled_index
from mixmin_jax.data.text.tokens import build_store
from mixmin_jax.errors import InputError

shuffle = jax.jit(shuffled_index)


def order_of(size, seed):
    words = jax.random.bits(jax.random.key(seed), (4,), jnp.uint32)
    return np.asarray(shuffle(jnp.arange(size, dtype=jnp.uint32), jnp.uint32(size), words))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 63, 64, 65, 1000, 4097])
def test_shuffled_index_is_a_bijection(size):
    assert sorted(order_of(size, seed=size)) == list(range(size))


def test_shuffled_index_depends_on_its_words_and_looks_random():
    orders = [order_of(1000, seed) for seed in range(20)]
    assert len({tuple(order) for order in orders}) == 20
    correlations = [abs(np.corrcoef(order, np.arange(1000))[0, 1]) for order in orders]
    assert np.mean(correlations) < 3 / np.sqrt(1000)  # about sqrt(2 / pi) / sqrt(n) for a random order
    words = jax.vmap(lambda key: jax.random.bits(key, (4,), jnp.uint32))(jax.random.split(jax.random.key(0), 1000))
    for index in (0, 1, 999):  # over many keys an element goes everywhere equally often: chi squared, 9 degrees
        places = np.asarray(shuffle(jnp.full(1000, index, jnp.uint32), jnp.uint32(1000), words))
        assert ((np.bincount(places // 100, minlength=10) - 100) ** 2 / 100).sum() < 27.9  # crossed once in 1000


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20).filter(lambda w: sum(w) > 1e-3), st.integers(1, 10**6))
def test_apportion_is_exact_and_within_one_of_the_quota(weights, num_draws):
    weights = np.array(weights)
    counts = apportion(weights, num_draws)
    assert counts.sum() == num_draws
    assert (counts[weights == 0] == 0).all()
    assert np.abs(counts - weights / weights.sum() * num_draws).max() < 1 + 1e-6


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_apportion_never_exceeds_a_cap(data):
    k = data.draw(st.integers(1, 8))
    weights = np.array(data.draw(st.lists(st.floats(0.01, 1), min_size=k, max_size=k)))
    caps = np.array(data.draw(st.lists(st.integers(0, 50), min_size=k, max_size=k)))
    num_draws = data.draw(st.integers(1, 100))
    if caps.sum() < num_draws:
        with pytest.raises(InputError, match=f"at most {caps.sum()} of the {num_draws} windows"):
            apportion(weights, num_draws, caps)
    else:
        counts = apportion(weights, num_draws, caps)
        assert counts.sum() == num_draws and (counts <= caps).all()


def test_apportion_of_equal_remainders_is_the_known_answer():
    assert apportion(np.array([0.5, 0.3, 0.2]), 7).tolist() == [4, 2, 1]  # quotas 3.5, 2.1, 1.4


WINDOWS = np.array([10, 100, 5, 1000])
WEIGHTS = np.array([0.5, 0.2, 0.0, 0.3])


def draws_of(plan, num_draws):
    source, window = jax.jit(draw)(plan, jnp.arange(num_draws))
    return np.asarray(source), np.asarray(window)


def test_draws_are_exactly_the_mixture_and_no_window_comes_again_before_all_of_its_source_came():
    source, window = draws_of(make_plan(jax.random.key(0), WEIGHTS, WINDOWS, 1000), 1000)
    assert np.bincount(source, minlength=4).tolist() == [500, 200, 0, 300]
    for k, times in ((0, {50}), (1, {2}), (3, {0, 1})):
        assert set(np.bincount(window[source == k], minlength=WINDOWS[k])) == times


def test_the_order_is_mixed_throughout_the_run():
    source, _ = draws_of(make_plan(jax.random.key(1), WEIGHTS, WINDOWS, 1000), 1000)
    for part in np.split(source, 10):
        assert abs(np.mean(part == 0) - 0.5) < 0.25


def test_max_epochs_is_never_exceeded_even_where_rounding_would():
    halves, windows_K = np.array([0.5, 0.5]), np.array([3, 100])
    source, window = draws_of(make_plan(jax.random.key(0), halves, windows_K, 7, max_epochs=1.0), 7)
    assert np.bincount(source).tolist() == [3, 4]
    assert sorted(window[source == 0]) == [0, 1, 2]
    with pytest.raises(InputError, match="at most 103 of the 200 windows"):
        make_plan(jax.random.key(0), halves, windows_K, 200, max_epochs=1.0)


def test_gathered_windows_are_the_text_of_their_source():
    store = build_store(["a", "b"], [[b"aaaaaaaaaaaa"], [b"bbbb", b"bbbbbbbb"]], length=4)
    tokens = gather_windows(
        jnp.asarray(store.tokens), jnp.asarray(store.starts_K), 4, jnp.array([0, 0, 1]), jnp.array([0, 1, 0])
    )
    assert [bytes(row) for row in np.asarray(tokens)] == [b"\xffaaaa", b"aaaaa", b"\xffbbbb"]
