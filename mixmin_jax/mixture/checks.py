"""Checks of arrays and names that users hand in, with messages that say where the fault is."""

from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import ArrayLike

from mixmin_jax.errors import InputError

_SHOWN = 5  # rows or names that a message lists


def is_traced(*arrays: object) -> bool:
    """Whether any array is a tracer of jit, vmap or grad, whose values cannot be looked at."""
    return any(isinstance(a, jax.core.Tracer) for a in arrays)


def float64(values: ArrayLike, what: str) -> np.ndarray:
    """Host copy in float64; no copy where the values already are that."""
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{what} must be an array of real numbers: {error}") from None


def at_rows(rows: np.ndarray) -> str:
    """'row 7 is not' or 'rows 3, 7, ... (12 in all) are not', counted from 0."""
    listed = ", ".join(str(row) for row in rows[:_SHOWN])
    if len(rows) == 1:
        return f"row {listed} is not"
    return f"rows {listed}{f', ... ({len(rows)} in all)' if len(rows) > _SHOWN else ''} are not"


def describe_bad_rows(logp_NxK: np.ndarray, max_N: np.ndarray, names: tuple[str, ...] | None) -> str:
    """What is wrong with the rows of log-likelihoods whose maximum is not finite, and what to do."""

    def at(bad_N: np.ndarray, culprit_NxK: np.ndarray | None) -> str:
        rows = np.flatnonzero(bad_N)
        listed = []
        for row in rows[:_SHOWN]:
            text = str(row)
            if culprit_NxK is not None:
                columns = np.flatnonzero(culprit_NxK[row])[:_SHOWN]
                text += f" (source {', '.join(names[k] if names else str(k) for k in columns)})"
            listed.append(text)
        more = f", ... ({len(rows)} rows in all)" if len(rows) > _SHOWN else ""
        return f"row{'s' if len(rows) > 1 else ''} {', '.join(listed)}{more}"

    faults = []
    if np.isnan(max_N).any():
        nan_NxK = np.isnan(logp_NxK)
        faults.append(f"NaN in {at(nan_NxK.any(axis=1), nan_NxK)}: look for an overflow in the proxy that scored it")
    if (max_N == np.inf).any():
        inf_NxK = logp_NxK == np.inf
        faults.append(f"+inf in {at(inf_NxK.any(axis=1), inf_NxK)}: a log-likelihood must be below +inf")
    if (max_N == -np.inf).any():
        faults.append(
            f"-inf under every source in {at(max_N == -np.inf, None)}: no mixture of these sources can produce such an "
            "example; remove it or smooth the proxies"
        )
    return "log-likelihoods have " + "; ".join(faults)


def source_names(sources: Sequence[str] | None, num_sources: int) -> tuple[str, ...] | None:
    """The names as a tuple, checked against the number of columns."""
    if sources is None:
        return None
    names = tuple(sources)
    if isinstance(sources, str) or not all(isinstance(name, str) for name in names):
        raise InputError("sources must be a list of names, one string per column")
    if len(names) != num_sources:
        raise InputError(
            f"{len(names)} source names ({list_names(names)}) for {num_sources} columns; give one name a column"
        )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"source names must differ; {list_names(twice)} stand there more than once")
    return names


def list_names(names: Sequence[str]) -> str:
    """'a, b, c, ...' for messages."""
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
