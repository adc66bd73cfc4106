"""Steps that are not finite: skipped by option, counted, without a trace in what else is trained."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mixmin_jax.errors import InputError
from mixmin_jax.training import language_model, mlp_learner, nonfinite, proxies
from mixmin_jax.training.checkpoint import Checkpoints, Stopped
from mixmin_jax.training.loop import init_state, make_train_step
from mixmin_jax.training.mlp_learner import train_mlps
from mixmin_jax.training.nonfinite import MOST_IN_A_ROW, Diverged, Skipped, counted, counters, too_many
from mixmin_jax.training.proxies import train_on_mixtures
from mixmin_jax.training.weighted_examples import WeightedExamples
from tests.training import test_mixtraining as mixed
from tests.training import test_mlp_learner as mlps
from tests.training.trees import assert_same

KEY = jax.random.key(5)


@pytest.mark.parametrize(
    ("skips", "num_steps", "wanted"),
    [
        ([3, 4, 5], 30, False),  # a tenth
        ([3, 4, 5], 29, True),
        (range(100, 100 + MOST_IN_A_ROW - 1), 1000, False),
        (range(100, 100 + MOST_IN_A_ROW), 1000, True),  # and finite ones after that
        ([*range(19), *range(20, 39)], 1000, False),
        ([], 1, False),
    ],
)
def test_a_tenth_of_the_steps_or_twenty_in_a_row_are_too_many(skips, num_steps, wanted):
    skip_T = jnp.zeros(num_steps, bool).at[jnp.array(list(skips), int)].set(True)
    found, _ = jax.lax.scan(lambda s, skip: (counted(s, skip), None), counters("skip"), skip_T)
    assert int(found.in_all) == len(skips) and bool(too_many(found, num_steps)) == wanted


def test_another_option_is_refused():
    with pytest.raises(InputError, match="'stop' or 'skip', not 'ignore'"):
        counters("ignore")


def loss_over(params, batch, key):
    """Finite with an infinite gradient at 0, infinite with a gradient of 0 at inf."""
    del key
    return jnp.sum(params * batch[0]) + jnp.sqrt(batch[1] * params.sum() ** 2) + batch[2]


@pytest.mark.parametrize("bad", [[jnp.nan, 1, 0], [1, 0, 0], [1, 1, jnp.inf]], ids=["both", "gradient", "loss"])
def test_a_step_that_is_not_finite_leaves_everything_but_its_number(bad):
    step = jax.jit(make_train_step(loss_over, optax.adamw(0.1)))
    batches = jnp.array([[1.0, 1, 0], [2, 1, 0], bad, bad, [3, 2, 0]])
    with_bad = without = init_state(jnp.array([1.0, -0.0]), optax.adamw(0.1), KEY, "skip")
    losses = []
    for t, batch in enumerate(batches):
        with_bad, loss = step(with_bad, batch)
        losses.append(float(loss))
        if t not in (2, 3):
            without, _ = step(without, batch)
    assert np.isnan(losses).tolist() == [False, False, True, True, False]
    assert (with_bad.step, without.step) == (5, 3)
    assert tuple(map(int, with_bad.skipped)) == (2, 0, 2)
    assert_same((with_bad.params, with_bad.opt_state), (without.params, without.opt_state))


# Several models at once


@pytest.fixture
def poisoned(store, monkeypatch):
    """Language models whose loss is NaN on a batch with the first window of the third source."""
    original, window = language_model.token_log_likelihoods, store.tokens[store.starts_K[2] :][:9]

    def logp(model, params, tokens_BxL1):
        is_bad = (tokens_BxL1 == jnp.asarray(window, tokens_BxL1.dtype)).all(1).any()
        return jnp.where(is_bad, jnp.nan, original(model, params, tokens_BxL1))

    monkeypatch.setattr(language_model, "token_log_likelihoods", logp)
    proxies.compiled_block.cache_clear()
    yield
    proxies.compiled_block.cache_clear()


def test_a_model_that_skips_steps_touches_no_other_and_goes_on_after_an_interruption(
    run, store, poisoned, tmp_path, monkeypatch
):
    longer = dataclasses.replace(run, tokens=60 * 16)  # two blocks

    def train(sources, **options):
        names = ("letters", sources[1])
        rows = np.eye(3)[[("letters", "cat", "ascii").index(name) for name in sources]]
        return train_on_mixtures(longer, store, rows, KEY, names=names, on_nonfinite="skip", **options)

    sound, found = train(("letters", "cat")), train(("letters", "ascii"))
    assert sound.skipped_M.tolist() == [0, 0] and np.isfinite(sound.loss_TxM).all()
    assert 0 < found.skipped_M[1] <= 6 and found.skipped_M[0] == 0
    np.testing.assert_array_equal(np.isnan(found.loss_TxM).sum(0), found.skipped_M)
    np.testing.assert_array_equal(found.loss_TxM[:, 0], sound.loss_TxM[:, 0])
    for a, b in zip(jax.tree.leaves(found.params), jax.tree.leaves(sound.params), strict=True):
        np.testing.assert_array_equal(a[0], b[0])
        assert np.isfinite(a).all()

    with pytest.raises(Stopped), Checkpoints(tmp_path, "run", every=1, stop=lambda: True) as checkpoints:
        train(("letters", "ascii"), checkpoints=checkpoints)
    with Checkpoints(tmp_path, "run", every=1) as checkpoints:
        resumed = train(("letters", "ascii"), checkpoints=checkpoints)
    assert_same((resumed.params, resumed.skipped_M, resumed.loss_TxM), (found.params, found.skipped_M, found.loss_TxM))

    monkeypatch.setattr(nonfinite, "LARGEST_SHARE", 0.5 / 60)
    with pytest.raises(Diverged, match=r"^ascii: \d+ of 60 steps .* are not skipped: lower the learning rate"):
        train(("letters", "ascii"))


def test_perceptrons_skip_alone(monkeypatch):
    """Molecules with one target are poison: model 1 has one, and draws it in some steps."""
    original = mlp_learner.mean_loss

    def loss(run, kind, params, batch, key):
        is_bad = (batch.target_B == 0.875).any()
        return jnp.where(is_bad, jnp.nan, 1.0) * original(run, kind, params, batch, key)

    def train(mark):
        """In two groups, with this target of one molecule of little weight in model 1."""
        told, targets_MxN, weights_MxN = [], mlps.EXAMPLES.target_MxN.copy(), mlps.EXAMPLES.weight_MxN.copy()
        targets_MxN[1, 21], weights_MxN[1, 21] = mark, weights_MxN[1].sum() / 400
        found = train_mlps(
            mlps.RUN,
            mlps.BITS,
            WeightedExamples(targets_MxN, weights_MxN),
            mlps.SEED,
            names=("one", "two", "three"),
            max_bytes=2 * mlps.ONE_MODEL,
            on_nonfinite="skip",
            on_skipped=told.append,
        )
        return found.scores_NxM, told

    monkeypatch.setattr(mlp_learner, "mean_loss", loss)
    mlp_learner.compiled.cache_clear()
    sound, told_of_sound = train(0.75)
    found, told = train(0.875)
    monkeypatch.setattr(nonfinite, "LARGEST_SHARE", 0.01)
    with pytest.raises(Diverged, match=r"^two( \(.*\))?: \d of 40 steps"):
        train(0.875)
    mlp_learner.compiled.cache_clear()
    assert told_of_sound == [{}] and list(told[0]) == ["two"] and 1 <= told[0]["two"] <= 12
    np.testing.assert_array_equal(found[:, [0, 2]], sound[:, [0, 2]])
    assert np.isfinite(found).all() and np.abs(found[:, 1] - sound[:, 1]).max() > 1e-3


# MixTraining


def fetch(step, key, inputs, labels, bad_steps):
    (task,) = mixed.batch_rows(step, key, inputs, labels).sl
    return mixed.Batch((task._replace(inputs=jnp.where((step == bad_steps).any(), jnp.nan, task.inputs)),))


def training(plan, bad_steps, **options):
    data = (*mixed.DATA, jnp.array(bad_steps))
    return mixed.training(plan, fetch=fetch, data=data, on_nonfinite="skip", **options)


def test_mixtraining_skips_and_goes_on_with_the_next_batch_and_phase():
    plan = dataclasses.replace(mixed.MIXED, ssl_epochs=10, sl_epochs=10).plan(4)
    restart = int(np.flatnonzero(plan.restart)[1])
    bad_steps = (3, restart)  # the first step of a phase, where moments are forgotten
    seen = []
    run = training(
        plan,
        bad_steps,
        on_block=lambda done, of, losses, state: seen.append((done, jax.tree.map(np.asarray, state.opt_state))),
    )
    assert run.failure is None and run.skipped == 2 and int(run.state.step) == len(plan.phase)
    missing = np.isnan(run.losses.ssl) & np.isnan(run.losses.sl)
    assert np.flatnonzero(missing).tolist() == list(bad_steps)
    # Adam's count: of the steps since the moments were forgotten, which happened in a step that was skipped
    done, opt_state = next((done, state) for done, state in seen if done > restart + 1)
    assert int(opt_state["encoder"][0].count) == done - restart - 1


def test_mixtraining_stops_with_its_last_good_state_when_too_many_steps_are_skipped():
    plan = mixed.MIXED.plan(4)  # 12 steps
    run = training(plan, (6, 7))
    assert run.failure.step == 9 and run.failure.phase == "sl" and run.skipped == 2
    assert "2 of 12 steps had a loss or gradient that is not finite, 2 of them in a row" in str(run.failure)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(run.state.params))
    assert np.isnan(run.losses.sl[10:]).all()
    assert isinstance(run.state.skipped, Skipped)
