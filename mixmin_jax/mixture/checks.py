"""Checks of arrays and names from users, with messages that locate the fault."""

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from mixmin_jax.errors import InputError

SLACK = 1e-9  # largest distance of a total from 1, or from a cap, that counts as rounding
_SHOWN = 5  # most rows or names in a message
_ABOVE_0 = 1e-6  # a log-probability may be above 0 by as much: rounding of a probability of 1


def is_traced(*values: object) -> bool:
    """Whether any value, or any element of a list or mapping, is a tracer of jit, vmap or grad."""

    def traced(value: object) -> bool:
        if isinstance(value, Mapping):
            return any(map(traced, value.values()))
        return any(map(traced, value)) if isinstance(value, list | tuple) else isinstance(value, jax.core.Tracer)

    return any(map(traced, values))


def refuse_masked(values: Any, what: str) -> None:
    """Raise InputError for a masked array, whose mask NumPy's conversions drop without a word."""
    if isinstance(values, np.ma.MaskedArray):
        raise InputError(
            f"{what} must not be a masked array; fill it, as in values.filled(number), or drop what is masked, as in "
            "np.ma.compress_rows(values) or values.compressed()"
        )


def as_float64(values: Any, what: str) -> np.ndarray:
    """The values on the host in float64, without a copy if they are so already."""
    refuse_masked(values, what)
    try:
        if hasattr(values, "requires_grad"):  # NumPy cannot convert torch's bfloat16, nor tensors that need gradients
            values = values.detach().cpu()
            values = values if values.is_complex() else values.double()
        elif hasattr(values, "__dlpack__") and not hasattr(values, "__array__"):
            values = np.from_dlpack(values)
        if np.iscomplexobj(values):
            raise TypeError("got complex ones")
        return np.asarray(values, np.float64)
    except (TypeError, ValueError, BufferError, RuntimeError) as error:
        raise InputError(f"{what} must be an array of real numbers: {error}") from None


def total(value: float) -> str:
    """A total that should be 1, as text: '0.83', or '1 - 2e-08' if six digits would hide the distance."""
    text = f"{value:.6g}"
    return text if text != "1" or value == 1 else f"1 {'+' if value > 1 else '-'} {abs(value - 1):.2g}"


def checked_number(value: Any, what: str, meaning: str, below: float = np.inf) -> float:
    """A number above 0 and below a limit; `meaning` says so to users."""
    try:
        number = float("nan") if isinstance(value, str) or is_traced(value) else float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not 0 < number < below:
        raise InputError(f"{what} must be {meaning}; got {value!r}")
    return number


def checked_tolerance(tolerance: Any) -> float:
    """A number above 0 and below 1: a gap of 1 nat per row, or of the targets' variance, certifies nothing."""
    return checked_number(tolerance, "tolerance", "a number above 0 and below 1, such as 1e-9", below=1)


def checked_whole(value: Any, what: str, least: int) -> int:
    """A whole number, limited to the range of an int32 counter."""
    try:
        number = least - 1 if is_traced(value) or isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = least - 1
    if number < least:
        raise InputError(f"{what} must be a whole number of at least {least}; got {value!r}")
    return min(number, np.iinfo(np.int32).max)


def _at_rows(rows: np.ndarray) -> str:
    """'row 7 is not' or 'rows 3, 7, ... (12 in all) are not', counted from 0."""
    listed = ", ".join(str(row) for row in rows[:_SHOWN])
    if len(rows) == 1:
        return f"row {listed} is not"
    return f"rows {listed}{f', ... ({len(rows)} in all)' if len(rows) > _SHOWN else ''} are not"


def infinite_rows(what: str, rows: np.ndarray) -> str:
    """What is wrong with rows of predictions or targets."""
    return f"{what} must be finite; {_at_rows(rows)}. Remove or repair these rows"


def bad_example_weights(rows: np.ndarray, first: float) -> str:
    """What is wrong with the weights of rows."""
    return (
        f"example_weights must be finite and at least 0; {_at_rows(rows)} (the first is {first}). Leave out rows that "
        "should not count, or give them weight 0"
    )


def describe_bad_rows(logp_NxK: np.ndarray, names: tuple[str, ...] | None, label: Callable[[Any], str] = str) -> str:
    """Say what is wrong with rows whose maximum is not finite, and what to do. `label` names a row."""

    def at(bad_NxK: np.ndarray, with_sources: bool = True) -> str:
        rows = np.flatnonzero(bad_NxK.any(axis=1))
        listed = [label(row) for row in rows[:_SHOWN]]
        if with_sources:
            columns = [np.flatnonzero(bad_NxK[row])[:_SHOWN] for row in rows[:_SHOWN]]
            of_row = [", ".join(names[k] if names else str(k) for k in some) for some in columns]
            listed = [f"{row} (source {some})" for row, some in zip(listed, of_row, strict=True)]
        more = f", ... ({len(rows)} rows in all)" if len(rows) > _SHOWN else ""
        return f"row{'s' if len(rows) > 1 else ''} {', '.join(listed)}{more}"

    faults, excluded_Nx1 = [], (logp_NxK == -np.inf).all(axis=1, keepdims=True)
    if (nan_NxK := np.isnan(logp_NxK)).any():
        faults.append(f"NaN in {at(nan_NxK)}: look for an overflow in the proxy that scored it")
    if (inf_NxK := logp_NxK == np.inf).any():
        faults.append(f"+inf in {at(inf_NxK)}: a log-likelihood must be below +inf")
    if excluded_Nx1.any():
        faults.append(
            f"-inf under every source in {at(excluded_Nx1, with_sources=False)}: no mixture of these sources can "
            "produce such an example; remove it or smooth the proxies"
        )
    return "log-likelihoods have " + "; ".join(faults)


def refuse_reversed_sign(
    least_K: np.ndarray, most_K: np.ndarray, names: tuple[str, ...] | None, densities: bool
) -> None:
    """Raise InputError for sources without a value below 0, unless values are log densities.

    Such values are negative log-likelihoods, or probabilities: weights from them would prefer the worst sources.

    Args:
        least_K, most_K: least and largest log-likelihood under every source.
        names: of the sources.
        densities: whether values may be above 0 everywhere.
    """
    # of all sources at once, small values are no rounding: they may be probabilities of long texts
    wrong = np.flatnonzero((least_K >= 0) & (most_K > _ABOVE_0 * (least_K < 0).any()))
    if densities or not wrong.size:
        return
    which = list_names([names[k] if names else f"source {k}" for k in wrong])
    where = "all values are" if len(wrong) == len(least_K) else f"the values of {which} are all"
    meant = (
        "these look like probabilities; give their natural logarithms"
        if most_K[wrong].max() <= 1
        else "a log-probability is below 0, so these look like negative log-likelihoods (losses); change the sign"
    )
    raise InputError(
        f"log-likelihoods have the wrong sign: {where} 0 or above (largest {most_K[wrong].max():.6g}); {meant}, or say"
        " densities=True (--densities) if they are log densities of continuous data"
    )


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
