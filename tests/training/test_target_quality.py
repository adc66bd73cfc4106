"""The quality of documents for a target: noise of several kinds comes last."""

import numpy as np

from mixmin_jax.training.target_quality import target_quality

WORDS = [
    "the",
    "ship",
    "of",
    "gold",
    "sailed",
    "over",
    "many",
    "seas",
    "and",
    "came",
    "home",
    "with",
    "wine",
    "for",
    "all",
]


def text(seed, count=60):
    return " ".join(np.random.default_rng(seed).choice(WORDS, count)).encode()


GOOD = [text(seed) for seed in range(20)]
NOISE = [
    bytes(np.random.default_rng(0).permutation(list(GOOD[0]))),  # shuffled
    b"the ship of gold sailed home. " * 12,  # repeated
    "ψκεσο λαμβδα ρτω ".encode() * 3 + "ξηζφβγ".encode() * 9,  # another script
]


def test_noise_is_worse_than_text_of_the_target():
    quality_D = target_quality([*GOOD, *NOISE], [text(seed) for seed in range(100, 120)])
    assert quality_D.shape == (23,) and (quality_D > 0).all() and (quality_D <= 1).all()
    assert quality_D[20:].max() < quality_D[:20].min()


def test_what_is_rare_in_all_sources_is_noise_unless_the_target_is_like_it():
    swapped = bytes.maketrans(b"abcdefghilmnoprstuvwy", b"wyvutsrponmlihgfedcba")
    rare = GOOD[0].translate(swapped)  # as far from a target of digits as the document that it is made from
    documents = [*GOOD, *[rare] * 20]  # copies do not vouch for it
    assert target_quality(documents, [b"1 23 456 " * 600])[20:].max() <= 0.5
    assert target_quality(documents, [text(seed).translate(swapped) for seed in range(100, 120)])[20:].min() > 0.5


def test_order_of_documents_does_not_matter(monkeypatch):
    target = [text(100)]
    order = np.random.default_rng(1).permutation(23)
    documents = [*GOOD, *NOISE]
    quality_D = target_quality(documents, target)
    monkeypatch.setattr("mixmin_jax.training.target_quality.BATCH", 3000)  # nor where batches end
    seen = []
    again_D = target_quality([documents[i] for i in order], target, on_batch=lambda *done: seen.append(done))
    np.testing.assert_array_equal(again_D, quality_D[order])
    assert len(seen) > 1 and seen[-1] == (23, 23)
