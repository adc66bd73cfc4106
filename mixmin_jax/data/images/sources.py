"""Images from any of the known places, with labels and without: scikit-learn's digits, folders and archives, TFDS."""

import dataclasses
from pathlib import Path

import numpy as np
from PIL import Image

from mixmin_jax.data.images.decoding import check_size, decode_unlabeled, to_pixels
from mixmin_jax.data.images.folders import FOLDER_PREFIX, list_unlabeled, read_image_folder
from mixmin_jax.data.images.image_sets import Images, ImageSet, add_unlabeled, digits
from mixmin_jax.data.images.tfds_images import list_tfds_unlabeled, read_tfds_images
from mixmin_jax.data.tfds_builders import TFDS_PREFIX
from mixmin_jax.errors import InputError

DIGITS = "digits"
NO_UNLABELED = "none"


def read_images(
    spec: str,
    size: int | None = None,
    max_skipped: float = 0.01,
    *,
    unlabeled: str | None = None,
    follow_links: bool = False,
    train_copies: float = 0.0,
) -> Images:
    """The sets of `digits`, `folder:PATH` (a folder or tar archive) or `tfds:NAME`, and images without labels.

    Args:
        spec: where the images are, in one of these forms.
        size: side of the images after cropping to the central square and resizing; None: all must have one size.
        max_skipped: largest share of a set that may be unreadable; the sets list these images.
        unlabeled: a folder or archive of images without labels (its path), or `tfds:NAME`; "none": no such images;
            None: those that `spec` itself has under a known name (`split_names.NAMES`).
        follow_links: as in `read_image_folder`.
        train_copies: as in `decode_images`.

    Raises:
        InputError: another spec; errors of `digits`, `read_image_folder`, `read_tfds_images`, `list_unlabeled`,
            `list_tfds_unlabeled`, `decode_unlabeled` and `add_unlabeled`.
    """
    found = unlabeled is None
    if spec == DIGITS:
        check_size(size)
        images = digits()
        images = Images(_resized(images.train, size), _resized(images.test, size))
    elif spec.startswith(TFDS_PREFIX):
        images = read_tfds_images(spec, size, max_skipped, with_unlabeled=found, train_copies=train_copies)
    elif spec.startswith(FOLDER_PREFIX) and spec != FOLDER_PREFIX:
        path = spec.removeprefix(FOLDER_PREFIX)
        images = read_image_folder(
            path, size, max_skipped, follow_links=follow_links, with_unlabeled=found, train_copies=train_copies
        )
    else:
        hint = f"; did you mean {FOLDER_PREFIX}{spec}?" if spec and Path(spec).exists() else ""
        raise InputError(
            f"{spec!r}: unknown images; known are {DIGITS}, {FOLDER_PREFIX}PATH and {TFDS_PREFIX}NAME{hint}"
        )
    if unlabeled is None or unlabeled == NO_UNLABELED:
        return images
    if unlabeled.startswith(TFDS_PREFIX):
        part = list_tfds_unlabeled(unlabeled)
    else:
        part = list_unlabeled(unlabeled.removeprefix(FOLDER_PREFIX), follow_links)
    return add_unlabeled(images, decode_unlabeled(part, images.train, size, max_skipped))


def _resized(gray: ImageSet, size: int | None) -> ImageSet:
    images_NxHxWx1 = np.stack([to_pixels(Image.fromarray(image[..., 0]), size) for image in gray.images_NxHxWxC])
    return dataclasses.replace(gray, images_NxHxWxC=images_NxHxWx1)
