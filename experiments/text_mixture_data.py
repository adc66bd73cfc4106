"""What a run of the text experiment reads: sources, targets, and which documents weights are fitted and reported on."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from experiments.data_sets import Record, text_record
from mixmin_jax.data.documents import Corpus, split_documents, take_bytes
from mixmin_jax.data.installed_text import installed_sources, installed_target
from mixmin_jax.data.sources import read_any, read_sources, refuse_identical
from mixmin_jax.errors import InputError

MIN_DOCUMENTS = 10  # on each side of a target's split; fewer can neither fit weights nor tell two arms apart


@dataclasses.dataclass(frozen=True)
class Target:
    """A target's documents for fitting weights and, apart from them, for reporting."""

    corpus: Corpus
    fit: np.ndarray  # document numbers
    test: np.ndarray

    @property
    def name(self) -> str:
        return self.corpus.name

    def documents(self, part: str) -> list[bytes]:
        return [self.corpus.documents[i] for i in getattr(self, part)]


def read_text(
    sources: Sequence[str], targets: Sequence[str], field: str = "text"
) -> tuple[tuple[Corpus, ...], tuple[Corpus, ...]]:
    """Sources and targets; with neither given, the text that this Python installation carries."""
    if bool(sources) != bool(targets):
        given, missing = ("--sources", "--target") if sources else ("--target", "--sources")
        raise InputError(f"{given} is given without {missing}; give both, or neither for the built-in demonstration")
    if sources:
        read = read_sources(*sources, field=field), tuple(read_any(target, field=field) for target in targets)
    else:
        read = installed_sources(), (installed_target(),)
    names = [target.name for target in read[1]]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise InputError(f"two targets are named {sorted(repeated)[0]!r}; rename one")
    if "stages" in names:
        raise InputError("a target cannot be named 'stages', which is a folder of every run; rename it")
    if both := {source.name for source in read[0]} & set(names):
        raise InputError(f"{sorted(both)[0]!r} is the name of a source and of a target: rename one, or leave one out")
    refuse_identical((*read[0], *read[1]))
    return read


def data_sets(sources: Sequence[Corpus], targets: Sequence[Corpus], field: str | None) -> list[Record]:
    """Records of what `read_text` gave; `field` is None for the built-in demonstration."""
    return [
        *(text_record("source", corpus, field) for corpus in sources),
        *(text_record("target", corpus, field) for corpus in targets),
    ]


def split_target(corpus: Corpus, fit_fraction: float, seed: int, fit_bytes: int, test_bytes: int) -> Target:
    """Split by document, then keep to the byte budgets.  Raises InputError if a side holds too few documents."""
    fit, test = split_documents(corpus, fit_fraction, seed)
    fit, test = take_bytes(corpus, fit, fit_bytes, seed), take_bytes(corpus, test, test_bytes, seed)
    for part, indices, option in (("fit weights on", fit, "--fit-bytes"), ("report on", test, "--test-bytes")):
        if len(indices) < MIN_DOCUMENTS:
            raise InputError(
                f"target {corpus.name!r} ({corpus.num_documents} documents, {corpus.num_bytes} bytes) is too small to"
                f" split: {len(indices)} documents to {part}, at least {MIN_DOCUMENTS} are needed; give more or shorter"
                f" documents, or raise {option}"
            )
    return Target(corpus, fit, test)
