"""Reads folders and archives that the tests make; PNG is lossless, so pixels are compared exactly."""

import os
import tarfile

import numpy as np
import pytest
from PIL import Image

from mixmin_jax.data.images.decoding import decode
from mixmin_jax.data.images.folders import read_image_folder
from mixmin_jax.data.images.sources import read_images
from mixmin_jax.errors import InputError
from tests.data.images.pictures import encode, pixels, tar_of


def image(seed, *shape):
    return encode(pixels(seed, *shape))


def split_files():
    """Path -> bytes: two classes, three images to train and two to test on; the seed says which image it is."""
    files = {}
    for part, count, start in (("train", 3, 0), ("test", 2, 100)):
        for label, name in enumerate(("cat", "dog")):
            for number in range(count):
                files[f"{part}/{name}/{number}.png"] = image(start + 10 * label + number)
    return files


def write_folder(root, files):
    for path, data in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    return root


def write_tar(path, files, mode="w"):
    path.write_bytes(tar_of(files, mode))
    return path


def link(name, target, kind=tarfile.SYMTYPE):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def assert_is_split(images):
    train, test = images.train, images.test
    assert train.classes == test.classes == ("cat", "dog")
    assert train.labels_N.tolist() == [0, 0, 0, 1, 1, 1] and test.labels_N.tolist() == [0, 0, 1, 1]
    assert (train.images_NxHxWxC == np.stack([pixels(seed) for seed in (0, 1, 2, 10, 11, 12)])).all()
    assert (test.images_NxHxWxC == np.stack([pixels(seed) for seed in (100, 101, 110, 111)])).all()


def test_a_folder_with_a_split(tmp_path):
    files = split_files()
    extra = {".hidden/x.png": b"", "train/.DS_Store": b"", "train/cat/._0.png": b"", "train/cat/notes.txt": b"\xff"}
    write_folder(tmp_path / "pets v1", files | extra | {"README.md": b"about", "__MACOSX/train/cat/0.png": b""})
    images = read_images(f"folder:{tmp_path}/pets v1")
    assert_is_split(images)
    assert images.train.name == "pets_v1"
    assert images.train.origin == f"folder:{tmp_path}/pets v1, train"
    assert images.test.origin.endswith(", test")


@pytest.mark.parametrize(("suffix", "mode"), [("tar", "w"), ("tar.gz", "w:gz"), ("tar.xz", "w:xz")])
@pytest.mark.parametrize("prefix", ["", "./", "pets/", "./a/b/"])
def test_an_archive_is_read_as_its_folder_is(tmp_path, suffix, mode, prefix):
    files = {prefix + path: data for path, data in reversed(split_files().items())}
    path = write_tar(tmp_path / f"pets.{suffix}", files | {f"{prefix}train/cat": None}, mode)
    images = read_image_folder(path)
    assert_is_split(images)
    assert images.train.name == "pets"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["val", "validation", "valid"])
def test_the_test_folder_may_have_another_name(tmp_path, name):
    files = {path.replace("test/", f"{name}/"): data for path, data in split_files().items()}
    images = read_image_folder(write_folder(tmp_path, files))
    assert_is_split(images)
    assert images.test.origin.endswith(f", {name}")


def test_test_goes_before_val(tmp_path):
    files = split_files() | {"val/cat/0.png": image(7), "val/dog/0.png": image(8)}
    assert_is_split(read_image_folder(write_folder(tmp_path, files)))


@pytest.mark.parametrize("prefix", ["", "train/", "outer/"])
def test_without_a_split_a_fixed_part_of_each_class_is_tested_on(tmp_path, prefix):
    sizes = {"ant": 10, "bee": 5, "cow": 3}
    seeds = {(name, n): 100 * label + n for label, (name, size) in enumerate(sizes.items()) for n in range(size)}
    files = {f"{prefix}{name}/deeper/{n}.png": image(seed) for (name, n), seed in seeds.items()}
    images = read_image_folder(write_folder(tmp_path / "made", files))
    assert np.bincount(images.test.labels_N).tolist() == [2, 1, 1]
    assert np.bincount(images.train.labels_N).tolist() == [8, 4, 2]
    assert "20% of each class, drawn with seed 0" in images.test.origin
    found = sorted(x.tobytes() for part in (images.train, images.test) for x in part.images_NxHxWxC)
    assert found == sorted(pixels(seed).tobytes() for seed in seeds.values())
    again = read_image_folder(tmp_path / "made")
    assert again.test.fingerprint == images.test.fingerprint


