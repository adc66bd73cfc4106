"""Reads image data sets that TFDS itself writes into a temporary folder, without TensorFlow."""

import numpy as np
import pytest

from mixmin_jax.data.images.sources import read_images
from mixmin_jax.data.images.tfds_images import read_tfds_images
from mixmin_jax.errors import InputError
from tests.data.images.pictures import encode, pixels
from tests.data.written_tfds import search_in, tfds, write


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    root = tmp_path_factory.mktemp("tfds")
    image, label = tfds.features.Image, tfds.features.ClassLabel

    def examples(count, start):
        return [{"picture": encode(pixels(start + n)), "kind": n % 2} for n in range(count)]

    plain = {"picture": image(shape=(None, None, 3)), "kind": label(names=["cat", "dog"])}
    write(root, "both", plain, {"train": examples(6, 0), "test": examples(4, 100), "validation": examples(2, 200)})
    write(root, "val", plain, {"train": examples(6, 0), "validation": examples(4, 100)})
    write(root, "train_only", plain, {"train": examples(12, 0)})
    odd = {"sizes": encode(pixels(0, 5, 7)), "broken": b"broken"}
    for name, picture in odd.items():
        train = [*examples(3, 0), {"picture": picture, "kind": 0}]
        write(root, name, plain, {"train": train, "test": examples(4, 100)})
    write(root, "blind", plain, {"train": examples(6, 0), "test": [{"picture": encode(pixels(0)), "kind": -1}]})
    two = [{"image": encode(pixels(n)), "label": n % 2, "coarse": 0} for n in range(4)]
    fine = {"image": image(shape=(None, None, 3)), "label": label(names=["a", "b"]), "coarse": label(names=["c"])}
    write(root, "keys", fine, {"train": two, "test": two}, keys=("image", "label"))
    write(root, "two_labels", fine, {"train": two, "test": two})
    write(root, "text", {"body": tfds.features.Text()}, {"train": [{"body": "x"}], "test": [{"body": "x"}]})
    blind = [{"picture": encode(pixels(start)), "kind": -1} for start in (50, 51, 100)]  # the last is tested on
    write(root, "more", plain, {"train": examples(6, 0), "test": examples(4, 100), "unlabelled": blind})
    return str(root)


def test_train_and_test_come_back_in_order(data_dir):
    images = read_tfds_images("tfds:both", data_dir=data_dir)
    for part, start, count in ((images.train, 0, 6), (images.test, 100, 4)):
        assert (part.images_NxHxWxC == np.stack([pixels(start + n) for n in range(count)])).all()
        assert part.labels_N.tolist() == [n % 2 for n in range(count)]
        assert (part.name, part.classes) == ("both", ("cat", "dog"))
    assert (images.train.origin, images.test.origin) == ("tfds:both/1.0.0, train", "tfds:both/1.0.0, test")


def test_validation_stands_in_for_test_and_train_is_split_without_either(data_dir):
    images = read_tfds_images("tfds:val", data_dir=data_dir)
    assert images.test.origin == "tfds:val/1.0.0, validation" and images.test.num_images == 4
    images = read_tfds_images("tfds:train_only:1.0.0", data_dir=data_dir)
    assert (images.train.num_images, images.test.num_images) == (10, 2)
    assert "20% of each class" in images.test.origin


def test_the_spec_stands_where_others_do(data_dir, monkeypatch):
    search_in(monkeypatch, data_dir)
    assert read_images("tfds:keys").train.classes == ("a", "b")  # the supervised keys decide between two labels
    assert read_images("tfds:both").train.num_images == 6
    assert read_images("tfds:sizes", size=3).train.images_NxHxWxC.shape == (4, 3, 3, 3)
    assert read_images("tfds:broken", max_skipped=0.25).train.num_skipped == 1


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("tfds:", "expected tfds:NAME"),
        ("tfds:both@train", "train and test are its own splits"),
        ("tfds:text", "it has images none, labels none and the features body"),
        ("tfds:two_labels", "it has images image, labels coarse, label"),
        ("tfds:sizes", r"train, example 0 is 4 x 4 pixels, tfds:sizes, train, example 3 is 7 x 5; give a size"),
        ("tfds:broken", r"train: 1 of 4 images cannot be read.*example 3 \(not an image"),
        ("tfds:blind", "test, example 0: no label"),
    ],
)
def test_bad_specs_are_explained(data_dir, spec, message):
    with pytest.raises(InputError, match=message):
        read_tfds_images(spec, data_dir=data_dir)


def test_a_split_without_labels_is_found_or_given(data_dir, monkeypatch):
    search_in(monkeypatch, data_dir)
    found = read_images("tfds:more")
    assert (found.unlabeled.images_NxHxWxC == np.stack([pixels(50), pixels(51)])).all() and found.num_test_copies == 1
    assert found.unlabeled.origin == "tfds:more/1.0.0, unlabelled"
    none = read_images("tfds:more", unlabeled="none")
    assert none.unlabeled is None and "unlabelled is left out" in none.notices[0]
    assert read_images("tfds:val", unlabeled="tfds:more").unlabeled.num_images == 2
    assert read_images("tfds:val", unlabeled="tfds:train_only@train").unlabeled.num_images == 12
    for spec, message in (("tfds:text", "expected one 8-bit image"), ("tfds:more@", "expected tfds:NAME or")):
        with pytest.raises(InputError, match=message):
            read_images("tfds:val", unlabeled=spec)
