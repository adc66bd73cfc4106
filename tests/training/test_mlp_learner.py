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

KEY = jax.random.key(2)
RNG = np.random.default_rng(1)
N, D, M = 50, 12, 3
BITS = RNG.integers(0, 2, (N, D)).astype(np.uint8)
USED = np.arange(N) % 5 > 0  # 40 molecules
TARGETS = RNG.random((M, N)).astype(np.float32)
WEIGHTS = (USED * RNG.random((M, N))).astype(np.float32)
WEIGHTS[1, :20] = 0  # models differ in what they are trained on; together they use all of USED
EXAMPLES = WeightedExamples(TARGETS * (WEIGHTS > 0), WEIGHTS)
RUN = MlpRun(hidden=(4,), epochs=8, batch_size=8, learning_rate=0.05, weight_decay=0.1)  # 40 steps, two blocks
ONE_MODEL = 4 * (4 * (D * 4 + 4 + 4 + 1) + 3 * 8 * 5 + 3 * N)  # bytes
LINEAR = MlpRun(hidden=(), epochs=300, batch_size=N, learning_rate=0.1, weight_decay=0.0, epsilon=1e-8)


@pytest.fixture(scope="module")
def traces():
    """One entry whenever the loss is traced, from here on."""
    seen, original = [], mlp_learner.weighted_loss

    def counted(*args):
        seen.append(1)
        return original(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mlp_learner, "weighted_loss", counted)
        mlp_learner.compiled.cache_clear()
        yield seen
    mlp_learner.compiled.cache_clear()  # programs that count


@pytest.fixture(scope="module")
def scores(traces):
    return train_mlps(RUN, BITS, EXAMPLES, KEY)


def test_a_mesh_changes_no_result(scores):
    """Three models on four pairs of devices are padded with a weightless one whose results are dropped."""
    meshed = train_mlps(RUN, BITS, EXAMPLES, KEY, mesh=make_mesh(4, 2))
    np.testing.assert_allclose(meshed, scores, rtol=1e-3, atol=1e-4)


def test_groups_of_one_change_no_result_share_one_trace_and_count_their_progress(scores, traces):
    traces.clear()
    seen = []
    for key in (jax.random.key(3), KEY):
        in_groups = train_mlps(
            RUN, BITS, EXAMPLES, key, max_bytes=ONE_MODEL, on_progress=lambda *done: seen.append(done)
        )
    np.testing.assert_allclose(in_groups, scores, rtol=1e-3, atol=1e-4)
    assert sum(traces) <= 1  # 0 if one model was trained before
    assert seen == 2 * [(done, 120) for done in range(20, 121, 20)]


def test_training_is_adamw_written_out_by_hand():
    run = MlpRun(hidden=(), epochs=3, batch_size=16, learning_rate=0.1, weight_decay=0.5, epsilon=1e-3)
    examples = EXAMPLES.rows(slice(0, 1))
    target, weight = examples.target_MxN[0], examples.weight_MxN[0] / examples.weight_MxN[0].sum()
    base, num_used = float(base_scores(examples, "cross_entropy")[0]), USED.sum()
    num_steps = 8  # 3 x 40 / 16, rounded up
    batches = mlp_learner.visiting_order(np.flatnonzero(USED), num_steps, 16, jax.random.split(KEY)[1])
    kernel, bias = np.zeros(D), 0.0
    first, second = np.zeros(D + 1), np.zeros(D + 1)
    for t, rows in enumerate(batches):
        x = BITS[rows].astype(float)
        residual = weight[rows] * num_used / 16 * (1 / (1 + np.exp(-(base + x @ kernel + bias))) - target[rows])
        grad = np.append(x.T @ residual, residual.sum())
        first, second = 0.9 * first + 0.1 * grad, 0.999 * second + 0.001 * grad**2
        step = first / (1 - 0.9 ** (t + 1)) / (np.sqrt(second / (1 - 0.999 ** (t + 1))) + 1e-3)
        rate = float(warmup_cosine(0.1, num_steps)(t))
        kernel, bias = kernel - rate * (step[:D] + 0.5 * kernel), bias - rate * step[D]
    expected = base + BITS @ kernel + bias
    assert np.abs(expected - base).max() > 0.1
    np.testing.assert_allclose(train_mlps(run, BITS, examples, KEY)[:, 0], expected, rtol=1e-3, atol=1e-4)