def test_a_class_too_small_to_split_is_named(tmp_path):
    files = {f"{name}/{n}.png": image(n) for name, size in (("ant", 5), ("bee", 2)) for n in range(size)}
    with pytest.raises(InputError, match=r"class bee has 2 readable image\(s\), too few to split"):
        read_image_folder(write_folder(tmp_path, files))


def tiny_imagenet(words="n01\tgoldfish, Carassius auratus\nn02\tcrane\nn03\tcrane, machine\nn04\tunused\n"):
    files = {f"train/n0{k}/images/n0{k}_{n}.JPEG": image(10 * k + n) for k in (1, 2, 3) for n in range(2)}
    files |= {f"train/n0{k}/n0{k}_boxes.txt": b"0\t0\t1\t1\n" for k in (1, 2, 3)}
    files |= {f"val/images/val_{n}.JPEG": image(100 + n) for n in range(4)}
    lines = [f"val_{n}.JPEG\tn0{k}\t0\t0\t9\t9" for n, k in ((0, 3), (1, 1), (2, 2), (3, 3))]
    files["val/val_annotations.txt"] = "\n".join(lines).encode() + b"\n"
    files |= {"test/images/test_0.JPEG": image(999), "wnids.txt": b"n01\nn02\nn03\n"}
    return files | ({"words.txt": words.encode()} if words else {})


@pytest.mark.parametrize("packed", [False, True])
def test_tiny_imagenets_layout(tmp_path, packed):
    files = {f"tiny-imagenet-200/{path}": data for path, data in tiny_imagenet().items()}
    path = write_tar(tmp_path / "tiny.tar", files) if packed else write_folder(tmp_path / "tiny", files)
    images = read_image_folder(path)
    assert images.train.classes == ("goldfish", "crane (n02)", "crane (n03)")
    assert images.train.labels_N.tolist() == [0, 0, 1, 1, 2, 2]
    assert images.test.labels_N.tolist() == [0, 1, 2, 2]
    assert (images.test.images_NxHxWxC == np.stack([pixels(seed) for seed in (101, 102, 100, 103)])).all()
    assert images.test.origin.endswith(", val")


