"""Reads folders and archives that the tests make; PNG is lossless, so pixels are compared exactly."""

import os
import tarfile

import numpy as np
import pytest
from PIL import Image

from mixmin_jax.data.images import decoding, folders
from mixmin_jax.data.images.decoding import decode
from mixmin_jax.data.images.folders import read_image_folder
from mixmin_jax.data.images.sources import read_images
from mixmin_jax.errors import InputError
from tests.data.images.pictures import encode, pixels, tar_of

MODES = {".tar": "w", ".gz": "w:gz", ".xz": "w:xz"}


def image(seed, *shape):
    return encode(pixels(seed, *shape))


# path -> bytes: two classes, three images to train and two to test on; the seed says which image it is
PETS = {
    f"{part}/{name}/{number}.png": image(start + 10 * label + number)
    for part, count, start in (("train", 3, 0), ("test", 2, 100))
    for label, name in enumerate(("cat", "dog"))
    for number in range(count)
}


def written(path, files):
    """An archive of the files if the path ends like one, else a folder; None stands for an empty folder."""
    if path.suffix in MODES:
        path.write_bytes(tar_of(files, MODES[path.suffix]))
        return path
    path.mkdir(exist_ok=True)
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).mkdir() if data is None else (path / name).write_bytes(data)
    return path


def link(name, target, kind=tarfile.SYMTYPE):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def assert_holds(part, seeds):
    assert (part.images_NxHxWxC == np.stack([pixels(seed) for seed in seeds])).all()


def assert_is_pets(images):
    train, test = images.train, images.test
    assert train.classes == test.classes == ("cat", "dog")
    assert train.labels_N.tolist() == [0, 0, 0, 1, 1, 1] and test.labels_N.tolist() == [0, 0, 1, 1]
    assert_holds(train, (0, 1, 2, 10, 11, 12))
    assert_holds(test, (100, 101, 110, 111))


def test_a_folder_with_a_split(tmp_path):
    extra = {".hidden/x.png": b"", "train/.DS_Store": b"", "train/cat/._0.png": b"", "train/cat/notes.txt": b"\xff"}
    extra |= {"README.md": b"about", "__MACOSX/train/cat/0.png": b""}
    written(tmp_path / "pets v1", PETS | extra)
    os.mkfifo(tmp_path / "pets v1/train/cat/9.png")  # a pipe with an image's name is not waited for
    images = read_images(f"folder:{tmp_path}/pets v1")
    assert_is_pets(images)
    assert images.train.name == "pets_v1"
    assert images.train.origin == f"folder:{tmp_path}/pets v1, train"
    assert images.test.origin.endswith(", test")


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tar.xz"])
@pytest.mark.parametrize("prefix", ["", "./", "pets/", "./a/b/"])
def test_an_archive_is_read_as_its_folder_is(tmp_path, suffix, prefix):
    files = {prefix + path: data for path, data in reversed(PETS.items())}
    path = written(tmp_path / f"pets.{suffix}", files | {f"{prefix}train/cat": None})
    images = read_image_folder(path)
    assert_is_pets(images)
    assert images.train.name == "pets"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("names", [["val"], ["validation"], ["valid"], ["test", "val"]])
def test_the_test_folder_may_have_other_names_of_which_the_first_counts(tmp_path, names):
    name, *others = names
    files = {path.replace("test/", f"{name}/"): data for path, data in PETS.items()}
    files |= {f"{other}/{animal}/0.png": image(7) for other in others for animal in ("cat", "dog")}
    images = read_image_folder(written(tmp_path, files))
    assert_is_pets(images)
    assert images.test.origin.endswith(f", {name}")


@pytest.mark.parametrize("prefix", ["", "train/", "outer/"])
def test_without_a_split_a_fixed_part_of_each_class_is_tested_on(tmp_path, prefix):
    sizes = {"ant": 10, "bee": 5, "cow": 3}
    seeds = {(name, n): 100 * label + n for label, (name, size) in enumerate(sizes.items()) for n in range(size)}
    written(tmp_path / "made", {f"{prefix}{name}/deeper/{n}.png": image(seed) for (name, n), seed in seeds.items()})
    images, again = (read_image_folder(tmp_path / "made") for _ in range(2))
    assert np.bincount(images.test.labels_N).tolist() == [2, 1, 1]
    assert np.bincount(images.train.labels_N).tolist() == [8, 4, 2]
    assert "20% of each class, drawn with seed 0" in images.test.origin
    found = sorted(x.tobytes() for part in (images.train, images.test) for x in part.images_NxHxWxC)
    assert found == sorted(pixels(seed).tobytes() for seed in seeds.values())
    assert again.test.fingerprint == images.test.fingerprint


