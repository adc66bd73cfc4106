"""Sources and a target that need no network: text that comes with Python and this package's dependencies.

There are eight sources of different kinds. The target is the docstrings of SciPy and NumPy, which contribute to no
source. Only the standard library and this package's dependencies are read, so machines with the same versions get the
same text. Files are parsed, never imported.
"""

import ast
import hashlib
import importlib.metadata
import importlib.util
import inspect
import itertools
import os
import re
import sys
import sysconfig
import tokenize
import warnings
from collections.abc import Iterable, Iterator
from email import message_from_string
from pathlib import Path

from mixmin_jax.data.text.documents import Corpus
from mixmin_jax.errors import InputError

_TARGET_PACKAGES = ("scipy", "numpy")
_DEPENDENCIES = (
    *("jax", "flax", "optax", "jaxopt", "orbax-checkpoint", "tensorflow-datasets", "grain", "jaxtyping", "numpy"),
    *("scipy", "pyarrow", "tyro", "rich", "matplotlib"),
)
# tests, character tables, parts that some systems package separately, and parts that some Python versions lack
_NOT_PACKAGE = {"test", "tests", "testing", "__pycache__"}
_NOT_LIBRARY = {
    *_NOT_PACKAGE,
    *("idlelib", "tkinter", "turtledemo", "lib2to3", "distutils", "ensurepip", "encodings", "pydoc_data"),
    *("site-packages", "dist-packages"),
}
_SHORT = 200  # least length in characters of a target document; shorter docstrings say next to nothing


def installed_sources(max_bytes: int = 2_000_000) -> tuple[Corpus, ...]:
    """Eight sources of at most `max_bytes` bytes each, sorted by name.

    code: standard library without docstrings and comments      docstrings: of the standard library, one per module
    reference: Python's language reference (pydoc topics)        readmes: of the dependencies
    licences: of the dependencies                                headers: C++ headers of Arrow
    jax: code of the JAX ecosystem, docstrings included          datasets: descriptions and citations in TFDS

    Files are taken in the order of a hash of their path, so the byte limit keeps a sample of each package. Repeated
    documents are dropped.

    Raises:
        InputError: a source is empty (a standard library in a zip archive, a package without its files).
    """
    jax_packages = _package("jax", "flax", "optax", "jaxopt", "orbax", "grain")
    sources = [
        ("code", "standard library without docstrings and comments", map(_bare_code, _library())),
        ("datasets", "descriptions and citations in tensorflow_datasets", _dataset_cards()),
        ("docstrings", "docstrings of the standard library", map(_module_docstrings, _library())),
        ("headers", "C++ headers of pyarrow", map(_without_notice, _package("pyarrow", ending=".h"))),
        ("jax", "code of jax, flax, optax, jaxopt, orbax and grain", map(_without_notice, jax_packages)),
        ("licences", "licences of the dependencies", _licences()),
        ("readmes", "READMEs of the dependencies", _readmes()),
        ("reference", "language reference in pydoc_data.topics", _reference()),
    ]
    return tuple(_corpus(name, origin, texts, max_bytes) for name, origin, texts in sources)


def installed_target(max_bytes: int = 2_000_000) -> Corpus:
    """Docstrings of SciPy's and NumPy's public functions and classes, one per document, at most `max_bytes` bytes.

    They hold prose, parameter lists, formulas and interactive examples; no source has all of these.

    Raises:
        InputError: the files of both packages are missing.
    """
    docstrings = itertools.chain.from_iterable(map(_docstrings, _package(*_TARGET_PACKAGES)))
    documents = (text for public, text in docstrings if public and len(text) >= _SHORT)
    return _corpus("scipy_docs", "docstrings of scipy and numpy", documents, max_bytes)


def _corpus(name: str, origin: str, texts: Iterable[str], max_bytes: int) -> Corpus:
    documents: list[bytes] = []
    seen: set[bytes] = set()
    room = max_bytes
    for text in texts:
        document = text.strip().encode("utf-8", "ignore")
        # Many licenses differ only in the line with the holder.
        key = hashlib.sha256(b" ".join(re.sub(rb"(?mi)^.*copyright.*$", b"", document).split())).digest()
        if not document or key in seen or len(document) > room:
            continue
        seen.add(key)
        documents.append(document)
        room -= len(document)
        if room < max_bytes // 1000:  # nearly full: to find a document that still fits, everything would be read
            break
    if not documents:
        raise InputError(
            f"the built-in source {name!r} ({origin}) came out empty in this Python installation; give your own text "
            "with --sources and --target"
        )
    return Corpus(name, tuple(documents), f"installed text, Python {sys.version.split()[0]}: {origin}")


def _reference() -> Iterator[str]:
    spec = importlib.util.find_spec("pydoc_data.topics")
    for text in _read([Path(spec.origin)] if spec and spec.origin else []):
        for node in ast.parse(text).body:
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
                yield from ast.literal_eval(node.value).values()


