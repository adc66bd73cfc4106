"""The configuration of the text experiment and its presets."""

import dataclasses
import math
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

ArmName = Literal[
    "mixmin", "mixmin_document", "mixmin_token", "uniform", "natural", "unimax", "random_search", "regmix", "olmix",
    "mde", "none",
]  # fmt: skip
ALL_ARMS: tuple[ArmName, ...] = get_args(ArmName)[:-1]

DEMO_PROXY = LanguageModelRun(TransformerConfig(64, 2, 4), tokens=102_400)
DEMO_MODEL = LanguageModelRun(TransformerConfig(96, 2, 4), tokens=1_228_800, learning_rate=4e-3)


@dataclasses.dataclass(frozen=True)
class TextMixture(ManyModelsOptions):
    """Find the weights of several text sources for a target, train the target model on them, report if it was worth it.

    With no arguments: a demonstration on text that every Python installation carries. Presets: demo (minutes on a
    laptop), small (an hour and a half on two cores for three targets and three seeds), medium (an accelerator; not yet
    run by anyone).
    """

    sources: tuple[Place, ...] = ()
    """A folder with one file or folder per source, or several paths, URLs and TFDS data sets
    (tfds:NAME:FIELD[@SPLIT]), one per source; or a sources.toml that says where they lie. Files are .jsonl, .ndjson,
    .json or .txt (also with .gz, .zst, .xz, .bz2), .parquet, or .arrow as Hugging Face saves data sets."""
    sources_info: Path | None = None
    """A TOML file with a table per source: path, field, tokens, licence, note, and allowed = false for a source that
    may not be used, which is left out. Default: sources.toml in the folder of sources, or beside the paths, if it is
    there."""
    drop_duplicates: bool = False
    """Leave out the documents of the sources that are near-duplicates of target documents."""
    field: str = "text"
    """The field or column that holds the text; `field` in sources.toml for a source of its own."""
    max_unreadable: float = MAX_UNREADABLE
    """The share of the documents of a source that may be unusable (empty, null, cut off, no valid text). They are
    skipped; with more of them the run stops."""
    source_bytes: int | None = None
    """Of a larger source or target a random sample of so many bytes is kept. The sizes of sources are still those of
    the whole. Default: what the longest training can read, and at least 16 MB."""
    target: tuple[Place, ...] = ()
    """One or more targets, each a file, a folder or tfds:NAME:FIELD[@SPLIT]."""
    out: Path = Path("runs/text_mixture")
    """Folder for the results."""
    seeds: int = 1
    """Repeat proxies, weights and arms with seeds 0, 1, ..., and report the spread."""
    extend: bool = False
    """Go on with the run in --out with other sources, targets or arms. Proxies and scores that are there are used
    again, the results so far move to `previous`, and the report says how the weights moved."""
    proxy: Literal["ngram", "transformer", "auto"] = "ngram"
    """The cheap model of each source that `mixmin` is found with: counted n-grams, or a small transformer. auto begins
    with n-grams and climbs to transformers of more and more tokens, up to --search-budget, until a dearer one would not
    change what the weights are worth."""
    rows: str = "auto"
    """What one row of the mixture is for `mixmin`: `document`, `token`, or a number of bytes, such as 64: how far a
    model looks before it knows which source it is in. auto: for n-grams what the benchmark of fidelity chose, for
    transformers tokens."""
    ngram_order: int = 3
    """Bytes of the longest n-grams that are counted."""
    search_budget: float = 0.05
    """With --proxy auto: the most that finding weights may cost, as a share of a target run's FLOPs."""
    proxy_model: LanguageModelRun = DEMO_PROXY
    """The transformer proxy, trained once per source. For `mixmin` it reads of each source the share of the target run
    that it trains for, so that text repeats as in the target run. Runs on random mixtures have its size, and together
    its compute."""
    model: LanguageModelRun = DEMO_MODEL
    """The target model, trained once per arm."""
    arms: tuple[ArmName, ...] = ("mixmin", "uniform", "natural")
    """The mixtures that the target model is trained on. none: only find the weights. mixmin_document and mixmin_token
    are solved from transformer proxies (MixMin as published, and with rows of single tokens); random_search, regmix,
    olmix and mde from runs on random mixtures."""
    compare: tuple[Place, ...] = ()
    """More arms: NAME=FILE with a mixture of your own, such as the one in use today: JSON, {source: weight}."""
    target_tokens: int | None = None
    """Tokens of the real run that the weights are for, where that is not the target model's: --max-epochs and unimax
    refer to it."""
    max_epochs: float | None = None
    """No source is repeated more than this many times in a target run (a cap on its weight, in every arm). Sizes are
    those that were read, or `tokens` in sources.toml."""
    multiples: tuple[float, ...] = ()
    """Also train `natural` on so many times the tokens, such as 1.5 2 3: how much compute is the mixture worth?"""
    price_per_hour: float | None = None
    """Of the machine: costs are also given in money."""
    regmix_runs: int = 64
    """Random mixtures for random_search, regmix, olmix and mde. From 64 on regmix fits boosted trees, below that a
    linear model."""
    combine: Literal["weighted", "worst_case"] | None = None
    """With several targets, one more arm, `combined`: a single mixture for all of them, which minimises the mean of
    their losses (weighted) or the largest excess over what each target's own best mixture gives it (worst_case)."""
    method: Literal["auto", "interior_point", "active_set", "projected_gradient", "mirror_descent"] = "auto"
    """Solver for the weights; all are certified."""
    fit_fraction: float = 0.5
    """Share of the target's documents that weights are fitted on; losses are reported on the others."""
    split_seed: int = 0
    """Seed of that split, and of the samples of large sources."""
    fit_bytes: int = 100_000
    """At most this much text of the fit part is scored (a random subset of its documents)."""
    test_bytes: int = 100_000
    """The same for the part that is reported on."""
    tokens_on: Literal["auto", "device", "host"] = "auto"
    """Where the sources' tokens live: device memory, or the host (fed through Grain, the same examples in the same
    order; of several processes each reads what its own devices train on). auto: the device, up to 2^31 tokens, and the
    host for several processes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.regmix_runs < 2:
            raise InputError(f"--regmix-runs must be at least 2, not {self.regmix_runs}")
        self._check_search()
        _ = self.limits  # for its errors
        if self.extend and self.overwrite:
            raise InputError("--extend keeps the results in --out, --overwrite replaces them: give one of them")
        if self.combine and len(self.target) < 2:
            raise InputError(f"--combine {self.combine} needs several targets; give --target more than one")
        if self.combine == "worst_case" and self.method not in ("auto", "interior_point"):
            raise InputError("--combine worst_case needs --method auto or interior_point; others need a smooth loss")
        if self.method == "active_set" and (self.combine or self.max_epochs is not None):
            other = "--combine" if self.combine else "--max-epochs"
            raise InputError(
                f"--method active_set knows one target and no caps, but {other} is given: use --method auto"
            )
        self.check_batches(proxy_model__batch_size=self.proxy_model.batch_size, model__batch_size=self.model.batch_size)
        if self.proxy_model.sequence_length != self.model.sequence_length:
            raise InputError(
                "--proxy-model.sequence-length and --model.sequence-length must be equal: both read the same windows"
            )

    def _check_search(self) -> None:
        if not 1 <= self.ngram_order <= MAX_ORDER:
            raise InputError(f"--ngram-order must be 1 to {MAX_ORDER}, not {self.ngram_order}")
        if self.rows != "auto":
            row_length(self.rows)
        if not 0 < self.search_budget <= 1:
            raise InputError(
                f"--search-budget must be a share of a target run, above 0 and at most 1 (0.05 for 5 %), not"
                f" {self.search_budget}"
            )
        if "none" in self.arms and (self.arms != ("none",) or self.compare or self.multiples or self.seeds > 1):
            raise InputError(
                "--arms none trains no target model: leave out other arms, --compare, --multiples, --seeds"
            )
        if self.arms != ("none",) and not {"mixmin", "natural"} <= set(self.arms):
            raise InputError("--arms must hold mixmin and natural, which all others are compared with, or be none")
        if self.multiples and self.max_epochs is not None:
            raise InputError("--multiples repeats text more than --max-epochs allows: leave out one of the two")
        if self.combine and self.arms == ("none",):
            raise InputError(f"--combine {self.combine} is an arm: leave it out with --arms none")
        if self.target_tokens is not None and self.target_tokens < self.model.batch_size * self.model.sequence_length:
            raise InputError(f"--target-tokens {self.target_tokens} is less than one batch of the target model")
        finite = all(1 < multiple < math.inf for multiple in self.multiples)
        if not finite or list(self.multiples) != sorted({*self.multiples}):
            raise InputError(f"--multiples must be above 1 and rise, not {' '.join(map(str, self.multiples))}")

    @property
    def limits(self) -> Limits:
        """How much is read of sources and targets, and what is kept."""
        longest = max(self.model.tokens * max((1.0, *self.multiples)), self.proxy_model.tokens)
        kept = max(int(longest), IN_MEMORY) if self.source_bytes is None else self.source_bytes
        return Limits(self.max_unreadable, kept, self.split_seed)

    @property
    def demonstration(self) -> bool:
        return not self.sources


PRESETS: Mapping[str, TextMixture] = {
    "demo": TextMixture(),  # minutes on a laptop
    "small": TextMixture(  # an hour and a half on two cores for three targets and three seeds
        proxy_model=LanguageModelRun(TransformerConfig(64, 2, 4), tokens=384_000),
        model=LanguageModelRun(TransformerConfig(96, 2, 4), tokens=2_048_000, learning_rate=4e-3),
        arms=ALL_ARMS,
        multiples=(1.5, 2.0, 3.0),
    ),
    "medium": TextMixture(  # one accelerator; not yet run by anyone
        arms=ALL_ARMS,
        multiples=(1.5, 2.0, 3.0),
        proxy_model=LanguageModelRun(
            TransformerConfig(256, 4, 8, bfloat16=True),
            tokens=20_480_000,
            sequence_length=512,
            batch_size=32,
            learning_rate=1e-3,
        ),
        model=LanguageModelRun(
            TransformerConfig(512, 8, 8, bfloat16=True, remat=True),
            tokens=204_800_000,
            sequence_length=512,
            batch_size=32,
            learning_rate=1e-3,
        ),
        fit_bytes=2_000_000,
        test_bytes=2_000_000,
    ),
}
