"""What is handed to the exporter of a trainer, and the text that all exporters share: comments, names, numbers."""

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np

from mixmin_jax.export.token_mixture import TokenMixture, rounded

Draws = Literal["documents", "sequences"]  # rows of different lengths, or rows of one length

_PLAIN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")
_YAML_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"}


@dataclasses.dataclass(frozen=True)
class Request:
    """A mixture, and how a trainer draws from it."""

    mixture: TokenMixture
    draws: Draws
    place: str  # where the trainer finds a source; {name} stands for its name
    origin: tuple[str, ...] = ()  # lines that say where the weights come from
    block_size: int | None = None  # of Levanter
    max_repetition_ratio: float | None = None  # of OLMo-core

    def probabilities(self) -> dict[str, float]:
        """With which the trainer draws from each source, rounded."""
        return rounded(self.mixture.shares if self.draws == "sequences" else self.mixture.row_probabilities())

    def place_of(self, name: str) -> str:
        return self.place.replace("{name}", name)


def comment(request: Request, drawn: Mapping[str, float], sign: str = "# ") -> str:
    """Where the weights come from, and a table of what is drawn, as lines of a comment."""
    return "".join(f"{sign}{line}".rstrip() + "\n" for line in comment_lines(request, drawn))


def comment_lines(request: Request, drawn: Mapping[str, float]) -> list[str]:
    """The same as a list; no line holds a line break, whatever names there are."""
    mixture = request.mixture
    columns = {"share of tokens": mixture.shares}
    if request.draws == "documents":
        columns["tokens per row"] = mixture.tokens_per_row
    columns[f"share of {'rows' if request.draws == 'documents' else 'sequences'}"] = dict(drawn)
    if mixture.budget is not None:
        columns[f"epochs in {mixture.budget:.6g} tokens"] = mixture.epochs
    head = ["source", *columns]
    rows = [[_one_line(name), *(_cell(numbers.get(name)) for numbers in columns.values())] for name in drawn]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    table = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in (head, *rows)]
    dropped = ["no tokens, left out: " + ", ".join(map(_one_line, mixture.dropped))] if mixture.dropped else []
    return [*map(_one_line, request.origin), *table, *dropped]


def decimal(number: float) -> str:
    """A number without an exponent, which YAML would read as text."""
    return np.format_float_positional(number, trim="0")


def quoted(text: str) -> str:
    """A string of Python, JSON and YAML alike."""
    return json.dumps(text, ensure_ascii=not text.isprintable())


def yaml_name(name: str) -> str:
    """A key of YAML, quoted if it would mean something else."""
    return name if _PLAIN_NAME.fullmatch(name) and name.lower() not in _YAML_WORDS else quoted(name)


def python_dict(entries: Iterable[tuple[str, str]]) -> str:
    """A dictionary of Python, one entry a line; the values are Python already."""
    return "{\n" + "".join(f"    {quoted(name)}: {value},\n" for name, value in entries) + "}"


def _one_line(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)


def _cell(number: float | None) -> str:
    if number is None:
        return "unknown"
    return f"{number:.0f}" if number >= 1000 else f"{number:.4g}"
