"""Resampling, intervals that cover, and a verdict that says yes without cause no more often than stated."""

import jax
import numpy as np
import pytest

from mixmin_jax import InputError, NotConverged, bootstrap, cross_entropy, solve, squared_error
from mixmin_jax.mixture import evaluator
from mixmin_jax.mixture.evaluator import Quadratic
from mixmin_jax.mixture.feasible import FeasibleSet
from mixmin_jax.mixture.inference.bootstrap import Comparison, compare, multiplicities, resample
from mixmin_jax.mixture.targets import weighted_sum
from tests.mixture import problems
from tests.mixture.problems import PRIOR, K, N

SAMPLES = 20
UNIFORM = np.full(K, 1 / K)
KEY = jax.random.key(0)
OBJECTIVE = cross_entropy(problems.classifiers())
DOCUMENTS = [f"document {n // 4}" for n in range(N)]
CAPS = {
    "upper_bounds": 0.4,
    "group_caps": {(0, 2): 0.3, (1, 4, 5): 0.65},
    "prior": PRIOR,
    "prior_strength": 0.05,
    "tolerance": 1e-12,
}

SOLVE_CAPS = {"groups" if name == "group_caps" else name: value for name, value in CAPS.items()}


@pytest.fixture(scope="module", params=[False, True], ids=["NumPy", "compiled"])
def compiled(request):
    return request.param


@pytest.fixture(scope="module")
def found(compiled):
    return bootstrap(OBJECTIVE, SAMPLES, KEY, reference=UNIFORM, compiled=compiled)


def drawn(sample, num_clusters):
    return np.asarray(multiplicities(KEY, sample, num_clusters))


def test_a_resample_has_as_many_clusters_as_the_data():
    for sample in range(3):
        drawn_G = drawn(sample, 12)
        assert drawn_G.sum() == 12 and (drawn_G == np.round(drawn_G)).all()
    assert (drawn(0, 12) != drawn(1, 12)).any()


def test_weights_are_those_of_the_resampled_rows(found):
    assert found.converged.all() and found.gaps.max() <= 1e-9 * 1.5 and "all 20 resamples converged" in found.status
    np.testing.assert_allclose(found.solution.weights, solve(OBJECTIVE).weights, atol=1e-12)
    for sample in (0, 1, 7, SAMPLES - 1):
        again = cross_entropy(problems.classifiers(), drawn(sample, N) / N)
        np.testing.assert_allclose(found.weights[sample], solve(again).weights, atol=1e-7)


@pytest.mark.slow
def test_rows_in_several_blocks_get_their_own_weights(monkeypatch):
    monkeypatch.setattr(evaluator, "_SMALL", 0)
    logp_NxK = problems.classifiers(1500, K)  # the second block repeats rows of the first
    jax.clear_caches()
    found = bootstrap(cross_entropy(logp_NxK), 2, KEY, compiled=True)
    for sample in range(2):
        again = cross_entropy(logp_NxK, drawn(sample, 1500) / 1500)
        np.testing.assert_allclose(found.weights[sample], solve(again).weights, atol=1e-7)


def test_summaries_are_those_of_the_resamples(found):
    np.testing.assert_allclose(found.mean, found.weights.mean(axis=0))
    np.testing.assert_allclose(found.standard_deviation, found.weights.std(axis=0, ddof=1))
    np.testing.assert_allclose([found.lower, found.upper], np.percentile(found.weights, [2.5, 97.5], axis=0))
    assert (found.lower <= found.upper).all() and found.num_clusters == N and found.level == 0.95


def test_the_gain_is_measured_on_rows_left_out(found):
    p_NxK = np.exp(problems.classifiers())
    gain_N = np.zeros(N)
    for n in range(N):
        left_out = [s for s in range(SAMPLES) if drawn(s, N)[n] == 0]
        gain_N[n] = (np.log(p_NxK[n] @ found.weights[left_out].mean(axis=0)) - np.log(p_NxK[n] @ UNIFORM)) / N
    np.testing.assert_allclose(found.comparison.gain, gain_N.sum(), rtol=1e-6)
    np.testing.assert_allclose(found.comparison.standard_error, np.sqrt(N) * gain_N.std(ddof=1), rtol=1e-6)
    in_sample = np.log(p_NxK @ found.solution.weights).mean() - np.log(p_NxK @ UNIFORM).mean()
    assert found.comparison.gain < in_sample


