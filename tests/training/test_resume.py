"""A training that is stopped after any block and gone on with is the one that was not, to the bit."""

import functools
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixmin_jax.training import mlp_learner, proxies
from mixmin_jax.training.checkpoint import Checkpoints, Stopped
from mixmin_jax.training.mesh import make_mesh
from mixmin_jax.training.mixtraining import Batch
from mixmin_jax.training.mlp_learner import MlpRun, train_mlps
from mixmin_jax.training.nonfinite import Diverged
from mixmin_jax.training.proxies import train_on_mixtures
from mixmin_jax.training.weighted_examples import WeightedExamples
from tests.training import test_mixtraining as tiny
from tests.training.trees import assert_same

KEY = jax.random.key(5)
NEVER = 10**9  # steps from one checkpoint to the next: none but that of a stop


def checkpoints(folder, *, stop_after=None, every=NEVER, warn=pytest.fail):
    """Checkpoints that stop the run after so many blocks from here on."""
    blocks = iter(range(1, NEVER))
    return Checkpoints(folder, "run", every=every, stop=lambda: next(blocks) == stop_after, warn=warn)


def stop(training, folder, after, **rules):
    with pytest.raises(Stopped), checkpoints(folder, stop_after=after, **rules) as saved:
        training(checkpoints=saved)


def go_on(training, folder, **rules):
    with checkpoints(folder, **rules) as saved:
        return training(checkpoints=saved)


def damage_newest(folder):
    """Changes bits all over the newest checkpoint: a single one may lie where nothing is read."""
    newest = max((path for path in folder.rglob("[0-9]*") if path.name.isdigit()), key=lambda path: int(path.name))
    for path in (path for path in newest.rglob("d/*") if path.is_file()):
        content = np.frombuffer(path.read_bytes(), np.uint8).copy()
        content[::64] ^= 1
        path.write_bytes(content.tobytes())
    return int(newest.name)


# Language models on mixtures ------------------------------------------------------------------------------------------

MIXTURES = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.2, 0.3, 0.5]])


@pytest.fixture(scope="module")
def mixtures(run, store):
    return functools.partial(train_on_mixtures, run, store, MIXTURES, KEY, block_steps=2)  # three blocks


@pytest.mark.parametrize(
    "options",
    [{}, *(pytest.param(o, marks=pytest.mark.slow) for o in ({"tokens_on": "host"}, {"monitor_sources": True}))],
)
def test_models_on_mixtures(mixtures, tmp_path, options):
    training, seen = functools.partial(mixtures, **options), []
    whole = training()
    stop(training, tmp_path, 1)
    shutil.copytree(tmp_path, tmp_path / "once")
    assert_same(go_on(training, tmp_path / "once"), whole)
    stop(training, tmp_path, 1)
    assert_same(go_on(functools.partial(training, on_block=lambda *a: seen.append(a)), tmp_path), whole)
    assert [a[:2] for a in seen] == [(6, 6)]  # only what was left
    np.testing.assert_array_equal(seen[0][2], whole.loss_TxM[-1])


@pytest.mark.slow
def test_models_on_mixtures_on_another_mesh(mixtures, tmp_path):
    """Three models on two devices are padded with one, which no checkpoint holds."""
    on_two = functools.partial(mixtures, mesh=make_mesh(2, 1))
    whole = on_two()
    stop(on_two, tmp_path / "same", 1)
    assert_same(go_on(on_two, tmp_path / "same"), whole)
    stop(on_two, tmp_path / "other", 1)
    moved = go_on(mixtures, tmp_path / "other")
    np.testing.assert_array_equal(moved.loss_TxM[:2], whole.loss_TxM[:2])
    np.testing.assert_allclose(moved.loss_TxM, whole.loss_TxM, rtol=1e-4)
    stop(mixtures, tmp_path / "back", 1)
    np.testing.assert_allclose(go_on(on_two, tmp_path / "back").loss_TxM, whole.loss_TxM, rtol=1e-4)


