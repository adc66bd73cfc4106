"""Labeled images from a folder with one folder per class, or from a tar archive of it.

Layouts, recognized by the names of folders (a single folder around everything is skipped):
- `train/CLASS/...` with `test/CLASS/...`; instead of `test` also `val`, `validation` or `valid`, in this order;
- TinyImageNet: `train/WNID/images/...`, `val/images/...` with `val/val_annotations.txt`; `words.txt`, if present,
  names the classes;
- `CLASS/...` alone, or in `train`: a fixed part of each class becomes the test set (`image_sets.split_off_test`).

Images may lie at any depth below their class. Hidden files and other kinds of file are ignored. A tar archive is
read once from front to back, and nothing of it is written to disk. Links are followed only to files inside.
"""

import lzma
import os
import posixpath
import re
import tarfile
import zlib
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from mixmin_jax.data.files import decode_utf8, read_bytes, refuse_odd_name
from mixmin_jax.data.images.decoding import Encoded, Part, decode_images
from mixmin_jax.data.images.image_sets import Images, refuse_other_classes
from mixmin_jax.errors import InputError, list_some

FOLDER_PREFIX = "folder:"
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")

_TEST_FOLDERS = ("test", "val", "validation", "valid")
_ANNOTATIONS = "val/val_annotations.txt"
_WORDS = "words.txt"
_TEXTS = (posixpath.basename(_ANNOTATIONS), _WORDS)
_TAR_SUFFIX = re.compile(r"\.(tar(\.\w+)?|t[gx]z|tbz2?)$")

_Classes = dict[str, list[str]]  # paths of the images of each class, sorted


class _Tree(NamedTuple):
    """The content of a folder or archive; paths inside it have no leading slash."""

    place: str
    files: dict[str, bytes | Path]  # images and the texts above, sorted by path
    folders: set[str]  # all of them, also empty ones


def read_image_folder(path: str | Path, size: int | None = None, max_skipped: float = 0.01) -> Images:
    """The train and test set of a folder or tar archive in one of the layouts above.

    Both sets have the stem of `path` as their name. Classes are sorted by the names of their folders.

    Args:
        path: the folder or archive.
        size: side of the images after cropping and resizing; None: all must have one size.
        max_skipped: largest share of a set that may be unreadable.

    Raises:
        InputError: with the path inside: a path that is missing, unreadable or no tar archive; an archive that is
            truncated or has members outside of it; a link to outside, to nothing or to a folder; no image at all; a
            test folder without train; an image in no class folder; a class without images; classes that differ between
            train and test; annotations without an image or for a missing one; errors of `decode_images`.
    """
    tree = _without_wrapper(_read_folder(Path(path)) if Path(path).is_dir() else _read_tar(Path(path)))
    for inside in (*tree.files, *tree.folders):
        refuse_odd_name(f"{tree.place}/{inside}")
    origin = f"{FOLDER_PREFIX}{path}"
    name = re.sub(r"[^\w.-]+", "_", _TAR_SUFFIX.sub("", Path(path).resolve().name)).strip("_") or "images"
    if not any(_is_image(file) for file in tree.files):
        raise InputError(f"{tree.place}: no image in it; known are {', '.join(SUFFIXES)} in a folder for each class")
    test_folder = next((folder for folder in _TEST_FOLDERS if folder in tree.folders), None)
    has_train = "train" in tree.folders
    if test_folder and not has_train:
        raise InputError(f"{tree.place}: has {test_folder} but no folder train beside it; add or rename it")
    train = _class_folders(tree, "train/" if has_train else "")
    if not test_folder:
        refuse_other_classes(tree.place, list(train), list(train))
        return decode_images(name, tuple(train), _part(tree, origin, train), None, size, max_skipped)
    if _ANNOTATIONS in tree.files:
        test_folder, test, classes = "val", _annotated(tree), _called(tree, list(train))
    else:
        test, classes = _class_folders(tree, f"{test_folder}/"), tuple(train)
    refuse_other_classes(tree.place, list(train), list(test))
    parts = _part(tree, f"{origin}, train", train), _part(tree, f"{origin}, {test_folder}", test)
    return decode_images(name, classes, *parts, size, max_skipped)


def _part(tree: _Tree, origin: str, classes: _Classes) -> Part:
    labeled = [(file, label) for label, name in enumerate(classes) for file in classes[name]]
    return Part(origin, [Encoded(f"{tree.place}/{file}", tree.files[file], label) for file, label in labeled])


def _class_folders(tree: _Tree, prefix: str) -> _Classes:
    """The images below each folder of `prefix`, sorted."""
    below = [folder.removeprefix(prefix) for folder in tree.folders if folder.startswith(prefix)]
    classes: _Classes = {name: [] for name in sorted(below) if name and "/" not in name}
    for file in tree.files:
        if file.startswith(prefix) and _is_image(file):
            name, slash, _ = file.removeprefix(prefix).partition("/")
            if not slash:
                raise InputError(f"{tree.place}/{file}: lies in no class folder, so it has no label; move or remove it")
            classes[name].append(file)
    if empty := [name for name, files in classes.items() if not files]:
        raise InputError(
            f"{tree.place}/{prefix}: no image of class {list_some(empty)}; known are {', '.join(SUFFIXES)}. "
            "Add images or remove the folder"
        )
    return classes


