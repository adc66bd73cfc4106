"""Text from TensorFlow Datasets, read through `tfds.data_source`, which needs no TensorFlow.

A data set is named `tfds:NAME:FIELD` or `tfds:NAME:FIELD@SPLIT`. NAME is its name in TFDS, with an optional config and
version (`paws_x_wiki/en`, `ag_news_subset:1.0.0`). FIELD is a text feature; a slash separates nested names
(`translation/en`). SPLIT is a split in TFDS (`test`, `train[:10%]`), by default `train`.
"""

import contextlib
import dataclasses
import functools
from typing import Any

import numpy as np

from mixmin_jax.data.text.documents import WHOLE, Corpus, Limits, Reading, corpus_of
from mixmin_jax.data.text.shards import TFDS, Shard, Shards
from mixmin_jax.data.tfds_builders import TFDS_PREFIX, default_name, find_builder, open_split
from mixmin_jax.errors import InputError


def read_tfds(spec: str, name: str | None = None, data_dir: str | None = None, limits: Limits = WHOLE) -> Corpus:
    """The texts of one field, one document per example, read and sampled as files are (`read_corpus`).

    A data set that is not in `data_dir` is downloaded and prepared.

    Args:
        spec: data set, field and split.
        name: name of the corpus; None: `default_name(spec)`.
        data_dir: folder of prepared data sets; None: `TFDS_DATA_DIR` or `~/tensorflow_datasets`.
        limits: what is kept.

    Raises:
        InputError: a spec of another form; a field that is missing or not text (lists the fields); too many documents
            that cannot be used, or none that can; errors of `find_builder` and `open_split`.
    """
    dataset, field, split = _parse(spec)
    builder = find_builder(spec, dataset, data_dir)
    fields = _text_fields(builder.info.features)
    if field not in fields:
        raise InputError(
            f"{spec}: {field!r} is not a text field of it; those are {', '.join(sorted(fields)) or 'none'}"
        )
    examples = open_split(spec, builder, split)
    origin = f"{TFDS_PREFIX}{builder.info.full_name}:{field}@{split}"  # with the version that was read
    stamp = f"{builder.data_dir} {builder.info.dataset_size} {len(examples)}"
    shard = Shard(spec, origin, TFDS, "", 0, stamp, functools.partial(contextlib.nullcontext, examples))
    read = corpus_of(Reading(name or default_name(spec), Shards((shard,), ()), field, limits), origin)
    return dataclasses.replace(read, field=None)  # the origin names it


def _parse(spec: str) -> tuple[str, str, str]:
    body, _, split = spec.removeprefix(TFDS_PREFIX).partition("@")
    dataset, _, field = body.rpartition(":")  # the last colon: NAME may hold one before its version
    if not spec.startswith(TFDS_PREFIX) or not dataset or not field or ("@" in spec and not split):
        raise InputError(f"{spec}: expected tfds:NAME:FIELD or tfds:NAME:FIELD@SPLIT, as in tfds:ag_news_subset:title")
    return dataset, field, split or "train"


def _text_fields(features: Any, prefix: str = "") -> list[str]:
    """Paths of the features that hold one string per example."""
    if hasattr(features, "items"):
        return [path for key, feature in features.items() for path in _text_fields(feature, f"{prefix}/{key}")]
    is_text = features.np_dtype == np.object_ and features.shape == ()
    return [prefix.removeprefix("/")] if is_text else []