ANNOTATIONS = "val/val_annotations.txt"
TINY = {
    **{f"train/n0{k}/images/n0{k}_{n}.JPEG": image(10 * k + n) for k in (1, 2, 3) for n in range(2)},
    **{f"train/n0{k}/n0{k}_boxes.txt": b"0\t0\t1\t1\n" for k in (1, 2, 3)},
    **{f"val/images/val_{n}.JPEG": image(100 + n) for n in range(4)},
    ANNOTATIONS: b"".join(b"val_%d.JPEG\tn0%d\t0\t0\t9\t9\n" % pair for pair in ((0, 3), (1, 1), (2, 2), (3, 3))),
    **{"test/images/test_0.JPEG": image(999), "wnids.txt": b"n01\nn02\nn03\n"},
}
WORDS = {"words.txt": b"n01\tgoldfish, Carassius auratus\nn02\tcrane\nn03\tcrane, machine\nn04\tunused\n"}


@pytest.mark.parametrize("suffix", ["", ".tar"])
@pytest.mark.parametrize(
    ("words", "classes"), [(WORDS, ("goldfish", "crane (n02)", "crane (n03)")), ({}, ("n01", "n02", "n03"))]
)
def test_tiny_imagenets_layout(tmp_path, suffix, words, classes):
    files = {f"tiny-imagenet-200/{path}": data for path, data in (TINY | words).items()}
    images = read_image_folder(written(tmp_path / f"tiny{suffix}", files))
    assert images.train.classes == images.test.classes == classes
    assert images.train.labels_N.tolist() == [0, 0, 1, 1, 2, 2]
    assert images.test.labels_N.tolist() == [0, 1, 2, 2]
    assert_holds(images.test, (101, 102, 100, 103))
    assert images.test.origin.endswith(", val")


TRAINED = {path: data for path, data in PETS.items() if path.startswith("train/")}
PARTS = {path.replace("train/", "A/").replace("test/", "B/"): data for path, data in PETS.items()}


@pytest.mark.parametrize("suffix", ["", ".tar"])
@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("Training", "Testing"), ("TRAIN", "TEST"), ("seg_train/seg_train", "seg_test/seg_test"), ("train", "dev"),
        ("train", "EVAL"), ("training_set/training_set", "test_set/test_set"), ("train/train", "test"),
        ("Train", "evaluation"),
    ],
)  # fmt: skip
def test_splits_have_many_names(tmp_path, suffix, train, test):
    files = {path.replace("train/", f"{train}/").replace("test/", f"{test}/"): data for path, data in PETS.items()}
    images = read_image_folder(written(tmp_path / f"pets{suffix}", files))
    assert_is_pets(images)
    assert images.notices == () and images.unlabeled is None
    assert images.test.origin.endswith(f", {test}")


def test_folders_that_are_left_out_are_said(tmp_path):
    extra = {"seg_pred/0.png": image(7), "Validation/cat/0.png": image(8), "docs/read.txt": b""}
    images = read_image_folder(written(tmp_path / "pets", PETS | extra))
    assert_is_pets(images)
    assert [notice.split(": ", 1)[1] for notice in images.notices] == [
        "Validation, seg_pred is left out: test is tested on, and the validation part is drawn from train"
    ]


@pytest.mark.parametrize("suffix", ["", ".tar"])
@pytest.mark.parametrize("place", ["unlabeled", "UNSUP", "train/Unlabelled", "train/unsup/deep"])
def test_images_without_labels_lie_beside_the_training_set_or_in_it(tmp_path, suffix, place):
    copies = {f"{place}/copy.png": PETS["test/cat/1.png"], f"{place}/known.png": PETS["train/cat/1.png"]}
    files = PETS | {f"{place}/{n}.png": image(50 + n) for n in range(3)} | copies
    images = read_image_folder(written(tmp_path / f"pets{suffix}", files))
    assert_is_pets(images)
    assert_holds(images.unlabeled, [50, 51, 52, 1])  # in the order of their names
    assert images.num_test_copies == 1 and set(images.unlabeled.labels_N) == {-1}
    without = read_image_folder(tmp_path / f"pets{suffix}", with_unlabeled=False)
    assert without.unlabeled is None and "left out" in without.notices[0]


