"""From files to inputs: as in training, or a reason why not."""

import dataclasses
import re

import numpy as np
import pytest

from mixmin_jax.data.images.decoding import decode
from mixmin_jax.trained.inputs import prepare_series, read_image, read_windows
from mixmin_jax.trained.model import SeriesPreprocessing, TrainedModel
from tests.data.images.pictures import encode
from tests.trained.small_models import IMAGES, SERIES, TEXT, small_model

RNG = np.random.default_rng(0)
GRAY, COLORS = RNG.integers(0, 256, (8, 8, 1), np.uint8), RNG.integers(0, 256, (8, 8, 3), np.uint8)
GRAY_FILE = encode(GRAY[..., 0])
LARGE = RNG.integers(0, 256, (12, 20), np.uint8)


def color_model():
    return TrainedModel(dataclasses.replace(IMAGES, channels=3), tuple("abc"), {})


def test_images_are_read_as_in_training(tmp_path):
    model, path = small_model(IMAGES), tmp_path / "gray.png"
    path.write_bytes(GRAY_FILE)
    np.testing.assert_array_equal(read_image(model, str(path)), read_image(model, path))
    assert "No such file" in read_image(model, str(tmp_path / "none.png"))
    np.testing.assert_array_equal(read_image(model, GRAY_FILE), GRAY)
    np.testing.assert_array_equal(read_image(color_model(), encode(COLORS)), COLORS)
    resized = read_image(small_model(IMAGES, resize=True), encode(LARGE))
    np.testing.assert_array_equal(resized, decode(encode(LARGE), 8))
    np.testing.assert_array_equal(read_image(color_model(), GRAY_FILE), GRAY.repeat(3, axis=2))
    np.testing.assert_array_equal(read_image(model, encode(GRAY.repeat(3, axis=2))), GRAY)  # no color in it


@pytest.mark.parametrize(("image", "reason"), [(LARGE, "20 x 12 pixels, and .* came as 8 x 8"), (COLORS, "in color")])
def test_what_training_did_not_see_is_refused_unless_it_is_to_be_converted(image, reason):
    assert re.match(reason, read_image(small_model(IMAGES), encode(image)))
    assert read_image(small_model(IMAGES), encode(image), convert=True).shape == (8, 8, 1)


def test_a_file_that_is_no_image_has_a_reason():
    assert read_image(small_model(IMAGES), b"no image") == "not an image of a known format"


def test_windows_do_not_overlap_and_leave_the_rest_out():
    windows_WxL = read_windows(small_model(TEXT), bytes(range(30)))
    np.testing.assert_array_equal(windows_WxL, np.arange(24).reshape(2, 12))
    assert read_windows(small_model(TEXT), b"short").shape == (0, 12)


def test_series_are_resampled_and_filled_if_training_did():
    ramp_TxC = np.stack([np.arange(15.0), np.arange(15.0, 0, -1)], axis=1)
    strict = small_model(SERIES, series=None)
    np.testing.assert_array_equal(prepare_series(small_model(SERIES), ramp_TxC, "row 1"), ramp_TxC[::2])
    np.testing.assert_array_equal(prepare_series(strict, ramp_TxC[:8], "row 1"), ramp_TxC[:8])
    assert re.match("row 1: 15 steps, and .* came as 8", prepare_series(strict, ramp_TxC, "row 1"))
    gap_TxC = ramp_TxC[:8].copy()
    gap_TxC[3, 0] = np.nan
    assert re.match("row 1: a value is missing", prepare_series(strict, gap_TxC, "row 1"))
    filling = small_model(SERIES, series=SeriesPreprocessing((0.0, 0.0), (1.0, 1.0), missing="interpolate"))
    np.testing.assert_array_equal(prepare_series(filling, gap_TxC, "row 1"), ramp_TxC[:8])
    for wrong_TxC, reason in (
        (ramp_TxC[:, :1], r"row 1: 1 channel\(s\)"),
        (np.where(ramp_TxC[:8] == 3, np.inf, 0), "row 1: an infinite"),
        (ramp_TxC[:8] * 1e36, "row 1: values up to 1.5e\\+37"),
        (ramp_TxC[:0], "row 1: (0 steps|a series without)"),
    ):
        assert re.match(reason, prepare_series(strict, wrong_TxC, "row 1"))
