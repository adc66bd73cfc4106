import numpy as np
import pytest

from mixmin_jax.data.text.tokens import SEPARATOR, build_store, join_documents
from mixmin_jax.errors import InputError


def test_documents_are_joined_with_separators_that_are_no_byte_of_utf8():
    assert bytes(join_documents([b"ab", b"c"])) == b"\xffab\xffc\xff"
    assert all(SEPARATOR not in chr(c).encode() for c in (0, 0x7F, 0x80, 0x7FF, 0x800, 0xFFFF, 0x10FFFF))


def test_store_places_sources_end_to_end_and_counts_whole_windows():
    store = build_store(["a", "b"], [[b"x" * 10], [b"y" * 7, b"z" * 3]], length=4)
    assert store.starts_K.tolist() == [0, 12]
    assert store.windows_K.tolist() == [2, 3]  # 12 and 13 tokens: (12 - 1) // 4 and (13 - 1) // 4
    assert store.tokens.dtype == np.uint8 and len(store.tokens) == 25


def test_a_source_shorter_than_a_window_is_named():
    with pytest.raises(InputError, match="source 'b' holds 5 tokens, fewer than one training window of 9"):
        build_store(["a", "b"], [[b"x" * 50], [b"y" * 3]], length=8)
