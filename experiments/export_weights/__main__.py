"""Write a mixture in the words of another trainer: Hugging Face, Megatron, Levanter, MaxText, OLMo-core, and others.

python -m experiments.export_weights runs/mine/news/weights.json --to levanter --path 'gs://corpus/{name}/*.parquet'
    --tokenizer tokenizer.json --tokens 100e9 --out mixture.yaml
"""

import math
import sys
from collections.abc import Mapping

from experiments.export_weights.config import ExportWeights
from experiments.export_weights.data import Found, count_tokens, read_mixture
from experiments.harness.assignments import parse_assignments
from experiments.harness.command_line import run
from experiments.harness.result_files import write_text
from mixmin_jax import TokenMixture, export_mixture, token_mixture
from mixmin_jax.errors import InputError
from mixmin_jax.export.formats import FORMATS
from mixmin_jax.export.request import Draws


def main(config: ExportWeights) -> None:
    """Read, count, write; nothing is written where the trainer cannot express the mixture."""
    if config.tokens is not None and not (math.isfinite(config.tokens) and config.tokens >= 1):
        raise InputError(f"--tokens must be a number of tokens, such as 100e9, not {config.tokens}")
    if config.out is not None and config.out.exists() and not config.overwrite:
        raise InputError(f"{config.out} is there already: choose another --out, or give --overwrite")
    found = read_mixture(config.weights, config.arm)
    per_row, counted_by = row_lengths(config, found)
    draws = config.draws or FORMATS[config.to].usually or _said(counted_by)
    mixture = token_mixture(
        found.weights,
        tokens_per_row=per_row,
        source_tokens=source_sizes(found, per_row, counted_by),
        budget=config.tokens,
    )
    text = export_mixture(
        mixture,
        config.to,
        draws=draws,
        place=config.path,
        origin=origin(config, found, counted_by if draws == "documents" else None),
        block_size=config.block_size,
        max_repetition_ratio=config.max_repetition_ratio,
    )
    if config.out is None:
        write_to_stdout(text)
    else:
        write_text(config.out, text)
        print(f"{config.out}: {found.arm} of {config.weights} for {config.to}")
    for line in remarks(found, mixture, counted_by if draws == "documents" else None):
        print(line, file=sys.stderr)


def write_to_stdout(text: str) -> None:
    """Print a file; a name in it must not become another. Raises InputError for what the terminal cannot print."""
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError as error:
        name = text[error.start : error.end]
        raise InputError(
            f"stdout is {error.encoding}, which has no {name!a}: write to a file with --out, or set"
            " PYTHONIOENCODING=utf-8"
        ) from error
    sys.stdout.write(text)


def row_lengths(config: ExportWeights, found: Found) -> tuple[dict[str, float], str | None]:
    """Mean tokens per row of the sources that have any weight, and how they were counted; None if they were not."""
    names = list(token_mixture(found.weights).shares)
    given = parse_assignments(config.tokens_per_row, "--tokens-per-row", tuple(found.weights))
    counts = found.run.counts if found.run else None
    if config.tokenizer is not None:
        counted = count_tokens(config.tokenizer, [name for name in names if name not in given], found.run)
        return counted | given, f"tokens of {config.tokenizer}"
    if given:
        return given, "tokens as given"
    if counts is None:
        return {}, None
    return {name: length for name, length in counts.per_row.items() if name in names}, counts.unit


def source_sizes(found: Found, per_row: Mapping[str, float], counted_by: str | None) -> dict[str, float]:
    """Tokens of the sources: as sources.toml says, or else rows times tokens per row. Bytes are no tokens."""
    rows = found.run.counts.rows if found.run and found.run.counts and counted_by != "bytes" else {}
    counted = {name: rows[name] * length for name, length in per_row.items() if name in rows}
    noted = {name: note.tokens for name, note in found.notes.items() if note.tokens is not None}
    return {name: size for name, size in (counted | noted).items() if name in found.weights}


def _said(counted_by: str | None) -> Draws | None:
    """What is drawn by a trainer that may draw anything: documents, where somebody said how long they are."""
    return None if counted_by in (None, "bytes") else "documents"


def origin(config: ExportWeights, found: Found, counted_by: str | None) -> tuple[str, ...]:
    """Where the weights come from, without a date, so that the same weights give the same file."""
    lines = [f"{found.arm} of {config.weights}, by mixmin_jax"]
    if found.run is not None:
        made_by = found.run.made_by
        lines.append(f"found by: {made_by.command} (commit {made_by.git_commit or 'unknown'})")
        if not found.run.wrote_weights:
            lines.append("the weights are not those that the run wrote")
    if counted_by == "bytes":
        lines.append("tokens per row: bytes per document in that run")
    elif counted_by is not None:
        lines.append(f"tokens per row: {counted_by}")
    return tuple(lines)


def remarks(found: Found, mixture: TokenMixture, counted_by: str | None) -> list[str]:
    """What a user should know of the file that was written."""
    lines = []
    if found.run is not None and not found.run.wrote_weights:
        lines.append("the weights are not those that the run beside them (metrics.json) wrote")
    if mixture.dropped:
        lines.append(f"left out, as they get no tokens: {', '.join(mixture.dropped)}")
    if counted_by == "bytes":
        lines.append("rows are counted in bytes: with --tokenizer or --tokens-per-row they are in your tokens")
    if mixture.budget is not None:
        epochs = mixture.epochs
        lines += [f"epochs of {name}: {epochs[name]:.4g}" for name in mixture.shares if name in epochs]
        if unknown := [name for name in mixture.shares if name not in epochs]:
            lines.append(
                f"epochs of {', '.join(unknown)}: unknown; give `tokens` in sources.toml before the run, or --tokenizer"
            )
    return lines


if __name__ == "__main__":
    run(ExportWeights, main)
