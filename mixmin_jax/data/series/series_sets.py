"""Labeled time series in memory: as files hold them, and as sets of one length to train and test on.

Axes: N series, S steps, C channels, B rows that a split takes.
"""

import dataclasses
import hashlib
import re
from collections.abc import Sequence
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Float32, Int, Int32

from mixmin_jax.data.images.image_sets import TEST_FRACTION, TEST_SEED, hold_out, refuse_other_classes
from mixmin_jax.errors import InputError

Missing = Literal["refuse", "interpolate"]
MIN_SPREAD = 1e-5  # standard deviation of a channel by its mean; float32 would keep two digits of less
MAX_VALUE = float(np.finfo(np.float32).max / 1e6)  # squares of deviations must be finite in float32, too


@dataclasses.dataclass(frozen=True, eq=False)
class RawSeries:
    """Series as a file holds them: of any lengths, float64, NaN where a value is missing."""

    series: Sequence[np.ndarray]  # each S x C
    labels: Sequence[str]
    places: Sequence[str]  # where in the file each is: "line 12"
    origin: str

    def place(self, row: int) -> str:
        return f"{self.origin}, {self.places[row]}"


@dataclasses.dataclass(frozen=True, eq=False)
class SeriesSet:
    """Series of one length with their labels, in order.

    classes: names of the labels 0, 1, ...      origin: where the series come from.
    """

    name: str
    series_NxSxC: Float32[np.ndarray, "N S C"]
    labels_N: Int32[np.ndarray, " N"]
    classes: tuple[str, ...]
    origin: str

    @property
    def num_series(self) -> int:
        return len(self.labels_N)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) over the shape (three int64), values and labels (int32), little-endian; not over the names."""
        digest = hashlib.sha256(np.array(self.series_NxSxC.shape, "<i8").tobytes())
        digest.update(self.series_NxSxC.astype("<f4").tobytes())
        digest.update(self.labels_N.astype("<i4").tobytes())
        return digest.hexdigest()

    def take(self, rows_B: Int[np.ndarray, " B"]) -> "SeriesSet":
        """A set of these rows."""
        return dataclasses.replace(self, series_NxSxC=self.series_NxSxC[rows_B], labels_N=self.labels_N[rows_B])


@dataclasses.dataclass(frozen=True)
class SeriesSets:
    """A training and a test set of the same classes, length and channels."""

    train: SeriesSet
    test: SeriesSet


def series_sets(
    name: str, train: RawSeries, test: RawSeries | None, length: int | None = None, missing: Missing = "refuse"
) -> SeriesSets:
    """Sets of series of one length; without a test part, a fifth of each class is drawn as one.

    Classes are sorted, as numbers if all are whole numbers.

    Args:
        name: of the data.
        train, test: as they were read.
        length: steps that each series is resampled to, by linear interpolation from its first to its last step; None:
            all must have one length.
        missing: "interpolate" fills missing values linearly between the known ones of their channel, and with the
            nearest one at the ends.

    Raises:
        InputError: lengths or channels differ; a value is missing or not finite, a channel has none at all, or varies
            too little around its mean for float32; classes of train and test differ, there is only one, or one is too
            small to split.
    """
    if length is not None and length < 2:
        raise InputError(f"--length must be at least 2, not {length}")
    parts = [train] if test is None else [train, test]
    for part in parts:
        if not part.series:
            raise InputError(f"{part.origin}: there is no series in it")
    _refuse_other_channels(parts)
    if length is None:
        _refuse_other_lengths(parts)
    if test is not None:
        refuse_other_classes(name, sorted(set(train.labels)), sorted(set(test.labels)))
    classes = sorted_labels(train.labels)
    if len(classes) < 2:
        raise InputError(f"{train.origin}: only one class, {classes[0]}; classification needs two")
    found = [_to_set(name, part, classes, length, missing) for part in parts]
    _refuse_little_spread(train, found[0])
    return SeriesSets(*found) if test is not None else _split_off_test(found[0])


def sorted_labels(labels: Sequence[str]) -> tuple[str, ...]:
    """The different labels in order: as numbers if all are whole numbers, otherwise as text."""
    different = set(labels)
    whole = all(re.fullmatch(r"[+-]?\d+", label) for label in different)
    return tuple(sorted(different, key=(lambda label: (int(label), label)) if whole else None))


def _split_off_test(found: SeriesSet) -> SeriesSets:
    counts = np.bincount(found.labels_N)
    if counts.min() < 3:
        label = found.classes[int(counts.argmin())]
        raise InputError(
            f"{found.origin}: class {label} has {counts.min()} series, too few to split a test set off; add series, or"
            " give NAME_TRAIN and NAME_TEST files"
        )
    train_rows, test_rows = hold_out(found.labels_N, TEST_FRACTION, TEST_SEED)
    drawn = f"of each class, drawn with seed {TEST_SEED}"
    return SeriesSets(
        dataclasses.replace(found.take(train_rows), origin=f"{found.origin}, all but {TEST_FRACTION:.0%} {drawn}"),
        dataclasses.replace(found.take(test_rows), origin=f"{found.origin}, {TEST_FRACTION:.0%} {drawn}"),
    )


def _refuse_other_channels(parts: Sequence[RawSeries]) -> None:
    channels = parts[0].series[0].shape[1]
    for part in parts:
        for row, one in enumerate(part.series):
            if one.shape[1] != channels:
                raise InputError(
                    f"{part.place(row)}: {one.shape[1]} channel(s), but {parts[0].place(0)} has {channels}; all series"
                    " need the same channels"
                )


def _refuse_other_lengths(parts: Sequence[RawSeries]) -> None:
    lengths = sorted({len(one) for part in parts for one in part.series})
    if len(lengths) > 1:
        raise InputError(
            f"{' and '.join(part.origin for part in parts)}: series of {lengths[0]} to {lengths[-1]} steps; give"
            f" --length to resample all to one length (the longest: --length {lengths[-1]})"
        )
    if lengths[0] < 2:
        raise InputError(f"{parts[0].origin}: series of one step; a series needs two")


def _to_set(name: str, part: RawSeries, classes: Sequence[str], length: int | None, missing: Missing) -> SeriesSet:
    rows = [complete_series(one_SxC, part.place(row), length, missing) for row, one_SxC in enumerate(part.series)]
    series_NxSxC = np.stack(rows)
    if np.abs(series_NxSxC).max() > MAX_VALUE:
        raise InputError(f"{part.origin}: values up to {np.abs(series_NxSxC).max():g}; scale them down")
    places = {label: place for place, label in enumerate(classes)}
    labels_N = np.array([places[label] for label in part.labels], np.int32)
    return SeriesSet(name, series_NxSxC.astype(np.float32), labels_N, tuple(classes), part.origin)


def complete_series(one_SxC: np.ndarray, place: str, length: int | None, missing: Missing) -> np.ndarray:
    """A series without missing values, and of `length` steps if that is given. See `series_sets`."""
    if not len(one_SxC):
        raise InputError(f"{place}: a series without a step; remove it")
    if np.isinf(one_SxC).any():
        raise InputError(f"{place}: an infinite value; correct or remove the series")
    if np.isnan(one_SxC).any():
        one_SxC = _filled(one_SxC, place, missing)
    return one_SxC if length in (None, len(one_SxC)) else _resampled(one_SxC, length)


def _filled(one_SxC: np.ndarray, place: str, missing: Missing) -> np.ndarray:
    step, channel = np.argwhere(np.isnan(one_SxC))[0]
    if missing == "refuse":
        raise InputError(
            f"{place}: no value at step {step + 1} of channel {channel + 1}; --missing interpolate fills such gaps"
            " linearly between known values, or remove the series"
        )
    filled_SxC, steps_S = one_SxC.copy(), np.arange(len(one_SxC))
    for c in range(one_SxC.shape[1]):
        known_S = ~np.isnan(one_SxC[:, c])
        if not known_S.any():
            raise InputError(f"{place}: channel {c + 1} has no value at all; remove the series or the channel")
        filled_SxC[:, c] = np.interp(steps_S, steps_S[known_S], one_SxC[known_S, c])
    return filled_SxC


def _resampled(one_SxC: np.ndarray, length: int) -> np.ndarray:
    at, steps_S = np.linspace(0, len(one_SxC) - 1, length), np.arange(len(one_SxC))
    return np.stack([np.interp(at, steps_S, values_S) for values_S in one_SxC.T], axis=1)


def _refuse_little_spread(train: RawSeries, found: SeriesSet) -> None:
    for channel in range(found.series_NxSxC.shape[2]):
        values = np.concatenate([one[:, channel] for one in train.series])
        spread, mean = np.nanstd(values), np.nanmean(values)
        if 0 < spread < MIN_SPREAD * abs(mean):
            raise InputError(
                f"{found.origin}: channel {channel + 1} varies by {spread:.2g} around {mean:.6g}, less than float32"
                " can tell apart; subtract its mean"
            )