def test_a_damaged_checkpoint_costs_steps_and_no_number(mixtures, tmp_path):
    whole, lines, seen = mixtures(), [], []
    stop(mixtures, tmp_path, 2, every=2)
    assert damage_newest(tmp_path) == 4
    again = functools.partial(mixtures, on_block=lambda done, of, losses: seen.append(done))
    assert_same(go_on(again, tmp_path, warn=lines.append), whole)
    assert seen == [4, 6] and len(lines) == 1 and "step 4" in lines[0] and "trying the one before" in lines[0]


def spoil(compiled, change):
    """Programs whose block returns `change(steps done before it, state, loss_TxM)` in place of its results."""

    def block_of(block, state, *rest):
        before = int(np.max(state.step))
        return change(before, *block(state, *rest))

    def spoiled(*arguments):
        programs = compiled(*arguments)
        if callable(programs):
            return functools.partial(block_of, programs)
        return programs._replace(block=functools.partial(block_of, programs.block))

    return spoiled


def with_parameters_of_model_1(state, value):
    return state._replace(params=jax.tree.map(lambda leaf: leaf.at[1].set(value), state.params))


def test_a_loss_that_diverges_after_a_resume_names_the_step_of_the_run(mixtures, tmp_path, monkeypatch):
    def change(before, state, loss_TxM):
        return state, loss_TxM.at[1, 1].set(np.nan) if before == 2 else loss_TxM

    stop(mixtures, tmp_path, 1)
    monkeypatch.setattr(proxies, "compiled_block", spoil(proxies.compiled_block, change))
    for _ in range(2):  # no checkpoint holds what is not finite
        with pytest.raises(Diverged, match="the loss of model 1 became nan at step 3:"):
            go_on(mixtures, tmp_path, every=2)


@pytest.mark.parametrize("last", [2, 6], ids=["saved", "ended"])
def test_parameters_that_the_last_step_spoils_are_neither_saved_nor_returned(mixtures, tmp_path, monkeypatch, last):
    """Their gradient was not finite, though all losses so far were."""

    def change(before, state, loss_TxM):
        return with_parameters_of_model_1(state, np.nan) if before + 2 == last else state, loss_TxM

    monkeypatch.setattr(proxies, "compiled_block", spoil(proxies.compiled_block, change))
    words = f"the parameters of model 1 are not finite after step {last - 1}: lower the learning rate"
    with pytest.raises(Diverged, match=words):
        go_on(mixtures, tmp_path, every=2 if last == 2 else NEVER)
    assert not list(tmp_path.rglob("[0-9]*"))


# MixTraining ----------------------------------------------------------------------------------------------------------

PLAN = tiny.MIXED.plan(tiny.STEPS_PER_EPOCH)  # 4 SSL, 4 joint and 4 SL steps


def fetch(step, key, inputs, labels, bad_step):
    (task,) = tiny.batch_rows(step, key, inputs, labels).sl
    return Batch((task._replace(inputs=jnp.where(step == bad_step, jnp.nan, task.inputs)),))


def mixtraining(bad_step=-1, **options):
    data = (*tiny.DATA, jnp.int32(bad_step))
    return tiny.training(PLAN, fetch=fetch, data=data, block_steps=3, **options)


def test_mixtraining(tmp_path):
    """Within each phase and at its ends, with notes that are kept."""

    def noted(checkpoints):
        checkpoints.notes["seen"] = []
        run = mixtraining(
            checkpoints=checkpoints,
            on_block=lambda done, of, losses, state: checkpoints.notes["seen"].append([done, int(state.step)]),
        )
        return run, checkpoints.notes["seen"]

    whole = mixtraining()
    for after in (1, 3):
        stop(noted, tmp_path / str(after), after)
        run, seen = go_on(noted, tmp_path / str(after))
        assert_same(run, whole)
        assert seen == [[3, 3], [6, 6], [9, 9], [12, 12]]


def test_a_failure_after_a_resume_names_phase_and_step_of_the_run(tmp_path):
    training = functools.partial(mixtraining, bad_step=7)
    whole = training()
    assert whole.failure is not None and (whole.failure.step, whole.failure.phase) == (7, "joint")
    stop(training, tmp_path, 2)
    assert_same(go_on(training, tmp_path), whole)


