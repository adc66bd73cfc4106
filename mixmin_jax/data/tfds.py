"""Text from TensorFlow Datasets, read through `tfds.data_source`, which needs no TensorFlow.

A data set is named `tfds:NAME:FIELD` or `tfds:NAME:FIELD@SPLIT`. NAME is TFDS's own, with a config and version where
wanted (`paws_x_wiki/en`, `ag_news_subset:1.0.0`); FIELD is a text feature, nested ones with a slash (`translation/en`);
SPLIT is TFDS's own too (`test`, `train[:10%]`) and `train` by default.
"""

import re
from typing import Any

import numpy as np

from mixmin_jax.data.text.documents import Corpus
from mixmin_jax.data.tfds_builders import TFDS_PREFIX, find_builder, open_split
from mixmin_jax.errors import InputError


def read_tfds(spec: str, name: str | None = None, data_dir: str | None = None) -> Corpus:
    """The texts of one field, one example a document; `name` defaults to `default_name(spec)`.

    A data set that is not in `data_dir` (default: TFDS's, `~/tensorflow_datasets` or `TFDS_DATA_DIR`) is downloaded
    and prepared. Documents without any visible character are skipped and counted.

    Raises InputError for a spec of another form, an unknown data set (with the closest names), config, version or
    split, a field that is missing or not text (with the fields), no text at all, invalid UTF-8, a data set prepared
    in another file format, and one that is neither prepared nor can be fetched.
    """
    dataset, field, split = _parse(spec)
    builder = find_builder(spec, dataset, data_dir)
    fields = _text_fields(builder.info.features)
    if field not in fields:
        raise InputError(
            f"{spec}: {field!r} is not a text field of it; those are {', '.join(sorted(fields)) or 'none'}"
        )
    examples = open_split(spec, builder, dataset, split, data_dir)
    texts = [_text(spec, number, example, field) for number, example in enumerate(examples)]
    documents = tuple(text for text in texts if text.decode().strip())
    if not documents:
        raise InputError(f"{spec}: no document with text in it")
    origin = f"{TFDS_PREFIX}{builder.info.full_name}:{field}@{split}"  # with the version that was read
    return Corpus(name or default_name(spec), documents, origin, len(texts) - len(documents))


def default_name(spec: str) -> str:
    """`tfds:paws_x_wiki/en:sentence1@test` -> `paws_x_wiki_en_sentence1_test`: fit for a folder, two fields differ."""
    return re.sub(r"[^\w.-]+", "_", spec.removeprefix(TFDS_PREFIX)).strip("_")


def _parse(spec: str) -> tuple[str, str, str]:
    body, _, split = spec.removeprefix(TFDS_PREFIX).partition("@")
    dataset, _, field = body.rpartition(":")  # the last colon: NAME may hold one before its version
    if not spec.startswith(TFDS_PREFIX) or not dataset or not field or ("@" in spec and not split):
        raise InputError(f"{spec}: expected tfds:NAME:FIELD or tfds:NAME:FIELD@SPLIT, as in tfds:ag_news_subset:title")
    return dataset, field, split or "train"


def _text_fields(features: Any, prefix: str = "") -> list[str]:
    """Paths of the features that are one string an example."""
    if hasattr(features, "items"):
        return [path for key, feature in features.items() for path in _text_fields(feature, f"{prefix}/{key}")]
    is_text = features.np_dtype == np.object_ and features.shape == ()
    return [prefix.removeprefix("/")] if is_text else []


def _text(spec: str, number: int, example: Any, field: str) -> bytes:
    for part in field.split("/"):
        example = example[part]
    try:
        text = example.encode() if isinstance(example, str) else bytes(example)
        text.decode()
    except UnicodeError as error:
        raise InputError(f"{spec}, example {number}: not valid UTF-8 ({error})") from error
    return text
