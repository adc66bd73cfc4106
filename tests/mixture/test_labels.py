"""pandas objects are taken by their labels, or refused; arrays of other libraries convert."""

import jax
import numpy as np
import pytest

from mixmin_jax import (
    InputError,
    bootstrap,
    cross_entropy,
    leave_one_out,
    solve,
    solve_traced,
    squared_error,
    stream_cross_entropy,
    weighted_sum,
    worst_case,
)
from mixmin_jax.mixture.constraints import build, distribution
from tests.mixture import problems

pd = pytest.importorskip("pandas")
NAMES = ["a", "b", "c", "d"]
K = len(NAMES)
ROWS = [f"row {n}" for n in range(40)]
LOGP_NxK = problems.classifiers(40, K)
FRAME = pd.DataFrame(LOGP_NxK, index=ROWS, columns=NAMES)
CAPS = pd.Series({"d": 0.2, "c": 1.0, "b": 0.3, "a": 0.9})
WEIGHTS_N = np.arange(1.0, 41)
SHUFFLED = np.random.default_rng(0).permutation(40)


def test_caps_are_for_the_sources_that_a_series_names():
    objective = cross_entropy(FRAME)
    assert objective.sources == tuple(NAMES)
    named = {"upper_bounds": CAPS.to_dict(), "lower_bounds": {"b": 0.1}}
    labeled = {"upper_bounds": CAPS, "lower_bounds": pd.Series({"b": 0.1})}
    expected = solve(objective, **named).weights
    np.testing.assert_array_equal(solve(objective, **labeled).weights, expected)
    assert abs(solve(objective, upper_bounds=CAPS.to_numpy()).weights - expected).max() > 0.01  # order is no label
    np.testing.assert_array_equal(leave_one_out(objective, **labeled).solution.weights, expected)
    np.testing.assert_allclose(solve_traced(objective, **labeled).weights, expected, atol=1e-3)


def test_series_of_some_sources_mean_what_mappings_mean():
    np.testing.assert_array_equal(build(K, tuple(NAMES), pd.Series({"c": 0.1}))[0].cap_K, [1, 1, 0.1, 1])
    reference = pd.Series({"d": 0.75, "a": 0.25})
    np.testing.assert_array_equal(distribution(reference, "reference", K, tuple(NAMES)), [0.25, 0, 0, 0.75])
    found = bootstrap(cross_entropy(FRAME), 2, jax.random.key(0), reference=reference)
    np.testing.assert_array_equal(found.comparison.reference, [0.25, 0, 0, 0.75])
    assert worst_case([cross_entropy(FRAME)], relative_to=reference) is not None
    prior = pd.Series([0.1, 0.2, 0.3, 0.4], index=NAMES[::-1])
    np.testing.assert_allclose(build(K, tuple(NAMES), prior=prior, prior_strength=1)[1].q_K, prior[NAMES])
    with pytest.raises(InputError, match="prior lacks 'a', 'b'"):
        build(K, tuple(NAMES), prior=prior[["c", "d"]], prior_strength=1)


def test_labels_that_pandas_makes_up_are_positions():
    plain = pd.DataFrame(LOGP_NxK)
    assert cross_entropy(plain).sources is None and cross_entropy(plain, sources=NAMES).sources == tuple(NAMES)
    np.testing.assert_array_equal(cross_entropy(plain, pd.Series(WEIGHTS_N)).weights_N, WEIGHTS_N)
    np.testing.assert_array_equal(cross_entropy(LOGP_NxK, pd.Series(WEIGHTS_N)).weights_N, WEIGHTS_N)
    for names in (None, tuple(NAMES)):
        np.testing.assert_array_equal(build(K, names, pd.Series([0.1, 0.2, 0.3, 1]))[0].cap_K, [0.1, 0.2, 0.3, 1])
    assert cross_entropy(FRAME, sources=NAMES).sources == tuple(NAMES)


def test_values_of_rows_follow_the_rows():
    weights = pd.Series(WEIGHTS_N, index=ROWS).iloc[SHUFFLED]
    np.testing.assert_array_equal(cross_entropy(FRAME, weights).weights_N, WEIGHTS_N)
    np.testing.assert_array_equal(cross_entropy(FRAME.iloc[SHUFFLED], weights).weights_N, WEIGHTS_N[SHUFFLED])
    np.testing.assert_array_equal(cross_entropy(FRAME, WEIGHTS_N).weights_N, WEIGHTS_N)
    residuals = squared_error(LOGP_NxK, WEIGHTS_N).residuals_NxKxD
    found = squared_error(FRAME, weights)
    np.testing.assert_array_equal(found.residuals_NxKxD, residuals)
    assert found.sources == tuple(NAMES)
    same = ["x"] * 40  # labels that are alike row by row need not differ
    twice = cross_entropy(FRAME.set_axis(same), pd.Series(WEIGHTS_N, index=same))
    np.testing.assert_array_equal(twice.weights_N, WEIGHTS_N)