def test_every_epoch_visits_every_used_molecule_once_in_a_new_order():
    used = np.flatnonzero(USED)
    order = mlp_learner.visiting_order(used, 15, 8, KEY)
    epochs = order.reshape(3, 40)
    assert all(sorted(epoch) == used.tolist() for epoch in epochs)
    assert not np.array_equal(epochs[0], epochs[1])
    larger = mlp_learner.visiting_order(used, 2, 64, KEY)  # a batch may be larger than an epoch
    np.testing.assert_array_equal(larger.ravel()[:120], epochs.ravel())


def test_without_hidden_layers_it_is_weighted_logistic_regression():
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
        train_mlps(LINEAR, BITS, examples, KEY)[:, 0], reference.decision_function(BITS), atol=0.15
    )


def test_without_hidden_layers_and_with_squared_error_it_is_weighted_least_squares():
    values = (BITS @ RNG.normal(size=D) + RNG.normal(size=N)).astype(np.float32)
    expected = LinearRegression().fit(BITS, values, sample_weight=WEIGHTS[0]).predict(BITS)
    scale = np.float32([[1], [1000], [0]])
    examples = WeightedExamples(7 + scale * values, np.repeat(WEIGHTS[:1], 3, axis=0))
    found = train_mlps(LINEAR, BITS, examples, KEY, loss="squared_error")
    np.testing.assert_allclose(found[:, 0] - 7, expected, atol=0.05)
    np.testing.assert_allclose((found[:, 1] - 7) / 1000, expected, atol=0.05)
    np.testing.assert_allclose(found[:, 2], 7, atol=1e-5)


def test_a_loss_that_diverges_names_model_step_and_learning_rate():
    wild = MlpRun(hidden=(4,), epochs=8, batch_size=8, learning_rate=1e30)
    with pytest.raises(Diverged, match=r"the loss of (a|b|c) became (nan|inf) at step \d+: lower .* \(1e\+30\)"):
        train_mlps(wild, BITS, EXAMPLES, KEY, names=("a", "b", "c"))


def test_flops_and_memory_are_about_those_of_the_compiled_step():
    run = MlpRun(hidden=(32, 16), batch_size=128)
    programs = mlp_learner.compiled(run, "cross_entropy", make_mesh(), 10)
    bits, rows, models = jnp.zeros((64, 1024), jnp.uint8), jnp.zeros((4, 64)), jnp.zeros(4)
    state = jax.eval_shape(programs.init, KEY, bits[:1], models)
    lowered = programs.block.lower(state, jnp.zeros((1, 128), jnp.int32), bits, rows, rows, models)
    stated = training_flops(run, 128, 1024, 4) / run.num_steps(128)
    assert 0.9 < count_flops(lowered) / stated < 1.2
    memory = lowered.compile().memory_analysis()
    shared = 64 * 1024 + 4 * 128 * 1024  # the bits, and the batch as floats
    taken = memory.argument_size_in_bytes + memory.temp_size_in_bytes - shared
    one_model = 4 * (4 * (1025 * 32 + 33 * 16 + 17) + 3 * 128 * 49 + 3 * 64)
    assert models_at_once(run, 9, 64, 1024, 1, 4 * one_model) == 3  # three groups of three, not 4 + 4 + 1
    assert 0.8 < taken / (4 * one_model) < 1


@pytest.mark.parametrize(
    ("models", "devices", "fit", "group"), [(9, 1, 4, 3), (9, 1, 100, 9), (9, 8, 100, 16), (20, 2, 7, 6), (1, 1, 1, 1)]
)
def test_groups_are_equal_and_multiples_of_the_devices(models, devices, fit, group):
    assert models_at_once(RUN, models, N, D, devices, fit * ONE_MODEL) == group


@pytest.mark.parametrize(
    ("used", "batch", "epochs", "steps"), [(40, 8, 8, 40), (41, 8, 8, 42), (7, 8, 1, 1), (100, 10, 41, 420)]
)
def test_steps_fill_batches_and_blocks_of_one_length(used, batch, epochs, steps):
    assert MlpRun(epochs=epochs, batch_size=batch).num_steps(used) == steps


def test_what_cannot_be_trained_is_refused_before_training():
    with pytest.raises(InputError, match="batch_size 8 does not divide over 3 devices"):
        train_mlps(RUN, BITS, EXAMPLES, KEY, mesh=make_mesh(1, 3))
    with pytest.raises(InputError, match="max_bytes 10 is less than 1 models take"):
        train_mlps(RUN, BITS, EXAMPLES, KEY, max_bytes=10)