def _readmes() -> Iterator[str]:
    for distribution in _distributions():
        body = message_from_string(distribution.read_text("METADATA") or "").get_payload()
        if isinstance(body, str):
            yield body


def _licences() -> Iterator[str]:
    pattern = re.compile(r"(licen[cs]es?|copying|notice)\b", re.IGNORECASE)
    for distribution in _distributions():
        files = [f for f in distribution.files or [] if pattern.match(f.name) and not f.suffix.startswith(".py")]
        yield from _read(Path(str(distribution.locate_file(f))) for f in sorted(files, key=lambda f: f.as_posix()))


def _dataset_cards() -> Iterator[str]:
    yield from _package("tensorflow_datasets", ending="README.md")
    yield from _package("tensorflow_datasets", ending="CITATIONS.bib")
    for text in _package("tensorflow_datasets"):
        strings = [
            inspect.cleandoc(node.value.value)
            for node in _parse(text).body
            if isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
            and isinstance(node.targets[0], ast.Name)
            and ("DESCRIPTION" in node.targets[0].id or "CITATION" in node.targets[0].id)
        ]
        yield "\n\n".join(strings)


def _distributions() -> Iterator[importlib.metadata.Distribution]:
    """The dependencies and their dependencies, sorted by name, without extras and the target's packages."""
    found: dict[str, importlib.metadata.Distribution] = {}
    waiting = list(_DEPENDENCIES)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        try:
            found[name] = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:  # needed only on other systems or Python versions
            continue
        for requirement in found[name].requires or []:
            match = re.match(r"[A-Za-z0-9._-]+", requirement)
            if match and not re.search(r"\bextra\s*==", requirement):
                waiting.append(match.group())
    return (found[name] for name in sorted(found.keys() - set(_TARGET_PACKAGES)))


def _library() -> Iterator[str]:
    return _texts({"": Path(sysconfig.get_path("stdlib"))}, ".py", without=_NOT_LIBRARY)


def _package(*names: str, ending: str = ".py") -> Iterator[str]:
    """The files of installed packages without their tests; none for a missing package."""
    folders: dict[str, Path] = {}
    for name in names:
        spec = importlib.util.find_spec(name)  # locates a top-level package without importing it
        for folder in (spec and spec.submodule_search_locations) or ():
            folders[name] = Path(folder)
    return _texts(folders, ending, without=_NOT_PACKAGE)


def _texts(roots: dict[str, Path], ending: str, without: set[str]) -> Iterator[str]:
    """The files in `roots`, but not in folders named in `without`, ordered by a hash of root name and relative path."""
    found = {}
    for root_name, root in roots.items():
        for folder, subfolders, names in os.walk(root):
            subfolders[:] = [name for name in subfolders if name not in without]
            for path in (Path(folder, name) for name in names if name.endswith(ending)):
                key = f"{root_name}/{path.relative_to(root).as_posix()}"
                found[hashlib.sha256(key.encode()).digest()] = path
    return _read(path for _, path in sorted(found.items()))


def _read(paths: Iterable[Path]) -> Iterator[str]:
    for path in paths:
        try:
            yield path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):  # listed but missing, or in another encoding: skip it
            continue


def _parse(text: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about invalid escapes
        try:
            return ast.parse(text)
        except SyntaxError:  # a template, or syntax of another Python version
            return ast.Module([], [])


def _docstrings(text: str) -> Iterator[tuple[bool, str]]:
    """The docstrings of a module, each with whether it belongs to a public function or class."""
    for node in ast.walk(_parse(text)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            docstring = ast.get_docstring(node)
            if docstring:
                yield not isinstance(node, ast.Module) and not node.name.startswith("_"), docstring


def _without_notice(text: str) -> str:
    """The text without its first comment: the same license notice in every file would blur the sources."""
    return re.sub(r"\A(?:#.*\n)+|\A(?://.*\n)+|\A/\*(?s:.*?)\*/", "", text)


def _module_docstrings(text: str) -> str:
    return "\n\n".join(docstring for _, docstring in _docstrings(text))


def _bare_code(text: str) -> str:
    """The module's code without docstrings and comments, and without the blank lines that they leave."""
    lines = text.splitlines(keepends=True)
    try:
        tokens = list(tokenize.generate_tokens(iter(lines).__next__))
    except (tokenize.TokenError, SyntaxError):
        return ""
    begins_statement = True
    for token, following in itertools.pairwise(tokens):
        row, column = token.start
        if token.type == tokenize.COMMENT:
            lines[row - 1] = lines[row - 1][:column].rstrip() + "\n"
        elif token.type == tokenize.STRING and begins_statement and following.type == tokenize.NEWLINE:
            lines[row - 1 : token.end[0]] = [""] * (token.end[0] - row + 1)
        if token.type not in (tokenize.COMMENT, tokenize.NL):
            begins_statement = token.type in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
    return re.sub(r"\n{3,}", "\n\n", "".join(lines))
