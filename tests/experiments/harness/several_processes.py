"""A process of `test_several_processes.py`: python -m tests.experiments.harness.several_processes ADDRESS RANK FOLDER.

Each has one device; what it finds goes into FOLDER as RANK.json and RANK.npz.
"""

import json
import os
import sys
from pathlib import Path

import jax
import numpy as np

from experiments.harness.options import RunOptions
from experiments.harness.processes import any_process, check_same, is_first, joined, several, together
from experiments.harness.shared_reading import share_reading
from mixmin_jax.data.text import reading
from mixmin_jax.data.text.formats import read_shard
from mixmin_jax.data.text.sources import read_sources
from mixmin_jax.data.text.tokens import build_store
from mixmin_jax.errors import InputError
from mixmin_jax.models.transformer import TransformerConfig
from mixmin_jax.training.checkpoint import Checkpoints, Stopped
from mixmin_jax.training.language_model import LanguageModelRun
from mixmin_jax.training.mesh import gathered, make_mesh
from mixmin_jax.training.proxies import train_on_mixtures

NUM_PROCESSES = 2
LIMITS = reading.Limits(max_bytes=3000)
RUN = LanguageModelRun(TransformerConfig(width=8, depth=1, heads=1), tokens=6 * 2 * 8, sequence_length=8, batch_size=2)
STORE = build_store(["letters", "cat"], [[b"abcdefgh" * 8] * 3, [b"the cat sat on the mat. " * 5]], length=8)
WEIGHTS = np.array([[0.5, 0.5], [0.0, 1.0]])


class Touched(np.ndarray):
    """Tokens that count how many were read."""

    def __getitem__(self, index):
        self.reads.append(np.asarray(index).size)
        return np.asarray(self)[index]


def train(mesh=None, **options):
    """Losses and parameters of two models, the batches over the processes of the mesh."""
    trained = train_on_mixtures(RUN, STORE, WEIGHTS, jax.random.key(5), mesh=mesh, block_steps=3, **options)
    leaves = jax.tree.leaves(gathered(trained.params))
    return {"loss_TxM": trained.loss_TxM} | {str(i): leaf for i, leaf in enumerate(leaves)}


def refused(call, *arguments):
    try:
        call(*arguments)
    except InputError as error:
        return str(error)
    return "nothing"


def open_of_one(rank):
    with together():
        Path("/nowhere/at/all" if rank == 1 else "/dev/null").open().close()


def read_shared(folder):
    """The shards that this process reads of two sources with three files each, and what it then has of them."""
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    read = []
    reading.IN_MEMORY = 1000

    def noted(shard, *fields):
        read.append(shard.place[-len("a/0.jsonl") :])
        return read_shard(shard, *fields)

    reading.read_shard = noted
    share_reading([str(folder / "sources")], [], "text", LIMITS)
    return {"shards": read, "sources": [one.fingerprint for one in read_sources(folder / "sources", limits=LIMITS)]}


def all_of_it(rank, folder):
    global STORE  # as a process of its own reads it
    tokens = STORE.tokens.view(Touched)
    tokens.reads = []
    STORE = STORE.__class__(STORE.names, tokens, STORE.starts_K, STORE.windows_K, STORE.length)
    found = {"several": several(), "first": is_first(), "any": [any_process(rank == 1), any_process(False)]}
    found["other options"] = refused(check_same, {"seed": rank})
    found["same options"] = refused(check_same, {"seed": 0})
    found["missing file"] = refused(open_of_one, rank)
    found["small mesh"] = refused(make_mesh)
    found["read"] = read_shared(folder)
    mesh = make_mesh(1, NUM_PROCESSES)
    with Checkpoints(folder / "saved", "a", every=100, stop=lambda: rank == 1) as checkpoints:
        try:
            train(mesh, tokens_on="host", checkpoints=checkpoints)
        except Stopped as stopped:
            found["stopped"] = str(stopped)
    steps = []
    with Checkpoints(folder / "saved", "a", every=100) as checkpoints:
        arrays = train(mesh, tokens_on="host", checkpoints=checkpoints, on_block=lambda *a: steps.append(a[:2]))
    found["steps after"] = steps
    tokens.reads.clear()
    np.savez(folder / f"{rank}.npz", **arrays)
    np.savez(folder / f"whole{rank}.npz", **train(mesh, tokens_on="host"))
    found["reads"] = sum(tokens.reads)
    (folder / f"{rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    address, rank, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    jax.config.update("jax_platforms", "cpu")
    with joined(RunOptions(coordinator=address, num_processes=NUM_PROCESSES, process_id=rank)):
        print(f"process {rank} prints")
        all_of_it(rank, folder)
