"""The options of `experiments.export_weights`."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

FormatName = Literal[
    "huggingface", "trl", "llama_factory", "megatron", "megatron_json", "levanter", "maxtext", "grain", "olmo_core",
    "mosaicml", "torchtitan", "torchtitan_grain", "litdata", "seqio",
]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class ExportWeights:
    """Write a mixture that a run found in the words of another trainer.

    Weights are shares of tokens. A trainer that draws documents gets probabilities p_i in proportion to w_i / l_i,
    with l_i the mean number of tokens per document: as counted with --tokenizer, as given with --tokens-per-row, or
    else the bytes per document that metrics.json beside the weights knows. Sources without tokens are left out.
    """

    weights: tyro.conf.Positional[Path]
    """The weights.json of a run. Where the run's metrics.json lies beside it, sizes and provenance come from there."""

    to: FormatName
    """The trainer."""

    arm: str | None = None
    """The mixture to export; by default the one that the run recommends, or else mixmin."""

    tokens_per_row: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE ...")] = ()
    """Mean number of tokens in a row (a document) of each source, in your tokenizer's tokens: web=870 code=2100."""

    tokenizer: Path | None = None
    """A tokenizer.json: count tokens with it, in a sample of the text that the run read. Needs the package
    tokenizers, and the text where it was (start where the run was started)."""

    tokens: float | None = None
    """Tokens of your training, such as 100e9: the file then says how often each source is read. Sizes come from
    `tokens` in sources.toml, or from the documents of the run and their tokens."""

    draws: Literal["documents", "sequences"] | None = None
    """What the trainer draws: documents of all lengths, or sequences that all have the same number of tokens. Needed
    for grain, mosaicml, litdata and seqio, unless --tokens-per-row or --tokenizer says what a row is."""

    path: str | None = None
    """Where the trainer finds a source, with {name} for its name: 'gs://corpus/{name}/*.parquet'."""

    block_size: int | None = None
    """For levanter: sequences per block. Sources with a share below one sequence per block cannot be expressed."""

    max_repetition_ratio: float | None = None
    """For olmo_core: how often a source may be read."""

    out: Path | None = None
    """The file to write; by default it is printed."""

    overwrite: bool = False
    """Replace the file that --out names."""
