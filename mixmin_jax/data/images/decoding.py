"""Decode images (JPEG, PNG, ...) to arrays of one size with Pillow, in threads; skip and count corrupt ones.

Axes: N images, H rows, W columns, C channels.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from mixmin_jax.data.images.image_sets import ImageSet
from mixmin_jax.errors import InputError, list_some

# Only these: some of Pillow's other decoders start external programs.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
_CHUNK = 256  # images that a thread decodes at a time; fewer would cost time in scheduling


class Encoded(NamedTuple):
    """One image file: its name in messages, and its bytes or its path."""

    name: str
    data: bytes | Path


class Part(NamedTuple):
    """The encoded images of one ImageSet."""

    origin: str
    encoded: Sequence[Encoded]
    labels: Sequence[int]


class _Different(NamedTuple):
    width: int
    height: int


_Outcome = str | _Different | None  # of one image: the reason if it cannot be read, its size if that differs, or None


def decode_parts(
    name: str, classes: tuple[str, ...], parts: Sequence[Part], size: int | None, max_skipped: float
) -> list[ImageSet]:
    """Decode each part into an ImageSet. All have one shape: C = 1 if every image is gray, else C = 3.

    Palettes are expanded, transparency is dropped, 16-bit gray keeps its upper byte. The camera's note on orientation
    is not applied.

    Args:
        name: name of the sets.
        classes: names of the labels.
        parts: the images of each set.
        size: images are cropped to their central square and resized to size x size (bilinear, antialiased); None: no
            change.
        max_skipped: largest share of a part that may be unreadable.

    Raises:
        InputError: images of different size without `size` (names two of them), a size below 1, or more unreadable
            images than `max_skipped` (names the first few).
    """
    check_size(size)
    if not 0 <= max_skipped <= 1:
        raise InputError(f"max_skipped is a fraction of the images, between 0 and 1; it is {max_skipped}")
    encoded = [image for part in parts for image in part.encoded]
    height, width, first = _shape(encoded, size)
    images_NxHxWx3 = np.empty((len(encoded), height, width, 3), np.uint8)
    gray_N = np.zeros(len(encoded), bool)

    def fill(row: int) -> _Outcome:
        pixels = decode(encoded[row].data, size)
        if isinstance(pixels, str):
            return pixels
        if pixels.shape[:2] != (height, width):
            return _Different(pixels.shape[1], pixels.shape[0])
        images_NxHxWx3[row] = pixels
        gray_N[row] = pixels.shape[2] == 1
        return None

    reasons: list[str | None] = []
    for row, outcome in enumerate(_in_threads(fill, len(encoded))):
        if isinstance(outcome, _Different):
            raise InputError(
                f"images differ in size: {first} is {width} x {height} pixels, {encoded[row].name} is "
                f"{outcome.width} x {outcome.height}; give a size to resize them to"
            )
        reasons.append(outcome)
    kept_N = np.array([reason is None for reason in reasons], bool)
    num_channels = 1 if gray_N[kept_N].all() else 3
    sets, start = [], 0
    for part in parts:
        rows = slice(start, start + len(part.encoded))
        start = rows.stop
        skipped = [
            f"{image.name} ({reason})"
            for image, reason in zip(part.encoded, reasons[rows], strict=True)
            if reason is not None
        ]
        _check_skipped(part, skipped, max_skipped)
        images_NxHxWxC = images_NxHxWx3[rows, :, :, :num_channels]
        if skipped:
            images_NxHxWxC = images_NxHxWxC[kept_N[rows]]
        labels_N = np.array(part.labels, np.int32)[kept_N[rows]]
        sets.append(
            ImageSet(name, np.ascontiguousarray(images_NxHxWxC), labels_N, classes, part.origin, tuple(skipped))
        )
    return sets


def check_size(size: int | None) -> None:
    if size is not None and size < 1:
        raise InputError(f"the image size must be 1 pixel or more; it is {size}")


def decode(data: bytes | Path, size: int | None = None) -> np.ndarray | str:
    """uint8 pixels_HxWxC, C = 1 for gray images and 3 for others; or one line that says why they cannot be read."""
    try:
        content = data.read_bytes() if isinstance(data, Path) else data
        with Image.open(BytesIO(content), formats=FORMATS) as opened:
            return _pixels(opened, size)
    except Exception as error:  # each decoder raises its own kinds
        if isinstance(error, Image.UnidentifiedImageError):  # whose message holds only a memory address
            return "empty file" if not content else "not an image of a known format"
        return (str(error).strip() or type(error).__name__).splitlines()[0]


def resize(pixels_HxWxC: np.ndarray, size: int) -> np.ndarray:
    """The central square of a uint8 image with C = 1 or 3, resized to size x size (bilinear, antialiased)."""
    gray = pixels_HxWxC.shape[2] == 1
    image = Image.fromarray(pixels_HxWxC[..., 0] if gray else pixels_HxWxC)
    return _pixels(image, size)


def _pixels(image: Image.Image, size: int | None) -> np.ndarray:
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


def _shape(encoded: Sequence[Encoded], size: int | None) -> tuple[int, int, str]:
    """Height and width of all images, and the name of the first readable one."""
    for image in encoded:
        pixels = decode(image.data, size)
        if not isinstance(pixels, str):
            return pixels.shape[0], pixels.shape[1], image.name
    return 0, 0, ""  # nothing is readable: `_check_skipped` reports it


def _in_threads(fill: Callable[[int], _Outcome], num_images: int) -> Iterator[_Outcome]:
    """The outcomes of `fill` for all rows, in order. Closing the generator stops the work."""
    chunks = [range(start, min(start + _CHUNK, num_images)) for start in range(0, num_images, _CHUNK)]
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        for outcomes in pool.map(lambda rows: [fill(row) for row in rows], chunks):
            yield from outcomes
    finally:
        pool.shutdown(cancel_futures=True)


def _check_skipped(part: Part, skipped: list[str], max_skipped: float) -> None:
    num_images = len(part.encoded)
    if skipped and (len(skipped) > max_skipped * num_images or len(skipped) == num_images):
        raise InputError(
            f"{part.origin}: {len(skipped)} of {num_images} images cannot be read, more than the allowed "
            f"{max_skipped:.2%}: {list_some(skipped, 3)}; repair or remove them, or allow more"
        )
