import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.optimize import minimize_scalar

from mixmin_jax.errors import InputError
from mixmin_jax.training.weighted_examples import WeightedExamples, base_scores, check_examples, mixture_examples

RNG = np.random.default_rng(3)
N, K = 14, 3
FEATURES = RNG.normal(size=(N, 5)).astype(np.float32)
WEIGHTS = np.array([[0.2, 0.5, 0.3], [0.0, 1.0, 0.0], [0.9, 0.0, 0.1]])
TRAIN = np.arange(N) % 4 > 0
LABELLED = RNG.random((N, K)) < 0.7
LABELS = np.where(LABELLED, RNG.integers(0, 2, (N, K)), np.nan).astype(np.float32)
VALUES = np.where(LABELLED, RNG.normal(size=(N, K)), np.nan).astype(np.float32)
NAMES = ("a", "b", "c")


def union(values, weights, train, balanced):
    """The sources' molecules written one below the other: (molecule, value, weight)."""
    rows = []
    for k, w in enumerate(weights):
        members = [n for n in range(N) if train[n] and not np.isnan(values[n, k])]
        for n in members:
            same = [i for i in members if values[i, k] == values[n, k]] if balanced else members
            rows.append((n, values[n, k], w / (len(same) * (2 if balanced else 1))))
    molecule, value, weight = (np.array(column) for column in zip(*rows, strict=True))
    return molecule, value.astype(np.float32), weight.astype(np.float32)


@pytest.mark.parametrize(
    ("loss", "values", "balanced"),
    [("cross_entropy", LABELS, False), ("cross_entropy", LABELS, True), ("squared_error", VALUES, False)],
)
def test_the_loss_is_that_of_the_union_of_the_sources_up_to_a_constant(loss, values, balanced):
    loss_fn = optax.sigmoid_binary_cross_entropy if loss == "cross_entropy" else optax.squared_error

    def total(params, molecule, target, weight):
        score = jnp.tanh(FEATURES[molecule] @ params["first"]) @ params["last"]
        return jnp.sum(weight * loss_fn(score, target))

    def some_params(seed):
        k1, k2 = jax.random.split(jax.random.key(seed))
        return {"first": jax.random.normal(k1, (5, 4)), "last": jax.random.normal(k2, (4,))}

    examples = mixture_examples(values, WEIGHTS, TRAIN, balanced=balanced)
    for m in range(len(WEIGHTS)):
        both = [
            [jax.value_and_grad(total)(some_params(seed), *rows) for seed in (0, 1)]
            for rows in (
                (np.arange(N), examples.target_MxN[m], examples.weight_MxN[m]),
                union(values, WEIGHTS[m], TRAIN, balanced),
            )
        ]
        (collapsed, other_collapsed), (written_out, other_written_out) = both
        np.testing.assert_allclose(collapsed[0] - other_collapsed[0], written_out[0] - other_written_out[0], rtol=1e-4)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), collapsed[1], written_out[1])


@pytest.mark.parametrize("balanced", [False, True])
def test_weights_sum_to_one_and_targets_stay_labels(balanced):
    examples = mixture_examples(LABELS, WEIGHTS, TRAIN, balanced=balanced)
    np.testing.assert_allclose(examples.weight_MxN.sum(1), 1, rtol=1e-6)
    assert (examples.target_MxN >= 0).all() and (examples.target_MxN <= 1).all()
    assert (examples.weight_MxN[:, ~TRAIN] == 0).all() and (examples.target_MxN[:, ~TRAIN] == 0).all()
    assert ((examples.target_MxN > 0) & (examples.target_MxN < 1)).any()  # a molecule on which sources disagree
    if balanced:  # half of the weight for each class
        np.testing.assert_allclose(base_scores(examples, "cross_entropy"), 0, atol=1e-6)


def test_each_model_can_have_a_mask_of_its_own():
    masks = np.stack([TRAIN, ~TRAIN, np.ones(N, bool)])
    together = mixture_examples(LABELS, WEIGHTS, masks)
    for m, mask in enumerate(masks):
        alone = mixture_examples(LABELS, WEIGHTS[m : m + 1], mask)
        np.testing.assert_array_equal(together.target_MxN[m], alone.target_MxN[0])
        np.testing.assert_array_equal(together.weight_MxN[m], alone.weight_MxN[0])


UNLABELED = np.where(TRAIN[:, None] & (np.arange(K) == 2), np.nan, LABELS).astype(np.float32)  # c, inside TRAIN
ZEROS = np.where(np.arange(K) == 0, 0 * LABELS, LABELS).astype(np.float32)  # a has one class


