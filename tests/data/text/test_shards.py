"""Which files of a folder are data, here and behind URLs."""

import gzip
import io
from pathlib import Path

import fsspec
import pytest

from mixmin_jax.data.text import shards
from mixmin_jax.data.text.documents import read_corpus
from mixmin_jax.data.text.shards import find_shards, is_no_data, stem, without_secrets
from mixmin_jax.errors import InputError

BESIDE = [
    *("README.md", "README", "_SUCCESS", "notes.MD", ".part-0.crc", "part-1.jsonl.crc", "Thumbs.db", ".hidden.txt"),
    *("a.index.json", "index.json", "dataset_info.json", "state.json", "LICENSE.txt", ".git/config", "cache-1.arrow"),
]


@pytest.mark.parametrize(
    "layout",
    [
        ["dolma-v1_7/c4/c4-0000.json.gz", "dolma-v1_7/c4/c4-0001.json.gz", "dolma-v1_7/wiki/wiki-0000.json.gz"],
        ["global-shard_01_of_10/local-shard_0_of_10/shard_00000000_processed.jsonl.gz"],  # DCLM; there .zst
        ["arxiv/arxiv_0.jsonl", "book/book.jsonl.gz", "data/train-00000-of-00001.jsonl"],  # RedPajama
    ],
)
def test_shards_are_found_in_nested_folders_without_what_is_no_data(tmp_path, layout):
    for n, name in enumerate(layout):
        path = tmp_path / "web" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = b'{"text": "%d"}\n' % n
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        for other in BESIDE:
            (path.parent / other).parent.mkdir(exist_ok=True)
            (path.parent / other).write_bytes(b"\xff")
    found = find_shards(tmp_path / "web")
    assert [shard.name for shard in found.files] == layout
    read = read_corpus(tmp_path / "web")
    assert read.documents == tuple(b"%d" % n for n in range(len(layout))) and read.name == "web"
    (notice,) = read.notices
    assert notice.startswith("left out, as no data: ") and ".git" in notice


def test_a_source_may_be_called_like_what_is_no_data():
    assert not any(map(is_no_data, ["readmes.jsonl", "licences.jsonl", "markdown", "state", "web_SUCCESS.jsonl", "md"]))


def test_folders_without_data_are_refused(tmp_path):
    (tmp_path / "README.md").write_text("nothing here")
    with pytest.raises(InputError, match=r"empty folder, no \.jsonl, .* file in it beside README\.md"):
        find_shards(tmp_path)
    (tmp_path / "data.csv").write_text("x")
    with pytest.raises(InputError, match=r"data\.csv: unsupported kind of file; known are \.jsonl, .*\.parquet.*\.zst"):
        find_shards(tmp_path)


def test_urls_are_read_as_paths_are(tmp_path):
    memory = fsspec.filesystem("memory")
    memory.pipe({"/corpus/web/b.jsonl": b'{"text": "b"}', "/corpus/web/a.txt.gz": gzip.compress(b"a")})
    memory.pipe({"/corpus/web/_SUCCESS": b"", "/corpus/web/sub/c.jsonl": b'{"text": "c"}'})
    read = read_corpus("memory://corpus/web")
    assert read.documents == (b"a", b"b", b"c") and (read.name, read.origin) == ("web", "memory://corpus/web")
    assert read_corpus("memory://corpus/web/b.jsonl").documents == (b"b",) and stem("memory://x/b.jsonl.zst") == "b"
    (tmp_path / "d.txt").write_text("d")
    assert read_corpus(f"file://{tmp_path}/d.txt").documents == (b"d",)
    (tmp_path / "d.txt").write_bytes(b"\xff")
    with pytest.raises(InputError, match=f"file://{tmp_path}/d.txt, line 1: not valid UTF-8"):
        read_corpus(f"file://{tmp_path}/d.txt")
    memory.pipe({"/corpus/web/b.jsonl": b'{"text": 1}'})
    with pytest.raises(InputError, match=r"memory:///corpus/web/b\.jsonl, line 1: field 'text' is not a string"):
        read_corpus("memory://corpus/web")


def test_the_suffix_of_a_signed_url_is_that_of_its_path(monkeypatch):
    packed = gzip.compress(b'{"text": "a"}')

    class Web:
        isfile = staticmethod(lambda path: True)
        info = staticmethod(lambda path: {"size": len(packed)})
        unstrip_protocol = staticmethod(lambda path: path)
        open = staticmethod(lambda path, mode: io.BytesIO(packed))

    monkeypatch.setattr(shards, "url_to_fs", lambda url: (Web, url))
    read = read_corpus("https://host/corpus/web.jsonl.gz?X-Amz-Signature=1/2.txt")
    assert read.name == "web" and read.documents == (b"a",) and read.origin == "https://host/corpus/web.jsonl.gz?..."
    with pytest.raises(InputError, match="unsupported kind of file"):
        read_corpus("https://host/corpus/web?file=a.jsonl")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("HTTPS://me:pass@host:80/a/b.txt?sig=1&x=/2#3 then", "HTTPS://...@host:80/a/b.txt?... then"),
        ("--sources=http://host/a.txt#key", "--sources=http://host/a.txt?..."),
        ("https://host/user@v1/a.txt", "https://host/user@v1/a.txt"),
        ("hf://datasets/me/a@main/b.parquet", "hf://datasets/me/a@main/b.parquet"),
        ("is this a?b", "is this a?b"),
    ],
)
def test_signatures_and_passwords_in_urls_are_not_written_down(text, shown):
    assert without_secrets(text) == without_secrets(shown) == shown


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("memory://nowhere/x", "no such file or folder"),
        ("wasabi://bucket/x", "Protocol not known: wasabi"),
        ("reading://x/y", "Install the package to read"),
    ],
)
def test_what_a_url_needs_is_named(url, message):
    fsspec.register_implementation(
        "reading", "no_such_package.System", errtxt="Install the package to read", clobber=True
    )
    with pytest.raises(InputError, match=f"{url}: .*{message}"):
        read_corpus(url)


def test_the_home_folder_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.txt").write_text("a")
    assert read_corpus("~/a.txt").origin == str(tmp_path / "a.txt")
    with pytest.raises(InputError, match="~nobody-of-this-name"):
        read_corpus(Path("~nobody-of-this-name/a.txt"))
