import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixmin_jax.data.mixing import draw, gather_windows, make_plan
from mixmin_jax.training.language_model import token_log_likelihoods
from mixmin_jax.training.mesh import make_mesh
from mixmin_jax.training.proxies import train_on_mixtures
from mixmin_jax.training.source_monitor import STRETCHES, Divergence, divergences, empty_monitor, observe

KEY = jax.random.key(5)
WEIGHTS = np.array([[0.0, 1.0, 0.0], [0.2, 0.3, 0.5], [0.5, 0.5, 0.0]])


@pytest.fixture(scope="module")
def longer(run):
    return dataclasses.replace(run, tokens=30 * 16)


@pytest.fixture(scope="module")
def monitored(longer, store):
    return train_on_mixtures(longer, store, WEIGHTS, KEY, monitor_sources=True, block_steps=7)


def test_sums_are_those_of_each_sources_windows_in_its_stretch():
    monitor = empty_monitor(num_steps=7, num_models=2, num_sources=3)
    assert monitor.ends_S.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert empty_monitor(1200, 1, 1).ends_S.tolist() == list(range(100, 1201, 100))
    source_TxMxB = np.array([[[0, 0], [2, 1]], [[1, 0], [2, 2]]])
    loss_TxMxB = np.array([[[1.0, 3.0], [5.0, 7.0]], [[2.0, 4.0], [6.0, 8.0]]], np.float32)
    found = observe(monitor, 5, loss_TxMxB, source_TxMxB)
    assert found.windows_SxMxK[:5].sum() == 0 and monitor.windows_SxMxK.sum() == 0
    assert found.windows_SxMxK[5].tolist() == [[2, 0, 0], [0, 1, 1]]
    assert found.nats_SxMxK[6].tolist() == [[4, 2, 0], [0, 0, 14]]
    assert found.squares_SxMxK[6].tolist() == [[16, 4, 0], [0, 0, 100]]
    np.testing.assert_array_equal(found.loss_SxMxK[6], [[4, 2, np.nan], [np.nan, np.nan, 7]])
    assert found.sampled_MxK.tolist() == [[0.75, 0.25, 0], [0, 0.25, 0.75]]


@pytest.mark.slow
def test_what_is_counted_is_what_was_drawn_and_the_losses_add_up(longer, monitored):
    monitor = monitored.monitor
    np.testing.assert_array_equal(monitor.windows_SxMxK.sum(0), monitored.draws_MxK)
    assert len(monitor.ends_S) == STRETCHES and (monitor.windows_SxMxK.sum(2).sum(0) == longer.num_windows).all()
    edges = [0, *monitor.ends_S]
    for s in range(STRETCHES):
        mean_M = monitored.loss_TxM[edges[s] : edges[s + 1]].mean(0)
        windows_M = monitor.windows_SxMxK[s].sum(1)
        np.testing.assert_allclose(monitor.nats_SxMxK[s].sum(1) / windows_M, mean_M, rtol=1e-5)
    first = monitor.loss_SxMxK[0]  # of models that have learned nothing yet: log 256, a little off at random
    np.testing.assert_allclose(first[np.isfinite(first)], np.log(256), rtol=0.2)
    assert not divergences(monitor, WEIGHTS)


@pytest.mark.slow
def test_each_windows_loss_goes_to_its_own_source(longer, store):
    """A model that does not learn: its losses can be computed window by window, from its initial parameters."""
    frozen = dataclasses.replace(longer, learning_rate=1e-12, weight_decay=0.0)
    monitor = train_on_mixtures(frozen, store, WEIGHTS, KEY, monitor_sources=True, block_steps=7).monitor
    init_key, order_key = jax.random.split(KEY)
    params = frozen.init(init_key).params
    for m, w_K in enumerate(WEIGHTS):
        plan = make_plan(order_key, w_K, store.windows_K, frozen.num_windows)
        source_N, window_N = draw(plan, jnp.arange(frozen.num_windows))
        tokens, starts_K = jnp.asarray(store.tokens), jnp.asarray(store.starts_K, np.int32)
        tokens_NxL1 = gather_windows(tokens, starts_K, frozen.sequence_length, source_N, window_N)
        nats_N = -np.asarray(token_log_likelihoods(frozen.model, params, tokens_NxL1), np.float64).mean(1)
        expected_K = np.bincount(source_N, nats_N, 3)
        np.testing.assert_allclose(monitor.nats_SxMxK[:, m].sum(0), expected_K, rtol=1e-5)
        np.testing.assert_allclose(monitor.squares_SxMxK[:, m].sum(0), np.bincount(source_N, nats_N**2, 3), rtol=1e-5)
        assert np.ptp(nats_N) > 0.3  # so that a loss which went to another source would be noticed


@pytest.mark.slow
def test_monitoring_changes_no_training(longer, store, monitored):
    plain = train_on_mixtures(longer, store, WEIGHTS, KEY, block_steps=7)
    assert plain.monitor is None
    np.testing.assert_allclose(plain.loss_TxM, monitored.loss_TxM, rtol=1e-5)


@pytest.mark.slow
def test_monitors_are_the_same_fed_from_the_host_and_on_a_mesh(longer, store, monitored):
    """Three models on two devices are padded with a fourth, which is not monitored."""
    other = {"tokens_on": "host", "mesh": make_mesh(2, 2)}
    found = train_on_mixtures(longer, store, WEIGHTS, KEY, monitor_sources=True, block_steps=7, **other).monitor
    np.testing.assert_array_equal(found.windows_SxMxK, monitored.monitor.windows_SxMxK)
    np.testing.assert_allclose(found.nats_SxMxK, monitored.monitor.nats_SxMxK, rtol=1e-3)


def made_up(before, after, num_windows=200, spread=0.5):
    """A run of 12 steps with one model and two sources, alternating; the second has these losses at the end."""
    rng = np.random.default_rng(0)
    level_T = np.r_[np.full(9, before), np.full(3, after)]
    source = np.broadcast_to(np.arange(num_windows) % 2, (12, 1, num_windows))
    loss = np.where(source == 1, level_T[:, None, None], 3.0) + spread * rng.standard_normal(source.shape)
    return observe(empty_monitor(12, 1, 2), 0, loss.astype(np.float32), source)


def test_a_loss_that_rises_in_the_second_half_is_found_and_noise_is_not():
    half = np.array([[0.5, 0.5]])
    (found,) = divergences(made_up(2.0, 2.4), half)
    assert (found.model, found.source, found.kind) == (0, 1, "loss")
    assert found.before == pytest.approx(2.0, abs=0.1) and found.after == pytest.approx(2.4, abs=0.1)
    for harmless in (
        made_up(2.0, 1.5),
        made_up(2.0, 2.02, num_windows=40_000),  # certain, but only 1 %
        made_up(2.0, 2.1, num_windows=40, spread=2.0),  # 5 %, but within the noise
        made_up(2.0, 3.0, num_windows=6),  # too few windows to say
    ):
        assert not divergences(harmless, half)


def test_shares_are_exact_up_to_rounding_and_anything_else_is_found():
    monitor = made_up(2.0, 1.5)  # 1200 windows of each source
    assert not divergences(monitor, np.array([[0.5 + 1 / 2400, 0.5 - 1 / 2400]]))
    found = divergences(monitor, np.array([[0.502, 0.498]]))
    assert [part[:3] for part in found] == [(0, 0, "share"), (0, 1, "share")]
    assert found[0] == Divergence(0, 0, "share", 0.502, 0.5)
