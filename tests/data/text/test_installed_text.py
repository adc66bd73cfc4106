import ast
import itertools
import zipfile

import pytest

from mixmin_jax.data.text import installed_text
from mixmin_jax.data.text.installed_text import installed_sources, installed_target
from mixmin_jax.data.text.overlap import find_overlap
from mixmin_jax.errors import InputError

CAP = 150_000  # small: what is checked here doesn't need megabytes


@pytest.fixture(scope="module")
def sources():
    return installed_sources(CAP)


@pytest.fixture(scope="module")
def target():
    return installed_target(CAP)


def test_there_are_eight_sources_of_usable_size_within_the_cap(sources, target):
    assert len(sources) == 8
    assert [source.name for source in sources] == sorted({source.name for source in sources})
    for corpus in (*sources, target):
        assert 0.8 * CAP <= corpus.num_bytes <= CAP, corpus.name
        assert len(set(corpus.documents)) == corpus.num_documents, corpus.name
        assert all(document.decode().strip() for document in corpus.documents)
        assert "/" not in corpus.origin  # no machine's paths


def test_the_same_text_comes_out_again(sources, target):
    assert [source.fingerprint for source in installed_sources(CAP)] == [source.fingerprint for source in sources]
    assert installed_target(CAP).fingerprint == target.fingerprint


def test_no_corpus_repeats_another(sources, target):
    shared = [set(one.documents) & set(other.documents) for one, other in itertools.combinations((*sources, target), 2)]
    assert not any(shared)
    assert not find_overlap(target, sources).matches


def test_target_packages_are_in_no_source():
    read = [distribution.name.lower() for distribution in installed_text._distributions()]
    assert "jax" in read and not {"numpy", "scipy"} & set(read)
    assert not {"pytest", "hypothesis"} & set(read)  # installed for the tests only: another machine may lack them


CODE = '''"""gone"""
import os  # gone

# gone


def f(x):
    """gone
    gone"""
    y = "# not a comment"
    """a loose string"""; z = 1
    return """kept
    # kept"""


class A: "one line"
def only():
    """gone"""
'''
BARE = '''import os

def f(x):
    y = "# not a comment"
    """a loose string"""; z = 1
    return """kept
    # kept"""

class A: "one line"
def only():
'''


def test_code_has_lost_its_docstrings_and_comments_and_nothing_else():
    assert installed_text._bare_code(CODE) == BARE


def test_code_source_is_nearly_free_of_docstrings(sources):
    code, docstrings = (source for source in sources if source.name in ("code", "docstrings"))
    lines = [line.strip() for document in code.documents for line in document.splitlines()]
    assert sum(line.startswith(b"#") for line in lines) < 0.001 * len(lines)  # a few stand inside string literals
    assert sum(line.startswith(b"import ") for line in lines) > 20
    assert docstrings.documents[0] not in b"\n".join(code.documents)


def test_public_docstrings_are_told_apart():
    found = list(installed_text._docstrings('"m"\ndef f(): "f"\nclass _P:\n def g(self): "g"\n def _h(self): "h"\n'))
    assert sorted(found) == [(False, "h"), (False, "m"), (True, "f"), (True, "g")]


def test_leading_notice_is_removed_only():
    assert installed_text._without_notice("# a\n# b\nx = 1  # c\n# d\n") == "x = 1  # c\n# d\n"
    assert installed_text._without_notice("// a\n// b\n#pragma once\n") == "#pragma once\n"
    assert installed_text._without_notice("/* a\n b */\nint x; /* c */") == "\nint x; /* c */"


def test_licences_that_differ_by_their_holder_count_once():
    texts = ["Copyright 2020 A\nPermission is  granted", "Copyright 2021 B\nPermission is granted", "Another"]
    made = installed_text._corpus("licences", "o", texts, 1000)
    assert made.documents == (texts[0].encode(), b"Another")


def test_a_standard_library_in_a_zip_is_a_clear_error(tmp_path, monkeypatch):
    archive = tmp_path / "python311.zip"
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("ast.py", ast.unparse(ast.parse("x = 1")))
    monkeypatch.setattr(installed_text.sysconfig, "get_path", lambda name: str(archive))
    with pytest.raises(InputError, match=r"built-in source 'code' .* came out empty.*--sources and --target"):
        installed_sources(CAP)