def test_tiny_imagenet_without_words_keeps_the_ids(tmp_path):
    images = read_image_folder(write_folder(tmp_path, tiny_imagenet(words="")))
    assert images.test.classes == ("n01", "n02", "n03")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"val/val_annotations.txt": b"val_0.JPEG\n"}, "val_annotations.txt, line 1: expected a file and its class"),
        ({"val/val_annotations.txt": b"x.JPEG\tn01\n"}, "line 1: image val/images/x.JPEG is not there"),
        ({"val/val_annotations.txt": b"val_0.JPEG\tn01\nval_0.JPEG\tn02"}, "line 2: .*val_0.JPEG comes twice"),
        ({"val/images/val_4.JPEG": image(0)}, "no line for val/images/val_4.JPEG"),
        ({"val/val_annotations.txt": b"\xff"}, "val_annotations.txt: not valid UTF-8"),
        ({"train/n05/images/a.JPEG": image(0)}, r"differ \(only in train: n05\)"),
    ],
)
def test_broken_annotations_are_explained(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        read_image_folder(write_folder(tmp_path, tiny_imagenet() | change))


def test_grey_only_if_every_image_is(tmp_path):
    grey = {path: image(seed, 4, 4, 1) for seed, path in enumerate(split_files())}
    images = read_image_folder(write_folder(tmp_path / "grey", grey))
    assert images.train.images_NxHxWxC.shape == (6, 4, 4, 1)
    assert (images.train.images_NxHxWxC[0, ..., 0] == pixels(0, 4, 4, 1)).all()
    images = read_image_folder(write_folder(tmp_path / "mixed", grey | {"test/dog/1.png": image(5)}))
    assert images.train.images_NxHxWxC.shape == (6, 4, 4, 3)
    assert (images.train.images_NxHxWxC[0] == pixels(0, 4, 4, 1)[..., None]).all()
    assert (images.test.images_NxHxWxC[-1] == pixels(5)).all()


def test_images_of_different_size_need_a_size(tmp_path):
    write_folder(tmp_path, split_files() | {"test/dog/0.png": image(0, 6, 5)})
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


def corrupt_folder(root, num_images, corrupt):
    files = {f"{part}/{name}/{n:03}.png": image(n) for part in ("train", "test") for name in "ab" for n in range(3)}
    files |= {f"train/a/{n:03}.png": image(n) for n in range(num_images - 3)}
    files |= {path: b"corrupt" for path in corrupt}
    return write_folder(root, files)


@pytest.mark.parametrize("corrupt", ["train/a/000.png", "train/a/050.png"])  # the first gives the size to all
def test_a_corrupt_image_is_skipped_and_named(tmp_path, corrupt):
    images = read_image_folder(corrupt_folder(tmp_path, 100, [corrupt]))
    assert images.train.skipped == (f"{tmp_path}/{corrupt} (not an image of a known format)",)
    assert (images.train.num_images, images.train.num_skipped, images.test.num_skipped) == (99, 1, 0)
    kept = [n for n in range(97) if n != int(corrupt[8:11])]
    assert images.train.labels_N.tolist() == [0] * 96 + [1] * 3
    assert (images.train.images_NxHxWxC[:96] == np.stack([pixels(n) for n in kept])).all()


def test_too_many_corrupt_images_stop_and_the_limit_can_be_moved(tmp_path):
    paths = [f"train/a/{n:03}.png" for n in (1, 2, 3, 4)]
    corrupt_folder(tmp_path, 100, paths)
    first = r"train/a/001.png .*train/a/003.png \([^()]*\) and 1 more"
    with pytest.raises(InputError, match=rf"train: 4 of 100 images cannot be read, more than .* 1.00%: .*{first}"):
        read_image_folder(tmp_path)
    assert read_image_folder(tmp_path, max_skipped=0.04).train.num_skipped == 4
    with pytest.raises(InputError, match="4 of 100"):
        read_image_folder(tmp_path, max_skipped=0.039)
    with pytest.raises(InputError, match="max_skipped is a fraction"):
        read_image_folder(tmp_path, max_skipped=1.5)


def test_a_class_that_is_all_corrupt_is_empty(tmp_path):
    corrupt_folder(tmp_path, 100, [f"train/b/{n:03}.png" for n in range(3)])
    with pytest.raises(InputError, match="no image of class b"):
        read_image_folder(tmp_path, max_skipped=0.5)


def test_nothing_readable_at_all(tmp_path):
    write_folder(tmp_path, dict.fromkeys(split_files(), b"corrupt"))
    with pytest.raises(InputError, match="6 of 6 images cannot be read"):
        read_image_folder(tmp_path, max_skipped=1.0)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train/bird/notes.txt": b""}, "train/: no image of class bird; known are .jpg"),
        ({"train/bird/0.png": image(0)}, r"differ \(only in train: bird\)"),
        ({"test/bird/0.png": image(0)}, r"differ \(only in test: bird\)"),
        ({"train/0.png": image(0)}, "train/0.png: lies in no class folder"),
    ],
)
def test_broken_layouts_are_explained(tmp_path, packed, change, message):
    files = split_files() | change
    path = write_tar(tmp_path / "pets.tar", files) if packed else write_folder(tmp_path / "pets", files)
    with pytest.raises(InputError, match=message):
        read_image_folder(path)


def test_an_empty_class_folder_is_an_error_in_both(tmp_path):
    write_folder(tmp_path / "pets", split_files())
    (tmp_path / "pets/test/bird").mkdir()
    for path in (tmp_path / "pets", write_tar(tmp_path / "pets.tar", split_files() | {"test/bird": None})):
        with pytest.raises(InputError, match="test/: no image of class bird"):
            read_image_folder(path)


