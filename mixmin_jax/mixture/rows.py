"""From log-likelihoods of tokens to the rows that MixMin mixes: chunks of documents.

    log p_k(row) = sum over the row's tokens of log p_k(token | what comes before it in its document)

A row decides as a whole which sources explain it. Its length says how far a model looks before it knows which source
it is in: rows of one token mix sources at every token, rows of documents (MixMin, arXiv:2502.10510) once for each.

Axes: N tokens, D documents, R rows, K sources.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from mixmin_jax.errors import InputError


class Rows(NamedTuple):
    """Rows with what they are made of; rows of one document follow each other."""

    logp_RxK: Float[np.ndarray, "R K"]  # float64, nats
    tokens_R: Int[np.ndarray, " R"]  # in each row
    document_R: Int[np.ndarray, " R"]  # the document that each row is from: rows of one are not independent


def rows(logp_NxK: Float[np.ndarray, "N K"], tokens_D: Int[np.ndarray, " D"], length: int | None) -> Rows:
    """Chunks of `length` tokens of each document; the last of a document may be shorter.

    Args:
        logp_NxK: log p of each token, document after document, in nats.
        tokens_D: tokens of each document, at least one.
        length: tokens of a row; None for whole documents.

    Raises:
        InputError: a length below 1, an empty document, or other tokens than the documents have.
    """
    if length is not None and length < 1:
        raise InputError(f"a row must have at least one token, not {length}")
    if (tokens_D < 1).any():
        raise InputError(f"document {int(np.argmin(tokens_D))} has no token: leave it out")
    if tokens_D.sum() != len(logp_NxK):
        raise InputError(f"the documents have {tokens_D.sum()} tokens, the log-likelihoods {len(logp_NxK)}")
    rows_D = np.ones_like(tokens_D) if length is None else -(-tokens_D // length)
    document_R = np.repeat(np.arange(len(tokens_D)), rows_D)
    chunk_R = np.arange(len(document_R)) - np.repeat(np.cumsum(rows_D) - rows_D, rows_D)  # inside its document
    first_R = (np.cumsum(tokens_D) - tokens_D)[document_R] + chunk_R * (length or 0)
    logp_RxK = np.add.reduceat(logp_NxK.astype(np.float64), first_R, axis=0)
    return Rows(logp_RxK, np.diff(first_R, append=len(logp_NxK)), document_R)


def mixture_losses(found: Rows, weights_MxK: Float[np.ndarray, "M K"]) -> Float[np.ndarray, " M"]:
    """The loss of each mixture of the sources' models, in nats per token.

    - sum_r log sum_k w_k p_k(row r) / tokens
    """
    highest_R = found.logp_RxK.max(1)
    p_RxK = np.exp(found.logp_RxK - highest_R[:, None])
    with np.errstate(divide="ignore"):
        log_w_MxK = np.log(weights_MxK)
    losses_M = np.empty(len(weights_MxK))
    for m, weights_K in enumerate(weights_MxK):
        mixed_R = p_RxK @ weights_K
        safe_R = mixed_R > 1e-290  # below, the sources that explain a row have no weight: take logs of all
        unsafe = np.logaddexp.reduce(found.logp_RxK[~safe_R] + log_w_MxK[m], axis=1).sum()
        losses_M[m] = -((np.log(mixed_R[safe_R]) + highest_R[safe_R]).sum() + unsafe)
    return losses_M / found.tokens_R.sum()


def row_length(text: str) -> int | None:
    """The `length` of `rows` that a word stands for: "token" (1), "document" (None), or a number of tokens.

    Raises:
        InputError: another word, or a number below 1.
    """
    words = {"token": 1, "document": None}
    if text in words:
        return words[text]
    if not text.isdecimal() or int(text) < 1:
        raise InputError(f"rows are `token`, `document` or a number of tokens from 1 on, not {text!r:.40}")
    return int(text)
