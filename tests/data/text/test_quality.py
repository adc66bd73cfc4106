"""The signals of quality against the same formulas, document by document and character by character."""

import dataclasses
import re
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixmin_jax.data.text import quality
from mixmin_jax.data.text.quality import batches, compression_ratio, signals

TEXTS = st.lists(st.text("aZ3 \n\té€🙂.\x00-", min_size=1, max_size=30).filter(lambda t: not t.isspace()), min_size=1)
SPACE = " \t\n\v\f\r"


def one_by_one(text):
    words = [word for word in re.split(f"[{SPACE}]+", text) if word]
    lines = [line for line in text.split("\n") if line.strip(SPACE)]
    pairs = Counter(pairwise(words))
    return {
        "bytes_D": len(text.encode()),
        "symbols_D": np.mean([c.isascii() and not c.isalnum() and c not in SPACE for c in text]),
        "digits_D": np.mean([c in "0123456789" for c in text]),
        "uppercase_D": np.mean([c.isascii() and c.isupper() for c in text]),
        "spaces_D": np.mean([c in SPACE for c in text]),
        "beyond_ascii_D": np.mean([not c.isascii() for c in text]),
        "word_length_D": np.mean([len(word) for word in words]),
        "repeated_lines_D": 1 - len(set(lines)) / len(lines),
        "repeated_pairs_D": (max(pairs.values()) - 1) / len(words[1:]) if pairs else 0,
        "compression_D": compression_ratio(text.encode()),
    }


@given(TEXTS, st.integers(1, 60))
def test_signals_are_those_of_each_document_alone(texts, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quality, "BATCH", size)
        found = dataclasses.asdict(signals([text.encode() for text in texts]))
    for name, values_D in found.items():
        np.testing.assert_allclose(values_D, [one_by_one(text)[name] for text in texts], atol=1e-12, err_msg=name)


def test_repetition():
    found = signals([b"one two\n" * 9, b"one two three", b"one", b"one two one two three"])
    np.testing.assert_allclose(found.repeated_lines_D, [8 / 9, 0, 0, 0])
    np.testing.assert_allclose(found.repeated_pairs_D, [8 / 17, 0, 0, 1 / 4])
    assert compression_ratio(b"ab" * 500) < 0.05 < 0.4 < compression_ratio(bytes(range(128)))


@given(st.lists(st.binary(min_size=1, max_size=9)), st.integers(1, 20))
def test_batches_are_the_documents_in_order(documents, size):
    found = list(batches(documents, size))
    assert [document for batch in found for document in batch] == documents
    assert all(sum(map(len, batch)) >= size for batch in found[:-1]) and all(found)
