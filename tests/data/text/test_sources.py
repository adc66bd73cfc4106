import gzip

import pytest

from mixmin_jax.data.text.source_notes import find_source_notes
from mixmin_jax.data.text.sources import list_sources, read_sources, refuse_identical
from mixmin_jax.errors import InputError
from tests.data.text.corpora import corpus
from tests.experiments.made_up_text import write_lines


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


def test_what_is_wrong_with_all_sources_is_said_at_once(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "b.jsonl").write_text('{"body": "text"}\n')
    (tmp_path / "c").mkdir()
    with pytest.raises(InputError) as caught:
        read_sources(tmp_path / "a.txt", tmp_path / "b.jsonl", tmp_path / "c", tmp_path / "d.txt")
    head, *lines = str(caught.value).splitlines()
    assert head == "3 things are wrong:" and len(lines) == 3
    for line, part in zip(lines, ("b.jsonl", "c: empty folder", "d.txt"), strict=True):
        assert part in line
    for name in ("e.txt", "f.txt"):
        (tmp_path / name).write_text("text")
    with pytest.raises(InputError, match=r"(?s)2 things are wrong:.*a .* and e .*\n.*a .* and f "):
        read_sources(*(tmp_path / name for name in ("a.txt", "e.txt", "f.txt")))


def test_sources_are_listed_by_name_in_a_file(tmp_path, monkeypatch):
    for folder, text in (("web", "web"), ("code", "code"), ("prose", "prose")):
        (tmp_path / "dumps" / folder).mkdir(parents=True)
        (tmp_path / "dumps" / folder / "train.jsonl").write_text(f'{{"text": "no", "body": "{text}"}}')
    (tmp_path / "books.txt").write_text("books")
    (tmp_path / "other.txt").write_text("in no table")
    (tmp_path / "elsewhere.txt").write_text("elsewhere")
    monkeypatch.setenv("HOME", str(tmp_path))
    file = tmp_path / "sources.toml"
    file.write_text(
        '[web]\npath = "dumps/web/train.jsonl"\nfield = "body"\n[code]\npath = "dumps/code"\n[books]\n'
        '["home.v1"]\npath = "~/elsewhere.txt"\nlicence = "MIT"\n'
    )
    for spec in (tmp_path, file):
        read = {source.name: source for source in read_sources(spec)}
        assert list(read) == ["books", "code", "home.v1", "web"]
        assert [source.documents for source in read.values()] == [(b"books",), (b"no",), (b"elsewhere",), (b"web",)]
        assert read["web"].field == "body" and find_source_notes([*read], [spec])["home.v1"].licence == "MIT"
    file.rename(tmp_path / "list.toml")
    by_option = read_sources(tmp_path, info=tmp_path / "list.toml")
    assert [source.name for source in by_option] == list(read)
    with pytest.raises(InputError, match=r"two sources are named 'train'.*give both names in a sources\.toml"):
        read_sources(*(tmp_path / "dumps" / name / "train.jsonl" for name in ("web", "code")))
    (tmp_path / "list.toml").write_text('[web]\npath = "dumps/web"\n[papers]\n')
    with pytest.raises(InputError, match=r"list\.toml, \[papers\]: no path, and nothing of this name lies in"):
        read_sources(tmp_path / "list.toml")
    (tmp_path / "list.toml").write_text("[web]\npath = 3")
    with pytest.raises(InputError, match=r"list\.toml, \[web\]: path must be a string, not 3"):
        read_sources(tmp_path / "list.toml")


def test_what_is_wrong_in_the_list_is_said_before_anything_is_read(tmp_path):
    for name in ("web", "code"):
        (tmp_path / f"{name}.jsonl").write_text("no JSON")
    specs, file = (tmp_path / "web.jsonl", tmp_path / "code.jsonl"), tmp_path / "sources.toml"
    for text, message in (
        ('[wbe]\nlicence = "MIT"', "no source is called 'wbe'; the closest name is 'web'"),
        ("[web]\nallowed = false", "of 2 only 1 may be used"),
        ('[web]\npath = "elsewhere.jsonl"', r"\[web\]: its path is .*elsewhere.jsonl, but .*web.jsonl is given too"),
    ):
        file.write_text(text)
        with pytest.raises(InputError, match=message):
            read_sources(*specs)


def test_a_field_of_one_source_is_given_without_paths(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a"}')
    (tmp_path / "b.jsonl").write_text('{"raw_content": "b"}')
    (tmp_path / "sources.toml").write_text('[b]\nfield = "raw_content"')
    (tmp_path / "README.md").write_text("about the sources")
    sources = read_sources(tmp_path)
    assert [source.documents for source in sources] == [(b"a",), (b"b",)]
    assert sources[0].notices == (f"left out, as no data: {tmp_path / 'README.md'}",) and not sources[1].notices
    assert [source.documents for source in read_sources(tmp_path / "a.jsonl", tmp_path / "b.jsonl")][1] == (b"b",)


def test_a_source_that_is_also_the_target_is_refused():
    with pytest.raises(InputError, match=r"a .* and t .* hold the same documents"):
        refuse_identical((corpus("a", "x"), corpus("b", "y"), corpus("t", "x")))
    refuse_identical((corpus("c", "x", "y"), corpus("c", "y", "x"), corpus("c", "xy")))


def test_what_may_not_be_used_is_not_read_and_takes_no_notice_with_it(tmp_path):
    write_lines(tmp_path / "b.jsonl", ["b"])
    write_lines(tmp_path / "c.jsonl", ["c"])
    (tmp_path / "a.jsonl").write_text("no JSON")
    (tmp_path / "README.md").write_text("no data")
    (tmp_path / "sources.toml").write_text("[a]\nallowed = false\n")
    read = read_sources(tmp_path)
    assert [source.name for source in read] == ["b", "c"] and "README.md" in read[0].notices[0]
    listed = list_sources(tmp_path)
    assert [*listed.places] == [*listed.notes] == ["a", "b", "c"] and listed.allowed == ("b", "c")
