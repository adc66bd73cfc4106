"""Streamed objectives: the answer of the same rows in memory, however they come, and what goes wrong on the way."""

import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixmin_jax import (
    InputError,
    NotConverged,
    cross_entropy,
    solve,
    solve_traced,
    squared_error,
    stream_cross_entropy,
    stream_squared_error,
)
from mixmin_jax.mixture.evaluator import Likelihoods
from mixmin_jax.mixture.scale import streaming
from tests.mixture import problems
from tests.mixture.problems import CONSTRAINTS, K, N

V = problems.example_weights()


@pytest.mark.parametrize("constraint", ["simplex", pytest.param("bounds", marks=pytest.mark.slow), "all"])
def test_same_solution_as_in_memory(constraint):
    options = CONSTRAINTS[constraint]
    for name, logp_NxK in problems.CROSS_ENTROPIES.items():
        streamed = solve(stream_cross_entropy(logp_NxK, V, block_rows=20), tolerance=1e-11, **options)
        held = solve(cross_entropy(logp_NxK, V), tolerance=1e-11, **options)
        assert streamed.converged and streamed.gap <= 1e-11
        problems.assert_feasible(streamed.weights, options)
        np.testing.assert_allclose(streamed.loss, held.loss, rtol=1e-12, atol=2e-11)
        np.testing.assert_allclose(streamed.penalty, held.penalty, atol=1e-10)
        if name != "near-duplicates":  # weights that are as good as any
            np.testing.assert_allclose(streamed.weights, held.weights, atol=1e-7 if constraint == "simplex" else 1e-9)
        assert streamed.weights.sum() == 1 and (streamed.weights[streamed.weights < 1e-9] == 0).all()
        assert streamed.gap_history.shape == (streamed.iterations + 1,) and streamed.gap in streamed.gap_history


ROWS = problems.classifiers(3000)
SINGLE = ROWS.astype(np.float32)
WEIGHTS = np.random.default_rng(1).random(3000) / 3000


def saved(tmp_path, array, name):
    np.save(tmp_path / name, array)
    return tmp_path / name


def cut(*arrays):
    """Blocks of irregular sizes, in pairs where there are two arrays."""
    cuts = np.array([1, 700, 700, 1900, 2950])
    blocks = [np.split(array, cuts) for array in arrays]
    return blocks[0] if len(blocks) == 1 else list(zip(*blocks, strict=True))


def test_however_the_rows_come(tmp_path):
    held = [solve(cross_entropy(SINGLE, v), tolerance=1e-12) for v in (None, WEIGHTS)]
    path, weights_path = saved(tmp_path, SINGLE, "rows.npy"), saved(tmp_path, WEIGHTS, "weights.npy")
    fortran = saved(tmp_path, np.asfortranarray(SINGLE), "fortran.npy")
    ways = [
        (path, None),
        (fortran, None),
        (lambda: iter(cut(SINGLE)), None),
        (jnp.asarray(SINGLE), None),
        (path, WEIGHTS),
        (np.load(path, mmap_mode="r"), weights_path),
        (cut(SINGLE), weights_path),
        (cut(SINGLE, WEIGHTS), None),
    ]
    for blocks, weights in ways:
        objective = stream_cross_entropy(blocks, weights, sources=list("abcdef"), block_rows=1100)
        found = solve(objective, tolerance=1e-12)
        weighted = weights is not None or isinstance(blocks, list)
        np.testing.assert_allclose(found.weights, held[weighted].weights, atol=1e-8)
        np.testing.assert_allclose(found.loss, held[weighted].loss, rtol=1e-12)
        assert found.sources == tuple("abcdef")


def test_cores_share_a_block(monkeypatch):
    alone = solve(stream_cross_entropy(ROWS, WEIGHTS, block_rows=2100))
    monkeypatch.setattr(streaming, "_SHARE", 700)
    monkeypatch.setattr(streaming.os, "sched_getaffinity", lambda process: {0, 1, 2}, raising=False)
    shared = solve(stream_cross_entropy(ROWS, WEIGHTS, block_rows=2100))
    np.testing.assert_allclose(shared.weights, alone.weights, atol=1e-13)
    np.testing.assert_allclose(shared.gap_history[:-1], alone.gap_history[:-1], rtol=1e-6)


@pytest.mark.parametrize("block_rows", [None, 7, 60])
def test_blocks_of_any_size(block_rows):
    found = solve(stream_cross_entropy(ROWS[:60], block_rows=block_rows))
    np.testing.assert_allclose(found.loss, solve(stream_cross_entropy(ROWS[:60], block_rows=20)).loss, rtol=1e-13)


