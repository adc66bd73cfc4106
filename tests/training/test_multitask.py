import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixmin_jax.errors import InputError
from mixmin_jax.training import multitask
from mixmin_jax.training.flops import count_flops
from mixmin_jax.training.multitask import MultitaskRun, train_multitask
from tests.training.test_resume import go_on, stop

RNG = np.random.default_rng(0)
N = 120
BITS = RNG.integers(0, 2, (N, 16)).astype(np.uint8)
TRAIN = np.arange(N) < 90
VALUES = np.stack([BITS[:, 0], BITS[:, 0] ^ (RNG.random(N) < 0.1), RNG.random(N) < 0.4], axis=1).astype(np.float32)
VALUES[::7, 0] = np.nan
RUN = MultitaskRun(hidden=16, epochs=20.0, batch_size=16, learning_rate=0.02, weight_decay=0.01)


def train(run=RUN, values=VALUES, loss="cross_entropy", seed=0, **options):
    return train_multitask(run, BITS, values, TRAIN, np.array([0, 2]), seed, loss=loss, **options)


@pytest.fixture(scope="module")
def found():
    return train(balanced=True)


def test_an_assay_is_learned_and_noise_stops_early(found):
    score_N = found.scores_NxM[~TRAIN, 0]
    assert ((score_N > 0) == (BITS[~TRAIN, 0] == 1)).mean() > 0.95
    assert found.scores_NxM.shape == (N, 2) and 0 < found.chosen_M[1] < found.chosen_M[0] <= 113


def test_test_molecules_have_no_influence(found):
    changed = VALUES.copy()
    changed[~TRAIN] = 1 - changed[~TRAIN]
    np.testing.assert_array_equal(train(values=changed, balanced=True).scores_NxM, found.scores_NxM)


def test_it_depends_on_the_seed(found):
    assert np.abs(train(seed=1, balanced=True).scores_NxM - found.scores_NxM).max() > 1e-2


def test_measured_values_are_predicted():
    values = (2 * BITS[:, :3] - 1 + 0.1 * RNG.normal(size=(N, 3))).astype(np.float32)
    run = dataclasses.replace(RUN, dropout=0.0, learning_rate=0.05)
    score_NxM = train(run, values=values, loss="squared_error").scores_NxM
    assert np.corrcoef(score_NxM[~TRAIN, 0], values[~TRAIN, 0])[0, 1] > 0.7


def test_a_resumed_training_is_the_uninterrupted_one(found, tmp_path):
    stop(lambda **options: train(balanced=True, **options), tmp_path, 2, every=40)
    again = go_on(lambda **options: train(balanced=True, **options), tmp_path)
    np.testing.assert_array_equal(again.scores_NxM, found.scores_NxM)
    np.testing.assert_array_equal(again.chosen_M, found.chosen_M)


@pytest.mark.parametrize(
    "changes", [{"hidden": 0}, {"batch_size": 0}, {"epochs": 0.0}, {"learning_rate": float("inf")}, {"dropout": 1.0}]
)
def test_impossible_runs_are_refused(changes):
    with pytest.raises(InputError, match=next(iter(changes))):
        MultitaskRun(**changes)


def test_all_molecules_are_scored_twenty_times_at_most(monkeypatch):
    """Scoring 93 000 molecules after every 50 steps takes several times as long as the steps."""
    monkeypatch.setattr(multitask, "BLOCK_STEPS", 1)
    done = []
    train(dataclasses.replace(RUN, epochs=4.0), on_progress=lambda *steps: done.append(steps))
    assert done[-1] == (23, 23) and len(done) == 12


def test_flops_are_about_those_of_the_compiled_step():
    run = MultitaskRun(hidden=32, batch_size=32)
    init, block, _ = multitask._programs(run, "cross_entropy", 3, run.num_steps(64))
    per_assay, offset = jnp.zeros((64, 3)), jnp.zeros(3)
    data = multitask._Data(
        jnp.zeros((64, 512), jnp.uint8), per_assay, per_assay, offset, jnp.zeros(64, int), jax.random.key(0)
    )
    state = jax.eval_shape(init, jax.random.key(0), data.bits_UxD[:1])
    trained = run.num_steps(64) * count_flops(block.lower(state, jnp.zeros(1, jnp.int32), data))
    stated = multitask.training_flops(run, 64, 0, 512, 3)
    assert 0.8 < trained / stated < 1.6  # AdamW is left out
    assert multitask.training_flops(run, 64, 64, 512, 3) == stated + 3 * 64 * 2 * 32 * 515