def test_images_without_labels_beside_class_folders_are_no_class(tmp_path):
    files = {f"{name}/{n}.png": image(n) for name in ("ant", "bee", "unlabeled") for n in range(3)}
    images = read_image_folder(written(tmp_path / "made", files | {"unlabeled/9.png": image(9)}))
    assert images.train.classes == ("ant", "bee") and images.unlabeled.num_images >= 1


@pytest.mark.parametrize("files", [TRAINED, PETS])
def test_images_that_do_not_fit_memory_are_refused_before_they_are_decoded(tmp_path, monkeypatch, files):
    root = written(tmp_path / "pets", files)
    bytes_of_all = len(files) * 4 * 4 * 3
    monkeypatch.setattr(decoding, "available_bytes", lambda: 2 * bytes_of_all)
    read_image_folder(root)
    monkeypatch.setattr(decoding, "available_bytes", lambda: 2 * bytes_of_all - 1)
    monkeypatch.setattr(decoding, "_decode_all", None)
    with pytest.raises(InputError, match=rf"pets.*: {len(files)} images of 4 x 4 x 3 take about .* --image-size"):
        read_image_folder(root)
    monkeypatch.setattr(decoding, "available_bytes", lambda: 2 * bytes_of_all)
    with pytest.raises(InputError, match="smaller --fractions"):
        read_image_folder(root, train_copies=1.0)


@pytest.mark.parametrize("suffix", ["", ".tar"])
@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no image in it"),
        ({"0.png": image(0)}, "0.png: lies in no class folder"),
        ({"train/cat/0.png": image(0), "test/cat/0.png": image(1)}, "only one class, cat"),
        ({f"{part}/cat/0.png": image(0) for part in ("pets", "Test")}, "has Test but no folder train beside it"),
        (PETS | {"Training/cat/0.png": image(0)}, "Training and train both name a train set"),
        (PETS | {"dev/cat/0.png": image(0), "val/cat/0.png": image(0)}, "dev and val both name a validation set"),
        (
            TRAINED | {"holdout/cat/0.png": image(0)},
            r"holdout beside train: neither a class nor a known name .*\(test, ",
        ),
        (TRAINED | {"car/0.png": image(0)}, "car beside train: .*rename train if it is a class"),
        (PARTS, "A, B look like splits and not like classes .each holds cat, dog.; name the folders train and test"),
        ({f"{part}/{n}.png": image(n) for part in ("train2017", "val2017") for n in range(3)}, "look like splits"),
        ({f"{name}/{n}.png": image(n) for name in ("ant", "bee") for n in range(2)}, "class ant has 2 readable"),
        (PETS | {"train/bird/notes.txt": b""}, "train/: no image of class bird; known are .jpg"),
        (PETS | {"test/bird": None}, "test/: no image of class bird"),
        (PETS | {"train/bird/0.png": image(0)}, r"differ \(only in train: bird\)"),
        (PETS | {"test/bird/0.png": image(0)}, r"differ \(only in test: bird\)"),
        (PETS | {"train/0.png": image(0)}, "train/0.png: lies in no class folder"),
        (TINY | {ANNOTATIONS: b"val_0.JPEG\n"}, "val_annotations.txt, line 1: expected a file and its class"),
        (TINY | {ANNOTATIONS: b"x.JPEG\tn01\n"}, "line 1: image val/images/x.JPEG is not there"),
        (TINY | {ANNOTATIONS: b"val_0.JPEG\tn01\nval_0.JPEG\tn02"}, "line 2: .*val_0.JPEG comes twice"),
        (TINY | {"val/images/val_4.JPEG": image(0)}, "no line for val/images/val_4.JPEG"),
        (TINY | {ANNOTATIONS: b"\xff"}, "val_annotations.txt: not valid UTF-8"),
        (TINY | {"train/n05/images/a.JPEG": image(0)}, r"differ \(only in train: n05\)"),
    ],
)
def test_broken_layouts_are_explained(tmp_path, suffix, files, message):
    with pytest.raises(InputError, match=f"data{suffix}.*{message}"):
        read_image_folder(written(tmp_path / f"data{suffix}", files))


