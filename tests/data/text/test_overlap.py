import collections
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixmin_jax.data.text import overlap
from mixmin_jax.data.text.overlap import find_overlap
from mixmin_jax.errors import InputError
from tests.data.text.corpora import corpus, numbered, short_documents

SONG = "the quick brown fox jumps over the lazy dog while seven wizards quietly box up my jade figurines in liquid soap"


def test_a_copy_is_found_whatever_its_case_breaks_and_surroundings():
    target = corpus("t", numbered("a", 0, 40), SONG)
    copy = numbered("x", 0, 30) + "\n" + SONG.upper().replace(" ", ",\n") + "! " + numbered("y", 0, 30)
    found = find_overlap(target, [corpus("s", numbered("z", 0, 50), copy), corpus("clean", numbered("w", 0, 50))])
    (match,) = found.matches
    assert (match.target_document, match.source, match.share) == (1, "s", 1.0)
    assert match.source_documents == (1,) and found.num_matched == {"s": 1, "clean": 0}
    assert SONG.startswith(match.excerpt.rstrip("…")) and match.excerpt


def test_a_copy_is_found_in_a_language_without_spaces():
    song = "孩子们早上去了河边直到天黑之前都没有人再见到他们后来他们自己回家了大家都很高兴"
    (match,) = find_overlap(corpus("t", song), [corpus("s", "另一句话" + song[:30] + "不同的结尾")]).matches
    assert match.share == (30 - 12) / (len(song) - 12) and match.excerpt == song[:13]


def test_short_documents_match_whole_documents_only():
    target = corpus("t", "Yes, of course.", "...", "no")
    assert not find_overlap(target, [corpus("s", "she said yes of course and left", "...", "")]).matches
    (match,) = find_overlap(target, [corpus("s", "something else", "yes of course")]).matches
    assert (match.target_document, match.source_documents) == (0, (1,))
    assert match.excerpt == "Yes, of course"


def test_worst_come_first_and_a_target_without_words_matches_nothing():
    half = " ".join([SONG, numbered("b", 0, 8)])
    found = find_overlap(corpus("t", half, SONG), [corpus("s", SONG), corpus("r", SONG)], threshold=0.1)
    assert [f"{match.target_document}{match.source}" for match in found.matches] == ["1r", "1s", "0r", "0s"]
    assert not find_overlap(corpus("t", "?!", "--"), [corpus("s", "?!")]).matches


def test_blocks_do_not_change_the_answer(monkeypatch):
    rng = np.random.default_rng(0)
    documents = [" ".join(rng.choice(list("abc"), size=rng.integers(0, 30))) for _ in range(60)]
    target, source = corpus("t", *documents[:20]), corpus("s", *documents[15:])
    whole = find_overlap(target, [source], words=4, threshold=0.3)
    monkeypatch.setattr(overlap, "_BLOCK_BYTES", 40)
    assert find_overlap(target, [source], words=4, threshold=0.3) == whole
    assert len(whole.matches) > 5


@settings(max_examples=200, deadline=None)
@given(
    target=short_documents, source=short_documents, words=st.integers(1, 4), threshold=st.sampled_from([0.1, 0.5, 1.0])
)
def test_agrees_with_counting_by_hand(target, source, words, threshold):
    def grams(document):
        found = re.findall(r"\w+", document)
        width = min(words, len(found))
        return [tuple(found[i : i + width]) for i in range(len(found) - width + 1)] if found else []

    holders = collections.defaultdict(set)
    for index, document in enumerate(source):
        for gram in grams(document):
            holders[gram].add(index)
    expected = {}
    for index, document in enumerate(target):
        own = grams(document)
        hits = [holders[gram] for gram in own if holders.get(gram)]
        if hits and len(hits) / len(own) >= threshold:
            held = collections.Counter(i for hit in hits for i in hit)
            least = min(threshold * len(own), max(held.values()))
            expected[index] = (len(hits) / len(own), tuple(sorted(i for i, n in held.items() if n >= least)))
    found = find_overlap(corpus("t", *target), [corpus("s", *source)], words, threshold)
    assert {match.target_document: (match.share, match.source_documents) for match in found.matches} == expected


def test_hashes_are_the_same_in_every_process():
    assert overlap.word_hash("Word") == int.from_bytes(bytes.fromhex("4aa4cf27d7c78e95"), "little")


@pytest.mark.parametrize(("words", "threshold"), [(0, 0.5), (13, 0.0), (13, 1.5)])
def test_bad_options_are_refused(words, threshold):
    with pytest.raises(InputError, match="overlap needs"):
        find_overlap(corpus("t", "a"), [corpus("s", "b")], words, threshold)
