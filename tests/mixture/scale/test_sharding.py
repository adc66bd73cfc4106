"""Rows over the devices of a mesh: the same answers, rows that stay where they are, and what is refused."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixmin_jax import InputError, cross_entropy, solve, squared_error
from mixmin_jax.mixture import solve as solve_module
from mixmin_jax.mixture.feasible import FeasibleSet
from mixmin_jax.mixture.scale import sharding
from mixmin_jax.mixture.scale.float64 import float64_on_cpu
from mixmin_jax.mixture.scale.memory import too_large
from mixmin_jax.mixture.targets import weighted_sum
from tests.mixture import problems
from tests.mixture.problems import CONSTRAINTS, K, N

PRIME = 47  # rows, which no number of devices divides


def mesh_of(count):
    return jax.sharding.Mesh(np.array(jax.devices()[:count]), ("any",))


def with_and_without_a_last_row(v_N):
    """An objective of N rows, the last of weight 0, and the same of one row less."""
    v_N, logp_NxK = v_N.copy(), problems.classifiers()
    v_N[-1] = 0
    return cross_entropy(logp_NxK, v_N), cross_entropy(logp_NxK[:PRIME], v_N[:PRIME])


QUICK = [("interior_point", "simplex", 2), ("interior_point", "bounds", 8), ("mirror_descent", "simplex", 8)]
METHODS = ["interior_point", "projected_gradient", "mirror_descent"]
GRID = itertools.product(METHODS, ["simplex", "bounds"], [1, 2, 8])


@pytest.mark.parametrize(
    "method, constraint, count",
    [*QUICK, *(pytest.param(*case, marks=pytest.mark.slow) for case in GRID if case not in QUICK)],
)
def test_the_same_answer_on_any_number_of_devices(method, constraint, count):
    whole, prime = with_and_without_a_last_row(problems.example_weights())
    options = {"method": method, "tolerance": 1e-9 if method == "interior_point" else 1e-6, **CONSTRAINTS[constraint]}
    expected, found = solve(whole, **options), solve(prime, mesh=mesh_of(count), **options)
    np.testing.assert_allclose(found.weights, expected.weights, atol=1e-9)
    np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-12)
    np.testing.assert_allclose(found.gap, expected.gap, rtol=1e-3, atol=1e-12)
    assert found.iterations == expected.iterations


def test_fewer_rows_than_devices_on_a_mesh_of_two_axes():
    logp_NxK = problems.classifiers()
    v_N = np.where(np.arange(N) < 5, 1 / 5, 0)
    found = solve(cross_entropy(logp_NxK[:5]), mesh=jax.make_mesh((2, 4), ("rows", "columns")))
    np.testing.assert_allclose(found.weights, solve(cross_entropy(logp_NxK, v_N)).weights, atol=1e-9)


def test_squared_error_is_summed_on_the_devices():
    yhat, y = problems.predictions()
    found = solve(squared_error(yhat, y), mesh=mesh_of(8))
    assert abs(found.loss - problems.reference("squared error", "simplex")) <= 1e-6
    whole, prime = squared_error(yhat, y), squared_error(yhat[:PRIME], y[:PRIME])
    with float64_on_cpu():
        for objective in (whole, prime):
            summed = objective.shard_rows(sharding.checked_mesh(mesh_of(8)), np.float64).prepare()
            np.testing.assert_allclose(summed.r_KxK, objective.prepare().r_KxK, rtol=1e-12)


@pytest.mark.parametrize("constant", [False, True])
def test_processes_pool_what_they_know_of_a_squared_error(constant):
    yhat, y = problems.predictions()
    y = np.full_like(y, 0.1) if constant else y  # without variance, the worst source's error is the scale
    parts = [squared_error(yhat[rows], y[rows]) for rows in (slice(29), slice(29, None))]
    said = []
    for part in parts:
        part.pooled(lambda mine: said.append(mine) or mine[None])
    pooled = [part.pooled(lambda mine: np.stack(said)) for part in parts]
    whole = squared_error(yhat, y)
    with float64_on_cpu():
        np.testing.assert_allclose(sum(p.prepare().r_KxK for p in pooled), whole.prepare().r_KxK, rtol=1e-13)
    np.testing.assert_allclose([p.variance for p in pooled], whole.variance, rtol=1e-13)


def test_rows_stay_on_their_devices():
    n = 4096
    objective, mesh = cross_entropy(problems.classifiers(n)).anonymous(), sharding.checked_mesh(mesh_of(8))
    with float64_on_cpu():
        placed = objective.shard_rows(mesh, np.float64)
        shards = placed.part.logp_NxK.addressable_shards
        assert [shard.data.shape for shard in shards] == [(n // 8, K)] * 8
        limits = np.float64(1e-9), np.int64(100)
        program = solve_module._run.lower(placed, FeasibleSet(K), None, *limits, "interior_point", 101).compile()
    text = program.as_text()
    assert "all-reduce" in text
    assert not re.search("all-gather|all-to-all|collective-permute", text)
    memory = program.memory_analysis()
    held = n * (K + 1) * 8 / 8  # bytes of rows and example weights on one device
    assert held <= memory.argument_size_in_bytes < 1.1 * held
    assert memory.temp_size_in_bytes < 4 * held  # where all rows came together it would be 8


def test_constants_inside_jit_and_under_the_callers_mesh():
    objective, mesh = with_and_without_a_last_row(problems.example_weights())[1], mesh_of(2)
    expected = solve(objective, mesh=mesh).loss
    np.testing.assert_allclose(jax.jit(lambda x: x * solve(objective, mesh=mesh).loss)(1.0), expected, rtol=1e-6)
    with jax.set_mesh(jax.make_mesh((4,), ("other",), devices=jax.devices()[:4])):
        assert solve(objective, mesh=mesh).loss == expected


def test_devices_without_float64_are_used_in_float32(monkeypatch):
    objective, mesh = with_and_without_a_last_row(problems.example_weights())[1], mesh_of(2)
    asked = solve(objective, mesh=mesh, precision="float32")
    assert 1e-11 < asked.gap / objective.weights_N.sum() <= 1e-6
    monkeypatch.setattr(sharding, "_WITH_FLOAT64", ())
    np.testing.assert_array_equal(solve(objective, mesh=mesh).weights, asked.weights)


class Elsewhere:
    """A device that JAX does not have."""

    platform, process_index, id = "tpu", 0, 0

    def __init__(self, platform="tpu"):
        self.platform = platform

    def __repr__(self):
        return "TpuDevice(id=0)"


@pytest.mark.parametrize(
    "mesh, message",
    [
        ([0, 1], r"mesh must be a jax.sharding.Mesh, as .*; got \[0, 1\]"),
        (jax.sharding.Mesh(np.array([Elsewhere()]), ("x",)), r"does not have here, the first is TpuDevice\(id=0\)"),
        (jax.sharding.Mesh(np.array([Elsewhere("cpu")]), ("x",)), r"build the mesh from jax.devices\(\), here 8 of"),
        (jax.sharding.Mesh(np.array([Elsewhere(), jax.devices()[0]]), ("x",)), "mixes devices of cpu and tpu"),
    ],
)
def test_meshes_that_cannot_be_used(mesh, message):
    with pytest.raises(InputError, match=message):
        solve(cross_entropy(problems.classifiers()), mesh=mesh)


def test_other_objectives_are_refused():
    class Other:
        def prepare(self):
            """Nothing to spread."""

    with pytest.raises(InputError, match="a Other cannot be spread over a mesh; leave mesh out"):
        solve(Other(), mesh=mesh_of(2))


def test_a_device_that_runs_out_of_memory_says_what_fits(monkeypatch):
    def full(*args):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 96 bytes.")

    monkeypatch.setattr(solve_module, "_run", full)
    message = r"cpu:0 ran out of memory.*: 6 rows of 6 numbers .*About 3 rows per device would fit: .*block_rows=3"
    with pytest.raises(InputError, match=message):
        solve(cross_entropy(problems.classifiers()), mesh=mesh_of(8))

    def broken(*args):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    monkeypatch.setattr(solve_module, "_run", broken)
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        solve(cross_entropy(problems.classifiers()), mesh=mesh_of(8))


def test_what_fits_follows_from_what_the_device_has():
    class Small:
        platform, id = "gpu", 3

        def memory_stats(self):
            return {"bytes_limit": 3_000_000}

    error = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
    text = str(too_large(error, rows=10**6, num_sources=10, itemsize=8, device=Small()))
    assert text.startswith("gpu:3 ran out of memory, of 2.86 MiB in all: 1000000 rows of 10 numbers take 76.3 MiB")
    assert "About 15000 rows per device" in text and "block_rows=15000" in text and "precision='float32'" in text
    assert "precision" not in str(too_large(MemoryError(), 100, 10, itemsize=4))
    assert too_large(ValueError("another matter"), 100, 10, 8) is None


def test_a_real_allocation_that_fails_is_recognised():
    with pytest.raises(jax.errors.JaxRuntimeError) as caught:
        jnp.zeros(1 << 46, jnp.int8).block_until_ready()
    assert too_large(caught.value, 1 << 40, 64, 1) is not None


@pytest.mark.slow
def test_a_weighted_sum_of_targets_of_different_length():
    parts = [cross_entropy(problems.classifiers()), cross_entropy(problems.scales()[:37])]
    objective, mesh = weighted_sum(parts, [0.3, 0.7]), mesh_of(8)
    expected = solve(objective)
    np.testing.assert_allclose(solve(objective, mesh=mesh).weights, expected.weights, atol=1e-9)
    rough = solve(objective, mesh=mesh, precision="float32")
    assert expected.loss - expected.gap <= rough.loss <= expected.loss + rough.gap
