"""Labeled images from a folder with one folder per class, or from a tar archive of it.

Layouts, recognized by the names of folders in any letter case (a single folder around everything is skipped):
- `train/CLASS/...` with `test/CLASS/...`, under the names of `split_names.NAMES`; a split may lie in a folder of its
  own name once more. Without `test`, `val` is tested on. With both, `val` is left out, and a notice says so;
- TinyImageNet: `train/WNID/images/...`, `val/images/...` with `val/val_annotations.txt`; `words.txt`, if present,
  names the classes;
- `CLASS/...` alone, or in `train`: a fixed part of each class becomes the test set (`image_sets.split_off_test`).

A folder `unlabeled` (`unlabelled`, `unsup`) beside these or in `train` holds images without labels, at any depth.
Images may lie at any depth below their class. Hidden files and other kinds of file are ignored. A tar archive is
read once from front to back, and nothing of it is written to disk. Links are followed to files inside, and in a folder
also elsewhere if that is asked for.
"""

import dataclasses
import functools
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
from mixmin_jax.data.images.decoding import Encoded, Part, decode_images, decode_unlabeled
from mixmin_jax.data.images.image_sets import NO_LABEL, Images, add_unlabeled, refuse_other_classes
from mixmin_jax.data.images.split_names import NAMES, by_role, refuse_splits_as_classes, role_of
from mixmin_jax.data.memory import available_bytes
from mixmin_jax.errors import InputError, list_some, read_each

FOLDER_PREFIX = "folder:"
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")

_ANNOTATIONS = "val/val_annotations.txt"
_WORDS = "words.txt"
_SHOWN = 10  # most lines of annotations that an error names
_TEXTS = (posixpath.basename(_ANNOTATIONS), _WORDS)
_TAR_SUFFIX = re.compile(r"\.(tar(\.\w+)?|t[gx]z|tbz2?)$")

_Classes = dict[str, list[str]]  # paths of the images of each class, sorted


class _Tree(NamedTuple):
    """The content of a folder or archive; paths inside it have no leading slash."""

    place: str
    files: dict[str, bytes | Path]  # images and the texts above, sorted by path
    folders: set[str]  # all of them, also empty ones


class _Splits(NamedTuple):
    """Folders of a tree, which end with a slash; "" is the whole tree."""

    train: str
    test: str | None
    notices: tuple[str, ...]


def read_image_folder(
    path: str | Path,
    size: int | None = None,
    max_skipped: float = 0.01,
    *,
    follow_links: bool = False,
    with_unlabeled: bool = True,
    train_copies: float = 0.0,
) -> Images:
    """The train and test set of a folder or tar archive in one of the layouts above, and its images without labels.

    Both sets have the stem of `path` as their name. Classes are sorted by the names of their folders.

    Args:
        path: the folder or archive.
        size: side of the images after cropping and resizing; None: all must have one size.
        max_skipped: largest share of a set that may be unreadable.
        follow_links: whether links in a folder may lead out of it, and to folders.
        with_unlabeled: whether images without labels are read; otherwise a notice says that they are left out.
        train_copies: as in `decode_images`.

    Raises:
        InputError: with the path inside: a path that is missing, unreadable or no tar archive; an archive that is
            truncated or has members outside of it; a link to nothing, or to outside or a folder without `follow_links`,
            or to a folder around it; no image at all; a test folder without train; folders that may be splits or
            classes; an image in no class folder; a class without images; classes that differ between train and test;
            annotations without an image or for a missing one; errors of `decode_images` and `decode_unlabeled`.
    """
    tree, unlabeled = _without_unlabeled(_without_wrapper(_read_tree(Path(path), follow_links)))
    origin = f"{FOLDER_PREFIX}{path}"
    name = re.sub(r"[^\w.-]+", "_", _TAR_SUFFIX.sub("", Path(path).resolve().name)).strip("_") or "images"
    if not any(_is_image(file) for file in tree.files):
        raise InputError(f"{tree.place}: no image in it; known are {', '.join(SUFFIXES)} in a folder for each class")
    splits = _splits(tree)
    annotated = _ANNOTATIONS in tree.files
    prefixes = [splits.train] if annotated or not splits.test else [splits.train, splits.test]
    readers = [functools.partial(_class_folders, tree, prefix) for prefix in prefixes]
    readers += [functools.partial(_annotated, tree)] if annotated else []
    found = read_each(readers, lambda read: read())
    train, test, test_part = found[0], found[-1], None
    classes = _called(tree, list(train)) if annotated else tuple(train)
    refuse_other_classes(tree.place, list(train), list(test))
    if splits.test:
        test_part = _part(tree, f"{origin}, {splits.test.rstrip('/')}", test)
    train_origin = f"{origin}, {splits.train.rstrip('/')}" if splits.test else origin
    images = decode_images(name, classes, _part(tree, train_origin, train), test_part, size, max_skipped, train_copies)
    images = dataclasses.replace(images, notices=splits.notices)
    if not unlabeled:
        return images
    folders = list(dict.fromkeys(folder for file in unlabeled if (folder := _unlabeled_folder(file))))
    if not with_unlabeled:
        notice = f"{tree.place}: {list_some(folders)} is left out, which holds images without labels"
        return dataclasses.replace(images, notices=(*splits.notices, notice))
    part = _unlabeled_part(tree.place, f"{origin}, {' and '.join(folders)}", unlabeled)
    return add_unlabeled(images, decode_unlabeled(part, images.train, size, max_skipped))


