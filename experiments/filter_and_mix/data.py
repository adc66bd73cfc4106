"""What a run reads: sources or one pile, targets, and noise in the sources where that is asked for.

Axes: D documents of a source.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int

from experiments.filter_and_mix.config import FilterAndMix
from experiments.filter_and_mix.noise import with_noise
from experiments.reporting.schema import DataSet
from experiments.text_mixture.data import Target, data_sets, read_text, split_target, take_care
from mixmin_jax.data.text.documents import Corpus
from mixmin_jax.data.text.shards import expand, is_url
from mixmin_jax.data.text.source_notes import SourceNote
from mixmin_jax.data.text.sources import read_any, refuse_identical
from mixmin_jax.data.tfds_builders import TFDS_PREFIX
from mixmin_jax.errors import InputError


@dataclasses.dataclass(frozen=True, eq=False)
class Texts:
    """Sources, with what is known of their documents, and targets."""

    sources: tuple[Corpus, ...]
    targets: tuple[Target, ...]
    notes: Mapping[str, SourceNote]  # of all sources, or empty
    numbers: Mapping[str, Int[np.ndarray, " D"]]  # of a source's documents, among those that were read of it
    is_noise: Mapping[str, Bool[np.ndarray, " D"]]
    records: tuple[DataSet, ...]  # of all that was read

    @property
    def left_out(self) -> tuple[str, ...]:
        """The sources that may not be used."""
        return tuple(name for name, note in self.notes.items() if not note.allowed)


def read(config: FilterAndMix) -> Texts:
    """All that a run reads.

    Raises:
        InputError: what cannot be read or is too small to split; errors of `read_text` and `take_care`.
    """
    is_pile = _is_pile(config)
    sources, targets = _read_pile(config) if is_pile else _read_sources(config)
    records = data_sets(sources, targets, None if config.demonstration else config.field)
    specs = () if is_pile else config.sources
    sources, care = take_care(sources, targets, specs, config.sources_info, config.drop_duplicates)
    dropped = care.deduplicated.dropped if care.deduplicated else {}
    noised = with_noise(sources, config.noise_share, config.split_seed)
    return Texts(
        sources=noised.sources,
        targets=tuple(
            split_target(target, config.fit_fraction, config.split_seed, config.fit_bytes, config.test_bytes)
            for target in targets
        ),
        notes=care.notes,
        numbers={source.name: _numbers(source, dropped.get(source.name, ())) for source in sources},
        is_noise={source.name: mask_D for source, mask_D in zip(sources, noised.is_noise, strict=True)},
        records=tuple(records),
    )


def _numbers(source: Corpus, dropped: tuple[int, ...]) -> Int[np.ndarray, " D"]:
    return np.delete(np.arange(source.num_documents + len(dropped)), np.array(dropped, int))


def _is_pile(config: FilterAndMix) -> bool:
    """Whether --sources is one source: the user says so, or it is a single file."""
    if len(config.sources) != 1:
        return False
    spec = config.sources[0]
    if config.pile or spec.startswith(TFDS_PREFIX) or is_url(spec):
        return True
    path = Path(expand(spec))
    return path.is_file() and path.suffix.lower() != ".toml"


def _read_pile(config: FilterAndMix) -> tuple[tuple[Corpus, ...], tuple[Corpus, ...]]:
    if not config.target:
        raise InputError("--sources is given without --target; give both, or neither for the built-in demonstration")
    pile = read_any(config.sources[0], field=config.field, limits=config.limits, quality_field=config.quality_field)
    targets = tuple(read_any(target, field=config.field, limits=config.limits) for target in config.target)
    refuse_identical((pile, *targets))
    return (pile,), targets


def _read_sources(config: FilterAndMix) -> tuple[tuple[Corpus, ...], tuple[Corpus, ...]]:
    return read_text(
        config.sources, config.target, config.field, config.limits, config.sources_info, config.quality_field
    )
