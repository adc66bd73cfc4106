import pytest

from mixmin_jax.data.text.source_notes import SourceNote, allowed_names, find_source_notes, read_source_notes
from mixmin_jax.errors import InputError

NAMES = ("code", "news", "web.v2")


@pytest.fixture
def written(tmp_path):
    def write(content):
        path = tmp_path / "sources.toml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_every_source_has_a_note_in_the_order_of_the_sources(written):
    path = written('\ufeff["web.v2"]\nallowed = false\n[code]\nlicence = "MIT"\nnote = "crawled | in *May*"\n')
    notes = read_source_notes(path, NAMES)
    assert list(notes) == list(NAMES)
    assert notes["code"] == SourceNote("MIT", "crawled | in *May*", True)
    assert notes["news"] == SourceNote(None, None, True) and notes["web.v2"] == SourceNote(None, None, False)
    assert allowed_names(NAMES, notes) == ("code", "news") and allowed_names(NAMES, {}) == NAMES


def test_notes_are_found_beside_the_sources_or_where_the_option_says(written, tmp_path):
    path = written('[code]\nlicence = "beside"\n')
    (tmp_path / "other.toml").write_text('[code]\nlicence = "given"\n')
    assert find_source_notes(NAMES, (tmp_path,))["code"].licence == "beside"
    assert find_source_notes(NAMES, (tmp_path,), tmp_path / "other.toml")["code"].licence == "given"
    assert find_source_notes(NAMES, (str(tmp_path), "tfds:x:text")) == find_source_notes(NAMES) == {}
    path.unlink()
    assert find_source_notes(NAMES, (tmp_path,)) == {}
    with pytest.raises(InputError, match=r"gone\.toml: cannot be read"):
        find_source_notes(NAMES, (tmp_path,), tmp_path / "gone.toml")


def test_notes_are_found_beside_sources_that_are_named_one_by_one(written, tmp_path, monkeypatch):
    written('[code]\nallowed = false\n[other]\nlicence = "MIT"\n')
    specs = [tmp_path / "code.jsonl", tmp_path / "news.txt", "tfds:x:text"]
    for name in ("code.jsonl", "news.txt", "other.jsonl.gz"):
        (tmp_path / name).touch()
    notes = find_source_notes(NAMES, specs)
    assert list(notes) == list(NAMES) and not notes["code"].allowed and notes["news"].allowed
    monkeypatch.chdir(tmp_path)
    assert find_source_notes(NAMES, ["code.jsonl", f"../{tmp_path.name}/news.txt"]) == notes  # the same folder
    far = tmp_path / "far"
    far.mkdir()
    assert find_source_notes(NAMES, ["code.jsonl", far / "news.txt"]) == notes
    (far / "sources.toml").write_text('[news]\nlicence = "MIT"\n')
    with pytest.raises(InputError, match=r"several sources\.toml \(.*far.*\): give one with --sources-info"):
        find_source_notes(NAMES, ["code.jsonl", far / "news.txt"])
    assert find_source_notes(NAMES, ["code.jsonl", far / "news.txt"], far / "sources.toml")["news"].licence == "MIT"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[coed]", "no source is called 'coed'; the closest name is 'code'$"),
        ("[web.v2]", r"called 'web'; the closest name is 'web\.v2', written \[\"web\.v2\"\]"),
        ('code = "MIT"', r"code is 'MIT', not a table: write \[code\]"),
        ('[code]\nlicense = "MIT"', r"\[code\]: unknown key 'license'; the closest known is 'licence'"),
        ("[code]\nlicence = 3", r"\[code\]: licence must be a string, not 3"),
        ('[code]\nallowed = "no"', r"\[code\]: allowed must be true or false, not 'no'"),
        ("[code]\nallowed = 1", "must be true or false, not 1"),
        ("[code\n", r"not TOML \(.*line 1"),
        (b'[code]\nnote = "\xff"', "not valid UTF-8"),
        ("code = " + "[" * 100_000, "not TOML"),
        ("code = " + "9" * 5000, "not TOML"),
    ],
)
def test_what_is_wrong_is_one_error_that_names_the_file(written, content, message):
    path = written(content)
    with pytest.raises(InputError, match=message) as refused:
        read_source_notes(path, NAMES)
    assert str(refused.value).startswith(str(path)) and len(str(refused.value)) < 400


def test_a_mixture_needs_two_sources_that_may_be_used(written):
    only_code = read_source_notes(written('[news]\nallowed = false\n["web.v2"]\nallowed = false'), NAMES)
    with pytest.raises(InputError, match="of 3 only 1 may be used"):
        allowed_names(NAMES, only_code)
    assert allowed_names(("code",), only_code) == ("code",)  # a file of log-likelihoods may have one column
    with pytest.raises(InputError, match="of 1 only 0"):
        allowed_names(("news",), only_code)
