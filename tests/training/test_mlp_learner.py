import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression

from mixmin_jax.errors import InputError
from mixmin_jax.training import mlp_learner
from mixmin_jax.training.flops import count_flops
from mixmin_jax.training.loop import warmup_cosine
from mixmin_jax.training.mesh import make_mesh
from mixmin_jax.training.mlp_learner import MlpRun, models_at_once, train_mlps, training_flops
from mixmin_jax.training.nonfinite import Diverged
from mixmin_jax.training.weighted_examples import WeightedExamples, base_scores

SEED = 2
RNG = np.random.default_rng(1)
N, D, M = 50, 12, 3
BITS = RNG.integers(0, 2, (N, D)).astype(np.uint8)
USED = np.arange(N) % 5 > 0  # 40 molecules
TARGETS = RNG.random((M, N)).astype(np.float32)
WEIGHTS = (USED * RNG.random((M, N))).astype(np.float32)
WEIGHTS[1, :20] = 0  # models differ in what they are trained on; together they use all of USED
EXAMPLES = WeightedExamples(TARGETS * (WEIGHTS > 0), WEIGHTS)
RUN = MlpRun(hidden=(4,), steps=40, batch_size=8, learning_rate=0.05, weight_decay=0.1)  # two blocks
PARAMETERS = D * 4 + 4 + 4 + 1
ONE_MODEL = 4 * (3 * (4 * PARAMETERS + 8 * (D + 3 * 5) + 3 * N) + PARAMETERS)  # bytes
LINEAR = MlpRun(hidden=(), steps=400, batch_size=512, learning_rate=0.1, weight_decay=0.0, epsilon=1e-8)


@pytest.fixture(scope="module")
def traces():
    """One entry whenever the loss is traced, from here on."""
    seen, original = [], mlp_learner.mean_loss

    def counted(*args):
        seen.append(1)
        return original(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mlp_learner, "mean_loss", counted)
        mlp_learner.compiled.cache_clear()
        yield seen
    mlp_learner.compiled.cache_clear()  # programs that count


@pytest.fixture(scope="module")
def found(traces):
    return train_mlps(RUN, BITS, EXAMPLES, SEED)


@pytest.fixture(scope="module")
def scores(found):
    return found.scores_NxM


def test_a_mesh_changes_no_result(scores):
    """Three models on four pairs of devices: one is trained twice, and its results are dropped."""
    meshed = train_mlps(RUN, BITS, EXAMPLES, SEED, mesh=make_mesh(4, 2)).scores_NxM
    np.testing.assert_allclose(meshed, scores, rtol=1e-3, atol=1e-4)


def test_groups_of_one_change_no_result_share_one_trace_and_count_their_progress(scores, traces):
    traces.clear()
    seen = []
    for seed in (3, SEED):
        in_groups = train_mlps(
            RUN, BITS, EXAMPLES, seed, max_bytes=ONE_MODEL, on_progress=lambda *done: seen.append(done)
        ).scores_NxM
    np.testing.assert_allclose(in_groups, scores, rtol=1e-3, atol=1e-4)
    assert sum(traces) <= 1  # 0 if one model was trained before
    assert seen == 2 * [(done, 120) for done in range(20, 121, 20)]


