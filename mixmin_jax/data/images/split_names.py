"""Names of folders and splits that say what images are for: to train or test on, to validate on, or without labels."""

import re
from collections.abc import Iterable
from typing import Literal, get_args

from mixmin_jax.errors import InputError, list_some

Role = Literal["train", "test", "validation", "unlabeled"]
NAMES: dict[Role, tuple[str, ...]] = {  # in any letter case, also as seg_NAME or NAME_set
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "validation": ("val", "validation", "valid", "dev", "eval", "evaluation"),
    "unlabeled": ("unlabeled", "unlabelled", "unsup"),
}
_WORDS = "|".join(name for names in NAMES.values() for name in names)
_LOOKS_LIKE_SPLIT = re.compile(rf"(^|[^a-z])({_WORDS})([^a-z]|$)")


def role_of(name: str) -> Role | None:
    """What a folder or split of this name is for; None: the name says nothing, so it may be a class."""
    plain = re.sub(r"[- ]", "_", name.lower()).removeprefix("seg_").removesuffix("_set")
    return next((role for role in get_args(Role) if plain in NAMES[role]), None)


def looks_like_split(name: str) -> bool:
    """Whether a word in the name is that of a split, as in `train2017` or `my-test`."""
    return bool(_LOOKS_LIKE_SPLIT.search(name.lower()))


def by_role(place: str, names: Iterable[str]) -> dict[Role, str]:
    """The name with each role.

    Raises:
        InputError: two names to train, test or validate on. (Several without labels are one set: the first is named.)
    """
    found: dict[Role, str] = {}
    for name in sorted(names):
        role = role_of(name)
        if role and role != "unlabeled" and role in found:
            raise InputError(f"{place}: {found[role]} and {name} both name a {role} set; keep or rename one of them")
        if role:
            found.setdefault(role, name)
    return found


def refuse_splits_as_classes(place: str, folders: Iterable[str], below: dict[str, set[str]]) -> None:
    """Raise InputError if folders that would be classes look like splits of one data set.

    Either the names of all hold a word of a split, or all hold the same two or more folders.

    Args:
        place: of the folders, for the message.
        folders: the names.
        below: the names of the folders in each.
    """
    folders = sorted(folders)
    if len(folders) < 2:
        return
    first = below.get(folders[0], set())
    same = len(first) > 1 and all(below.get(folder, set()) == first for folder in folders)
    if same or all(map(looks_like_split, folders)):
        why = f" (each holds {list_some(sorted(first))})" if same else ""
        raise InputError(
            f"{place}: {list_some(folders)} look like splits and not like classes{why}; name the folders train and"
            " test or val, or move what is one data set into one folder per class"
        )