def test_things_that_are_no_set_of_images(tmp_path):
    (tmp_path / "empty").mkdir()
    write_folder(tmp_path / "flat", {"0.png": image(0)})
    write_folder(tmp_path / "one", {"train/cat/0.png": image(0), "test/cat/0.png": image(1)})
    write_folder(tmp_path / "trainless", {f"{part}/cat/0.png": image(0) for part in ("Train", "test")})
    (tmp_path / "text.tar").write_bytes(b"not a tar archive" * 100)
    for name, message in {
        "missing": "no such file or folder",
        "empty": "no image in it",
        "flat": "0.png: lies in no class folder",
        "one": "only one class, cat",
        "trainless": "has test but no folder train beside it",
        "text.tar": "cannot be read as a tar archive",
    }.items():
        with pytest.raises(InputError, match=f"{name}.*{message}"):
            read_image_folder(tmp_path / name)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_a_truncated_archive_is_refused(tmp_path, mode):
    data = write_tar(tmp_path / "pets.tar", split_files(), mode).read_bytes()
    path = tmp_path / "cut.tar"
    for share in (0.2, 0.5):
        path.write_bytes(data[: int(share * len(data))])
        with pytest.raises(InputError, match="cannot be read as a tar archive"):
            read_image_folder(path)


@pytest.mark.parametrize("end", [b"", b"x" * 1024])
def test_an_archive_must_have_its_end(tmp_path, end):
    """Without one it may have lost members, which Python's reader does not tell."""
    path = write_tar(tmp_path / "pets.tar", split_files())
    with tarfile.open(path) as archive:
        last = archive.getmembers()[-1]
    path.write_bytes(path.read_bytes()[: last.offset] + end)  # what is left is whole members
    with pytest.raises(InputError, match="cannot be read as a tar archive"):
        read_image_folder(path)


@pytest.mark.parametrize("name", ["../train/cat/9.png", "/train/cat/9.png", "train/../../x.png"])
def test_archive_members_outside_are_refused(tmp_path, name):
    path = write_tar(tmp_path / "pets.tar", split_files() | {name: image(0)})
    with pytest.raises(InputError, match="lies outside of the archive"):
        read_image_folder(path)


def test_links_in_an_archive_lead_to_members_only(tmp_path):
    files = split_files()
    linked = {
        "train/cat/2.png": link("train/cat/2.png", "../../store/2.png"),
        "train/dog/2.png": link("train/dog/2.png", "store/12.png", tarfile.LNKTYPE),
    }
    store = {"store/2.png": files["train/cat/2.png"], "store/12.png": files["train/dog/2.png"]}
    assert_is_split(read_image_folder(write_tar(tmp_path / "pets.tar", files | store | linked)))
    outside = tmp_path / "outside.png"
    outside.write_bytes(image(0))
    for target in (str(outside), "../../../outside.png", "nothing.png"):
        bad = {"train/cat/9.png": link("train/cat/9.png", target)}
        with pytest.raises(InputError, match=r"train/cat/9.png: a link to .*, which is no image in the archive"):
            read_image_folder(write_tar(tmp_path / "bad.tar", files | bad))


def test_links_in_a_folder_lead_to_files_inside_only(tmp_path):
    files = split_files()
    root = write_folder(tmp_path / "pets", files | {"store/2.png": files.pop("train/cat/2.png")})
    place = root / "train/cat/2.png"
    place.symlink_to("../../store/2.png")
    assert_is_split(read_image_folder(root))
    (tmp_path / "outside.png").write_bytes(image(0))
    for target, what in ((tmp_path / "outside.png", "outside"), ("nothing.png", "nowhere"), (root, "to a folder")):
        place.unlink()
        place.symlink_to(target)
        with pytest.raises(InputError, match=f"train/cat/2.png: a link that leads {what}"):
            read_image_folder(root)


def test_a_pipe_with_an_images_name_is_not_waited_for(tmp_path):
    write_folder(tmp_path, split_files())
    os.mkfifo(tmp_path / "train/cat/9.png")
    assert_is_split(read_image_folder(tmp_path))
