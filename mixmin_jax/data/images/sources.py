"""Labeled images from any of the known places: scikit-learn's digits, folders and archives, TFDS."""

import dataclasses
from pathlib import Path

import numpy as np
from PIL import Image

from mixmin_jax.data.images.decoding import check_size, to_pixels
from mixmin_jax.data.images.folders import FOLDER_PREFIX, read_image_folder
from mixmin_jax.data.images.image_sets import Images, ImageSet, digits
from mixmin_jax.data.images.tfds_images import read_tfds_images
from mixmin_jax.data.tfds_builders import TFDS_PREFIX
from mixmin_jax.errors import InputError

DIGITS = "digits"


def read_images(spec: str, size: int | None = None, max_skipped: float = 0.01) -> Images:
    """The train and test set of `digits`, `folder:PATH` (a folder or tar archive) or `tfds:NAME`.

    Args:
        spec: where the images are, in one of these forms.
        size: side of the images after cropping to the central square and resizing; None: all must have one size.
        max_skipped: largest share of a set that may be unreadable; the sets list these images.

    Raises:
        InputError: another spec; errors of `digits`, `read_image_folder` and `read_tfds_images`.
    """
    if spec == DIGITS:
        check_size(size)
        images = digits()
        return Images(_resized(images.train, size), _resized(images.test, size))
    if spec.startswith(TFDS_PREFIX):
        return read_tfds_images(spec, size, max_skipped)
    if spec.startswith(FOLDER_PREFIX) and spec != FOLDER_PREFIX:
        return read_image_folder(spec.removeprefix(FOLDER_PREFIX), size, max_skipped)
    hint = f"; did you mean {FOLDER_PREFIX}{spec}?" if spec and Path(spec).exists() else ""
    raise InputError(f"{spec!r}: unknown images; known are {DIGITS}, {FOLDER_PREFIX}PATH and {TFDS_PREFIX}NAME{hint}")


def _resized(gray: ImageSet, size: int | None) -> ImageSet:
    images_NxHxWx1 = np.stack([to_pixels(Image.fromarray(image[..., 0]), size) for image in gray.images_NxHxWxC])
    return dataclasses.replace(gray, images_NxHxWxC=images_NxHxWx1)