def test_traced_arrays_beside_labeled_ones():
    weights = pd.Series(WEIGHTS_N, index=ROWS).iloc[SHUFFLED]
    found = jax.jit(lambda y: squared_error(FRAME, y).residuals_NxKxD)(WEIGHTS_N)
    np.testing.assert_allclose(found[:, :, 0], LOGP_NxK - WEIGHTS_N[:, None], rtol=1e-5)
    found = jax.jit(lambda v_N: cross_entropy(FRAME, v_N))(WEIGHTS_N)
    assert found.sources == tuple(NAMES)
    with pytest.raises(InputError, match="log-likelihoods have none"):
        jax.jit(lambda logp_NxK: cross_entropy(logp_NxK, weights))(LOGP_NxK)


class Table:
    """A DataFrame without labels of rows, as polars has them."""

    columns, shape = NAMES, LOGP_NxK.shape

    def to_numpy(self):
        return LOGP_NxK

    def __array__(self, dtype=None, copy=None):
        return LOGP_NxK


def test_tables_without_labels_of_rows_name_the_sources():
    assert cross_entropy(Table(), pd.Series(WEIGHTS_N)).sources == tuple(NAMES)


SERIES = pd.Series(WEIGHTS_N, index=ROWS)
DEFAULT = pd.Series(WEIGHTS_N)


def resampled(groups):
    return bootstrap(cross_entropy(FRAME), 2, jax.random.key(0), groups=groups)


@pytest.mark.parametrize(
    "build_it, message",
    [
        (lambda: cross_entropy(FRAME, sources=NAMES[::-1]), r"sources are 'd', .* but the columns .* are 'a', 'b'"),
        (lambda: cross_entropy(FRAME[["a", "a"]]), "a stand there more than once"),
        (lambda: cross_entropy(FRAME.set_axis([2, 0, 1, 3], axis=1)), "must be strings; got 2, 0, 1, 3"),
        (lambda: cross_entropy(FRAME, DEFAULT), "rows of log-likelihoods lack 0, 1, 2, 3, 4, ...,.*lacks 'row 0'"),
        (lambda: cross_entropy(FRAME, SERIES[1:]), r"example_weights lacks 'row 0'\. .*\.to_numpy\(\)"),
        (lambda: cross_entropy(FRAME, pd.concat([SERIES, SERIES[:1]])), "example_weights repeats 'row 0'"),
        (lambda: cross_entropy(FRAME.set_axis(["x"] * 40), SERIES), "rows of log-likelihoods repeat 'x'"),
        (lambda: cross_entropy(LOGP_NxK, SERIES), r"'row 0', .*, but log-likelihoods have none; give \.to_numpy\(\)"),
        (lambda: cross_entropy(LOGP_NxK, DEFAULT[::-1]), "has the labels 39, 38"),
        (lambda: squared_error(FRAME, DEFAULT), "the rows of predictions lack 0"),
        (lambda: squared_error(LOGP_NxK, SERIES), "but predictions have none"),
        (lambda: stream_cross_entropy(LOGP_NxK, SERIES), "but streamed rows have none"),
        (lambda: stream_cross_entropy(FRAME), "an array without labels, .*; got DataFrame"),
        (lambda: build(K, tuple(NAMES), pd.Series({"a": 0.1, "x": 0.2})), "the sources lack 'x'"),
        (lambda: build(K, tuple(NAMES), pd.Series([0.1, 0.2], index=["a", "a"])), "upper_bounds repeats 'a'"),
        (lambda: build(K, tuple(NAMES), DEFAULT[3:0:-1]), "the sources lack 3, 2, 1"),
        (lambda: build(K, tuple(NAMES), pd.Series([1.0], index=[pd.NA])), "the sources lack <NA>"),
        (lambda: build(K, None, CAPS), "built without `sources`"),
        (lambda: build(K, tuple(NAMES), CAPS.to_frame()), r"upper_bounds has the shape \(4, 1\)"),
        (lambda: weighted_sum([cross_entropy(FRAME)], pd.Series({"t": 1.0})), "targets have none"),
        (
            lambda: bootstrap(cross_entropy(FRAME), 2, jax.random.key(0), groups=SERIES),
            "rows of an objective have none",
        ),
        (
            lambda: cross_entropy(FRAME.astype("Float64").mask(FRAME < -1, pd.NA)),
            "log-likelihoods must be an array of real",
        ),
    ],
)
def test_labels_that_match_nothing(build_it, message):
    with pytest.raises(InputError, match=message):
        build_it()


