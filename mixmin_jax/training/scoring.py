"""Log-likelihoods of documents under many models at once, for MixMin's rows and for test losses.

Axes: M models, N tokens, D documents, R rows of a batch, L positions.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int

from mixmin_jax.data.text.tokens import SEPARATOR
from mixmin_jax.models.transformer import TransformerConfig
from mixmin_jax.training.language_model import token_log_likelihoods
from mixmin_jax.training.mesh import gathered, make_mesh, over_models, over_models_and_batch, put, replicated

ROWS = 16  # rows scored together (rounded up to divide over `data`), so few that logits fit in a CPU's cache
BATCHES = 32  # batches per compiled call; the last call is padded, so one program serves any number of documents


class Scores(NamedTuple):
    """Log-likelihoods in nats; every byte of every document is scored once, in order."""

    logp_NxM: Float[np.ndarray, "N M"]  # float32, one row per byte
    bytes_D: Int[np.ndarray, " D"]  # bytes, and so rows, of each document

    @property
    def document_logp_DxM(self) -> Float[np.ndarray, "D M"]:
        """log p(document) = sum of its bytes' log-likelihoods (float64)."""
        first_D = np.concatenate([[0], np.cumsum(self.bytes_D)[:-1]])
        return np.add.reduceat(self.logp_NxM.astype(np.float64), first_D, axis=0)


def count_windows(documents: Sequence[bytes], length: int) -> int:
    """The number of windows from `document_windows`."""
    return sum(-(-len(document) // length) for document in documents)


def document_windows(documents: Sequence[bytes], length: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut each document, with a separator before it, into windows.

    The first input of a window is the last target of the one before, so every byte is a target exactly once. The
    context of a byte starts with its window, as in training.

    Returns:
        tokens_RxL1 of the windows, and a mask of the targets that count.
    """
    rows, masks = [], []
    for document in documents:
        tokens = np.frombuffer(bytes([SEPARATOR]) + document, np.uint8)
        num_rows = -(-len(document) // length)
        padded = np.full(num_rows * length + 1, SEPARATOR, np.uint8)
        padded[: len(tokens)] = tokens
        rows.append(np.lib.stride_tricks.sliding_window_view(padded, length + 1)[::length])
        masks.append(np.arange(num_rows * length).reshape(num_rows, length) < len(document))
    return np.concatenate(rows), np.concatenate(masks)


def score_documents(
    model: TransformerConfig,
    params: Any,
    documents: Sequence[bytes],
    length: int,
    *,
    mesh: Mesh | None = None,
    on_block: Callable[[int, int], None] | None = None,
) -> Scores:
    """Score non-empty documents under M models, the leading axis of every leaf of `params`."""
    mesh = mesh or make_mesh()
    num_models = jax.tree.leaves(params)[0].shape[0]
    missing = -num_models % mesh.shape["source"]  # padded with copies, whose scores are dropped
    padded = jax.tree.map(lambda leaf: np.concatenate([leaf, *[leaf[:1]] * missing]), params)
    padded = put(padded, over_models(mesh))
    rows_at_once = -(-ROWS // mesh.shape["data"]) * mesh.shape["data"]
    block_rows = rows_at_once * BATCHES

    rows_RxL1, mask_RxL = document_windows(documents, length)
    score = _compiled_score(model, mesh)
    parts = []
    for first in range(0, len(rows_RxL1), block_rows):
        block = rows_RxL1[first : first + block_rows]
        full = np.full((block_rows, length + 1), SEPARATOR, np.uint8)
        full[: len(block)] = block
        tokens = put(full.reshape(BATCHES, rows_at_once, length + 1), replicated(mesh))
        logp = gathered(score(padded, tokens))  # batches x M x rows x L
        logp = np.moveaxis(logp, 1, -1).reshape(-1, length, logp.shape[1])[: len(block), :, :num_models]
        parts.append(logp[mask_RxL[first : first + len(block)]])
        if on_block:
            on_block(first + len(block), len(rows_RxL1))
    return Scores(np.concatenate(parts), np.array([len(d) for d in documents], np.int64))


@functools.lru_cache(maxsize=8)
def _compiled_score(model: TransformerConfig, mesh: Mesh) -> Callable:
    sharding = over_models_and_batch(mesh)

    @jax.jit
    def score(params: Any, tokens_CxRxL1: jax.Array) -> jax.Array:
        def one_batch(tokens_RxL1: jax.Array) -> jax.Array:
            logp = jax.vmap(lambda p: token_log_likelihoods(model, p, tokens_RxL1))(params)
            return jax.lax.with_sharding_constraint(logp, sharding)

        return jax.lax.map(one_batch, tokens_CxRxL1)

    return score