def test_what_is_wrong_with_train_and_test_is_said_at_once(tmp_path):
    loose = {f"train/{n}.png": image(n) for n in range(3)}
    with pytest.raises(InputError) as caught:
        read_image_folder(written(tmp_path / "pets", PETS | loose | {"train/bird": None, "test/bird": None}))
    head, *lines = str(caught.value).splitlines()
    assert head == "3 things are wrong:" and "train/0.png: lies in no class folder" in lines[0]
    assert "nor do train/1.png, train/2.png" in lines[0]
    assert "train/: no image of class bird" in lines[1] and "test/: no image of class bird" in lines[2]
    wrong = b"x.JPEG\tn01\nval_0.JPEG\n" + b"".join(b"y%d.JPEG\tn01\n" % n for n in range(20))
    with pytest.raises(InputError, match=r"(?s)line 1: image .*line 2: expected .*txt: \d+ more"):
        read_image_folder(written(tmp_path / "tiny", TINY | {ANNOTATIONS: wrong}))


def test_gray_only_if_every_image_is(tmp_path):
    gray = {path: image(seed, 4, 4, 1) for seed, path in enumerate(PETS)}
    images = read_image_folder(written(tmp_path / "gray", gray))
    assert images.train.images_NxHxWxC.shape == (6, 4, 4, 1)
    assert (images.train.images_NxHxWxC[0, ..., 0] == pixels(0, 4, 4, 1)).all()
    images = read_image_folder(written(tmp_path / "mixed", gray | {"test/dog/1.png": image(5)}))
    assert images.train.images_NxHxWxC.shape == (6, 4, 4, 3)
    assert (images.train.images_NxHxWxC[0] == pixels(0, 4, 4, 1)[..., None]).all()
    assert (images.test.images_NxHxWxC[-1] == pixels(5)).all()


def test_images_of_different_size_need_a_size(tmp_path):
    written(tmp_path, PETS | {"test/dog/0.png": image(0, 6, 5)})
    with pytest.raises(InputError, match=r"train/cat/0.png is 4 x 4 pixels, .*test/dog/0.png is 5 x 6; give a size"):
        read_image_folder(tmp_path)
    images = read_image_folder(tmp_path, size=4)
    assert images.test.images_NxHxWxC.shape == (4, 4, 4, 3)
    assert (images.test.images_NxHxWxC[0] == pixels(100)).all()  # of that size already


