"""Errors, and lists of names for their messages."""

import difflib
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Read = TypeVar("Read")


class InputError(ValueError):
    """Bad input, found before compute is spent.

    The message names what is wrong (which source, row, file, line or option) and what to do about it.
    Command lines print it as one line and exit with status 2. `args` holds a message for everything that is wrong.
    """

    def __str__(self) -> str:
        if len(self.args) == 1:
            return str(self.args[0])
        return "\n  ".join([f"{len(self.args)} things are wrong:", *map(str, self.args)])


def read_each(items: Iterable[Item], read: Callable[[Item], Read]) -> list[Read]:
    """What `read` makes of each item.

    Raises:
        InputError: what is wrong with all the items, in one error.
    """
    found, wrong = list[Read](), list[str]()
    for item in items:
        try:
            found.append(read(item))
        except InputError as error:
            wrong += error.args
    if wrong:
        raise InputError(*dict.fromkeys(wrong))
    return found


def list_some(names: Sequence[str], shown: int = 5) -> str:
    """The first few names and how many more there are: "a, b, c and 2 more"."""
    rest = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + rest


def closest_names(name: str, names: Iterable[str], shown: int = 3) -> str:
    """The most similar of `names`, upper and lower case alike: "the closest names are 'a', 'b', 'c'"."""
    ratios = {other: difflib.SequenceMatcher(None, name.lower(), other.lower()).ratio() for other in names}
    best = sorted(ratios, key=lambda other: -ratios[other])[:shown]
    return f"the closest {'name is' if len(best) == 1 else 'names are'} {', '.join(map(repr, best))}"
