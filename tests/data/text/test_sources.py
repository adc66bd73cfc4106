import gzip

import pytest

from mixmin_jax.data.text.sources import read_sources, refuse_identical
from mixmin_jax.errors import InputError
from tests.data.text.corpora import corpus


def test_sources_are_the_visible_entries_of_a_folder_sorted_by_name(tmp_path):
    (tmp_path / "code.jsonl.gz").write_bytes(gzip.compress(b'{"text": "x = 1"}'))
    (tmp_path / "a_folder.v2").mkdir()
    (tmp_path / "a_folder.v2" / "one.txt").write_text("one")
    (tmp_path / "prose.txt").write_text("prose")
    (tmp_path / ".DS_Store").write_bytes(b"\x00")
    (tmp_path / "sources.toml").write_text("")
    sources = read_sources(tmp_path)
    assert [source.name for source in sources] == ["a_folder.v2", "code", "prose"]
    assert sources[1].documents == (b"x = 1",)
    given_singly = read_sources(tmp_path / "prose.txt", tmp_path / "code.jsonl.gz")
    assert [source.name for source in given_singly] == ["code", "prose"]


def test_source_folder_errors(tmp_path):
    def refused(message, *specs):
        with pytest.raises(InputError, match=message):
            read_sources(*specs)

    refused("gone: no such folder of sources", tmp_path / "gone")
    refused("holds no sources", tmp_path)
    refused("at least two sources, none")
    (tmp_path / "one.txt").write_text("one")
    refused(r"at least two sources, only .*one\.txt", tmp_path)
    refused(r"at least two sources, only .*one\.txt", tmp_path / "one.txt")
    (tmp_path / "one.jsonl").write_text('{"text": "two"}')
    refused(r"two sources are named 'one': .*one\.jsonl and .*one\.txt", tmp_path)
    (tmp_path / "one.jsonl").unlink()
    (tmp_path / "two").mkdir()
    refused("two: empty folder", tmp_path)
    (tmp_path / "two" / "copy.txt").write_text("one")
    refused(r"one .* and two .* hold the same documents", tmp_path)


def test_a_source_that_is_also_the_target_is_refused():
    with pytest.raises(InputError, match=r"a .* and t .* hold the same documents"):
        refuse_identical((corpus("a", "x"), corpus("b", "y"), corpus("t", "x")))
    refuse_identical((corpus("c", "x", "y"), corpus("c", "y", "x"), corpus("c", "xy")))
