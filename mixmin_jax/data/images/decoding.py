"""Decode images (JPEG, PNG, ...) to arrays of one size with Pillow, in threads; skip and count corrupt ones.

Axes: N images, H rows, W columns, C channels.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from mixmin_jax.data.images.image_sets import NO_LABEL, Images, ImageSet, split_off_test
from mixmin_jax.data.memory import available_bytes
from mixmin_jax.errors import InputError, list_some

# Only these: some of Pillow's other decoders start external programs.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
_CHUNK = 256  # images that a thread decodes at a time; fewer would cost time in scheduling


class Encoded(NamedTuple):
    """One image file: its name in messages, its bytes or its path, and its label."""

    name: str
    data: bytes | Path
    label: int


class Part(NamedTuple):
    """The encoded images of one ImageSet."""

    origin: str
    encoded: Sequence[Encoded]


def decode_images(
    name: str,
    classes: tuple[str, ...],
    train: Part,
    test: Part | None,
    size: int | None,
    max_skipped: float,
    train_copies: float = 0.0,
) -> Images:
    """Decode a training and a test set. All images have one shape: C = 1 if every image is gray, else C = 3.

    Palettes are expanded, transparency is dropped, 16-bit gray keeps its upper byte. The camera's note on orientation
    is not applied.

    Args:
        name: name of the sets.
        classes: names of the labels.
        train, test: the images; without `test`, a part of `train` is split off (`split_off_test`).
        size: images are cropped to their central square and resized to size x size (bilinear, antialiased); None: no
            change.
        max_skipped: largest share of a part that may be unreadable.
        train_copies: bytes that the caller will need beside, for each byte of the training set.

    Raises:
        InputError: images that do not fit memory (before they are decoded); images of different size without `size`
            (names two of them), a size below 1, or more unreadable images than `max_skipped` (names the first few);
            errors of `Images` and `split_off_test`.
    """
    check_size(size)
    if not 0 <= max_skipped <= 1:
        raise InputError(f"max_skipped is a fraction of the images, between 0 and 1; it is {max_skipped}")
    parts = [train] if test is None else [train, test]
    encoded = [image for part in parts for image in part.encoded]
    (height, width, channels), first = _shape(encoded, size)
    copies = 3 / channels + 1 + train_copies * len(train.encoded) / len(encoded)  # as RGB first
    _refuse_too_large(train.origin, len(encoded), (height, width, channels), copies)
    images_NxHxWx3, gray_N, reasons = _decode_all(encoded, size, (height, width), first)
    kept_N = np.array([reason is None for reason in reasons], bool)
    num_channels = 1 if gray_N[kept_N].all() else 3
    sets, start = [], 0
    for part in parts:
        rows = slice(start, start + len(part.encoded))
        start = rows.stop
        skipped = _skipped(part, reasons[rows], max_skipped)
        kept = kept_N[rows] if skipped else slice(None)  # no copy if all are kept
        images_NxHxWxC = np.ascontiguousarray(images_NxHxWx3[rows, :, :, :num_channels][kept])
        labels_N = np.array([image.label for image in part.encoded], np.int32)[kept]
        sets.append(ImageSet(name, images_NxHxWxC, labels_N, classes, part.origin, skipped))
    return split_off_test(sets[0]) if test is None else Images(sets[0], sets[1])


def decode_unlabeled(part: Part, like: ImageSet, size: int | None, max_skipped: float) -> ImageSet:
    """Decode images without labels to the shape of `like`: gray ones become color where those are.

    Args:
        part: the images; their labels are not read.
        like: the training set.
        size, max_skipped: as in `decode_images`.

    Raises:
        InputError: images that do not fit memory; an image of another size without `size`; color images where those of
            `like` are gray; more unreadable ones than `max_skipped`.
    """
    height, width, channels = like.images_NxHxWxC.shape[1:]
    _refuse_too_large(part.origin, len(part.encoded), (height, width, channels), 3 / channels + 3)
    images_NxHxWx3, gray_N, reasons = _decode_all(part.encoded, size, (height, width), f"each image of {like.name}")
    skipped = _skipped(part, reasons, max_skipped)
    kept_N = np.array([reason is None for reason in reasons], bool)
    if channels == 1 and (colored := np.flatnonzero(kept_N & ~gray_N)).size:
        raise InputError(
            f"{part.encoded[colored[0]].name}: a color image, but those with labels are gray; convert one of both"
        )
    images_NxHxWxC = np.ascontiguousarray(images_NxHxWx3[:, :, :, :channels][kept_N])
    labels_N = np.full(len(images_NxHxWxC), NO_LABEL, np.int32)
    return ImageSet(f"{like.name}, unlabeled", images_NxHxWxC, labels_N, (), part.origin, skipped)


def _refuse_too_large(origin: str, count: int, shape: tuple[int, ...], copies: float) -> None:
    """Raise InputError if `copies` of so many images are more than the memory that is left."""
    needed, left = copies * count * int(np.prod(shape)), available_bytes()
    if left is not None and needed > left:
        raise InputError(
            f"{origin}: {count:,} images of {' x '.join(map(str, shape))} take about {needed / 1e9:.3g} GB with the"
            f" copies that a run makes, and {left / 1e9:.3g} GB of memory are left: lower --image-size, or give fewer"
            " images or smaller --fractions"
        )


def _decode_all(
    encoded: Sequence[Encoded], size: int | None, shape: tuple[int, int], first: str
) -> tuple[np.ndarray, np.ndarray, list[str | None]]:
    """Images as RGB, which of them are gray, and the reason for each that cannot be read."""
    images_NxHxWx3 = np.empty((len(encoded), *shape, 3), np.uint8)
    gray_N = np.zeros(len(encoded), bool)

    def fill(row: int) -> str | None:
        """Decode one image into its row; the reason if it cannot be read."""
        pixels = decode(encoded[row].data, size)
        if isinstance(pixels, str):
            return pixels
        if pixels.shape[:2] != shape:
            raise InputError(
                f"images differ in size: {first} is {shape[1]} x {shape[0]} pixels, {encoded[row].name} is "
                f"{pixels.shape[1]} x {pixels.shape[0]}; give a size to resize them to (--image-size)"
            )
        images_NxHxWx3[row] = pixels
        gray_N[row] = pixels.shape[2] == 1
        return None

    chunks = [range(len(encoded))[start : start + _CHUNK] for start in range(0, len(encoded), _CHUNK)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # an error in one chunk cancels those that wait
        reasons = [reason for chunk in pool.map(lambda rows: list(map(fill, rows)), chunks) for reason in chunk]
    return images_NxHxWx3, gray_N, reasons


def _skipped(part: Part, reasons: Sequence[str | None], max_skipped: float) -> tuple[str, ...]:
    """The images of a part that cannot be read. Raises InputError if they are too many."""
    skipped = tuple(
        f"{image.name} ({reason})" for image, reason in zip(part.encoded, reasons, strict=True) if reason is not None
    )
    if skipped and (len(skipped) > max_skipped * len(part.encoded) or len(skipped) == len(part.encoded)):
        raise InputError(
            f"{part.origin}: {len(skipped)} of {len(part.encoded)} images cannot be read, more than the allowed "
            f"{max_skipped:.2%}: {list_some(skipped, 3)}; repair or remove them, or allow more"
        )
    return skipped


def check_size(size: int | None) -> None:
    if size is not None and size < 1:
        raise InputError(f"the image size must be 1 pixel or more; it is {size}")


def decode(data: bytes | Path, size: int | None = None) -> np.ndarray | str:
    """uint8 pixels_HxWxC, C = 1 for gray images and 3 for others; or one line that says why they cannot be read."""
    try:
        content = data.read_bytes() if isinstance(data, Path) else data
        with Image.open(BytesIO(content), formats=FORMATS) as opened:
            return to_pixels(opened, size)
    except Exception as error:  # each decoder raises its own kinds
        if isinstance(error, Image.UnidentifiedImageError):  # whose message holds only a memory address
            return "empty file" if not content else "not an image of a known format"
        return (str(error).strip() or type(error).__name__).splitlines()[0]


def to_pixels(image: Image.Image, size: int | None) -> np.ndarray:
    """uint8 pixels_HxWxC of the image, or of its central square resized to size x size (bilinear, antialiased)."""
    if image.mode in ("I", "F"):
        raise ValueError(f"32-bit pixels, whose white is unknown (mode {image.mode})")
    if image.mode.startswith("I;16"):  # Pillow's own conversion would clip at 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    image = image.convert("L" if image.mode in ("1", "L", "LA", "La") else "RGB")
    if size is not None and image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
    pixels = np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _shape(encoded: Sequence[Encoded], size: int | None) -> tuple[tuple[int, int, int], str]:
    """Height, width and channels of the first readable image, and its name."""
    for image in encoded:
        pixels = decode(image.data, size)
        if not isinstance(pixels, str):
            return (pixels.shape[0], pixels.shape[1], pixels.shape[2]), image.name
    return (0, 0, 1), ""  # nothing is readable, which `decode_images` reports