def test_same_key_same_result_and_another_key_another(found, compiled):
    options = {"groups": np.arange(N) + 7, "compiled": compiled}  # groups of one row are no groups
    again = bootstrap(OBJECTIVE, SAMPLES, jax.random.PRNGKey(0), reference=dict(enumerate(UNIFORM)), **options)
    np.testing.assert_array_equal(again.weights, found.weights)
    assert again.comparison.gain == found.comparison.gain
    other = bootstrap(OBJECTIVE, SAMPLES, jax.random.key(1), reference=UNIFORM)
    assert np.abs(other.weights - found.weights).max() > 0.01


def test_permuting_sources_permutes_results(found):
    order = np.array([3, 0, 5, 1, 4, 2])
    permuted = bootstrap(cross_entropy(problems.classifiers()[:, order]), SAMPLES, KEY, reference=UNIFORM)
    np.testing.assert_allclose(permuted.weights, found.weights[:, order], atol=1e-7)
    np.testing.assert_allclose(permuted.upper, found.upper[order], atol=1e-7)
    np.testing.assert_allclose(permuted.comparison.gain, found.comparison.gain, atol=1e-8)


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_rows_of_a_document_are_drawn_together_under_all_constraints(compiled):
    result = bootstrap(OBJECTIVE, SAMPLES, KEY, groups=DOCUMENTS, compiled=compiled, **CAPS)
    assert result.num_clusters == N // 4 and result.comparison is None
    _, cluster_N = np.unique(DOCUMENTS, return_inverse=True)
    for sample in (0, 5):
        again = cross_entropy(problems.classifiers(), drawn(sample, N // 4)[cluster_N] / N)
        np.testing.assert_allclose(result.weights[sample], solve(again, **SOLVE_CAPS).weights, atol=1e-7)
        problems.assert_feasible(result.weights[sample], {**SOLVE_CAPS, "upper_bounds": np.full(K, 0.4)}, 1e-9)


def test_rows_of_weight_zero_are_not_drawn():
    counts_N = ~np.isin(np.arange(N), [0, 5])
    logp_NxK = np.where(counts_N[:, None], problems.classifiers(), np.nan)
    labels = ["counts not", *DOCUMENTS[1:]]  # row 0 has a document for itself
    result = bootstrap(cross_entropy(logp_NxK, counts_N / N), SAMPLES, KEY, groups=labels, **CAPS)
    assert result.num_clusters == N // 4
    _, cluster_N = np.unique(DOCUMENTS, return_inverse=True)
    again = cross_entropy(logp_NxK, counts_N * drawn(2, N // 4)[cluster_N] / N)
    np.testing.assert_allclose(result.weights[2], solve(again, **SOLVE_CAPS).weights, atol=1e-7)


@pytest.mark.slow
def test_all_resamples_compile_once(traces_of):
    traces = traces_of(Quadratic, "curvature")
    yhat, y = problems.predictions()
    options = {"num_samples": SAMPLES, "reference": UNIFORM, "compiled": True}
    compiled = bootstrap(squared_error(yhat, y, list("abcdef")), key=KEY, **options)
    first = len(traces)
    bootstrap(squared_error(2 * yhat, y, list("uvwxyz")), key=jax.random.key(1), tolerance=1e-8, **options)
    assert 0 < first < 15 and len(traces) == first
    at_once = bootstrap(squared_error(yhat, y, list("abcdef")), key=KEY, **options | {"compiled": False})
    np.testing.assert_allclose(at_once.weights, compiled.weights, atol=1e-6)


def test_squared_error_resamples_rows_too():
    yhat, y = problems.predictions()
    result = bootstrap(squared_error(yhat, y), SAMPLES, KEY, reference=UNIFORM)
    rows = np.repeat(np.arange(N), drawn(3, N).astype(int))
    np.testing.assert_allclose(result.weights[3], solve(squared_error(yhat[rows], y[rows])).weights, atol=1e-6)
    assert result.comparison.standard_error > 0 and np.isfinite(result.comparison.gain)


def test_a_reference_that_excludes_a_row_is_told_apart_for_certain():
    result = bootstrap(cross_entropy(problems.zero_cells()), SAMPLES, KEY, reference={1: 0.5, 2: 0.5})
    assert result.comparison.gain == np.inf and result.comparison.distinguishable
    assert "no density" in result.comparison.status


def test_rows_that_only_their_own_fit_explains_give_no_yes():
    logp_NxK = problems.classifiers().copy()
    logp_NxK[5, 1:] = -np.inf
    logp_NxK[:, 0] = np.where(np.arange(N) == 5, 0.0, -1000.0)  # source 0 explains row 5, which no other does
    result = bootstrap(cross_entropy(logp_NxK), SAMPLES, KEY, reference=UNIFORM)
    assert result.comparison.gain == -np.inf and not result.comparison.distinguishable


def test_hundreds_of_nats_leave_rows_left_out_a_density():
    result = bootstrap(cross_entropy(problems.text()), SAMPLES, KEY, reference=UNIFORM)
    assert result.converged.all() and np.isfinite(result.comparison.gain)


def test_resamples_that_fail_are_counted():
    objective = cross_entropy(problems.scales())
    options = {"reference": UNIFORM, "max_iterations": solve(objective).iterations}
    with pytest.raises(NotConverged, match=r"\d+ of 20 resamples did not converge") as caught:
        bootstrap(objective, SAMPLES, KEY, **options)
    assert caught.value.solution.converged
    quiet = bootstrap(objective, SAMPLES, KEY, **options, throw=False)
    assert (~quiet.converged).sum() > 0 and f"{(~quiet.converged).sum()} of 20" in quiet.status


@pytest.mark.parametrize(
    "options, message",
    [
        ({"num_samples": 1}, "num_samples must be"),
        ({"num_samples": 2.5}, "num_samples must be"),
        ({"key": 0}, "key must be one JAX random key"),
        ({"key": np.zeros(2)}, "key must be one JAX random key"),
        ({"key": np.zeros(3, np.uint32)}, "key must be one JAX random key"),
        ({"key": jax.random.split(KEY)}, "choose one"),
        ({"level": 1.0}, "level must be"),
        ({"groups": {("a", "b"): 0.5}}, "group_caps"),
        ({"groups": np.zeros(N)}, "groups gives each row a label"),
        ({"groups": [1, 2]}, r"got the shape \(2,\) for 48 rows"),
        ({"groups": ["all"] * N}, "only one group"),
        ({"reference": [0.5, 0.5]}, "reference has the shape"),
        ({"reference": {"web": 1.0}}, "names the source 'web', but the objective was built without"),
        ({"reference": {0: 0.5}}, "must sum to 1, but sums to 0.5"),
        ({"objective": cross_entropy(problems.classifiers(1, K))}, "only one row"),
        ({"objective": cross_entropy(problems.classifiers(N, 1))}, "at least two sources"),
        ({"objective": weighted_sum([OBJECTIVE, OBJECTIVE])}, "got WeightedSum"),
    ],
)
def test_bad_input(options, message):
    options = {"objective": OBJECTIVE, "num_samples": SAMPLES, "key": KEY, **options}
    with pytest.raises(InputError, match=message):
        bootstrap(options.pop("objective"), options.pop("num_samples"), options.pop("key"), **options)


def test_keys_and_labels_of_tracers_are_refused():
    with pytest.raises(InputError, match="outside jit"):
        jax.jit(lambda key: bootstrap(OBJECTIVE, SAMPLES, key).mean)(KEY)


# The verdict, by simulation. A mixture of normals generates the data, alone or in documents that share a source.


def simulated(truth_K, reference_K, documents, rows, spacing, repeats, samples, level=0.95):
    """For each of `repeats` data sets: the verdict, and the resamples' weights (R, S, K)."""
    rng = np.random.default_rng(1)
    k = len(truth_K)
    source_RxG = rng.choice(k, size=(repeats, documents), p=truth_K)
    x_RxN = spacing * np.repeat(source_RxG, rows, axis=1) + rng.normal(size=(repeats, documents * rows))
    logp_RxNxK = -0.5 * (x_RxN[..., None] - spacing * np.arange(k)) ** 2
    reference_RxN = np.stack([-np.log(np.exp(logp) @ reference_K) for logp in logp_RxNxK])
    keys_R = jax.random.split(KEY, repeats)
    cluster_N = np.repeat(np.arange(documents, dtype=np.int32), rows)
    with jax.enable_x64(True):
        results = jax.device_get(_simulate(logp_RxNxK, reference_RxN, keys_R, cluster_N, documents, samples))
    assert results.converged_S.all()
    verdicts = [compare(reference_K, gain_G, 1.0, level, True) for gain_G in results.gain_G]
    return np.array([verdict.distinguishable for verdict in verdicts]), results.weights_SxK


def _simulate_all(logp_RxNxK, reference_RxN, keys_R, cluster_N, documents, samples):
    def one(data):
        logp_NxK, reference_N, key = data
        objective, feasible = cross_entropy(logp_NxK).anonymous(), FeasibleSet(logp_NxK.shape[1])
        return resample(objective, feasible, None, cluster_N, key, reference_N, 1e-7, 60, documents, samples)

    return jax.lax.map(one, (logp_RxNxK, reference_RxN, keys_R))


_simulate = jax.jit(_simulate_all, static_argnums=(4, 5))


def most_yes(repeats, rate):
    """The number that so many verdicts, yes at this rate, exceed once in a thousand times."""
    return int(np.ceil(repeats * rate + 3.1 * np.sqrt(repeats * rate * (1 - rate))))


RARE = np.array([0.98, 0.01, 0.01, 0.0])
EVEN = np.full(4, 0.25)


@pytest.mark.parametrize("truth_K", [EVEN, RARE], ids=["even", "rare sources"])
def test_the_truth_is_seldom_told_from_itself(truth_K):
    yes_R, _ = simulated(truth_K, truth_K, 60, 1, 4.0, repeats=200, samples=50)
    assert yes_R.sum() <= most_yes(200, 0.05)


def test_another_mixture_is_told_apart_and_intervals_cover():
    truth_K = np.array([0.6, 0.1, 0.1, 0.2])
    yes_R, weights_RxSxK = simulated(truth_K, EVEN, 60, 1, 4.0, repeats=200, samples=50)
    assert yes_R.mean() > 0.6
    lower_RxK, upper_RxK = np.quantile(weights_RxSxK, [0.025, 0.975], axis=1)
    covered_K = ((lower_RxK <= truth_K) & (truth_K <= upper_RxK)).mean(axis=0)
    assert (covered_K > 0.85).all() and (covered_K < 0.995).all()  # 95 % but for 60 rows and 50 resamples


@pytest.mark.slow
@pytest.mark.parametrize("level", [0.8, 0.95])
@pytest.mark.parametrize(
    "truth_K, documents, rows, spacing",
    [
        (np.full(3, 1 / 3), 100, 1, 2.0),
        (np.array([0.9, 0.1, 0.0]), 100, 1, 2.0),
        (np.array([0.96, 0.02, 0.02]), 50, 1, 6.0),
        (np.array([0.92, 0.04, 0.04]), 50, 1, 6.0),
        (np.array([0.98, 0.01, 0.01]), 400, 1, 3.0),
        (np.r_[0.91, np.full(9, 0.01)], 60, 1, 3.0),
        (np.full(3, 1 / 3), 15, 10, 3.0),
        (np.array([0.92, 0.04, 0.04]), 20, 10, 6.0),
    ],
)
def test_the_truth_is_seldom_told_from_itself_at_length(truth_K, documents, rows, spacing, level):
    yes_R, _ = simulated(truth_K, truth_K, documents, rows, spacing, repeats=600, samples=50, level=level)
    assert yes_R.sum() <= most_yes(600, 1 - level)


def test_a_sure_gain_of_few_nats_is_no_evidence():
    """Rare sources that chance left out of the data: every document gains the same little, up to the next of theirs."""
    gain_G = np.full(50, np.log(1 / 0.96) / 50) + 1e-9 * np.arange(50)
    assert not compare(UNIFORM, gain_G, 1.0, 0.95, nats=True).distinguishable
    assert compare(UNIFORM, 2 * gain_G, 1.0, 0.95, nats=True).distinguishable
    assert compare(UNIFORM, gain_G, 1.0, 0.95, nats=False).distinguishable


def test_too_few_clusters_left_out():
    verdict = compare(UNIFORM, np.array([0.1, np.nan, np.nan]), 1.0, 0.95, True)
    assert isinstance(verdict, Comparison) and not verdict.distinguishable and "raise num_samples" in verdict.status
