import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixmin_jax.errors import InputError
from mixmin_jax.training import proxies
from mixmin_jax.training.mesh import make_mesh
from mixmin_jax.training.nonfinite import Diverged
from mixmin_jax.training.proxies import train_on_mixtures

KEY = jax.random.key(5)
WEIGHTS = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.2, 0.3, 0.5]])


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


def assert_same(a, b, **tolerance):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), a.params, b.params)
    np.testing.assert_allclose(a.loss_TxM, b.loss_TxM, **tolerance)


def in_float64(run):
    """The run with float64 parameters (flax makes float32 ones otherwise).

    First parameters are rounded to eighths, because programs round float32 random numbers differently.
    """

    class Run64(type(run)):
        def init(self, key):
            state = super().init(key)
            params = jax.tree.map(lambda leaf: jnp.round(8 * leaf.astype(np.float64)) / 8, state.params)
            return state._replace(params=params, opt_state=self.optimizer().init(params))

    return Run64(**{field.name: getattr(run, field.name) for field in dataclasses.fields(run)})


def test_models_trained_together_are_those_trained_alone(float64, run, store):
    run = in_float64(run)
    together = train_on_mixtures(run, store, WEIGHTS, KEY)
    close = {"rtol": 3e-8, "atol": 3e-8}  # rotations and learning rates are float32, so programs round them differently
    assert jax.tree.leaves(together.params)[0].dtype == np.float64
    for m in (0, 2):
        alone = train_on_mixtures(run, store, WEIGHTS[m : m + 1], KEY)
        for a, b in zip(jax.tree.leaves(together.params), jax.tree.leaves(alone.params), strict=True):
            np.testing.assert_allclose(a[m], b[0], **close)
        np.testing.assert_allclose(together.loss_TxM[:, m], alone.loss_TxM[:, 0], rtol=1e-9)


@pytest.mark.slow
def test_models_learn_their_own_source(run, store):
    longer = dataclasses.replace(run, tokens=150 * 16)
    trained = train_on_mixtures(longer, store, WEIGHTS, KEY)
    assert (trained.loss_TxM[-10:].mean(0) < trained.loss_TxM[:10].mean(0) - 0.5).all()
    assert trained.draws_MxK.tolist() == [[300, 0, 0], [0, 300, 0], [60, 90, 150]]


@pytest.fixture(scope="module")
def on_one_device(run, store):
    return train_on_mixtures(run, store, WEIGHTS, KEY)


@pytest.mark.parametrize(
    ("axes", "tokens_on"),
    [
        pytest.param((2, 1), "device", marks=pytest.mark.slow),
        pytest.param((1, 2), "device", marks=pytest.mark.slow),
        ((4, 2), "host"),
    ],
)
def test_a_mesh_changes_no_result(run, store, on_one_device, axes, tokens_on):
    """Three models on two or four devices are padded with one whose results are dropped.

    Gradients differ in their last bits, as sums over a batch have another order; Adam, which divides by their size,
    makes that larger where a gradient is about 0.
    """
    meshed = train_on_mixtures(run, store, WEIGHTS, KEY, mesh=make_mesh(*axes), tokens_on=tokens_on)
    assert_same(on_one_device, meshed, rtol=1e-3, atol=1e-5)


def test_host_fed_training_is_device_fed_training(run, store, on_one_device):
    host = train_on_mixtures(run, store, WEIGHTS, KEY, block_steps=3, tokens_on="host")
    assert_same(on_one_device, host, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_training_is_reproducible_bit_for_bit_whatever_the_blocks(run, store, on_one_device):
    whole = on_one_device
    assert_same(whole, train_on_mixtures(run, store, WEIGHTS, KEY, block_steps=2), rtol=0)
    other_key = train_on_mixtures(run, store, WEIGHTS, jax.random.key(6))
    assert np.abs(whole.loss_TxM - other_key.loss_TxM).max() > 1e-3


def test_training_steps_are_traced_once_for_all_blocks_and_mixtures(run, store, monkeypatch):
    traces = []
    original = type(run).train_step

    def counted(self, state, batch, **options):
        traces.append(1)
        return original(self, state, batch, **options)

    monkeypatch.setattr(type(run), "train_step", counted)
    proxies.compiled_block.cache_clear()
    for weights in (WEIGHTS, WEIGHTS[::-1]):
        train_on_mixtures(run, store, weights, KEY, block_steps=2)
    assert sum(traces) == 1


def test_a_loss_that_diverges_names_model_and_step(run, store):
    wild = dataclasses.replace(run, learning_rate=1e30, tokens=40 * 16)
    with pytest.raises(Diverged, match=r"the loss of (a|b|c) became (nan|inf) at step \d+: lower the learning rate"):
        train_on_mixtures(wild, store, WEIGHTS, KEY, names=("a", "b", "c"))


def test_mismatched_weights_and_windows_are_refused_before_training(run, store):
    with pytest.raises(InputError, match="2 columns"):
        train_on_mixtures(run, store, WEIGHTS[:, :2], KEY)
    with pytest.raises(InputError, match="windows of 4 positions"):
        train_on_mixtures(dataclasses.replace(run, sequence_length=4), store, WEIGHTS, KEY)
    with pytest.raises(InputError, match="'device' or 'host'"):
        train_on_mixtures(run, store, WEIGHTS, KEY, tokens_on="disk")