def test_training_is_adamw_written_out_by_hand():
    """20 steps, one block: nothing to choose from, so the model is that of the last step."""
    run = MlpRun(hidden=(), steps=20, batch_size=16, learning_rate=0.1, weight_decay=0.5, epsilon=1e-3)
    examples = EXAMPLES.rows(slice(0, 1))
    target, weight = examples.target_MxN[0], examples.weight_MxN[0].astype(float) / examples.weight_MxN[0].sum()
    base, key = float(base_scores(examples, "cross_entropy")[0]), jax.random.split(jax.random.key(SEED))[1]
    kernel, bias = np.zeros(D), 0.0
    first, second = np.zeros(D + 1), np.zeros(D + 1)
    for t in range(20):
        uniform = np.asarray(jax.random.uniform(jax.random.fold_in(key, t), (16,)))
        rows = np.searchsorted(np.cumsum(weight), (np.arange(16) + uniform) / 16, side="right")
        x = BITS[rows].astype(float)
        residual = (1 / (1 + np.exp(-(base + x @ kernel + bias))) - target[rows]) / 16
        grad = np.append(x.T @ residual, residual.sum())
        first, second = 0.9 * first + 0.1 * grad, 0.999 * second + 0.001 * grad**2
        step = first / (1 - 0.9 ** (t + 1)) / (np.sqrt(second / (1 - 0.999 ** (t + 1))) + 1e-3)
        rate = float(warmup_cosine(0.1, 20)(t))
        kernel, bias = kernel - rate * (step[:D] + 0.5 * kernel), bias - rate * step[D]
    expected = base + BITS @ kernel + bias
    assert np.abs(expected - base).max() > 0.1
    found = train_mlps(run, BITS, examples, SEED)
    np.testing.assert_allclose(found.scores_NxM[:, 0], expected, rtol=1e-3, atol=1e-4)
    assert found.chosen_M == 20 and np.isnan(found.gradient_norm_M).all()


def test_a_batch_draws_each_molecule_in_proportion_to_its_weight():
    """With one point in each B-th of the sum, counts are exact up to one."""
    weight_RxU = np.float32([[0.5, 0.0, 0.25, 0.25], [0.0, 0.0, 1.0, 0.0]])
    rows = mlp_learner.batch_rows(jnp.cumsum(weight_RxU, axis=1), jax.random.key(0), 40)
    counts = np.stack([np.bincount(row_B, minlength=4) for row_B in rows])
    assert np.abs(counts - 40 * weight_RxU).max() <= 1 and (counts[weight_RxU == 0] == 0).all()


def test_a_batch_draws_no_molecule_past_the_last(monkeypatch):
    """In float32, 127 and the largest number below 1 are 128, which would be past the end of the weights."""
    monkeypatch.setattr(jax.random, "uniform", lambda key, shape: jnp.full(shape, 1 - 2**-23, jnp.float32))
    rows = mlp_learner.batch_rows(jnp.float32([[0.5, 1.0, 1.0]]), jax.random.key(0), 128)
    assert rows.max() == 1  # the last molecule has no weight


def test_a_model_stops_where_left_out_molecules_are_predicted_best():
    """Noise is learned by heart: later steps are worse."""
    rng = np.random.default_rng(5)
    bits, labels = rng.integers(0, 2, (60, 40)).astype(np.uint8), rng.integers(0, 2, (2, 60)).astype(np.float32)
    labels[1] = bits[:, 0]
    run = MlpRun(hidden=(8,), steps=80, batch_size=16, learning_rate=0.01, weight_decay=0.0)
    found = train_mlps(run, bits, WeightedExamples(labels, np.ones((2, 60), np.float32)))
    short = train_mlps(dataclasses.replace(run, steps=20), bits, WeightedExamples(labels, np.ones((2, 60), np.float32)))
    assert found.chosen_M[0] == 20 and found.chosen_M[1] > 20 and short.chosen_M.tolist() == [20, 20]
    assert np.abs(found.scores_NxM[:, 0]).max() < np.abs(found.scores_NxM[:, 1]).max()


@pytest.fixture
def one_block(monkeypatch):
    """A training that cannot stop early."""
    monkeypatch.setattr(mlp_learner, "BLOCK_STEPS", LINEAR.steps)


