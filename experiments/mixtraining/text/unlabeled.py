"""Text without labels for a MixTraining experiment: which sources it is, and windows of it.

Axes: P windows, L bytes.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from experiments.mixtraining.text.config import TextMixTraining
from mixmin_jax.data.images.sources import NO_UNLABELED
from mixmin_jax.data.images.split_names import role_of
from mixmin_jax.data.text.documents import Corpus
from mixmin_jax.data.text.labeled_windows import balanced_windows
from mixmin_jax.data.text.sources import read_any
from mixmin_jax.errors import InputError, list_some, read_each


class UnlabeledText(NamedTuple):
    """Text that belongs to no class."""

    corpora: tuple[Corpus, ...]
    notices: tuple[str, ...]


def split_sources(sources: Sequence[Corpus], config: TextMixTraining) -> tuple[tuple[Corpus, ...], UnlabeledText]:
    """The classes, and the text without labels: that of --unlabeled, or sources with a known name.

    Raises:
        InputError: fewer than two classes are left.
    """
    found = tuple(corpus for corpus in sources if role_of(corpus.name) == "unlabeled")
    classes = tuple(corpus for corpus in sources if role_of(corpus.name) != "unlabeled")
    names = [corpus.name for corpus in found]
    if len(classes) < 2:
        others = list_some([corpus.name for corpus in classes])
        raise InputError(f"{list_some(names)} is text without labels: give two classes beside it, not only {others}")
    if config.unlabeled is None:
        return classes, UnlabeledText(found, ())
    notices = (f"{list_some(names)} is left out, which is text without labels",) if found else ()
    if config.unlabeled == (NO_UNLABELED,):
        return classes, UnlabeledText((), notices)
    unlabeled = read_each(config.unlabeled, lambda spec: read_any(spec, field=config.field))
    return classes, UnlabeledText(tuple(unlabeled), notices)


def unlabeled_windows(
    text: UnlabeledText, test: Sequence[Corpus], config: TextMixTraining
) -> tuple[np.ndarray | None, int]:
    """Windows of all text without labels, and how many documents were left out because they are tested on.

    Raises:
        InputError: no window is left.
    """
    if not text.corpora:
        return None, 0
    tested = {document for corpus in test for document in corpus.documents}
    documents = [document for corpus in text.corpora for document in corpus.documents]
    kept = tuple(document for document in documents if document not in tested)
    origin = ", ".join(corpus.origin for corpus in text.corpora)
    if not kept:
        raise InputError(f"{origin}: every document is one to test on; give other text without labels, or leave it out")
    whole = dataclasses.replace(text.corpora[0], name="unlabeled", documents=kept, origin=origin)
    num = sum(len(document) // config.length for document in kept)
    most = max(1, min(num, config.unlabeled_windows or num))
    windows_PxL = balanced_windows((whole,), config.length, most, config.split_seed).tokens_NxL
    return windows_PxL, len(documents) - len(kept)
