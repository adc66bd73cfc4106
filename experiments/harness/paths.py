"""Paths on the command line: `~` is the home of a user in every option, and what is no path of this machine is refused.

Config classes annotate files and folders as `Path`, and text that names one, with something before it, as `Place`.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from mixmin_jax.data.text.shards import is_url
from mixmin_jax.errors import InputError

Value = TypeVar("Value")

REGISTRY = ConstructorRegistry()  # for tyro
_HOME = re.compile(r"((?:[^=/]+=|folder:|file:)?)(~[^/]*)")  # where a path begins in a `Place`


def local_path(text: str) -> Path:
    """A path as a user gives it. Raises InputError for what a shell has left empty, and for other machines' places."""
    if not text:
        raise InputError("the path is empty, as that of a variable that is not set")
    if re.match(r"\$\w|\$\{", text):
        raise InputError(f"{text} has a variable that no shell has put in: leave out the single quotes")
    if is_url(text):
        raise InputError(
            f"{text} is no path of this machine: mount the bucket (gcsfuse, s3fs), or give a local path, and copy"
        )
    return Path(_at_home(text))


def local_place(text: str) -> str:
    """Text such as FILE, NAME=FILE, folder:PATH or a URL, with `~` as `local_path` reads it."""
    if not text:
        raise InputError("the path is empty, as that of a variable that is not set")
    found = _HOME.match(text)
    return found[1] + _at_home(text[found.end(1) :]) if found else text


def _at_home(text: str) -> str:
    home = os.path.expanduser(text)
    if home.startswith("~"):
        raise InputError(f"{text}: there is no such user; write ./{text} if the name begins with ~")
    return home


def one_word(metavar: str, parse: Callable[[str], Value], kinds: type | tuple[type, ...]) -> PrimitiveConstructorSpec:
    """How tyro reads an option that takes one word: `parse` may raise InputError."""
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=lambda texts: parse(texts[0]),
        is_instance=lambda value: isinstance(value, kinds),
        str_from_instance=lambda value: [str(value)],
    )


@REGISTRY.primitive_rule
def _path(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Path] | None:
    return one_word("PATH", local_path, Path) if info.type is Path else None


Place = Annotated[str, one_word("STR", local_place, str)]
