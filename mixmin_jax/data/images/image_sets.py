"""Labeled images in memory: sets of them, the digits that come with scikit-learn, and splits by class.

Axes: N images, H rows, W columns, C channels (1 gray, 3 red, green and blue), B rows that a split takes.
"""

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from jaxtyping import Int, Int32, UInt8

from mixmin_jax.data.hash_order import hash_order
from mixmin_jax.errors import InputError, list_some

TEST_FRACTION = 0.2  # of a data set that comes without a split
TEST_SEED = 0  # fixed, so that everybody tests on the same images
NO_LABEL = -1  # of each image in a set without labels


@dataclasses.dataclass(frozen=True, eq=False)
class ImageSet:
    """Images of one size with their labels, in order.

    classes: names of the labels 0, 1, ...      origin: where the images come from.
    skipped: the name of each image that could not be read, with the reason.
    """

    name: str
    images_NxHxWxC: UInt8[np.ndarray, "N H W C"]
    labels_N: Int32[np.ndarray, " N"]
    classes: tuple[str, ...]
    origin: str
    skipped: tuple[str, ...] = ()

    @property
    def num_images(self) -> int:
        return len(self.labels_N)

    @property
    def num_skipped(self) -> int:
        return len(self.skipped)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) over the shape (four int64), pixels and labels (int32), little-endian; not over the names."""
        digest = hashlib.sha256(np.array(self.images_NxHxWxC.shape, "<i8").tobytes())
        digest.update(np.ascontiguousarray(self.images_NxHxWxC).data)
        digest.update(self.labels_N.astype("<i4").tobytes())
        return digest.hexdigest()

    def take(self, rows_B: Int[np.ndarray, " B"]) -> "ImageSet":
        """A set of these rows. `skipped` stays as it is: it belongs to the whole."""
        return dataclasses.replace(self, images_NxHxWxC=self.images_NxHxWxC[rows_B], labels_N=self.labels_N[rows_B])


@dataclasses.dataclass(frozen=True)
class Images:
    """A training and a test set of the same classes and image shape.

    unlabeled: images without labels, of the same shape.
    num_test_copies: how many of these were left out because they are images of the test set (`add_unlabeled`).
    notices: what a user should know of the layout.

    Raises:
        InputError: classes or shapes differ, or a class has no image in one of the sets.
    """

    train: ImageSet
    test: ImageSet
    unlabeled: ImageSet | None = None
    num_test_copies: int = 0
    notices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        train, test = self.train, self.test
        refuse_other_classes(train.name, train.classes, test.classes)
        if train.images_NxHxWxC.shape[1:] != test.images_NxHxWxC.shape[1:]:
            shapes = [" x ".join(map(str, part.images_NxHxWxC.shape[1:])) for part in (train, test)]
            raise InputError(f"{train.name}: train images are {shapes[0]}, test images {shapes[1]}")
        for part in (train, test):
            counts = np.bincount(part.labels_N, minlength=len(part.classes))
            if empty := [name for name, count in zip(part.classes, counts, strict=True) if not count]:
                raise InputError(f"{part.origin}: no image of class {list_some(empty)}; add images or remove the class")


def add_unlabeled(images: Images, unlabeled: ImageSet) -> Images:
    """The sets with images without labels beside them; exact copies of test images are left out.

    Raises:
        InputError: none is left.
    """

    def digests(found: ImageSet) -> list[bytes]:
        return [hashlib.sha256(image.tobytes()).digest() for image in found.images_NxHxWxC]

    test = set(digests(images.test))
    kept = np.flatnonzero([digest not in test for digest in digests(unlabeled)])
    if not len(kept):
        raise InputError(f"{unlabeled.origin}: every image of it is in the test set too; give others, or leave it out")
    num_copies = unlabeled.num_images - len(kept)
    if num_copies:
        unlabeled = unlabeled.take(kept)
    return dataclasses.replace(images, unlabeled=unlabeled, num_test_copies=num_copies)


def refuse_other_classes(place: str, train: Sequence[str], test: Sequence[str]) -> None:
    """Raise InputError if train and test do not name the same classes, or name fewer than two."""
    only = [(part, sorted(set(a) - set(b))) for part, a, b in (("train", train, test), ("test", test, train))]
    if differences := [f"only in {part}: {list_some(names)}" for part, names in only if names]:
        raise InputError(f"{place}: the classes of train and test differ ({'; '.join(differences)})")
    if len(train) < 2:
        raise InputError(f"{place}: only one class, {list_some(train)}; classification needs two")


def digits() -> Images:
    """The 1797 gray 8 x 8 handwritten digits of scikit-learn (UCI "Optical Recognition of Handwritten Digits").

    1438 to train and 359 to test on, drawn by class (`split_off_test`), so the same writers are on both sides. Gray
    levels 0 to 16 become 0 to 255. The classes are not invariant under flips.
    """
    from sklearn.datasets import load_digits  # here: the import takes a second

    raw = load_digits()
    images_NxHxWx1 = np.round(raw.images * (255 / 16)).astype(np.uint8)[..., None]
    classes = tuple(map(str, raw.target_names))
    return split_off_test(
        ImageSet("digits", images_NxHxWx1, raw.target.astype(np.int32), classes, "sklearn.datasets.load_digits")
    )


def split_off_test(images: ImageSet) -> Images:
    """Draw TEST_FRACTION of each class with TEST_SEED as the test set; the origins say so.

    Skipped images are listed with the training set.

    Raises:
        InputError: a class has fewer than three images.
    """
    counts = np.bincount(images.labels_N, minlength=len(images.classes))
    if counts.min() < 3:
        name = images.classes[int(counts.argmin())]
        raise InputError(
            f"{images.origin}: class {name} has {counts.min()} readable image(s), too few to split a test set off; "
            "add images, or give train and test folders"
        )
    train_rows, test_rows = hold_out(images.labels_N, TEST_FRACTION, TEST_SEED)
    drawn = f"of each class, drawn with seed {TEST_SEED}"
    return Images(
        dataclasses.replace(images.take(train_rows), origin=f"{images.origin}, all but {TEST_FRACTION:.0%} {drawn}"),
        dataclasses.replace(images.take(test_rows), origin=f"{images.origin}, {TEST_FRACTION:.0%} {drawn}", skipped=()),
    )


def stratified(
    labels_N: Int[np.ndarray, " N"], fraction: float, seed: int, classes: Sequence[str] = (), purpose: str = "take"
) -> Int[np.ndarray, " B"]:
    """Sorted rows of about `fraction` of each class: floor(fraction n + 1/2) of its n rows.

    With the same seed, a smaller fraction takes a subset of what a larger one takes.

    Args:
        classes: names of the classes, for the message.
        purpose: draws for different purposes are independent, also with the same seed.

    Raises:
        InputError: `fraction` is outside (0, 1] or leaves a class empty (with the smallest fraction that works).
    """
    if not 0 < fraction <= 1:
        raise InputError(f"a fraction of the data must lie above 0 and at most at 1; it is {fraction}")
    if not len(labels_N):
        raise InputError("a fraction of no rows was asked for; give labels")
    counts = dict(zip(*(values.tolist() for values in np.unique(labels_N, return_counts=True)), strict=True))
    smallest = min(counts, key=counts.__getitem__)
    if _share(fraction, counts[smallest]) < 1:
        least = math.ceil(0.5 / counts[smallest] * 1e6) / 1e6  # rounded up, so the printed number works
        raise InputError(
            f"a fraction of {fraction:g} leaves class {_class_name(smallest, classes)} empty: it has "
            f"{counts[smallest]} row(s); the smallest fraction that works is {least:g}"
        )
    order_N = np.array(hash_order(range(len(labels_N)), f"{purpose}/{seed}"))
    ordered_labels_N = labels_N[order_N]
    taken = [order_N[ordered_labels_N == label][: _share(fraction, count)] for label, count in counts.items()]
    return np.sort(np.concatenate(taken))


def hold_out(
    labels_N: Int[np.ndarray, " N"], fraction: float, seed: int, classes: Sequence[str] = ()
) -> tuple[Int[np.ndarray, " rest"], Int[np.ndarray, " B"]]:
    """Sorted rows to train on, and rows to validate on: about `fraction` of each class, counted as in `stratified`.

    The draws are independent of those of `stratified`, also with the same seed.

    Raises:
        InputError: `fraction` is outside (0, 1) or leaves a class empty on one side.
    """
    if fraction == 1:
        raise InputError("a held-out fraction of 1 leaves nothing to train on")
    held_B = stratified(labels_N, fraction, seed, classes, "hold out")
    rest = np.setdiff1d(np.arange(len(labels_N)), held_B)
    if gone := sorted(set(labels_N.tolist()) - set(labels_N[rest].tolist())):
        raise InputError(
            f"holding out {fraction:g} of each class leaves no row of class {_class_name(gone[0], classes)} to train on"
        )
    return rest, held_B


def _share(fraction: float, count: int) -> int:
    return math.floor(fraction * count + 0.5 + 1e-9)  # a whole number in decimals may be a little less in binary


def _class_name(label: int, classes: Sequence[str]) -> str:
    return classes[label] if classes else str(label)
