"""The trainers whose words are known, and the function that writes a mixture in them."""

import dataclasses
from collections.abc import Callable, Sequence

from mixmin_jax.errors import InputError, closest_names
from mixmin_jax.export.grain_mix import grain
from mixmin_jax.export.hugging_face import huggingface, trl
from mixmin_jax.export.levanter import levanter
from mixmin_jax.export.litdata import litdata
from mixmin_jax.export.llama_factory import llama_factory
from mixmin_jax.export.maxtext import maxtext
from mixmin_jax.export.megatron import megatron, megatron_json
from mixmin_jax.export.mosaicml import mosaicml
from mixmin_jax.export.olmo_core import olmo_core
from mixmin_jax.export.request import Draws, Request
from mixmin_jax.export.seqio import seqio
from mixmin_jax.export.token_mixture import TokenMixture
from mixmin_jax.export.torchtitan import torchtitan, torchtitan_grain


@dataclasses.dataclass(frozen=True)
class Format:
    """The words of one trainer."""

    write: Callable[[Request], str]
    place: str  # where sources are by default; {name} stands for the name of one
    draws: tuple[Draws, ...] = ("documents", "sequences")  # what it can draw
    usually: Draws | None = None  # what it draws unless it is told otherwise; None: it must be told


FORMATS = {
    "huggingface": Format(huggingface, "data/{name}", usually="documents"),
    "trl": Format(trl, "data/{name}", usually="documents"),
    "llama_factory": Format(llama_factory, "{name}", usually="documents"),
    "megatron": Format(megatron, "data/{name}_text_document", ("sequences",), "sequences"),
    "megatron_json": Format(megatron_json, "data/{name}_text_document", ("sequences",), "sequences"),
    "levanter": Format(levanter, "data/{name}.jsonl.gz", ("sequences",), "sequences"),
    "maxtext": Format(maxtext, "data/{name}/*.array_record", usually="documents"),
    "grain": Format(grain, "data/{name}/*.array_record"),
    "olmo_core": Format(olmo_core, "data/{name}/*.npy", ("sequences",), "sequences"),
    "mosaicml": Format(mosaicml, "data/{name}"),
    "torchtitan": Format(torchtitan, "data/{name}/*.jsonl", ("sequences",), "sequences"),
    "torchtitan_grain": Format(torchtitan_grain, "data/{name}/*.jsonl", ("sequences",), "sequences"),
    "litdata": Format(litdata, "data/{name}"),
    "seqio": Format(seqio, "{name}"),
}


def export_mixture(
    mixture: TokenMixture,
    to: str,
    *,
    draws: Draws | None = None,
    place: str | None = None,
    origin: Sequence[str] = (),
    block_size: int | None = None,
    max_repetition_ratio: float | None = None,
) -> str:
    """A mixture in the words of another trainer: the text of a file, with a comment on what is in it.

    Args:
        mixture: shares of tokens, and what is known of the sources (see `token_mixture`).
        to: huggingface, trl, llama_factory, megatron, megatron_json, levanter, maxtext, grain, olmo_core, mosaicml,
            torchtitan, torchtitan_grain, litdata or seqio.
        draws: whether the trainer draws documents, or sequences that all have the same number of tokens. Needed for
            grain, mosaicml, litdata and seqio, which draw what their files hold.
        place: where the trainer finds a source, such as `gs://corpus/{name}/*.jsonl.gz`.
        origin: lines for the comment that say where the weights come from.
        block_size: for levanter, sequences per block.
        max_repetition_ratio: for olmo_core, how often a source may be read.

    Raises:
        InputError: an unknown trainer, a mixture that it cannot express, or an option that it does not have.
    """
    if to not in FORMATS:
        raise InputError(f"no trainer is called {to!r}; {closest_names(to, FORMATS)}")
    known = FORMATS[to]
    if draws is not None and draws not in known.draws:
        raise InputError(f"{to} draws {known.draws[0]}, not {draws}")
    drawn = draws or known.usually
    if drawn is None:
        raise InputError(
            f"{to} draws what its files hold: say whether they hold documents, or sequences that all have the same"
            " number of tokens (draws)"
        )
    place = known.place if place is None else place
    if "{name}" not in place and len(mixture.shares) > 1:
        raise InputError(f"{place!r} would be the place of all sources: write {{name}} where their names belong")
    for option, value, its in (
        ("block_size", block_size, "levanter"),
        ("max_repetition_ratio", max_repetition_ratio, "olmo_core"),
    ):
        if value is not None and its != to:
            raise InputError(f"{option} is an option of {its}, and {to} has none of that kind")
    return known.write(Request(mixture, drawn, place, tuple(origin), block_size, max_repetition_ratio))
