"""Options of the form NAME=VALUE, one for each of some sources."""

import difflib

from mixmin_jax.errors import InputError


def parse_assignments(
    pairs: tuple[str, ...], option: str, sources: tuple[str, ...], left_out: tuple[str, ...] = ()
) -> dict[str, float]:
    """`NAME=VALUE` pairs of a command-line option as a dictionary.

    Raises:
        InputError: a pair without =, a value that is no number, a source that is not in the file (with the closest name
            that is), is `left_out` or is there twice.
    """
    values: dict[str, float] = {}
    for pair in pairs:
        name, equals, value = pair.rpartition("=")
        if not equals or not is_number(value):
            raise InputError(f"{option} {pair}: expected NAME=VALUE with a number, such as {sources[0]}=0.25")
        if name in left_out:
            raise InputError(f"{option} {pair}: {name!r} is left out (allowed = false in --sources-info)")
        if name not in sources:
            closest = difflib.get_close_matches(name, sources, n=1, cutoff=0.0)[0]
            raise InputError(f"{option} {pair}: no source is called {name!r}; the closest name is {closest!r}")
        if name in values:
            raise InputError(f"{option}: {name!r} is there twice")
        values[name] = float(value)
    return values


def is_number(cell: str) -> bool:
    """Whether a cell, or a value on a command line, is a number as people write it."""
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell
