"""From files to the inputs of a trained model, by the code that read its training data.

Axes: S image side, C channels, W windows of a document, L bytes of a window.
"""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from mixmin_jax.data.images.decoding import decode
from mixmin_jax.models.text_encoder import TextEncoderConfig
from mixmin_jax.models.vision_transformer import VisionConfig
from mixmin_jax.trained.model import TrainedModel


def read_image(
    model: TrainedModel, data: bytes | Path | str, convert: bool = False
) -> UInt8[np.ndarray, "S S C"] | str:
    """The pixels of an image file (its path or content), or one line that says why the model cannot take them.

    Gray images become RGB for a model of color images. Images of another size are cropped to their central square and
    resized, if that was done in training. With `convert` they are in any case, and colors become gray where the model
    has only seen gray.
    """
    config = model.config
    assert isinstance(config, VisionConfig)
    pixels = decode(
        Path(data) if isinstance(data, str) else data, config.image_size if model.resize or convert else None
    )
    if isinstance(pixels, str):
        return pixels
    height, width, channels = pixels.shape
    if height != config.image_size or width != config.image_size:
        return (
            f"{width} x {height} pixels, and the model was trained on images that came as {config.image_size} x"
            f" {config.image_size}"
        )
    if channels < config.channels:
        return np.repeat(pixels, config.channels, axis=2)
    if channels > config.channels:
        if not convert and (pixels != pixels[..., :1]).any():
            return "in color, and the model was trained on gray images alone"
        return np.asarray(Image.fromarray(pixels).convert("L"))[..., None]
    return pixels


def read_windows(model: TrainedModel, document: bytes) -> UInt8[np.ndarray, "W L"]:
    """The windows of a document, one after another. The rest at its end is left out, as in training.

    A document that is shorter than a window has none.
    """
    config = model.config
    assert isinstance(config, TextEncoderConfig)
    count = len(document) // config.length
    return np.frombuffer(document, np.uint8, count * config.length).reshape(count, config.length)
