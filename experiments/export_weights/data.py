"""What a run left behind: weights.json, and what metrics.json beside it says of its sources."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from experiments.harness.data_sets import Loaded, corpus_again
from experiments.harness.result_files import read_result
from experiments.questions import question_of
from experiments.reporting.json_files import read_json, to_builtins, typed
from experiments.reporting.schema import SHARE_OF_TOKENS, DataSet, MadeBy, Note, Weights
from mixmin_jax import token_mixture
from mixmin_jax.data.text.documents import take_bytes
from mixmin_jax.errors import InputError, closest_names, list_some

RECOMMENDED, NOTES, UNIT = "recommended", "sources", "unit"  # entries of weights.json that are no arms
SAMPLE_BYTES = 8_000_000  # of a source: its tokens per byte vary little between samples of this size
BATCH = 1000  # documents that are tokenized at once


@dataclasses.dataclass(frozen=True)
class Counts:
    """How much a run read of each source."""

    rows: dict[str, int]
    units: dict[str, int]
    unit: str  # bytes, or molecules, of which each is a row

    @property
    def per_row(self) -> dict[str, float]:
        return {name: self.units[name] / rows for name, rows in self.rows.items()}


@dataclasses.dataclass(frozen=True)
class Run:
    """The run beside a weights.json."""

    made_by: MadeBy
    counts: Counts | None  # None: it read no sources
    texts: dict[str, DataSet]  # of the sources, if they are text
    wrote_weights: bool  # whether the weights are as the run wrote them


@dataclasses.dataclass(frozen=True)
class Found:
    """The mixture to export, and where it comes from."""

    arm: str
    weights: Weights
    notes: dict[str, Note]
    run: Run | None


def read_mixture(path: Path, arm: str | None) -> Found:
    """The weights of an arm, by default of the recommended one.

    Raises InputError for a file that is no weights.json, and an arm that is not there (with the closest names).
    """
    held = read_json(path)
    if not isinstance(held, dict):
        raise InputError(f"{path} holds no weights: expected {{arm: {{source: weight}}}}")
    if held and all(type(value) in (int, float) for value in held.values()):
        raise InputError(f'{path} holds one mixture without a name: write {{"mine": {{source: weight, ...}}}}')
    if held.get(UNIT, SHARE_OF_TOKENS) != SHARE_OF_TOKENS:
        raise InputError(
            f"{path}: the weights are of the unit {held[UNIT]!r:.60}, and trainers need each weight as a"
            f" {SHARE_OF_TOKENS}: convert them, or correct {UNIT!r}"
        )
    arms: dict[str, Any] = {name: value for name, value in held.items() if name not in (RECOMMENDED, NOTES, UNIT)}
    recommended = held.get(RECOMMENDED)
    if recommended is not None:
        if not (isinstance(recommended, dict) and {"arm", "weights"} <= recommended.keys()):
            raise InputError(f"{path}: {RECOMMENDED} must hold arm and weights")
        arms[RECOMMENDED] = recommended["weights"]
    wanted = arm if arm is not None else (RECOMMENDED if recommended is not None else "mixmin")
    if wanted not in arms:
        if not arms:
            raise InputError(f"{path} holds no weights: expected {{arm: {{source: weight}}}}")
        asked = (
            f"no arm is called {arm!r}"
            if arm is not None
            else "no arm is recommended or called mixmin: choose one with --arm"
        )
        raise InputError(f"{path}: {asked}; {closest_names(wanted, arms)}")
    weights = typed(arms[wanted], dict[str, float], f"{path}, {wanted}")
    notes = typed(held.get(NOTES, {}), dict[str, Note], f"{path}, {NOTES}")
    try:
        token_mixture(weights)
    except InputError as error:
        raise InputError(f"{path}, {wanted}: {error}") from error
    called = f"{wanted} ({recommended['arm']})" if wanted == RECOMMENDED and recommended else wanted
    return Found(called, weights, notes, _read_run(path, held))


def _read_run(path: Path, held: Any) -> Run | None:
    beside = path.parent / "metrics.json"
    if not beside.exists():
        return None
    question = question_of(beside)
    metrics = read_result(beside, question.metrics)
    return Run(
        made_by=metrics.made_by,
        counts=_counts(metrics),
        texts={record.name: record for record in metrics.data_sets if record.role == "source"},
        wrote_weights=to_builtins(question.files(metrics).get("weights.json")) == held,
    )


def _counts(metrics: Any) -> Counts | None:
    if metrics.experiment == "molecule_mixture":
        molecules = {**metrics.data.sources, metrics.target: metrics.data.target_train.molecules}
        return Counts(molecules, molecules, "molecules")
    if metrics.experiment == "filter_and_mix":
        documents = {name: bucket.documents for name, bucket in metrics.buckets.items()}
        return Counts(documents, {name: bucket.tokens for name, bucket in metrics.buckets.items()}, "bytes")
    if metrics.experiment not in ("text_mixture", "mixed_mixtraining"):
        return None
    if metrics.experiment == "mixed_mixtraining":
        documents = {name: text.documents for name, text in metrics.data.items()}
        return Counts(documents, {name: text.bytes for name, text in metrics.data.items()}, "bytes")
    texts = metrics.data.sources
    documents = {name: text.documents_in_all or text.documents for name, text in texts.items()}
    return Counts(documents, {name: text.size for name, text in texts.items()}, "bytes")


def count_tokens(file: Path, names: list[str], run: Run | None) -> dict[str, float]:
    """Mean tokens per document of sources, read again.

    Tokens per byte of a random sample of documents, times bytes per document of all: the mean over the sample alone
    would vary with the lengths of its documents.

    Raises InputError where there is no such package, no such file, or no text to read.
    """
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise InputError("--tokenizer needs the package tokenizers: pip install tokenizers") from error
    if not file.is_file():
        raise InputError(f"--tokenizer {file}: no such file; it takes a tokenizer.json")
    if run is None:
        raise InputError(
            "--tokenizer reads the text of the run again, and no metrics.json beside the weights says where it is: give"
            " --tokens-per-row"
        )
    if missing := [name for name in names if name not in run.texts]:
        raise InputError(
            f"--tokenizer: the run read no text of {list_some(list(map(repr, missing)))}: give --tokens-per-row for it"
        )
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the package raises Exception itself
        raise InputError(f"--tokenizer {file}: not a tokenizer.json ({error})") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    loaded: Loaded = {}
    found = {}
    for name in names:
        try:
            corpus = corpus_again(run.texts[name], loaded)
        except (OSError, InputError, ImportError) as error:
            raise InputError(
                f"--tokenizer cannot read {name!r} again ({error}): start where the run was started, or give"
                " --tokens-per-row"
            ) from error
        sample = corpus.take(take_bytes(corpus, np.arange(corpus.num_documents), SAMPLE_BYTES))
        texts = [document.decode() for document in sample.documents]
        batches = (texts[start : start + BATCH] for start in range(0, len(texts), BATCH))
        tokens = sum(len(encoding) for batch in batches for encoding in tokenizer.encode_batch(batch))
        found[name] = tokens / sample.num_bytes * (corpus.num_bytes / corpus.num_documents)
    return found
