"""The configuration of the experiment that filters and mixes at once, and its presets."""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

from experiments.harness.options import ManyModelsOptions
from experiments.harness.paths import Place
from mixmin_jax.data.text.reading import MAX_UNREADABLE, Limits
from mixmin_jax.data.text.stored_documents import IN_MEMORY
from mixmin_jax.errors import InputError
from mixmin_jax.mixture.rows import row_length
from mixmin_jax.models.ngram import MAX_ORDER
from mixmin_jax.models.transformer import TransformerConfig
from mixmin_jax.training.language_model import LanguageModelRun

ArmName = Literal["filter_and_mix", "filter_then_mix", "mix", "filter", "random", "natural", "none"]
ALL_ARMS: tuple[ArmName, ...] = get_args(ArmName)[:-1]
SUBJECT = "filter_and_mix"
DEMO_NOISE = 0.1  # of the built-in documents

DEMO_MODEL = LanguageModelRun(TransformerConfig(96, 2, 4), tokens=614_400, learning_rate=4e-3)
SMALL_MODEL = LanguageModelRun(TransformerConfig(96, 2, 4), tokens=1_228_800, learning_rate=4e-3)
_PARTS = re.compile(r"(quality|topics):([1-9]\d*)")


@dataclasses.dataclass(frozen=True)
class Cut:
    """How sources are cut into buckets; None where not by that."""

    quality: int | None
    topics: int | None


