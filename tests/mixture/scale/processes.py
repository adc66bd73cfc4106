"""One of the processes of `test_processes.py`: python -m tests.mixture.scale.processes ADDRESS RANK FOLDER."""

import json
import sys
from pathlib import Path

import jax
import numpy as np

NUM_PROCESSES = 2
ROWS = (29, 19)  # of the 48 of the bank; on two devices each


def solve_all(rank):
    """What this process finds, as JSON: weights, losses, gaps, and the errors that it saw."""
    from mixmin_jax import InputError, cross_entropy, solve
    from mixmin_jax.mixture.scale.sharding import on_every_process
    from tests.mixture import problems

    mesh = jax.make_mesh((4,), ("anything",))
    mine = slice(0, ROWS[0]) if rank == 0 else slice(ROWS[0], None)
    logp_NxK, v_N = problems.classifiers(), problems.example_weights()
    even, weighted = cross_entropy(logp_NxK[mine]), cross_entropy(logp_NxK[mine], v_N[mine])
    found = {}
    for name, objective in (("even", even), ("weighted", weighted)):
        solution = solve(objective, mesh=mesh)
        found[name] = [solution.weights.tolist(), solution.loss, solution.gap]
    solution = solve(even, mesh=mesh, precision="float32")
    found["float32"] = [solution.weights.tolist(), solution.loss, solution.gap]

    def refused(call):
        try:
            call()
        except InputError as error:
            return str(error)
        return "nothing"

    bad_NxK = np.where((rank == 1) & (np.arange(48)[:, None] == 40), np.nan, logp_NxK)[mine]
    found["bad row"] = refused(lambda: on_every_process(lambda: cross_entropy(bad_NxK), mesh))
    excluded_NxK = logp_NxK[mine].copy()
    if rank == 1:
        excluded_NxK[5, 1:] = -np.inf
    forbidden = cross_entropy(excluded_NxK)
    found["unexplained row"] = refused(lambda: solve(forbidden, upper_bounds={0: 0.0}, mesh=mesh))
    found["other options"] = refused(lambda: solve(even, tolerance=10.0 ** -(8 + rank), mesh=mesh))
    found["other columns"] = refused(lambda: solve(cross_entropy(logp_NxK[mine, : 6 - rank]), mesh=mesh))
    return found


if __name__ == "__main__":
    address, rank, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    jax.config.update("jax_num_cpu_devices", 2)
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(address, NUM_PROCESSES, rank, initialization_timeout=30)
    (folder / f"{rank}.json").write_text(json.dumps(solve_all(rank)))
    jax.distributed.shutdown()
