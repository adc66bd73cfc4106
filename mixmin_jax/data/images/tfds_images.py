"""Labeled images from TensorFlow Datasets, read through `tfds.data_source` and decoded with Pillow.

A data set is named `tfds:NAME`. NAME is its name in TFDS, with an optional config and version (`cifar10`,
`cifar10_corrupted/frost_3`, `cifar10:3.0.2`).
"""

import dataclasses
from typing import Any

import numpy as np

from mixmin_jax.data.images.decoding import Encoded, Part, decode_images, decode_unlabeled
from mixmin_jax.data.images.image_sets import NO_LABEL, Images, add_unlabeled
from mixmin_jax.data.images.split_names import role_of
from mixmin_jax.data.tfds_builders import TFDS_PREFIX, default_name, find_builder, open_split
from mixmin_jax.errors import InputError

_TEST_SPLITS = ("test", "validation")


def read_tfds_images(
    spec: str,
    size: int | None = None,
    max_skipped: float = 0.01,
    data_dir: str | None = None,
    *,
    with_unlabeled: bool = True,
    train_copies: float = 0.0,
) -> Images:
    """The splits `train` and `test` (or `validation`); with neither, a part of `train` is split off as the test set.

    Image and label are the data set's supervised keys, or else its only image and only class label. A split `unlabeled`
    (`unlabelled`, `unsup`) holds images without labels. A data set that is not in `data_dir` is downloaded and
    prepared.

    Args:
        spec: the data set.
        size, max_skipped, with_unlabeled, train_copies: as in `folders.read_image_folder`.
        data_dir: folder of prepared data sets; None: that of TFDS.

    Raises:
        InputError: a spec of another form; features that are not one 8-bit image and one class label (lists them); an
            example without a label; errors of `tfds_builders` and `decode_images`.
    """
    dataset = spec.removeprefix(TFDS_PREFIX)
    if not spec.startswith(TFDS_PREFIX) or not dataset or "@" in dataset:
        raise InputError(f"{spec}: expected tfds:NAME, as in tfds:cifar10; train and test are its own splits")
    builder = find_builder(spec, dataset, data_dir)
    image, label = _supervised(spec, builder.info)
    train = _part(spec, builder, "train", image, label)  # first: before its download a data set may not know its splits
    test_split = next((split for split in _TEST_SPLITS if split in builder.info.splits), None)
    test = _part(spec, builder, test_split, image, label) if test_split else None
    classes = tuple(builder.info.features[label].names)
    images = decode_images(default_name(spec), classes, train, test, size, max_skipped, train_copies)
    others = [split for split in builder.info.splits if role_of(split) == "unlabeled"]
    if not others:
        return images
    if not with_unlabeled:
        notice = f"{spec}: the split {others[0]} is left out, which holds images without labels"
        return dataclasses.replace(images, notices=(notice,))
    unlabeled = _part(spec, builder, others[0], image, None)
    return add_unlabeled(images, decode_unlabeled(unlabeled, images.train, size, max_skipped))


def list_tfds_unlabeled(spec: str, data_dir: str | None = None) -> Part:
    """The images of `tfds:NAME@SPLIT`; without @SPLIT of the split `unlabeled`, `unlabelled` or `unsup`, or of `train`.

    Raises:
        InputError: a spec of another form, features without exactly one 8-bit image, errors of `tfds_builders`.
    """
    dataset, at, split = spec.removeprefix(TFDS_PREFIX).partition("@")
    if not spec.startswith(TFDS_PREFIX) or not dataset or (at and not split):
        raise InputError(f"{spec}: expected tfds:NAME or tfds:NAME@SPLIT, as in tfds:stl10@unlabelled")
    builder = find_builder(spec, dataset, data_dir)
    images = _images(builder.info)
    if len(images) != 1:
        raise InputError(f"{spec}: expected one 8-bit image in an example; it has {', '.join(images) or 'none'}")
    splits = list(builder.info.splits)
    split = split or next((name for name in splits if role_of(name) == "unlabeled"), "train")
    return _part(spec, builder, split, images[0], None)


def _supervised(spec: str, info: Any) -> tuple[str, str]:
    """Names of the features that hold the image and its label."""
    import tensorflow_datasets as tfds

    features, images = _features(info), _images(info)
    labels = [k for k, f in sorted(features.items()) if isinstance(f, tfds.features.ClassLabel)]
    keys = info.supervised_keys
    if keys and len(keys) == 2 and keys[0] in images and keys[1] in labels:
        return keys[0], keys[1]
    if len(images) == len(labels) == 1:
        return images[0], labels[0]
    raise InputError(
        f"{spec}: expected one 8-bit image and one class label; it has images {', '.join(images) or 'none'}, labels "
        f"{', '.join(labels) or 'none'} and the features {', '.join(sorted(features)) or 'none by name'}"
    )


def _features(info: Any) -> dict[str, Any]:
    return dict(info.features.items()) if hasattr(info.features, "items") else {}


def _images(info: Any) -> list[str]:
    """Names of the features that hold an 8-bit image."""
    import tensorflow_datasets as tfds

    return [k for k, f in _features(info).items() if isinstance(f, tfds.features.Image) and f.np_dtype == np.uint8]


def _part(spec: str, builder: Any, split: str, image: str, label: str | None) -> Part:
    """The images of a split; without `label` no label is read."""
    import tensorflow_datasets as tfds

    # Pillow decodes, not TFDS: this gives the same pixels everywhere, and corrupt images can be skipped
    examples = open_split(spec, builder, split, {image: tfds.decode.SkipDecoding()})
    encoded = []
    for number, example in enumerate(examples):
        known = NO_LABEL if label is None else int(example[label])
        if label is not None and known < 0:
            raise InputError(f"{spec}, {split}, example {number}: no label; take a data set with labels in that split")
        encoded.append(Encoded(f"{spec}, {split}, example {number}", bytes(example[image]), known))
    return Part(f"{TFDS_PREFIX}{builder.info.full_name}, {split}", encoded)