def test_without_hidden_layers_it_is_weighted_logistic_regression(one_block):
    """Soft labels stand for both classes, weighted; a few labels are turned so that the optimum is finite."""
    labels = (BITS[:, 0] + BITS[:, 1] > 1).astype(np.float32)
    target = np.where(RNG.random(N) < 0.3, 0.3, labels).astype(np.float32)
    weight = (RNG.random(N) + 0.5).astype(np.float32)
    reference = LogisticRegression(C=1e6, max_iter=10_000, tol=1e-8).fit(
        np.concatenate([BITS, BITS]),
        np.repeat([1, 0], N),
        sample_weight=np.concatenate([weight * target, weight * (1 - target)]),
    )
    examples = WeightedExamples(target[None], weight[None])
    np.testing.assert_allclose(
        train_mlps(LINEAR, BITS, examples).scores_NxM[:, 0], reference.decision_function(BITS), atol=0.15
    )


def test_without_hidden_layers_and_with_squared_error_it_is_weighted_least_squares(one_block):
    values = (BITS @ RNG.normal(size=D) + RNG.normal(size=N)).astype(np.float32)
    expected = LinearRegression().fit(BITS, values, sample_weight=WEIGHTS[0]).predict(BITS)
    scale = np.float32([[1], [1000], [0]])
    examples = WeightedExamples(7 + scale * values, np.repeat(WEIGHTS[:1], 3, axis=0))
    found = train_mlps(LINEAR, BITS, examples, loss="squared_error").scores_NxM
    np.testing.assert_allclose(found[:, 0] - 7, expected, atol=0.05)
    np.testing.assert_allclose((found[:, 1] - 7) / 1000, expected, atol=0.05)
    np.testing.assert_allclose(found[:, 2], 7, atol=1e-5)


def test_a_loss_that_diverges_names_model_step_and_learning_rate():
    wild = MlpRun(hidden=(4,), steps=40, batch_size=8, learning_rate=1e30)
    with pytest.raises(Diverged, match=r"the loss of (a|b|c)( \(.*\))? became (nan|inf) at step \d+: lower .*1e\+30"):
        train_mlps(wild, BITS, EXAMPLES, SEED, names=("a", "b", "c"))


def test_flops_and_memory_are_about_those_of_the_compiled_step():
    run, models = MlpRun(hidden=(32, 16), batch_size=128), 4
    programs = mlp_learner.compiled(run, "cross_entropy", make_mesh())
    bits, rows, networks = jnp.zeros((64, 1024), jnp.uint8), jnp.zeros((models, 64)), jnp.zeros((3 * models, 64))
    offset, folds = jnp.zeros(3 * models), jnp.zeros(64, jnp.int32)
    data = mlp_learner._Data(bits, networks, networks, offset, rows, rows, folds, jax.random.key(0))
    state, best = jax.eval_shape(programs.init, jax.random.key(0), bits[:1], offset)
    lowered = programs.block.lower(state, jnp.zeros(1, jnp.int32), data)
    judged = count_flops(programs.judge.lower(best, state, data))  # all blocks, of which XLA counts one
    stated = training_flops(run, 64, 1024, models)
    assert 0.9 < (run.steps * count_flops(lowered) + 10 * judged * 64 / 256) / stated < 1.2
    memory = lowered.compile().memory_analysis()
    one_model = mlp_learner.MAX_BYTES // models_at_once(run, 10**9, 64, 1024, 1, mlp_learner.MAX_BYTES)
    taken = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    assert 0.6 < taken / (models * one_model) < 1.2


@pytest.mark.parametrize(
    ("models", "devices", "fit", "group"), [(9, 1, 4, 3), (9, 1, 100, 9), (9, 8, 100, 16), (20, 2, 7, 6), (1, 1, 1, 1)]
)
def test_groups_are_equal_and_multiples_of_the_devices(models, devices, fit, group):
    assert models_at_once(RUN, models, N, D, devices, fit * ONE_MODEL) == group


def test_what_cannot_be_trained_is_refused_before_training():
    with pytest.raises(InputError, match="batch_size 8 does not divide over 3 devices"):
        train_mlps(RUN, BITS, EXAMPLES, mesh=make_mesh(1, 3))
    with pytest.raises(InputError, match="max_bytes 10 is less than 1 models take"):
        train_mlps(RUN, BITS, EXAMPLES, max_bytes=10)
