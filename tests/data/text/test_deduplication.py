import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixmin_jax.data.text.deduplication import drop_overlap
from mixmin_jax.data.text.overlap import find_overlap
from mixmin_jax.errors import InputError
from tests.data.text.corpora import corpus, numbered, short_documents


def test_copies_go_and_the_rest_stays_as_it_was():
    target, other = corpus("t", numbered("a", 0, 30)), corpus("u", numbered("b", 0, 30))
    dirty = corpus("dirty", "x", numbered("b", 0, 30).upper(), "y", numbered("a", 0, 30) + " z", "z", num_skipped=2)
    clean = corpus("clean", numbered("c", 0, 30))
    found = drop_overlap((target, other), (dirty, clean))
    assert found.dropped == {"dirty": (1, 3), "clean": ()}
    assert found.sources[0].documents == (b"x", b"y", b"z") and found.sources[1] is clean
    assert (found.sources[0].name, found.sources[0].num_skipped) == ("dirty", 2)
    assert found.sources[0].fingerprint != dirty.fingerprint
    assert [[(m.source, m.source_documents) for m in overlap.matches] for overlap in found.overlaps] == [
        [("dirty", (3,))], [("dirty", (1,))]
    ]  # fmt: skip


def test_what_several_documents_hold_together_goes_part_by_part():
    target = corpus("t", numbered("a", 0, 52))  # 40 n-grams of 13 words
    parts = ["first", numbered("a", 24, 52), numbered("a", 10, 36), numbered("a", 0, 22)]  # 16, 14 and 10 of them
    found = drop_overlap((target,), (corpus("s", *parts),))
    assert found.dropped == {"s": (1, 2)}  # the largest, then, with 24 of 40 left, the next; 10 of 40 may stay
    assert [match.source_documents for match in found.overlaps[0].matches] == [(1,), (2,)]
    assert found.overlaps[0].matches[1].share == 24 / 40


def test_a_source_of_copies_only_is_refused():
    song = numbered("a", 0, 30)
    with pytest.raises(InputError, match=r"every document of the source s \(made here\) repeats the target"):
        drop_overlap((corpus("t", song),), (corpus("s", song, song + " b"), corpus("r", "x")))


@settings(max_examples=100, deadline=None)
@given(targets=st.lists(short_documents, min_size=1, max_size=2), source=short_documents, words=st.integers(1, 3))
def test_nothing_is_found_afterwards_and_what_held_nothing_stays(targets, source, words):
    targets = [corpus(f"t{i}", *texts) for i, texts in enumerate(targets)]
    given_source = corpus("s", *source, "d")  # one that no target holds
    found = drop_overlap(targets, (given_source,), words)
    kept = [i for i in range(len(source) + 1) if i not in found.dropped["s"]]
    assert found.sources[0].documents == tuple(given_source.documents[i] for i in kept)
    assert not any(find_overlap(target, found.sources, words).matches for target in targets)
    named = {i for overlap in found.overlaps for match in overlap.matches for i in match.source_documents}
    assert named == set(found.dropped["s"])