def test_a_source_that_no_model_uses_needs_no_labels_and_unbalanced_ones_no_two_classes():
    mixture_examples(UNLABELED, WEIGHTS[1:2], TRAIN)
    mixture_examples(ZEROS, WEIGHTS, TRAIN)


@pytest.mark.parametrize(
    ("values", "weights", "options", "message"),
    [
        (UNLABELED, WEIGHTS, {}, "c has a positive weight in model 0, but no labeled molecule"),
        (ZEROS, WEIGHTS, {"balanced": True}, "a has a positive weight in model 0, but no molecule of class 1"),
        (1 - ZEROS, WEIGHTS, {"balanced": True}, "no molecule of class 0"),
        (LABELS, WEIGHTS * 2, {}, "weights of model 0"),
        (LABELS, np.array([[1.0, 0.0, 0.0], [1.5, -0.5, 0.0]]), {}, "weights of model 1"),
        (LABELS, np.array([[np.nan, 0.5, 0.5]]), {}, "weights of model 0"),
        (LABELS, WEIGHTS, {"names": NAMES[:2]}, "2 names for 3 sources"),
        (VALUES, WEIGHTS, {"balanced": True}, "balanced needs values of 0 and 1, but a has others"),
        (np.where(np.arange(K) == 1, np.inf, VALUES), WEIGHTS, {}, "b has a value that is not finite"),
    ],
)
def test_sources_and_mixtures_that_make_no_examples_are_refused(values, weights, options, message):
    with pytest.raises(InputError, match=message):
        mixture_examples(values, weights, TRAIN, **{"names": NAMES, **options})


@pytest.mark.parametrize(("loss", "values"), [("cross_entropy", LABELS), ("squared_error", VALUES)])
def test_base_scores_are_the_best_constants(loss, values):
    examples = mixture_examples(values, WEIGHTS, TRAIN)
    loss_fn = optax.sigmoid_binary_cross_entropy if loss == "cross_entropy" else optax.squared_error
    for m, score in enumerate(base_scores(examples, loss)):

        def total(constant, m=m):
            return float(jnp.sum(examples.weight_MxN[m] * loss_fn(constant * jnp.ones(N), examples.target_MxN[m])))

        assert total(score) <= minimize_scalar(total).fun + 1e-6


def test_a_model_that_saw_one_class_starts_from_a_finite_logit():
    one_class = WeightedExamples(np.ones((1, 4), np.float32), np.ones((1, 4), np.float32))
    np.testing.assert_allclose(base_scores(one_class, "cross_entropy"), np.log(9999), rtol=1e-3)


BITS = np.eye(4, dtype=np.uint8)
ONES = np.ones((2, 4), np.float32)


@pytest.mark.parametrize(
    ("bits", "target", "weight", "loss", "message"),
    [
        (BITS, ONES[:1], ONES[:1], "cross_entropy", "2 names for 1 models"),
        (3 * BITS, ONES, ONES, "cross_entropy", "features must be bits"),
        (BITS[:, :0], ONES, ONES, "cross_entropy", "features must be bits"),
        (BITS[:3], ONES, ONES, "cross_entropy", "do not match 3 molecules"),
        (BITS, ONES * [[1], [2]], ONES, "cross_entropy", r"b has a target outside \[0, 1\]"),
        (BITS, ONES * [[1], [np.nan]], ONES, "squared_error", "b has a target that is not finite"),
        (BITS, ONES, ONES * [[1], [-1]], "squared_error", "b has a negative or infinite weight"),
        (BITS, ONES, ONES * [[1], [0]], "squared_error", "b has .* none above 0"),
    ],
)
def test_examples_that_cannot_be_trained_on_are_refused(bits, target, weight, loss, message):
    examples = WeightedExamples(target.astype(np.float32), weight.astype(np.float32))
    with pytest.raises(InputError, match=message):
        check_examples(bits, examples, loss, ("a", "b"))


@pytest.mark.parametrize(
    ("number", "of_all", "found"),
    [(1, 1000, 64), (64, 1000, 64), (65, 1000, 128), (65, 100, 100), (1000, 9000, 1024), (5000, 9000, 5120), (9, 9, 9)],
)
def test_numbers_of_used_molecules_are_few_and_close(number, of_all, found):
    is_used_N = np.random.default_rng(number).permutation(of_all) < number
    weight_MxN = np.stack([is_used_N & (np.arange(of_all) % 2 == half) for half in (0, 1)]).astype(np.float32)
    used_U = WeightedExamples(np.zeros_like(weight_MxN), weight_MxN).used_padded()
    assert len(used_U) == found and (np.diff(used_U) > 0).all() and set(np.flatnonzero(is_used_N)) <= set(used_U)