def list_unlabeled(path: str | Path, follow_links: bool = False) -> Part:
    """All images of a folder or tar archive, at any depth and without labels. Errors are as in `read_image_folder`."""
    tree = _read_tree(Path(path), follow_links)
    images = {file: data for file, data in tree.files.items() if _is_image(file)}
    if not images:
        raise InputError(f"{tree.place}: no image in it; known are {', '.join(SUFFIXES)}")
    return _unlabeled_part(tree.place, f"{FOLDER_PREFIX}{path}", images)


def _splits(tree: _Tree) -> _Splits:
    """Which folders are trained and tested on, and what is said of the others.

    Raises:
        InputError: folders beside `train` that no name explains, or that look like splits without `train`.
    """
    top = sorted(folder for folder in tree.folders if "/" not in folder)
    found = by_role(tree.place, top)
    train, test = found.get("train"), found.get("test", found.get("validation"))
    if _ANNOTATIONS in tree.files:
        test = posixpath.dirname(_ANNOTATIONS)
    if train is None:
        if test:
            raise InputError(
                f"{tree.place}: has {test} but no folder train beside it; add it, or rename {test} if it is a class"
            )
        below: dict[str, set[str]] = {}
        for folder in tree.folders:
            outer, slash, inner = folder.partition("/")
            if slash and "/" not in inner:
                below.setdefault(outer, set()).add(inner)
        refuse_splits_as_classes(tree.place, top, below)
        return _Splits("", None, ())
    with_images = {file.split("/")[0] for file in tree.files if _is_image(file)}
    others = [folder for folder in top if folder not in (train, test) and folder in with_images]
    if others and not test:
        known = ", ".join(NAMES["test"] + NAMES["validation"])
        raise InputError(
            f"{tree.place}: {list_some(others)} beside {train}: neither a class nor a known name of a test set"
            f" ({known}); rename or remove what is no class of {train}, or rename {train} if it is a class itself"
        )
    said = (
        f"{tree.place}: {list_some(others)} is left out: {test} is tested on, and the validation part is drawn from"
        f" {train}"
    )
    notices = (said,) if others else ()
    return _Splits(_nested(tree, train), test and _nested(tree, test), notices)


def _nested(tree: _Tree, split: str) -> str:
    """The folder of a split: that inside it if this is all it holds, and has the same role (`seg_train/seg_train`)."""
    below = [folder for folder in tree.folders if posixpath.dirname(folder) == split]
    images_here = any(posixpath.dirname(file) == split for file in tree.files)
    if len(below) == 1 and not images_here and role_of(posixpath.basename(below[0])) == role_of(split):
        return f"{below[0]}/"
    return f"{split}/"


def _unlabeled_folder(path: str) -> str | None:
    """The folder of images without labels that a path is in (or is): at the top, or directly in the training set."""
    first, *rest = path.split("/")
    if role_of(first) == "unlabeled":
        return first
    if rest and role_of(first) == "train" and role_of(rest[0]) == "unlabeled":
        return f"{first}/{rest[0]}"
    return None


def _without_unlabeled(tree: _Tree) -> tuple[_Tree, dict[str, bytes | Path]]:
    """The tree without folders of images that have no labels, and these images."""
    files = {file: data for file, data in tree.files.items() if not _unlabeled_folder(file)}
    folders = {folder for folder in tree.folders if not _unlabeled_folder(folder)}
    images = {file: data for file, data in tree.files.items() if file not in files and _is_image(file)}
    return _Tree(tree.place, files, folders), images


def _unlabeled_part(place: str, origin: str, files: dict[str, bytes | Path]) -> Part:
    return Part(origin, [Encoded(f"{place}/{file}", data, NO_LABEL) for file, data in files.items()])


def _read_tree(path: Path, follow_links: bool) -> _Tree:
    tree = _read_folder(path, follow_links) if path.is_dir() else _read_tar(path)
    for inside in (*tree.files, *tree.folders):
        refuse_odd_name(f"{tree.place}/{inside}")
    return tree


def _part(tree: _Tree, origin: str, classes: _Classes) -> Part:
    labeled = [(file, label) for label, name in enumerate(classes) for file in classes[name]]
    return Part(origin, [Encoded(f"{tree.place}/{file}", tree.files[file], label) for file, label in labeled])