def test_resizing_shortens_the_short_side_and_keeps_the_centre():
    array = pixels(0, 24, 40, 1)
    small = decode(encode(array), size=3)
    whole = np.asarray(Image.fromarray(array).resize((5, 3), Image.Resampling.BILINEAR))
    assert (small[..., 0] == whole[:, 1:-1]).all()
    flat = decode(encode(np.full((9, 7, 3), 77, np.uint8)), size=5)
    assert (flat == 77).all() and flat.shape == (5, 5, 3)
    checks = np.tile(np.array([[0, 200], [200, 0]], np.uint8), (8, 8))
    assert np.abs(decode(encode(checks), size=4).astype(int)[1:-1, 1:-1] - 100).max() <= 1  # antialiased


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (encode(Image.fromarray(pixels(0, 4, 4, 1) // 128 * 255).convert("1")), pixels(0, 4, 4, 1) // 128 * 255),
        (encode(pixels(0, 4, 4, 1).astype(np.uint16) * 256 + 255), pixels(0, 4, 4, 1)),
        (encode(np.dstack([pixels(0), np.full((4, 4), 9, np.uint8)])), pixels(0)),
        (encode(Image.fromarray(pixels(0, 4, 4, 1) // 200).convert("P"), transparency=b"\0\1"), None),
        (encode(pixels(0), "BMP"), pixels(0)),
        (encode(pixels(0), "PPM"), pixels(0)),
        (encode(pixels(0), "TIFF"), pixels(0)),
    ],
    ids=["1-bit", "16-bit", "transparent", "palette", "BMP", "PPM", "TIFF"],
)
def test_kinds_of_image(data, expected):
    array = decode(data)
    assert array.dtype == np.uint8
    if expected is None:
        assert array.shape == (4, 4, 3)
    else:
        assert (array == expected.reshape(array.shape)).all()


def test_jpeg_is_close():
    smooth = np.add.outer(np.arange(32) * 4, np.arange(32) * 3).astype(np.uint8)
    assert np.abs(decode(encode(smooth, "JPEG", quality=95))[..., 0].astype(int) - smooth).max() < 6


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"no image", "not an image of a known format"),
        (image(0, 40, 40)[:-2000], "truncated"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n", "not an image of a known format"),
        (encode(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"), "32-bit pixels"),
    ],
)
def test_unreadable_images_have_a_reason(data, reason):
    assert reason in decode(data)


@pytest.fixture
def corrupted(tmp_path):
    """A function that writes a folder with 100 images to train on, of which those named are corrupt."""

    def write(*paths):
        files = {f"{part}/{name}/{n:03}.png": image(n) for part in ("train", "test") for name in "ab" for n in range(3)}
        files |= {f"train/a/{n:03}.png": image(n) for n in range(97)}
        return written(tmp_path, files | dict.fromkeys(paths, b"corrupt"))

    return write


@pytest.mark.parametrize("corrupt", ["train/a/000.png", "train/a/050.png"])  # the first gives the size to all
def test_a_corrupt_image_is_skipped_and_named(corrupted, corrupt):
    root = corrupted(corrupt)
    images = read_image_folder(root)
    assert images.train.skipped == (f"{root}/{corrupt} (not an image of a known format)",)
    assert (images.train.num_images, images.train.num_skipped, images.test.num_skipped) == (99, 1, 0)
    assert images.train.labels_N.tolist() == [0] * 96 + [1] * 3
    kept = [n for n in range(97) if n != int(corrupt[8:11])]
    assert_holds(images.train, [*kept, 0, 1, 2])


FOUR = [f"train/a/{n:03}.png" for n in (1, 2, 3, 4)]


@pytest.mark.parametrize(
    ("paths", "max_skipped", "message"),
    [
        (FOUR, 0.01, r"train: 4 of 100 .* 1.00%: .*train/a/001.png .*train/a/003.png \([^()]*\) and 1 more"),
        (FOUR, 0.039, "4 of 100 images cannot be read, more than"),
        (FOUR, 1.5, "max_skipped is a fraction"),
        ([f"train/b/{n:03}.png" for n in range(3)], 0.5, "no image of class b"),
        ([f"test/{name}/{n:03}.png" for name in "ab" for n in range(3)], 1.0, "6 of 6 images cannot be read"),
    ],
)
def test_too_many_corrupt_images_are_refused(corrupted, paths, max_skipped, message):
    with pytest.raises(InputError, match=message):
        read_image_folder(corrupted(*paths), max_skipped=max_skipped)


def test_the_limit_of_corrupt_images_can_be_moved(corrupted):
    assert read_image_folder(corrupted(*FOUR), max_skipped=0.04).train.num_skipped == 4


def test_what_is_missing_or_no_archive_is_named(tmp_path):
    (tmp_path / "text.tar").write_bytes(b"not a tar archive" * 100)
    for name, message in (("missing", "no such file or folder"), ("text.tar", "cannot be read as a tar archive")):
        with pytest.raises(InputError, match=f"{name}: {message}"):
            read_image_folder(tmp_path / name)


@pytest.mark.parametrize("suffix", MODES)
@pytest.mark.parametrize("share", [0.2, 0.5])
def test_a_truncated_archive_is_refused(tmp_path, suffix, share):
    path = written(tmp_path / f"pets{suffix}", PETS)
    os.truncate(path, int(share * path.stat().st_size))
    with pytest.raises(InputError, match="cannot be read as a tar archive"):
        read_image_folder(path)


@pytest.mark.parametrize("end", [b"", b"x" * 1024])
def test_an_archive_must_have_its_end(tmp_path, end):
    """Without one it may have lost members, which Python's reader does not tell."""
    path = written(tmp_path / "pets.tar", PETS)
    with tarfile.open(path) as archive:
        last = archive.getmembers()[-1]
    path.write_bytes(path.read_bytes()[: last.offset] + end)  # what is left is whole members
    with pytest.raises(InputError, match="cannot be read as a tar archive"):
        read_image_folder(path)


@pytest.mark.parametrize("name", ["../train/cat/9.png", "/train/cat/9.png", "train/../../x.png"])
def test_archive_members_outside_are_refused(tmp_path, name):
    with pytest.raises(InputError, match="lies outside of the archive"):
        read_image_folder(written(tmp_path / "pets.tar", PETS | {name: image(0)}))


def test_links_in_an_archive_lead_to_members_only(tmp_path):
    linked = {
        "train/cat/2.png": link("train/cat/2.png", "../../store/2.png"),
        "train/dog/2.png": link("train/dog/2.png", "store/12.png", tarfile.LNKTYPE),
    }
    store = {"store/2.png": PETS["train/cat/2.png"], "store/12.png": PETS["train/dog/2.png"]}
    assert_is_pets(read_image_folder(written(tmp_path / "pets.tar", PETS | store | linked)))
    outside = tmp_path / "outside.png"
    outside.write_bytes(image(0))
    for target in (str(outside), "../../../outside.png", "nothing.png"):
        bad = {"train/cat/9.png": link("train/cat/9.png", target)}
        with pytest.raises(InputError, match=r"train/cat/9.png: a link to .*, which is no image in the archive"):
            read_image_folder(written(tmp_path / "bad.tar", PETS | bad))


def test_links_in_a_folder_lead_to_files_inside_only(tmp_path):
    root = written(tmp_path / "pets", PETS | {"store/2.png": PETS["train/cat/2.png"]})
    (tmp_path / "outside.png").write_bytes(image(0))
    place = root / "train/cat/2.png"
    for target, what in (
        ("../../store/2.png", None), (tmp_path / "outside.png", "outside"), ("nothing.png", "nowhere"),
        (root, "to a folder"),
    ):  # fmt: skip
        place.unlink()
        place.symlink_to(target)
        if what is None:
            assert_is_pets(read_image_folder(root))
        else:
            with pytest.raises(InputError, match=f"train/cat/2.png: a link that leads {what}"):
                read_image_folder(root)


def test_links_to_elsewhere_are_followed_where_that_is_asked_for(tmp_path):
    """A subset of ImageNet is often a folder of links: to class folders, and to images."""
    store = written(tmp_path / "store", PETS)
    root = tmp_path / "subset"
    (root / "train").mkdir(parents=True)
    (root / "test" / "dog").mkdir(parents=True)
    (root / "train" / "cat").symlink_to(store / "train" / "cat")
    (root / "train" / "dog").symlink_to(store / "train" / "dog")
    (root / "test" / "cat").symlink_to(store / "test" / "cat")
    for number in range(2):
        (root / "test" / "dog" / f"{number}.png").symlink_to(store / "test" / "dog" / f"{number}.png")
    with pytest.raises(InputError, match=r"a link that leads (to a folder|outside); .*or give --follow-links"):
        read_image_folder(root)
    assert_is_pets(read_image_folder(root, follow_links=True))


@pytest.mark.parametrize(
    ("name", "target", "message"),
    [
        ("train/cat/again", "..", "again: leads back to a folder around it"),
        ("train/cat/all", "../../../disk", "disk: leads back to a folder around it"),  # which links to all in turn
        ("train/cat/a.png", "a.png", r"a\.png: a link that leads nowhere"),
        ("train/cat/b.png", "gone.png", r"b\.png: a link that leads nowhere"),
    ],
)
def test_links_in_a_circle_and_to_nothing_are_refused(tmp_path, name, target, message):
    root = written(tmp_path / "pets", PETS)
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "home").symlink_to(tmp_path)
    (root / name).symlink_to(target)
    with pytest.raises(InputError, match=f"pets/train/cat/.*{message}"):
        read_image_folder(root, follow_links=True)


def test_an_archive_larger_than_memory_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(folders, "available_bytes", lambda: 100)
    with pytest.raises(InputError, match="unpack it, and give the folder"):
        read_image_folder(written(tmp_path / "pets.tar", PETS))
