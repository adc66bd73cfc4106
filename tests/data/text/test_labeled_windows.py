"""Classification tasks made of text."""

from collections import Counter

import pytest

from mixmin_jax.data.text.labeled_windows import balanced_windows, drop_shared_documents, split_corpus
from mixmin_jax.errors import InputError
from tests.data.text.corpora import corpus

L = 4


def numbered(name, lengths):
    """Documents of these many windows and a rest; a window's text says where it is from."""
    return corpus(name, *("".join(f"{name}{d:02}{w}" for w in range(n)) + "end" for d, n in enumerate(lengths)))


def texts(windows):
    return [row.tobytes().decode() for row in windows.tokens_NxL]


@pytest.mark.parametrize("seed", [0, 1])
def test_windows_are_whole_balanced_and_labelled_with_their_corpus(seed):
    windows = balanced_windows([numbered("a", [3, 5, 0]), numbered("b", [9] * 9)], L, 100, seed)
    found = texts(windows)
    assert Counter(windows.labels_N.tolist()) == {0: 8, 1: 8}  # as many as the smaller one has
    assert sorted(found[:8]) == ["a000", "a001", "a002", "a010", "a011", "a012", "a013", "a014"]
    for text, label, document in zip(found, windows.labels_N, windows.documents_N, strict=True):
        assert text[0] == "ab"[label] and int(text[1:3]) == document
    assert len(set(found)) == 16


def test_windows_come_from_as_many_documents_as_possible():
    windows = balanced_windows([numbered("a", [1, 9, 9, 9]), numbered("b", [9] * 9)], L, 7, 0)
    assert sorted(Counter(text[1:3] for text in texts(windows)[:7]).values()) == [1, 2, 2, 2]
    assert max(Counter(text[1:3] for text in texts(windows)[7:]).values()) == 1
    first = {text[3] for seed in range(20) for text in texts(balanced_windows([numbered("a", [9])], L, 1, seed))}
    assert len(first) > 3  # not always the beginning of a document


def test_fewer_windows_are_a_subset_and_seeds_differ():
    both = [numbered("a", [9] * 5), numbered("b", [9] * 5)]
    few, many, other = (set(texts(balanced_windows(both, L, n, seed))) for n, seed in ((5, 0), (20, 0), (5, 1)))
    assert few < many and few != other


def test_parts_have_no_document_in_common():
    documents = [f"document {i % 15}" for i in range(30)]  # each twice
    first, second = split_corpus(corpus("a", *documents), 0.6, 0)
    assert not set(first.documents) & set(second.documents)
    assert sorted(first.documents + second.documents) == sorted(document.encode() for document in documents)
    assert (first.num_documents, second.num_documents) == (18, 12)


def test_documents_of_several_classes_are_left_out():
    kept, shared = drop_shared_documents([corpus("a", "x", "x", "y"), corpus("b", "y", "z"), corpus("c", "w")])
    assert [c.documents for c in kept] == [(b"x", b"x"), (b"z",), (b"w",)] and shared == 1
    with pytest.raises(InputError, match="every document of b"):
        drop_shared_documents([corpus("a", "x", "y"), corpus("b", "y")])


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: balanced_windows([numbered("a", [9]), numbered("b", [2])], L, 9, 0, min_windows=3), "class 'b'"),
        (lambda: balanced_windows([numbered("a", [9]), corpus("b", "abc")], L, 9, 0), r"0 window\(s\) of 4 bytes"),
        (lambda: balanced_windows([numbered("a", [9])], 0, 9, 0), "length"),
        (lambda: split_corpus(corpus("a", "x", "x"), 0.5, 0), "class 'a'.*too few distinct documents"),
    ],
)
def test_too_little_text_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