def _class_folders(tree: _Tree, prefix: str) -> _Classes:
    """The images below each folder of `prefix`, sorted."""
    below = [folder.removeprefix(prefix) for folder in tree.folders if folder.startswith(prefix)]
    classes: _Classes = {name: [] for name in sorted(below) if name and "/" not in name}
    loose, wrong = list[str](), list[str]()
    for file in tree.files:
        if file.startswith(prefix) and _is_image(file):
            name, slash, _ = file.removeprefix(prefix).partition("/")
            if slash:
                classes[name].append(file)
            else:
                loose.append(file)
    if loose:
        others = f" (nor do {list_some(loose[1:])})" if loose[1:] else ""
        wrong.append(f"{tree.place}/{loose[0]}: lies in no class folder, so it has no label{others}; move or remove it")
    if empty := [name for name, files in classes.items() if not files]:
        wrong.append(
            f"{tree.place}/{prefix}: no image of class {list_some(empty)}; known are {', '.join(SUFFIXES)}. "
            "Add images or remove the folder"
        )
    if wrong:
        raise InputError(*wrong)
    return classes


def _annotated(tree: _Tree) -> _Classes:
    """TinyImageNet's validation images by class. A line of the annotations holds FILE, WNID and a box, with tabs."""
    place = f"{tree.place}/{_ANNOTATIONS}"
    classes: _Classes = {}
    seen: set[str] = set()
    wrong: list[str] = []
    for number, line in enumerate(_lines(tree, _ANNOTATIONS), start=1):
        if not line.strip():
            continue
        fields = line.split("\t")
        if len(fields) < 2:
            wrong.append(f"{place}, line {number}: expected a file and its class with a tab between them")
            continue
        file = f"val/images/{fields[0].strip()}"
        if file not in tree.files or file in seen:
            problem = "comes twice" if file in seen else "is not there"
            wrong.append(f"{place}, line {number}: image {file} {problem}; correct the line or the folder")
        seen.add(file)
        classes.setdefault(fields[1].strip(), []).append(file)
    unlabeled = [file for file in tree.files if file.startswith("val/") and _is_image(file) and file not in seen]
    if unlabeled:
        wrong.append(f"{place}: no line for {list_some(unlabeled)}; add one or remove the image")
    if wrong:
        more = [f"{place}: {len(wrong) - _SHOWN} more"] if len(wrong) > _SHOWN else []
        raise InputError(*wrong[:_SHOWN], *more)
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
        if role_of(alone) == "train" or any("/" not in file for file in tree.files):
            return tree
        prefix = f"{alone}/"
        tree = _Tree(
            f"{tree.place}/{alone}",
            {file.removeprefix(prefix): data for file, data in tree.files.items()},
            {folder.removeprefix(prefix) for folder in tree.folders if folder != alone},
        )


def _read_folder(path: Path, follow_links: bool) -> _Tree:
    root = path.resolve()
    files: dict[str, bytes | Path] = {}
    folders: set[str] = set()
    waiting: list[tuple[str, tuple[Path, ...]]] = [("", (root,))]  # with the real places of it and what is around it
    while waiting:
        inside, around = waiting.pop()
        try:
            with os.scandir(root / inside) as found:
                entries = list(found)
        except OSError as error:
            raise InputError(f"{path / inside}: cannot be read ({error.strerror})") from error
        for entry in entries:
            name = f"{inside}/{entry.name}".removeprefix("/")
            if _is_hidden(entry.name):
                continue
            is_link, is_folder = entry.is_symlink(), os.path.isdir(entry.path)
            if is_folder and (follow_links or not is_link):
                real = Path(entry.path).resolve() if is_link else around[-1] / entry.name
                if real in around:
                    raise InputError(f"{path / name}: leads back to a folder around it; remove the link")
                folders.add(name)
                waiting.append((name, (*around, real)))
            elif is_folder or (is_link and _is_wanted(name)):
                files[name] = _linked(path, root, name, follow_links)
            elif entry.is_file() and _is_wanted(name):
                files[name] = root / name
    return _Tree(str(path), dict(sorted(files.items())), folders)


def _linked(path: Path, root: Path, name: str, follow_links: bool) -> Path:
    """The file that a link leads to."""
    try:
        target = (root / name).resolve(strict=True)
    except (OSError, RuntimeError):
        target = None  # nothing there, or links in a circle
    if target and target.is_file() and (follow_links or target.is_relative_to(root)):
        return target
    what = "nowhere" if target is None else "to a folder" if target.is_dir() else "outside"
    follow = "" if target is None or follow_links else ", or give --follow-links"
    raise InputError(f"{path / name}: a link that leads {what}; put the files themselves there{follow}")


def _read_tar(path: Path) -> _Tree:
    if not path.is_file():
        raise InputError(f"{path}: {'neither file nor folder' if path.exists() else 'no such file or folder'}")
    packed, left = path.stat().st_size, available_bytes()
    if left is not None and packed > left:
        raise InputError(
            f"{path}: an archive of {packed / 1e9:.3g} GB is read into memory, of which {left / 1e9:.3g} GB are left:"
            " unpack it, and give the folder"
        )
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
