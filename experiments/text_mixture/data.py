"""What a run of the text experiment reads: sources, targets, and which documents weights are fitted and reported on."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from experiments.harness.data_sets import text_record
from experiments.reporting.json_files import read_json
from experiments.reporting.schema import DataSet
from mixmin_jax.data.text.deduplication import Deduplicated, drop_overlap
from mixmin_jax.data.text.documents import WHOLE, Corpus, Limits, split_documents, take_bytes
from mixmin_jax.data.text.installed_text import installed_sources, installed_target
from mixmin_jax.data.text.source_notes import SourceNote, allowed_names, find_source_notes
from mixmin_jax.data.text.sources import list_sources, read_any, read_sources, refuse_identical
from mixmin_jax.errors import InputError, read_each
from mixmin_jax.mixture.baselines.rules import natural_weights

NGRAM_WORDS, NGRAM_SHARE = 13, 0.5  # a near-duplicate shares this share of its n-grams with a source
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


@dataclasses.dataclass(frozen=True)
class Care:
    """What is known of the sources that were given, and what of them is not trained on."""

    notes: Mapping[str, SourceNote] = dataclasses.field(default_factory=dict)  # of all sources, or empty
    deduplicated: Deduplicated | None = None  # where --drop-duplicates is given
    read_as: Mapping[str, str] = dataclasses.field(default_factory=dict)  # fingerprints before documents were dropped

    @property
    def left_out(self) -> tuple[str, ...]:
        """The sources that may not be used."""
        return tuple(name for name, note in self.notes.items() if not note.allowed)


def take_care(
    sources: tuple[Corpus, ...],
    targets: Sequence[Corpus],
    specs: Sequence[str],
    sources_info: Path | None,
    drop_duplicates: bool,
) -> tuple[tuple[Corpus, ...], Care]:
    """The sources to train on: those that are allowed, and with `drop_duplicates` only what does not repeat a target.

    A source that is not allowed is not read at all, instead of being held at weight 0: so no arm
    can give it weight, and no proxy or random mixture is trained on its text either, which may be just what its
    licence forbids. Both change what is trained on, and with it the fingerprints that stages and results go by.

    Raises InputError for notes that are wrong, fewer than two allowed sources, or a source of which nothing is left.
    """
    if specs:
        notes = list_sources(*specs, info=sources_info).notes
    else:
        notes = find_source_notes([source.name for source in sources], specs, sources_info)
    allowed = allowed_names([source.name for source in sources], notes)
    kept = tuple(source for source in sources if source.name in allowed)
    if not drop_duplicates:
        return kept, Care(notes)
    found = drop_overlap(targets, kept, NGRAM_WORDS, NGRAM_SHARE)
    return found.sources, Care(notes, found, {source.name: source.fingerprint for source in kept})


def read_text(
    sources: Sequence[str],
    targets: Sequence[str],
    field: str = "text",
    limits: Limits = WHOLE,
    sources_info: Path | None = None,
    quality_field: str | None = None,
) -> tuple[tuple[Corpus, ...], tuple[Corpus, ...]]:
    """Sources and targets; with neither given, the text that this Python installation carries."""
    if bool(sources) != bool(targets):
        given, missing = ("--sources", "--target") if sources else ("--target", "--sources")
        raise InputError(f"{given} is given without {missing}; give both, or neither for the built-in demonstration")
    if sources:

        def read_target(target: str) -> Corpus:
            return read_any(target, field=field, limits=limits)

        readers: list[Callable[[], tuple[Corpus, ...]]] = [
            lambda: read_sources(*sources, field=field, limits=limits, info=sources_info, quality_field=quality_field),
            lambda: tuple(read_each(targets, read_target)),
        ]
        found = read_each(readers, lambda reader: reader())  # what is wrong with both is said at once
        read = found[0], found[1]
    else:
        read = installed_sources(), (installed_target(),)
    names = [target.name for target in read[1]]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise InputError(f"two targets are named {sorted(repeated)[0]!r}; rename one")
    if taken := {"stages", "previous"} & set(names):
        raise InputError(f"a target cannot be named {sorted(taken)[0]!r}, which is a folder of runs; rename it")
    if both := {source.name for source in read[0]} & set(names):
        raise InputError(f"{sorted(both)[0]!r} is the name of a source and of a target: rename one, or leave one out")
    refuse_identical((*read[0], *read[1]))
    return read


def data_sets(sources: Sequence[Corpus], targets: Sequence[Corpus], field: str | None) -> list[DataSet]:
    """Records of what `read_text` gave; `field` is None for the built-in demonstration."""
    return [
        *(text_record("source", corpus, field) for corpus in sources),
        *(text_record("target", corpus, field) for corpus in targets),
    ]


def split_target(corpus: Corpus, fit_fraction: float, seed: int, fit_bytes: int, test_bytes: int) -> Target:
    """Split by document, then keep to the byte budgets. Raises InputError if a side holds too few documents."""
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


def read_compared(specs: Sequence[str], names: Sequence[str], taken: Sequence[str]) -> dict[str, np.ndarray]:
    """The mixtures of --compare by name; the names in `taken` mean something else.

    Raises:
        InputError: no NAME=FILE, a name that is taken, a file that is no object of weights, unknown or missing sources,
            weights that are negative, not finite or all 0.
    """
    found: dict[str, np.ndarray] = {}
    for spec in specs:
        name, _, file = spec.partition("=")
        if not (name and file):
            raise InputError(f"--compare {spec}: expected NAME=FILE, such as today=mixture.json")
        if name in (*taken, *found):
            raise InputError(f"--compare {spec}: the name {name!r} is taken; choose another")
        try:
            weights = read_json(Path(file))
        except InputError as error:
            raise InputError(f"--compare {spec}: {error}") from None
        if not isinstance(weights, dict) or not all(type(value) in (int, float) for value in weights.values()):
            raise InputError(f'--compare {spec}: the file must hold an object of numbers, {{"{names[0]}": 0.5, ...}}')
        if unknown := [source for source in weights if source not in names]:
            raise InputError(f"--compare {spec}: no source is called {unknown[0]!r}; there are {', '.join(names)}")
        if missing := [source for source in names if source not in weights]:
            raise InputError(f"--compare {spec}: {missing[0]!r} has no weight there; give 0 if it is left out")
        try:
            found[name] = natural_weights([weights[source] for source in names])
        except InputError as error:
            raise InputError(f"--compare {spec}: {error}") from None
    return found
