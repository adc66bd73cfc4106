import bz2
import gzip
import io
import lzma

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from mixmin_jax.data.decompression import COMPRESSIONS, Damaged, chunks, lines

COMPRESS = {".gz": gzip.compress, ".zst": zstandard.compress, ".xz": lzma.compress, ".bz2": bz2.compress}


def read(data, compression):
    return b"".join(chunks(io.BytesIO(data), compression))


@settings(deadline=None)  # the machine may be busy
@given(parts=st.lists(st.binary(max_size=300).map(lambda b: b * 1000), max_size=3), kind=st.sampled_from(COMPRESSIONS))
def test_members_one_after_the_other_give_back_what_was_compressed(parts, kind):
    packed = b"".join(map(COMPRESS[kind], parts))
    assert read(packed, kind) == b"".join(parts) == read(b"".join(parts), "")


@pytest.mark.parametrize("kind", COMPRESSIONS)
def test_a_file_that_is_cut_or_of_another_kind_is_damaged(kind):
    packed = COMPRESS[kind](bytes(range(256)) * 50)
    with pytest.raises(Damaged, match=f"truncated .* after byte {len(packed) - 3}") as cut:
        read(packed[:-3], kind)
    assert cut.value.position is None
    with pytest.raises(Damaged, match=r"not a valid .* near byte 0") as other:
        read(b"plain text", kind)
    assert other.value.position == 0
    assert read(packed + bytes(10) + b"\n", kind) == read(packed, kind)  # some programs fill files up
    with pytest.raises(Damaged, match=f"near byte {len(packed)}") as after:
        read(packed + b"junk", kind)
    assert after.value.position == len(packed)


@given(data=st.lists(st.sampled_from([b"a", b"\n", b"\r\n", b"\x85"]), max_size=12).map(b"".join), at=st.integers(0, 9))
def test_lines_end_at_newlines_only_wherever_chunks_end(data, at):
    found = list(lines(iter([data[:at], data[at:], b""])))
    assert found == (data.removesuffix(b"\n").split(b"\n") if data else [])
