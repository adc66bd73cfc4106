import dataclasses
import gzip
import json
import random
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixmin_jax.data.text.documents import Limits, read_corpus, split_documents, take_bytes
from mixmin_jax.errors import InputError
from tests.data.text.corpora import corpus


def write_json_lines(path, texts, field="text"):
    lines = "".join(json.dumps({field: text}, ensure_ascii=False) + "\n" for text in texts)
    path.write_bytes(gzip.compress(lines.encode()) if path.suffix == ".gz" else lines.encode())
    return path


@settings(deadline=None)  # the machine may be busy
@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1), zipped=st.booleans())
def test_json_lines_give_back_what_was_written(tmp_path_factory, texts, zipped):
    path = tmp_path_factory.mktemp("t") / ("a.b.jsonl" + ".gz" * zipped)
    write_json_lines(path, texts)
    kept = tuple(text.encode() for text in texts if text.strip())
    if not kept:
        with pytest.raises(InputError, match="empty"):
            read_corpus(path)
        return
    read = read_corpus(path, limits=Limits(max_unreadable=0.99))
    assert read.documents == kept
    assert (read.name, read.num_documents, read.num_skipped) == ("a.b", len(kept), len(texts) - len(kept))
    assert read.num_bytes == sum(map(len, kept))


def test_folder_is_read_recursively_in_sorted_order_without_hidden_files(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x.txt").write_text("third")
    write_json_lines(tmp_path / "a.jsonl", ["first", "second"])
    (tmp_path / "c.txt").write_bytes(b"\xef\xbb\xbffourth\r\n")
    (tmp_path / ".hidden.txt").write_text("no")
    read = read_corpus(tmp_path)
    assert read.documents == (b"first", b"second", b"third", b"fourth\r\n")
    assert read.name == tmp_path.name


ZIPPED = gzip.compress(b'{"text": "%s"}\n' % random.Random(0).randbytes(10_000).hex().encode(), mtime=0)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("bad.jsonl", b'{"text": "a"}\n{"text": "b"', ", line 2: not JSON"),
        ("bad.jsonl", b'{"text": "a"}\n\n["text"]\n', ", line 3: not a JSON object but list"),
        ("bad.jsonl", b'{"txt": "a"}\n', r", line 1: no field 'text'; the fields are \['txt'\]"),
        ("bad.jsonl", b'{"text": null}\n', ", line 1: field 'text' is not a string but NoneType"),
        ("bad.jsonl", b'{"text": "a"}\n{"text": "\xff"}\n', ", line 2: not valid UTF-8"),
        ("bad.jsonl", b'{"text": "\\ud800"}\n', ", line 1: field 'text' is not valid Unicode"),
        ("bad.jsonl", b"[" * 200_000, ", line 1: not JSON"),
        ("bad.jsonl", b"\n \n", ": empty"),
        ("bad.jsonl", b"", ": empty"),
        ("cut.jsonl.gz", ZIPPED[: len(ZIPPED) // 2], ": truncated gzip, the end is missing after byte 5[0-9]{3}"),
        ("bad.jsonl.gz", b"plain text", ": not a valid gzip near byte 0"),
        ("bad.jsonl.gz", ZIPPED[:100] + bytes(b ^ 0x55 for b in ZIPPED[100:200]) + ZIPPED[200:], ""),
        ("latin.txt", "eins\nzwölf".encode("latin-1"), ", line 2: not valid UTF-8"),
        ("blank.txt", b"\x1c", ": empty"),  # a space in text, not in bytes
        ("a.csv", b"x", ": unsupported kind of file"),
        ("nowhere.txt", None, ": no such file"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{re.escape(name)}{message}"):
        read_corpus(tmp_path / name)


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".txt", ".parquet", ".arrow"])
def test_unreadable_file_is_named(tmp_path, monkeypatch, ending):
    path = tmp_path / f"locked{ending}"
    path.write_text("x")

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", refuse)  # tests may run as root, whom no file mode keeps out
    with pytest.raises(InputError, match=rf"locked{ending}: cannot be read \(Permission denied\)"):
        read_corpus(path)


UNUSABLE = [
    ('{"text": null}', "line 2: field 'text' is not a string but NoneType"),
    ('{"text": ""}', "line 2: an empty document"),
    ('{"body": "x"}', r"line 2: no field 'text'; the fields are \['body'\]"),
    ('{"text": "\\ud800"}', "line 2: field 'text' is not valid Unicode"),
    ('{"text": "cut', "line 2: not JSON"),
]


@pytest.mark.parametrize(("line", "message"), UNUSABLE)
def test_what_cannot_be_used_is_skipped_counted_and_named_up_to_a_share(tmp_path, line, message):
    good = [f'{{"text": "{n}"}}\n' for n in range(199)]
    for name in ("1.jsonl", "2.jsonl"):
        (tmp_path / name).write_text("".join([good[0], line + "\n", *good[1:]]))
    read = read_corpus(tmp_path)
    assert (read.num_documents, read.num_skipped, read.whole) == (398, 2, None)
    assert [notice.split(", the first: ")[0] for notice in read.notices] == ["1 skipped"] * 2
    for name, notice in zip(("1.jsonl", "2.jsonl"), read.notices, strict=True):
        assert re.search(f"{name}, {message}", notice)
    many = r" \(2 of 400 documents of '.*' cannot be used; --max-unreadable allows 0\.004\)$"
    with pytest.raises(InputError, match=rf"1\.jsonl, {message}.*{many}"):
        read_corpus(tmp_path, limits=Limits(max_unreadable=0.004))


def test_a_source_without_any_usable_document_is_given_up_early(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"txt": "x"}\n' * 5000)
    with pytest.raises(InputError, match=r"line 1: no field 'text'; .*\(1000 of 1000 documents"):
        read_corpus(tmp_path / "a.jsonl", limits=Limits(0.9))


def test_many_files_with_unusable_documents_are_named_in_part(tmp_path):
    for n in range(8):
        (tmp_path / f"{n}.jsonl").write_text('{"text": "x"}\n{"text": ""}\n')
    notices = read_corpus(tmp_path, limits=Limits(0.5)).notices
    assert len(notices) == 6 and notices[-1] == "... and in 3 more files"


@pytest.mark.parametrize(("limits", "message"), [({"max_unreadable": 1.0}, "--max"), ({"max_bytes": 0}, "--source")])
def test_limits_that_mean_nothing_are_refused(limits, message):
    with pytest.raises(InputError, match=message):
        Limits(**limits)


few_words = st.lists(st.text(min_size=1, alphabet="ab"), min_size=1)


@settings(deadline=None)  # the machine may be busy
@given(few_words, few_words)
def test_fingerprint_tells_documents_and_their_borders_apart(first, second):
    same = corpus("c", *first).fingerprint == corpus("another", *second).fingerprint
    assert same == (first == second)


def test_fingerprint_is_stable():
    assert corpus("c", "ab", "ü").fingerprint == "58caf923476331da83612cead6789bfb623d7c1e17bcd24c41ab6e92b25db86f"


@settings(deadline=None)  # the machine may be busy
@given(
    texts=st.lists(st.sampled_from("abcdefghij"), min_size=2).filter(lambda texts: len(set(texts)) > 1),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 5),
)
def test_split_is_a_partition_that_keeps_duplicates_together(texts, fraction, seed):
    made = corpus("c", *texts)
    fit, test = split_documents(made, fraction, seed)
    assert sorted([*fit, *test]) == list(range(len(texts)))
    assert list(fit) == sorted(fit) and list(test) == sorted(test)
    assert len(fit) and len(test)
    assert {texts[i] for i in fit}.isdisjoint(texts[i] for i in test)


def test_split_has_the_size_asked_for_and_depends_on_seed_and_content():
    made = corpus("c", *map(str, range(1000)))
    fit, test = split_documents(made, 0.3, seed=0)
    assert (len(fit), len(test)) == (300, 700)
    renamed = dataclasses.replace(made, name="other name", origin="elsewhere")
    np.testing.assert_array_equal(fit, split_documents(renamed, 0.3, seed=0)[0])
    assert set(fit) != set(split_documents(made, 0.3, seed=1)[0])
    assert set(fit) != set(split_documents(corpus("c", *map(str, range(1, 1001))), 0.3, seed=0)[0])


def test_split_refuses_what_cannot_be_split():
    with pytest.raises(InputError, match=r"1 distinct document\(s\) cannot be split"):
        split_documents(corpus("c", "same", "same"), 0.5, 0)
    with pytest.raises(InputError, match="fit_fraction"):
        split_documents(corpus("c", "a", "b"), 1.0, 0)


@settings(deadline=None)  # the machine may be busy
@given(lengths=st.lists(st.integers(1, 20), min_size=1, max_size=30), budgets=st.tuples(st.integers(0), st.integers(0)))
def test_take_bytes_keeps_to_the_budget_and_nests(lengths, budgets):
    made = corpus("c", *("x" * length for length in lengths))
    indices = np.arange(len(lengths))
    small, large = (take_bytes(made, indices, budget) for budget in sorted(budgets))
    assert set(small) <= set(large)
    assert list(large) == sorted(large)
    for kept, budget in ((small, min(budgets)), (large, max(budgets))):
        assert len(kept) == 1 or sum(lengths[i] for i in kept) <= budget
    if max(budgets) >= sum(lengths):
        assert list(large) == list(indices)


def test_take_bytes_samples_and_keeps_to_the_indices():
    made = corpus("c", *("x" * 10 for _ in range(100)))
    kept = take_bytes(made, np.arange(0, 100, 2), 100)
    assert len(kept) == 10 and set(kept) <= set(range(0, 100, 2))
    assert set(kept) != set(range(0, 20, 2))  # not simply the first ones
    assert set(kept) != set(take_bytes(made, np.arange(0, 100, 2), 100, seed=1))
