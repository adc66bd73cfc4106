import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixmin_jax.data.images.image_sets import Images, ImageSet, digits, hold_out, stratified
from mixmin_jax.data.images.sources import read_images
from mixmin_jax.errors import InputError


@pytest.fixture(scope="module")
def eights():
    return digits()


def make_set(labels, classes=("a", "b"), shape=(2, 2, 1)):
    labels_N = np.array(labels, np.int32)
    return ImageSet("made", np.zeros((len(labels_N), *shape), np.uint8), labels_N, classes, "here")


def test_digits_are_scikit_learns_split_by_class(eights):
    from sklearn.datasets import load_digits

    raw = load_digits()
    train, test = eights.train, eights.test
    assert (train.num_images, test.num_images, train.images_NxHxWxC.shape[1:]) == (1438, 359, (8, 8, 1))
    assert train.classes == test.classes == tuple("0123456789")
    joined = np.concatenate([train.images_NxHxWxC, test.images_NxHxWxC])[..., 0] * (16 / 255)
    labels = np.concatenate([train.labels_N, test.labels_N])
    ours = sorted((int(label), *np.round(image).ravel()) for label, image in zip(labels, joined, strict=True))
    assert ours == sorted((int(label), *image) for label, image in zip(raw.target, raw.data, strict=True))
    assert np.abs(np.bincount(test.labels_N) - 0.2 * np.bincount(raw.target)).max() <= 0.5
    assert "20% of each class, drawn with seed 0" in test.origin
    assert (train.num_skipped, test.num_skipped) == (0, 0)


def test_digits_can_be_resized(eights):
    images = read_images("digits", size=12)
    assert images.test.images_NxHxWxC.shape == (359, 12, 12, 1)
    assert (images.test.labels_N == eights.test.labels_N).all()
    drift = images.test.images_NxHxWxC.mean((1, 2, 3)) - eights.test.images_NxHxWxC.mean((1, 2, 3))
    assert np.abs(drift).max() < 10  # of 255
    assert read_images("digits").test.fingerprint == eights.test.fingerprint


@pytest.mark.parametrize(
    ("spec", "size", "message"),
    [
        ("cifar10", None, r"'cifar10': unknown images; known are digits, folder:PATH and tfds:NAME$"),
        ("", None, "unknown images"),
        ("folder:", None, "unknown images"),
        (__file__, None, "did you mean folder:/.*test_image_sets.py"),
        ("digits", 0, "size must be 1 pixel or more; it is 0"),
    ],
)
def test_unknown_images_and_sizes_are_refused(spec, size, message):
    with pytest.raises(InputError, match=message):
        read_images(spec, size)


def test_fingerprint_is_of_pixels_labels_and_shape_not_of_names():
    base = make_set([0, 1])
    images = base.images_NxHxWxC.copy()
    images[0, 0, 0, 0] = 1
    assert dataclasses.replace(base, name="other", origin="there").fingerprint == base.fingerprint
    changed = [make_set([1, 0]), make_set([0, 1], shape=(1, 4, 1)), dataclasses.replace(base, images_NxHxWxC=images)]
    assert len({base.fingerprint, *(one.fingerprint for one in changed)}) == 4


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (make_set([0, 1]), make_set([0, 1], ("a", "c")), "only in train: b; only in test: c"),
        (make_set([0, 1]), make_set([0, 1], shape=(2, 3, 1)), "train images are 2 x 2 x 1, test images 2 x 3 x 1"),
        (make_set([0, 1]), make_set([1, 1]), "here: no image of class a"),
        (make_set([0], ("a",)), make_set([0], ("a",)), "only one class, a"),
    ],
)
def test_train_and_test_must_fit(train, test, message):
    with pytest.raises(InputError, match=message):
        Images(train, test)


labels = st.lists(st.integers(0, 4), min_size=1, max_size=60).map(lambda values: np.array(values, np.int32))


@settings(max_examples=60, deadline=None)
@given(labels, st.floats(0.01, 1), st.floats(0.01, 1), st.integers(0, 3))
def test_stratified_is_nested_and_even(labels_N, one, other, seed):
    counts = np.bincount(labels_N, minlength=5)
    least = 0.5 / counts[counts > 0].min()
    small, large = sorted([max(one, least), max(other, least)])
    rows_small, rows_large = stratified(labels_N, small, seed), stratified(labels_N, large, seed)
    assert set(rows_small) <= set(rows_large)
    assert (np.diff(rows_large) > 0).all()
    taken = np.bincount(labels_N[rows_large], minlength=5)
    assert (np.abs(taken - large * counts) <= 0.5 + 1e-6).all()
    assert (taken[counts > 0] > 0).all()


def test_stratified_draws_differently_by_seed_and_is_the_same_everywhere():
    labels_N = np.arange(400, dtype=np.int32) % 4
    draws = [stratified(labels_N, 0.1, seed) for seed in range(5)]
    assert len({tuple(rows) for rows in draws}) == 5
    assert draws[0][:6].tolist() == [10, 19, 31, 35, 36, 39]
    assert (stratified(labels_N, 1.0, 0) == np.arange(400)).all()
    means = [stratified(labels_N, 0.1, seed).mean() for seed in range(50)]
    assert abs(np.mean(means) - 199.5) < 4 * 400 / np.sqrt(12 * 40 * 50)  # rows from everywhere


RARE = np.array([0] * 100 + [1] * 3)


@pytest.mark.parametrize(
    ("draw", "fraction", "classes", "message"),
    [
        *((stratified, bad, (), "must lie above 0 and at most at 1") for bad in (0.0, -0.1, 1.1, float("nan"))),
        (stratified, 0.1, ("ant", "bat"), r"leaves class bat empty: it has 3 row\(s\).* works is 0.166667$"),
        (stratified, 0.1, (), "leaves class 1 empty"),
        (hold_out, 0.9, ("ant", "bat"), "leaves no row of class bat to train on"),
        (hold_out, 1.0, (), "leaves nothing to train on"),
    ],
)
def test_fractions_that_leave_nothing_are_refused(draw, fraction, classes, message):
    with pytest.raises(InputError, match=message):
        draw(RARE, fraction, 0, classes)
    assert (RARE[stratified(RARE, 0.166667, 0)] == 1).sum() == 1  # the fraction that a message names


def test_hold_out_parts_are_disjoint_and_independent_of_stratified():
    labels_N = np.arange(2000, dtype=np.int32) % 10
    rest, held = hold_out(labels_N, 0.1, 7)
    assert sorted([*rest, *held]) == list(range(2000))
    assert (np.bincount(labels_N[held]) == 20).all()
    shared = len(set(held) & set(stratified(labels_N, 0.1, 7)))
    assert 5 < shared < 40  # 20 by chance; all 200 if both drew alike
