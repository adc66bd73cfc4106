"""Errors, and lists of names for their messages."""

import difflib
from collections.abc import Iterable, Sequence


class InputError(ValueError):
    """Bad input, found before compute is spent.

    The message names what is wrong (which source, row, file, line or option) and what to do about it.
    Command lines print it as one line and exit with status 2.
    """


def list_some(names: Sequence[str], shown: int = 5) -> str:
    """The first few names and how many more there are: "a, b, c and 2 more"."""
    rest = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + rest


def closest_names(name: str, names: Iterable[str], shown: int = 3) -> str:
    """The most similar of `names`, upper and lower case alike: "the closest names are 'a', 'b', 'c'"."""
    ratios = {other: difflib.SequenceMatcher(None, name.lower(), other.lower()).ratio() for other in names}
    best = sorted(ratios, key=lambda other: -ratios[other])[:shown]
    return f"the closest {'name is' if len(best) == 1 else 'names are'} {', '.join(map(repr, best))}"