@dataclasses.dataclass(frozen=True)
class FilterAndMix(ManyModelsOptions):
    """Decide at once which text to leave out and how much of the rest to take, for one or more targets.

    Each source is cut into buckets by quality, by topic, or by both. One convex problem finds the weight of every
    bucket; buckets that the target does not need get none.

    With no arguments: a demonstration on text that every Python installation carries, a tenth of it replaced by noise.
    Presets: demo (minutes on a laptop), small (an hour and a half on two cores for three targets and three seeds).
    """

    sources: tuple[Place, ...] = ()
    """A folder with one file or folder per source, or several paths, URLs and TFDS data sets, one per source; or a
    sources.toml (as for text_mixture). A single file is one pile: `topics` then cut it into sources."""
    pile: bool = False
    """--sources is one folder with the files of one pile, not one source each."""
    sources_info: Path | None = None
    """A TOML file with a table per source: path, field, tokens, licence, note, allowed. Default: sources.toml in the
    folder of sources, or beside the paths, if it is there."""
    field: str = "text"
    """The field or column that holds the text."""
    max_unreadable: float = MAX_UNREADABLE
    """The share of the documents of a source that may be unusable. They are skipped; with more the run stops."""
    source_bytes: int | None = None
    """Of a larger source or target a random sample of so many bytes is kept. Default: what the longest training can
    read, and at least 16 MB."""
    drop_duplicates: bool = False
    """Leave out the documents of the sources that are near-duplicates of target documents."""
    quality_field: str | None = None
    """A field or column with a quality score of each document (higher is better). Default: a score is computed from
    the text and the fit part of the target."""
    buckets: str = "quality:10"
    """How each source is cut: quality:Q (Q parts of equal size by quality), topics:T (by T topics, found over all
    documents), or both, as in quality:4xtopics:8."""
    noise: float | None = None
    """Replace this share of the documents of each source by noise of three kinds (shuffled characters, boilerplate,
    a language that no target has), to see whether it is found. Default: none; in the demonstration a tenth."""
    target: tuple[Place, ...] = ()
    """One or more targets, each a file, a folder or tfds:NAME:FIELD[@SPLIT]."""
    out: Path = Path("runs/filter_and_mix")
    """Folder for the results."""
    seeds: int = 1
    """Repeat the training of every arm with seeds 0, 1, ..., and report the spread. The weights are found once."""
    arms: tuple[ArmName, ...] = ALL_ARMS
    """The mixtures that the target model is trained on. filter: all sources as they are, without the documents below
    the one quality that is best for the target. mix: weights of whole sources. filter_then_mix: first the one, then
    the other. filter_and_mix: weights of buckets. random: random weights of buckets. none: only find the weights."""
    model: LanguageModelRun = DEMO_MODEL
    """The target model, trained once per arm."""
    max_epochs: float | None = None
    """No bucket is repeated more than this many times in a target run: a cap on its weight, in every arm."""
    max_share: tuple[str, ...] = ()
    """Caps on what several buckets have together: source=NAME:SHARE or licence=NAME:SHARE (licence=unknown:0.1: of
    sources without one in sources.toml)."""
    min_share: tuple[str, ...] = ()
    """Floors: source=NAME:SHARE. Spread over the source's buckets in proportion to their sizes."""
    ngram_order: int = 3
    """Bytes of the longest n-grams that are counted in each bucket."""
    rows: str = "16"
    """What one row of the mixture is: document, token, or a number of bytes (see text_mixture)."""
    fit_fraction: float = 0.5
    """Share of the target's documents that weights are fitted on; losses are reported on the others."""
    split_seed: int = 0
    """Seed of that split, of the samples of large sources, of topics and of noise."""
    fit_bytes: int = 100_000
    """At most this much text of the fit part is scored (a random subset of its documents)."""
    test_bytes: int = 100_000
    """The same for the part that is reported on."""
    write_buckets: bool = False
    """Also write the documents of each bucket with weight to a file in buckets/, for trainers that read files;
    sources.toml there says which is which."""
    price_per_hour: float | None = None
    """Of the machine: costs are also given in money."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.limits, self.cut  # for their errors
        if not 0 <= self.noise_share < 1:
            raise InputError(f"--noise must be at least 0 and less than 1, not {self.noise}")
        if not 1 <= self.ngram_order <= MAX_ORDER:
            raise InputError(f"--ngram-order must be 1 to {MAX_ORDER}, not {self.ngram_order}")
        row_length(self.rows)
        if "none" in self.arms and (self.arms != ("none",) or self.seeds > 1):
            raise InputError("--arms none trains no target model: leave out other arms and --seeds")
        if "none" not in self.arms and SUBJECT not in self.arms:
            raise InputError(f"--arms needs {SUBJECT}, which all others are compared with")
        if self.pile and len(self.sources) != 1:
            raise InputError("--pile is for one folder: give --sources one path")
        if self.quality_field is not None and self.cut.quality is None and "filter" not in self.arms:
            raise InputError("--quality-field is used by --buckets quality:Q and by the arm filter: give one of them")
        if self.quality_field is not None and self.demonstration:
            raise InputError("--quality-field is of --sources, which are not given")
        if self.quality_field is not None and self.noise_share:
            raise InputError("--noise replaces documents, whose quality nobody knows: leave out --quality-field")
        self.check_batches(model__batch_size=self.model.batch_size)

    @property
    def demonstration(self) -> bool:
        """Whether built-in text is used."""
        return not self.sources and not self.target

    @property
    def noise_share(self) -> float:
        """Of the documents of each source."""
        return DEMO_NOISE * self.demonstration if self.noise is None else self.noise

    @property
    def trained_arms(self) -> tuple[ArmName, ...]:
        """In the order of every report."""
        return tuple(arm for arm in ALL_ARMS if arm in self.arms)

    @property
    def cut(self) -> Cut:
        """--buckets, read."""
        parts = [_PARTS.fullmatch(part) for part in self.buckets.split("x")]
        found = {part[1]: int(part[2]) for part in parts if part}
        if None in parts or len(found) < len(parts):
            raise InputError(
                f"--buckets {self.buckets}: expected quality:Q, topics:T or quality:Qxtopics:T with numbers from 1 on,"
                " such as quality:4, topics:24 or quality:4xtopics:8"
            )
        return Cut(found.get("quality"), found.get("topics"))

    @property
    def limits(self) -> Limits:
        """What is read of each source and target."""
        kept = max(IN_MEMORY, self.model.tokens) if self.source_bytes is None else self.source_bytes
        return Limits(self.max_unreadable, kept, self.split_seed)


PRESETS: Mapping[str, FilterAndMix] = {
    "demo": FilterAndMix(),
    "small": FilterAndMix(model=SMALL_MODEL),
}
