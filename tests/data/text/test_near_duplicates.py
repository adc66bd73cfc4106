import itertools

import numpy as np
import pytest

from mixmin_jax.data.text import near_duplicates as near_duplicates_file
from mixmin_jax.data.text.near_duplicates import near_duplicates
from tests.data.text.corpora import numbered

SONG = numbered("word", 0, 60)


def groups(*groups):
    return [[document.encode() for document in group] for group in groups]


def changed(rng, document, share):
    """With each word replaced with a probability of `share`."""
    return " ".join(f"x{rng.integers(10**6)}" if rng.random() < share else word for word in document.split())


def by_hand(documents):
    """Whether two documents are near-duplicates."""
    grams = []
    for document in documents:
        words = document.split()
        grams.append({tuple(words[i : i + 5]) for i in range(len(words) - 4)})
    return np.array([[len(a & b) / len(a | b) >= 0.8 for b in grams] for a in grams])


def test_copies_count_from_the_second_on_whatever_their_case_and_marks():
    found = near_duplicates(groups([SONG, "other text", SONG.upper()], [SONG.replace(" ", ", ")], ["?!", "?!", "!"]))
    assert found.count_GxG.tolist() == [[1, 2, 0], [1, 0, 0], [0, 0, 1]]
    assert found.share_of_documents_G.tolist() == [1 / 3, 0, 1 / 3]
    assert found.share_of_bytes_G[0] == len(SONG) / (2 * len(SONG) + 10)
    assert found.num_documents_G.tolist() == [3, 1, 3] and found.is_whole_G.all()


def test_agrees_with_all_pairs_by_hand():
    rng = np.random.default_rng(0)
    seeds = [numbered(f"s{i}w", 0, 80) for i in range(12)]
    texts = [
        [changed(rng, seeds[rng.integers(12)], rng.choice([0, 0.01, 0.02, 0.05])) for _ in range(25)] for _ in "abc"
    ]
    similar = by_hand(itertools.chain(*texts))
    assert 75 < similar.sum() < 75 * 75 / 12  # some are far enough apart
    linked = np.linalg.matrix_power(similar.astype(float), 75) > 0
    in_group = [linked[:, 25 * g : 25 * (g + 1)] for g in range(3)]
    expected = [[in_group[h][25 * g : 25 * (g + 1)].any(axis=1).sum() for h in range(3)] for g in range(3)]
    for g in range(3):
        expected[g][g] = np.tril(in_group[g][25 * g : 25 * (g + 1)], -1).any(axis=1).sum()
    found = near_duplicates(groups(*texts))
    assert found.count_GxG.tolist() == expected
    assert found.share_of_documents_G.tolist() == [expected[g][g] / 25 for g in range(3)]


def test_repeated_passages_count_once():
    cycle = " ".join([numbered("c", 0, 30)] * 3)  # 30 n-grams, and one more for each word that follows
    texts = groups([f"{cycle} {numbered(end, 0, 7)}" for end in "xyzuvw"], [f"{cycle} {end}" for end in "xy"])
    assert near_duplicates(texts).count_GxG.tolist() == [[0, 0], [0, 1]]  # J = 30 / 44 and 30 / 32


def test_most_are_found_also_where_all_texts_are_alike():
    rng = np.random.default_rng(0)
    texts = [changed(rng, numbered("w", 0, 150), 0.02) for _ in range(80)]
    similar = by_hand(texts)
    linked = np.linalg.matrix_power(similar.astype(float), 80) > 0
    direct, by_chains = (np.tril(pairs, -1).any(axis=1).sum() for pairs in (similar, linked))
    assert 30 < direct <= near_duplicates(groups(texts)).count_GxG[0, 0] <= by_chains < 70


def test_blocks_do_not_change_the_answer(monkeypatch):
    rng = np.random.default_rng(1)
    texts = groups([changed(rng, SONG, 0.01) for _ in range(30)], [SONG, "a", "a", "b"])
    whole = near_duplicates(texts)
    monkeypatch.setattr(near_duplicates_file, "_BLOCK", 100)
    assert near_duplicates(texts).count_GxG.tolist() == whole.count_GxG.tolist() and whole.count_GxG[0, 0] > 10


def test_a_sample_is_said_to_be_one():
    found = near_duplicates(groups([SONG] * 10, ["a b"]), max_bytes=4 * len(SONG))
    assert found.num_documents_G.tolist() == [4, 1] and found.is_whole_G.tolist() == [False, True]
    assert found.share_of_documents_G.tolist() == [0.75, 0]


@pytest.mark.parametrize("documents_by_group", [[], [[], [b"a"]], [[b"..."]]])
def test_nothing_to_compare(documents_by_group):
    assert not near_duplicates(documents_by_group).count_GxG.any()


def test_languages_without_spaces():
    text = "".join(chr(0x4E00 + 7 * i) for i in range(80))
    assert near_duplicates(groups([text, text[:-1] + "。"])).count_GxG.tolist() == [[1]]