def test_rows_of_weight_zero_may_hold_anything():
    logp_NxK, v_N = ROWS[:60].copy(), WEIGHTS[:60].copy()
    logp_NxK[[5, 30, 59]], v_N[[5, 30, 59]] = np.array([[np.nan], [np.inf], [-np.inf]]), 0
    kept = np.delete(np.arange(60), [5, 30, 59])
    found = solve(stream_cross_entropy(logp_NxK, v_N, block_rows=20))
    expected = solve(stream_cross_entropy(ROWS[kept], WEIGHTS[kept], block_rows=20))
    np.testing.assert_allclose(found.weights, expected.weights, atol=1e-12)
    assert np.isnan(logp_NxK[5]).all()  # what was given is left alone


@pytest.mark.slow
def test_sources_without_weight_are_left_out():
    logp_NxK = problems.text() + np.where(np.arange(K) == 0, 5000.0, 0.0)  # only source 0 is above underflow ...
    found = solve(stream_cross_entropy(logp_NxK, block_rows=20), upper_bounds={0: 0.0})  # ... and may not be used
    expected = solve(stream_cross_entropy(logp_NxK[:, 1:], block_rows=20))
    np.testing.assert_allclose(found.weights, np.append(0, expected.weights), atol=1e-12)
    np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-14)


def test_a_row_that_only_excluded_sources_can_produce_is_named():
    logp_NxK = problems.classifiers().copy()
    logp_NxK[27, 1:] = -np.inf
    objective = stream_cross_entropy(logp_NxK, sources=list("abcdef"), block_rows=20)
    with pytest.raises(InputError, match=r"leave no weight for a, .* block 1 \(rows 20 to 39\): .* row 7 \(row 27 of"):
        solve(objective, upper_bounds={"a": 0.0})


def test_no_iterations_and_too_few():
    objective = stream_cross_entropy(ROWS, block_rows=1100)
    start = solve(objective, max_iterations=0, throw=False)
    assert not start.converged and start.iterations == 0 and start.gap_history.shape == (1,)
    np.testing.assert_allclose(start.weights, np.full(K, 1 / K))
    np.testing.assert_allclose(start.loss, problems.penalised(ROWS, np.full(3000, 1 / 3000), start.weights, {}))
    with pytest.raises(NotConverged, match="after 2 iterations"):
        solve(objective, max_iterations=2)


def test_sums_keep_what_rounding_takes():
    n = 40 * 1024
    shift_N = np.ones(n)
    shift_N[0], shift_N[-1] = 1e20, -1e20  # in buffers of their own, these and what stands beside them cancel
    objective = stream_cross_entropy(np.repeat(shift_N[:, None], 2, axis=1), block_rows=4096)
    loss = solve(objective, max_iterations=0, throw=False).loss
    np.testing.assert_allclose(loss, -1, atol=3 / 10)


def test_compiled_once(traces_of, monkeypatch):
    traces = traces_of(Likelihoods, "curvature")
    monkeypatch.setattr(streaming, "_SHARE", 100)
    monkeypatch.setattr(streaming.os, "sched_getaffinity", lambda process: {0, 1}, raising=False)
    logp_NxK = problems.classifiers(1000, 5)
    for sizes in ([300, 777], [10, 20, 900]):  # blocks of any size, the last one short
        solve(stream_cross_entropy(np.split(logp_NxK, sizes), block_rows=333))
    assert 0 < len(traces) <= 2  # once as such, and once as the body of a loop


