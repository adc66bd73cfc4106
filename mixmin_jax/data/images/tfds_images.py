"""Labeled images from TensorFlow Datasets, read through `tfds.data_source` and decoded with Pillow.

A data set is named `tfds:NAME`. NAME is its name in TFDS, with an optional config and version (`cifar10`,
`cifar10_corrupted/frost_3`, `cifar10:3.0.2`).
"""

from typing import Any

import numpy as np

from mixmin_jax.data.images.decoding import Encoded, Part, decode_images
from mixmin_jax.data.images.image_sets import Images
from mixmin_jax.data.tfds_builders import TFDS_PREFIX, default_name, find_builder, open_split
from mixmin_jax.errors import InputError

_TEST_SPLITS = ("test", "validation")


def read_tfds_images(
    spec: str, size: int | None = None, max_skipped: float = 0.01, data_dir: str | None = None
) -> Images:
    """The splits `train` and `test` (or `validation`); with neither, a part of `train` is split off as the test set.

    Image and label are the data set's supervised keys, or else its only image and only class label. A data set that is
    not in `data_dir` is downloaded and prepared.

    Args:
        spec: the data set.
        size, max_skipped: as in `folders.read_image_folder`.
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
    return decode_images(default_name(spec), classes, train, test, size, max_skipped)


def _supervised(spec: str, info: Any) -> tuple[str, str]:
    """Names of the features that hold the image and its label."""
    import tensorflow_datasets as tfds

    features = dict(info.features.items()) if hasattr(info.features, "items") else {}
    images = [k for k, f in features.items() if isinstance(f, tfds.features.Image) and f.np_dtype == np.uint8]
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


def _part(spec: str, builder: Any, split: str, image: str, label: str) -> Part:
    import tensorflow_datasets as tfds

    # Pillow decodes, not TFDS: this gives the same pixels everywhere, and corrupt images can be skipped
    examples = open_split(spec, builder, split, {image: tfds.decode.SkipDecoding()})
    encoded = []
    for number, example in enumerate(examples):
        if example[label] < 0:
            raise InputError(f"{spec}, {split}, example {number}: no label; take a data set with labels in that split")
        encoded.append(Encoded(f"{spec}, {split}, example {number}", bytes(example[image]), int(example[label])))
    return Part(f"{TFDS_PREFIX}{builder.info.full_name}, {split}", encoded)