# Weighted examples ----------------------------------------------------------------------------------------------------

N, D, M = 50, 12, 5
RNG = np.random.default_rng(1)
BITS = RNG.integers(0, 2, (N, D)).astype(np.uint8)
EXAMPLES = WeightedExamples(RNG.random((M, N)).astype(np.float32), RNG.random((M, N)).astype(np.float32))
RUN = MlpRun(hidden=(4,), steps=40, batch_size=10, learning_rate=0.05, weight_decay=0.1)  # two blocks
PARAMETERS = D * 4 + 4 + 4 + 1
ONE_MODEL = 4 * (3 * (4 * PARAMETERS + 10 * (D + 3 * 5) + 3 * N) + PARAMETERS)  # bytes
TWO_MODELS = 2 * ONE_MODEL  # three groups, the last one padded
NAMES = tuple("abcde")


def perceptrons(run=RUN, **options):
    return train_mlps(run, BITS, EXAMPLES, max_bytes=TWO_MODELS, names=NAMES, **options).scores_NxM


def test_groups_of_perceptrons(tmp_path):
    """Between two groups, within one, and with a damaged checkpoint."""
    whole = perceptrons()
    for after in (2, 3):
        stop(perceptrons, tmp_path / str(after), after, every=20)
        seen = []
        resumed = functools.partial(perceptrons, on_progress=lambda done, of: seen.append((done, of)))  # noqa: B023
        if after == 3:
            assert damage_newest(tmp_path / "3") == 60
        np.testing.assert_array_equal(go_on(resumed, tmp_path / str(after), warn=lambda line: None), whole)
        assert seen == [(60, 120), (80, 120), (100, 120), (120, 120)]


def test_a_perceptron_that_diverges_after_a_resume_names_the_step_of_its_training(tmp_path, monkeypatch):
    """Steps of a model count from the beginning of its group."""

    def change(before, state, loss_TxM):
        return state, loss_TxM.at[4, 3].set(np.nan) if before == 20 else loss_TxM  # the second model of a group

    stop(perceptrons, tmp_path, 3)
    monkeypatch.setattr(mlp_learner, "compiled", spoil(mlp_learner.compiled, change))
    with pytest.raises(Diverged, match="the loss of d became nan at step 24:"):
        go_on(perceptrons, tmp_path)


def test_a_perceptron_that_the_last_step_spoils_is_not_saved(tmp_path, monkeypatch):
    def change(before, state, loss_TxM):
        return with_parameters_of_model_1(state, np.inf), loss_TxM

    monkeypatch.setattr(mlp_learner, "compiled", spoil(mlp_learner.compiled, change))
    with pytest.raises(
        Diverged,
        match=r"the parameters of a .without inner fold 0. are not finite after step 19: lower the learning rate",
    ):
        go_on(perceptrons, tmp_path, every=20)
    assert not list(tmp_path.glob("*/[0-9]*"))


def test_trees(tmp_path):
    pytest.importorskip("xgboost")
    from mixmin_jax.training.boosted_trees import TreeRun, train_trees

    seen, lines = [], []

    def trees(**options):
        return train_trees(TreeRun(rounds=3, depth=2), BITS, EXAMPLES, 7, names=NAMES, **options).scores_NxM

    resumed = functools.partial(trees, on_progress=lambda done, of: seen.append((done, of)))
    whole = trees()
    stop(trees, tmp_path, 3, every=3)
    shutil.copytree(tmp_path, tmp_path / "damaged")
    np.testing.assert_array_equal(go_on(resumed, tmp_path), whole)
    assert seen == [(4, 5), (5, 5)]
    assert damage_newest(tmp_path / "damaged") == 9
    np.testing.assert_array_equal(go_on(resumed, tmp_path / "damaged", warn=lines.append), whole)
    assert seen[2:] == [(3, 5), (4, 5), (5, 5)] and len(lines) == 1