def _annotated(tree: _Tree) -> _Classes:
    """TinyImageNet's validation images by class. A line of the annotations holds FILE, WNID and a box, with tabs."""
    place = f"{tree.place}/{_ANNOTATIONS}"
    classes: _Classes = {}
    seen: set[str] = set()
    for number, line in enumerate(_lines(tree, _ANNOTATIONS), start=1):
        if not line.strip():
            continue
        fields = line.split("\t")
        if len(fields) < 2:
            raise InputError(f"{place}, line {number}: expected a file and its class with a tab between them")
        file = f"val/images/{fields[0].strip()}"
        if file not in tree.files or file in seen:
            problem = "comes twice" if file in seen else "is not there"
            raise InputError(f"{place}, line {number}: image {file} {problem}; correct the line or the folder")
        seen.add(file)
        classes.setdefault(fields[1].strip(), []).append(file)
    unlabeled = [file for file in tree.files if file.startswith("val/") and _is_image(file) and file not in seen]
    if unlabeled:
        raise InputError(f"{place}: no line for {list_some(unlabeled)}; add one or remove the image")
    return {name: sorted(classes[name]) for name in sorted(classes)}


def _called(tree: _Tree, wnids: list[str]) -> tuple[str, ...]:
    """The first word for each WordNet id in `words.txt`, followed by the id if two classes share the word."""
    if _WORDS not in tree.files:
        return tuple(wnids)
    known = dict(line.split("\t", 1) for line in _lines(tree, _WORDS) if "\t" in line)
    words = [known.get(wnid, wnid).split(",")[0].strip() for wnid in wnids]
    uses = Counter(words)
    return tuple(word if uses[word] == 1 else f"{word} ({wnid})" for word, wnid in zip(words, wnids, strict=True))


def _lines(tree: _Tree, file: str) -> list[str]:
    data = tree.files[file]
    return decode_utf8(read_bytes(data) if isinstance(data, Path) else data, f"{tree.place}/{file}").splitlines()


def _is_image(path: str) -> bool:
    return path.lower().endswith(SUFFIXES)


def _is_wanted(path: str) -> bool:
    return _is_image(path) or posixpath.basename(path) in _TEXTS


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in path.split("/"))


def _without_wrapper(tree: _Tree) -> _Tree:
    """The tree inside a single top folder, which many archives have."""
    while True:
        top = {folder for folder in tree.folders if "/" not in folder}
        alone = next(iter(top)) if len(top) == 1 else "train"
        if alone == "train" or any("/" not in file for file in tree.files):
            return tree
        prefix = f"{alone}/"
        tree = _Tree(
            f"{tree.place}/{alone}",
            {file.removeprefix(prefix): data for file, data in tree.files.items()},
            {folder.removeprefix(prefix) for folder in tree.folders if folder != alone},
        )


def _read_folder(path: Path) -> _Tree:
    root = path.resolve()
    files: dict[str, bytes | Path] = {}
    folders: set[str] = set()
    waiting = [""]
    while waiting:
        inside = waiting.pop()
        try:
            entries = list(os.scandir(root / inside))
        except OSError as error:
            raise InputError(f"{path / inside}: cannot be read ({error.strerror})") from error
        for entry in entries:
            name = f"{inside}/{entry.name}".removeprefix("/")
            if _is_hidden(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.add(name)
                waiting.append(name)
            elif entry.is_dir() or (entry.is_symlink() and _is_wanted(name)):
                files[name] = _linked(path, root, name)
            elif entry.is_file() and _is_wanted(name):
                files[name] = root / name
    return _Tree(str(path), dict(sorted(files.items())), folders)


def _linked(path: Path, root: Path, name: str) -> Path:
    target = (root / name).resolve()
    if target.is_relative_to(root) and target.is_file():
        return target
    what = "to a folder" if target.is_dir() else "outside" if target.exists() else "nowhere"
    raise InputError(f"{path / name}: a link that leads {what}; put the files themselves there")


def _read_tar(path: Path) -> _Tree:
    if not path.is_file():
        raise InputError(f"{path}: {'neither file nor folder' if path.exists() else 'no such file or folder'}")
    files: dict[str, bytes | Path] = {}
    folders: set[str] = set()
    links: dict[str, str] = {}  # wanted name -> name that holds the bytes
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = posixpath.normpath(member.name)
                if name == "." or _is_hidden(name.removeprefix("../")):
                    continue
                if name.startswith(("/", "../")) or name == "..":
                    raise InputError(f"{path}/{member.name}: a member that lies outside of the archive; pack it anew")
                folders.update(str(parent) for parent in PurePosixPath(name).parents if parent.name)
                if member.isdir():
                    folders.add(name)
                elif not _is_wanted(name):
                    continue
                elif member.isfile():
                    if member.issparse():
                        raise InputError(f"{path}/{member.name}: a file with holes, which no image has; pack it anew")
                    stream = archive.extractfile(member)
                    assert stream is not None
                    files[name] = stream.read()
                elif member.issym() or member.islnk():
                    start = posixpath.dirname(name) if member.issym() else ""
                    links[name] = posixpath.normpath(posixpath.join(start, member.linkname))
            _check_end(archive)
    except InputError:
        raise
    except (tarfile.TarError, EOFError, lzma.LZMAError, zlib.error, OSError, ValueError, MemoryError) as error:
        raise InputError(f"{path}: cannot be read as a tar archive ({error}); copy or pack it again") from error
    for name, target in links.items():
        if not isinstance(files.get(target), bytes):
            raise InputError(f"{path}/{name}: a link to {target}, which is no image in the archive; pack it anew")
        files[name] = files[target]
    return _Tree(str(path), dict(sorted(files.items())), folders)


def _check_end(archive: tarfile.TarFile) -> None:
    """Raise ReadError unless the archive ends with a block of zeros: tarfile stops silently at a damaged member."""
    stream = archive.fileobj
    assert stream is not None
    stream.seek(archive.offset)
    if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("broken or cut off in the middle")
