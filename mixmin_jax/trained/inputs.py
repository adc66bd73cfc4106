"""From files to the inputs of a trained model, by the code that read its training data.

Axes: S image side, C channels, W windows of a document, L bytes of a window. Of series: T steps.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, UInt8
from PIL import Image

from mixmin_jax.data.images.decoding import decode
from mixmin_jax.data.series.series_sets import MAX_VALUE, complete_series
from mixmin_jax.errors import InputError
from mixmin_jax.models.series_encoder import SeriesEncoderConfig
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


def prepare_series(
    model: TrainedModel, series_TxC: Float[np.ndarray, "T C"], place: str
) -> Float32[np.ndarray, "S C"] | str:
    """A raw series as the model's input, or one line that says why the model cannot take it.

    Series of another length are resampled, and missing values (NaN) filled, if that was done in training.
    """
    config, done = model.config, model.series
    assert isinstance(config, SeriesEncoderConfig)
    steps, channels = series_TxC.shape
    if channels != config.channels:
        return f"{place}: {channels} channel(s), and the model was trained on {config.channels}"
    if steps != config.length and not (done and done.resample):
        return f"{place}: {steps} steps, and the model was trained on series that came as {config.length}"
    if np.isnan(series_TxC).any() and not (done and done.missing == "interpolate"):
        return f"{place}: a value is missing, and the model was trained on series that have all"
    try:
        found_SxC = complete_series(series_TxC, place, config.length, done.missing if done else "refuse")
    except InputError as error:
        return str(error)
    if np.abs(found_SxC).max() > MAX_VALUE:
        return f"{place}: values up to {np.abs(found_SxC).max():g}"
    return found_SxC.astype(np.float32)
