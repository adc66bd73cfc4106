"""Labels of pandas objects: names of sources, and values in the order of the sources or rows. pandas is not imported.

Labels 0, 1, ... in order are what pandas gives to data without labels: they count as positions.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from mixmin_jax.errors import InputError

_SHOWN = 5  # most labels in a message


@runtime_checkable
class Labeled(Protocol):
    """A Series or DataFrame of pandas, or an object like it."""

    @property
    def index(self) -> Any:
        """The labels of its rows."""

    def to_numpy(self) -> Any:
        """Its values without labels."""


def columns_as_sources(table: Any, what: str, sources: Sequence[str] | None) -> Sequence[str] | None:
    """The columns of a DataFrame if they are names; else `sources`.

    Raises:
        InputError: columns that are not the sources given, or are neither strings nor 0, 1, ...
    """
    columns = getattr(table, "columns", None) if hasattr(table, "to_numpy") else None
    if columns is None or _are_positions(names := list(columns)):
        return sources
    if sources is not None and not _equal(list(sources), names):
        raise InputError(
            f"sources are {_shown(list(sources))}, but the columns of {what} are {_shown(names)}; leave `sources` out, "
            "or give the .to_numpy() of the columns in the order of `sources`"
        )
    if not all(isinstance(name, str) for name in names):
        raise InputError(
            f"the columns of {what} name the sources, so they must be strings; got {_shown(names)}. Rename them, or "
            "give .to_numpy() and `sources`"
        )
    return names


def by_source(values: Labeled, what: str, sources: tuple[str, ...] | None, partial: bool) -> Any:
    """A mapping from sources to values; the values alone if their labels are positions.

    Raises:
        InputError: labels that are repeated or no sources; a source without a value unless `partial`.
    """
    labels = list(values.index)
    if _are_positions(labels):
        return values.to_numpy()
    if sources is None:
        raise InputError(
            f"{what} has the labels {_shown(labels)}, but the objective was built without `sources`; name them there, "
            "or give .to_numpy() if its order is right"
        )
    _check_match(labels, sources, what, "the sources", partial)
    return dict(zip(labels, values.to_numpy(), strict=True))


def by_row(values: Any, what: str, table: Any, rows: str) -> Any:
    """The values in the order of the rows of `table`; those without labels as they are.

    Raises:
        InputError: labels that are repeated or not those of the table, which `rows` calls by name.
    """
    if not isinstance(values, Labeled):
        return values
    labels, known = list(values.index), list(table.index) if isinstance(table, Labeled) else None
    if _are_positions(labels) if known is None else _equal(labels, known):
        return values.to_numpy()
    if known is None:
        raise InputError(
            f"{what} has the labels {_shown(labels)}, but {rows} have none; give .to_numpy() if its order is right"
        )
    _check_match(labels, known, what, f"the rows of {rows}", partial=False)
    place = {label: n for n, label in enumerate(labels)}
    return values.to_numpy()[[place[label] for label in known]]


def _check_match(labels: list[Any], known: Sequence[Any], what: str, known_as: str, partial: bool) -> None:
    given, expected = Counter(labels), Counter(known)
    faults = {
        f"{what} repeats": [label for label, count in given.items() if count > 1],
        f"{known_as} repeat": [label for label, count in expected.items() if count > 1],
        f"{known_as} lack": [label for label in given if label not in expected],
        f"{what} lacks": [] if partial else [label for label in expected if label not in given],
    }
    if listed := [f"{fault} {_shown(found)}" for fault, found in faults.items() if found]:
        raise InputError(
            f"{what} cannot be matched with {known_as} by label: {', '.join(listed)}. Repair the labels, or give "
            ".to_numpy() if its order is right"
        )


def _are_positions(labels: list[Any]) -> bool:
    return _equal(labels, list(range(len(labels))))


def _equal(labels: list[Any], known: list[Any]) -> bool:
    try:
        return labels == known
    except TypeError:  # pandas.NA == 0 has no truth value
        return False


def _shown(labels: list[Any]) -> str:
    return ", ".join(map(repr, labels[:_SHOWN])) + (", ..." if len(labels) > _SHOWN else "")