class Tensor:
    """What a tensor of torch does when NumPy asks for its values."""

    def __init__(self, values, *, requires_grad=False, dtype="float32", device="cpu"):
        self.values, self.requires_grad, self.dtype, self.device = values, requires_grad, dtype, device
        self.shape = np.shape(values)

    def __array__(self, dtype=None):
        if self.requires_grad:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad.")
        if self.dtype == "bfloat16" or self.device != "cpu":
            raise TypeError("Got unsupported ScalarType BFloat16, or can't convert device type tensor to numpy.")
        values = np.asarray(self.values, self.dtype)
        return values if dtype is None else values.astype(dtype, copy=False)

    def detach(self):
        return Tensor(self.values, dtype=self.dtype, device=self.device)

    def cpu(self):
        return Tensor(self.values, requires_grad=self.requires_grad, dtype=self.dtype)

    def double(self):
        return Tensor(self.values, requires_grad=self.requires_grad, dtype="float64", device=self.device)

    def is_complex(self):
        return self.dtype == "complex64"


class Capsule:
    """An array that only DLPack can read."""

    def __init__(self, values):
        self.values = values

    def __dlpack__(self, **options):
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.values.__dlpack_device__()


@pytest.mark.parametrize(
    "convert",
    [Tensor, lambda x: Tensor(x, requires_grad=True, dtype="bfloat16"), lambda x: Tensor(x, device="cuda:0"), Capsule],
    ids=["tensor", "needs gradients", "on a GPU", "dlpack"],
)
def test_arrays_of_other_libraries_convert(convert):
    exact_NxK = np.round(LOGP_NxK, 0)
    objective = cross_entropy(convert(exact_NxK), convert(WEIGHTS_N), NAMES)
    assert objective.logp_NxK.dtype == np.float64
    np.testing.assert_array_equal(objective.logp_NxK, exact_NxK)
    np.testing.assert_array_equal(objective.weights_N, WEIGHTS_N)
    np.testing.assert_array_equal(build(K, None, convert(np.array([0.25, 1, 1, 1])))[0].cap_K, [0.25, 1, 1, 1])
    residuals = squared_error(convert(exact_NxK), convert(WEIGHTS_N)).residuals_NxKxD
    np.testing.assert_array_equal(residuals[..., 0], exact_NxK - WEIGHTS_N[:, None])


RAGGED = [[1.0, 2.0], [3.0]]
MASKED = np.ma.masked_less(LOGP_NxK, -1)


@pytest.mark.parametrize(
    "build_it, message",
    [
        (lambda: cross_entropy(Tensor(LOGP_NxK, dtype="complex64")), "real numbers: got complex"),
        (lambda: cross_entropy([[Tensor(1.0, requires_grad=True)]]), "requires grad"),
        (lambda: cross_entropy(RAGGED), "log-likelihoods must be an array of real numbers"),
        (lambda: cross_entropy(LOGP_NxK, RAGGED), "example_weights must be an array"),
        (lambda: squared_error(RAGGED, [1.0, 2.0]), "predictions must be an array"),
        (lambda: squared_error(LOGP_NxK, RAGGED), "targets must be an array"),
        (lambda: build(K, None, RAGGED), "upper_bounds must be an array"),
        (lambda: build(K, None, groups={(0, 1): RAGGED}), "groups must be an array"),
        (lambda: distribution(RAGGED, "reference", K, None), "reference must be an array"),
        (lambda: cross_entropy(MASKED), r"log-likelihoods must not be a masked array; fill it, as in values\.filled"),
        (lambda: stream_cross_entropy(MASKED), "log-likelihoods must not be a masked array"),
        (lambda: squared_error(LOGP_NxK, MASKED[:, 0]), "targets must not be a masked array"),
        (lambda: build(K, None, MASKED[0]), "upper_bounds must not be a masked array"),
    ],
)
def test_arrays_that_are_not_whole(build_it, message):
    with pytest.raises(InputError, match=message):
        build_it()