@pytest.mark.slow
def test_memory_stays_bounded(tmp_path):
    def peak(rows):
        objective = stream_cross_entropy(
            saved(tmp_path, np.tile(SINGLE, (rows // 3000, 1)), "rows.npy"), block_rows=1100
        )
        solve(objective, max_iterations=0, throw=False)
        tracemalloc.start()
        solve(objective, max_iterations=0, throw=False)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    few, many = peak(30_000), peak(300_000)  # 7 MB, of which two blocks are 0.1
    assert many < few + 0.2e6


def bad(row, value, column=slice(None)):
    logp_NxK = ROWS[:60].copy()
    logp_NxK[row, column] = value
    return logp_NxK


@pytest.mark.parametrize(
    "objective, message",
    [
        (lambda: (bad(27, np.nan, 2),), r"block 1 \(rows 20 to 39\): .* NaN in row 7 \(row 27 of all\) \(source c\)"),
        (lambda: (bad([41, 45], np.inf, 1),), r"block 2 \(rows 40 to 59\): .* \+inf in rows 1 \(row 41 of all\)"),
        (lambda: (bad(20, -np.inf),), r"block 1 .* -inf under every source in row 0 \(row 20 of all\)"),
        (
            lambda: (np.split(bad(27, np.nan, 2), [10, 25]),),
            r"block 2 \(rows 25 to 59\): log-likelihoods have NaN in row 2 \(row 27 of all\) \(source c\)",
        ),
        (lambda: (np.split(bad(50, np.nan, 2), [10]),), r"block 1 \(rows 10 to 59\): .* NaN in row 40 \(row 50 of"),
        (
            lambda: ([(ROWS[:30], np.ones(30)), (ROWS[:9], np.full(9, -2.0))],),
            r"block 1 \(rows 30 to 38\): example_weights .* rows 0, 1, .* \(the first is -2.0\)",
        ),
        (lambda: (ROWS[:30], np.where(np.arange(30) == 25, np.nan, 1)), "block 1 .*: example_weights .* row 5 is not"),
        (lambda: (ROWS[:30], np.zeros(30)), "example_weights are all 0"),
        (lambda: ([ROWS[:20], ROWS[:20, :5]],), r"block 1 has the shape \(20, 5\)"),
        (lambda: ([ROWS[:0]],), "there are no rows"),
    ],
)
def test_bad_rows_are_named_with_their_block(objective, message):
    blocks, *weights = objective()
    objective = stream_cross_entropy(blocks, *weights, sources=list("abcdef"), block_rows=20)
    with pytest.raises(InputError, match=message):
        solve(objective)


@pytest.mark.parametrize(
    "passes",
    [
        [ROWS[:60], ROWS[:60], ROWS[:60], ROWS[:40]],
        [ROWS[:60], ROWS[:60], ROWS[:60], ROWS[:80]],
        [-np.eye(6), -np.eye(6)[[0, 0, 1, 2, 3, 4, 5]], -np.eye(6)],  # rows alike but for their number
        [ROWS[:60], ROWS[:60], ROWS[60:120]],
    ],
)
def test_passes_that_differ_are_refused(passes):
    given = iter(passes)
    with pytest.raises(InputError, match="a later pass gave other rows"):
        solve(stream_cross_entropy(lambda: [next(given)], block_rows=20))


def test_a_reversed_sign_is_refused_whatever_block_holds_it():
    rows, names = abs(ROWS) + 1, list("abcdef")
    with pytest.raises(InputError, match="wrong sign: all values are 0 or above"):
        solve(stream_cross_entropy(rows, block_rows=1000))
    below = np.where(np.arange(len(ROWS))[:, None] < 2000, -rows, rows)  # signs differ inside each column: densities
    assert solve(stream_cross_entropy(below, block_rows=1000), max_iterations=0, throw=False).iterations == 0
    below[:, 4] = rows[:, 4]
    with pytest.raises(InputError, match="the values of e are all 0 or above"):
        solve(stream_cross_entropy(below, sources=names, block_rows=1000))
    assert solve(stream_cross_entropy(rows, block_rows=1000, densities=True), max_iterations=0, throw=False).gap > 0


def test_an_order_of_its_own_in_every_pass_is_fine():
    rng = np.random.default_rng(0)
    blocks = np.split(ROWS[:60], 4)
    found = solve(stream_cross_entropy(lambda: [blocks[i] for i in rng.permutation(4)], block_rows=20))
    np.testing.assert_allclose(found.loss, solve(stream_cross_entropy(ROWS[:60], block_rows=20)).loss, rtol=1e-12)


@pytest.mark.parametrize(
    "args, options, message",
    [
        ((ROWS[0],), {}, r"shape \(examples, sources\).* got \(6,\)"),
        ((ROWS[:0],), {}, "all at least 1"),
        (([np.zeros((4, 3, 2))],), {}, r"got \('n', 3, 2\)"),
        ((ROWS,), {"sources": ["a"]}, "1 source names"),
        ((ROWS, np.ones(7)), {}, r"example_weights has the shape \(7,\); it must have the shape \(3000,\)"),
        ((ROWS, ROWS), {}, r"example_weights has the shape \(3000, 6\)"),
        ((cut(ROWS, WEIGHTS), WEIGHTS), {}, "example_weights are given twice"),
        ((cut(ROWS, ROWS),), {}, r"block 0 has the shape \(1, 6\) and \(1, 6\), where \(1, 6\) and \(1,\)"),
        ((ROWS,), {"block_rows": 0}, "block_rows must be"),
        ((ROWS,), {"block_rows": 1.5}, "block_rows must be"),
        (("nowhere.npy",), {}, "nowhere.npy is not a file"),
    ],
)
def test_what_cannot_be_streamed(args, options, message):
    with pytest.raises(InputError, match=message):
        stream_cross_entropy(*args, **options)


def test_what_streamed_rows_are_not_good_for():
    objective = stream_cross_entropy(ROWS)
    for method in ("projected_gradient", "mirror_descent"):
        with pytest.raises(InputError, match="would read streamed rows thousands of times"):
            solve(objective, method=method)
    with pytest.raises(InputError, match="solve_traced takes an objective held in memory"):
        solve_traced(objective)
    with pytest.raises(InputError, match="cannot be traced"):
        jax.jit(lambda x: solve(stream_cross_entropy(x)).loss)(ROWS)


@pytest.mark.parametrize(
    "error, raised, message",
    [
        (
            jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes.\nmore"),
            InputError,
            r"out of memory.*: 750 rows of 6 numbers .*block_rows=375\)",
        ),
        (MemoryError(), InputError, r"out of memory.*: 750 rows of 6 numbers .*block_rows=375\)"),
        (jax.errors.JaxRuntimeError("INTERNAL: on fire"), jax.errors.JaxRuntimeError, "on fire"),
    ],
)
def test_errors_of_the_device(monkeypatch, error, raised, message):
    original = streaming._log_terms

    def limited(values, *args, **options):
        if len(values) > 100:
            raise error
        return original(values, *args, **options)

    monkeypatch.setattr(streaming, "_log_terms", limited)
    with pytest.raises(raised, match=message):
        solve(stream_cross_entropy(ROWS, block_rows=750))


# Squared error.


def test_squared_error_is_that_in_memory(tmp_path):
    yhat, y = problems.predictions()
    held = squared_error(yhat, y, list("abcdef"))
    ways = [
        (saved(tmp_path, yhat, "yhat.npy"), saved(tmp_path, y, "y.npy")),
        (np.asfortranarray(yhat), y),
        (list(zip(np.split(yhat, [1, 20]), np.split(y, [1, 20]), strict=True)), None),
        (lambda: np.split(yhat, 3), y),
    ]
    for blocks, targets in ways:
        streamed = stream_squared_error(blocks, targets, list("abcdef"), block_rows=20)
        np.testing.assert_allclose(streamed.variance, held.variance, rtol=1e-13)
        found, expected = solve(streamed), solve(held)
        np.testing.assert_allclose(found.weights, expected.weights, atol=1e-9)
        np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-12)
    taken, alike = streamed.take(np.array([4, 0])), squared_error(yhat[:, [4, 0]], y, list("ea"))
    assert taken.sources == alike.sources and taken.rounded(np.float32).r_KxK.dtype == np.float32
    np.testing.assert_allclose(taken.r_KxK, alike.prepare().r_KxK, rtol=1e-6)


def test_squared_error_of_one_output_and_constant_targets():
    yhat, y = problems.predictions()
    flat = yhat[:, :, 0]
    for targets in (y[:, 0], 1e6 + y[:, 0], np.full(N, 0.1), np.r_[1e5, y[1:, 0]]):
        streamed, held = stream_squared_error(flat, targets, block_rows=7), squared_error(flat, targets)
        np.testing.assert_allclose(streamed.variance, held.variance, rtol=1e-12)
        np.testing.assert_allclose(streamed.r_KxK, held.prepare().r_KxK, rtol=1e-5)  # that in float32
    assert stream_squared_error(np.zeros((5, 2)), np.zeros(5)).variance == 1


@pytest.mark.parametrize(
    "args, message",
    [
        ((bad(27, np.nan, 2), ROWS[:60, 0]), r"block 1 \(rows 20 to 39\): predictions must be finite; row 7 is not"),
        ((ROWS[:60], bad([41, 42], np.inf)[:, 0]), r"block 2 .*: targets must be finite; rows 1, 2 are not"),
        ((ROWS[:60], None), "targets are missing"),
        ((ROWS[:60], ROWS[:50, 0]), r"targets has the shape \(50,\); it must have the shape \(60,\)"),
        ((ROWS[:60], ROWS[:60]), r"targets has the shape \(60, 6\); it must have the shape \(60,\)"),
        ((np.full((5, 2), 1e200), np.zeros(5)), "their squares overflow"),
        (([(ROWS[:0], ROWS[:0, 0])], None), "there are no rows"),
        ((ROWS[0], ROWS[0]), r"shape \(examples, sources"),
    ],
)
def test_bad_predictions(args, message):
    with pytest.raises(InputError, match=message):
        stream_squared_error(*args, block_rows=20)


@pytest.mark.parametrize("k", [6, 8, 40])
def test_nan_is_found_in_long_rows(k):
    for column in (0, k // 2, k - 1):  # the maximum of a long row may lose it
        logp_NxK = np.random.default_rng(0).normal(size=(60, k))
        logp_NxK[27, column] = np.nan
        with pytest.raises(InputError, match=rf"NaN in row 27 .*\(source {column}\)"):
            solve(stream_cross_entropy(logp_NxK))
