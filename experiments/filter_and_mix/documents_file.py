"""What other pipelines take from a run: the weight of every document, and the documents of each bucket.

Columns of documents.parquet:

    source      name of the source
    document    its number among the documents that were read of the source, from 0 on
    sha256      first 16 hexadecimal digits of that of its text, to find it again wherever it lies
    bucket      the bucket that it fell into
    quality     its quality, higher is better
    weight      its share of the training tokens under the recommended arm (weights.json); all sum to 1
    rate        how many times as often as in natural proportions it is read: 0 for documents that are left out
"""

import gzip
import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from experiments.filter_and_mix.data import Texts
from experiments.filter_and_mix.results import FilterMetrics
from experiments.filter_and_mix.stages import Searched
from experiments.harness.result_files import file_name, replacing


def write_documents(path: Path, searched: Searched, metrics: FilterMetrics, texts: Texts) -> None:
    """documents.parquet of one target."""
    cutting, arm = searched.cutting, metrics.arms[metrics.recommended]
    weight_K = np.array([arm.weights[name] for name in cutting.names])
    taken_N = np.ones(len(cutting.bucket_N), bool) if arm.threshold is None else cutting.quality_N >= arm.threshold
    tokens_N = np.where(taken_N, cutting.tokens_N, 0)
    weight_N = (weight_K / np.maximum(np.bincount(cutting.bucket_N, tokens_N), 1))[cutting.bucket_N] * tokens_N
    names = [source.name for source in cutting.sources]
    everything = (document for source in cutting.sources for document in source.documents)
    table = pa.table(
        {
            "source": pa.DictionaryArray.from_arrays(cutting.source_N.astype(np.int32), names),
            "document": np.concatenate([texts.numbers[name] for name in names]),
            "sha256": [hashlib.sha256(document).hexdigest()[:16] for document in everything],
            "bucket": pa.DictionaryArray.from_arrays(cutting.bucket_N.astype(np.int32), list(cutting.names)),
            "quality": cutting.quality_N,
            "weight": weight_N,
            "rate": weight_N / (cutting.tokens_N / cutting.tokens_N.sum()),
        }
    )
    with replacing(path) as partial:
        pa.parquet.write_table(table, partial)


def write_buckets(folder: Path, searched: Searched, metrics: FilterMetrics) -> None:
    """The documents of each bucket with weight, one JSON object a line, and sources.toml with what is known of them."""
    folder.mkdir(parents=True, exist_ok=True)
    cutting, notes = searched.cutting, []
    for number, name in enumerate(cutting.names):
        if not metrics.buckets[name].weight:
            continue
        path = folder / f"{file_name(name)}.jsonl.gz"
        with replacing(path) as partial, gzip.open(partial, "wt", encoding="utf-8") as stream:
            for document in cutting.documents(cutting.bucket_N == number):
                stream.write(json.dumps({"text": document.decode()}, ensure_ascii=False) + "\n")
        note = metrics.source_notes.get(metrics.buckets[name].source)
        notes += [f"[{json.dumps(name, ensure_ascii=False)}]", f"path = {json.dumps(path.name, ensure_ascii=False)}"]
        for key, value in (("licence", note.licence), ("note", note.note)) if note else ():
            notes += [f"{key} = {json.dumps(value, ensure_ascii=False)}"] * bool(value)
    with replacing(folder / "sources.toml") as partial:
        partial.write_text("\n".join(notes) + "\n", encoding="utf-8")
