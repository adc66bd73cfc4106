"""Reports as Markdown and as pages: what names of data sets can do to them, and what a page needs to be read."""

import html.parser
import re
import shutil
import subprocess
from pathlib import Path

import jinja2
import pytest

import experiments
from experiments.questions import read_results
from experiments.reporting import markdown as md
from experiments.reporting.render import MOST_SENTENCES, Report, page, report, sentences

RESULTS = Path(experiments.__file__).parent / "results"
HOSTILE = "a|b<script>alert(1)</script>`c`$d$\n\n# e ![f](http://g.example/h.png) <http://g.example>"
PHONE = 390  # pixels: the width of a common phone

CHROMIUM = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # no network
    "--virtual-time-budget=10000",
    "--dump-dom",
)
FRAME = """<!doctype html>
<iframe width="{width}" height="800" style="border: 0" srcdoc="{page}"></iframe>
<script>
onload = () => {{
  const root = document.querySelector("iframe").contentDocument.documentElement;
  const scrolling = [...root.querySelectorAll(".table")].filter((box) => box.scrollWidth > box.clientWidth);
  const broken = [...root.querySelectorAll("img")].filter((image) => image.naturalWidth == 0);
  document.title = [root.scrollWidth, scrolling.length, broken.length];
}};
</script>
"""


class Page(html.parser.HTMLParser):
    """The tags of a page, what it refers to, and the text of its table cells."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.sources, self.links, self.cells, self.in_cell = set(), [], [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.sources += [value for name, value in attrs if name in ("src", "srcset", "data", "poster")]
        self.links += [value for name, value in attrs if name in ("href", "action")]
        if tag in ("td", "th"):
            self.in_cell = True
            self.cells.append("")

    def handle_endtag(self, tag):
        self.in_cell &= tag not in ("td", "th")

    def handle_data(self, data):
        if self.in_cell:
            self.cells[-1] += data


def written(name, folder):
    """The pages of a published result, by their place in `folder`, where all its reports are written again."""
    question, results = read_results(RESULTS / name)
    for place in results:
        (folder / place).mkdir(parents=True, exist_ok=True)
    question.write(folder, results)
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def demonstration(tmp_path_factory):
    return written("text_mixture_demo", tmp_path_factory.mktemp("demonstration"))


def test_sentences_are_the_first_three_lines_that_say_something(monkeypatch):
    verdict = "{% filter sentences %}\n\n{{ first }}\n  Two. \n\nThree.\nFour.{% endfilter %}"
    environment = jinja2.DictLoader({"a.md.jinja": "{% block verdict %}" + verdict + "{% endblock %}"})
    monkeypatch.setattr("experiments.reporting.render._ENVIRONMENT.loader", environment)
    assert MOST_SENTENCES == 3
    assert sentences("a", first="One.") == "One. Two. Three."
    assert sentences("a", first="") == "Two. Three. Four."
    with pytest.raises(jinja2.UndefinedError, match="'first' is undefined"):
        report("a", "no context", {})


def test_names_of_data_sets_have_no_effect_in_markdown():
    for text in (md.plain(HOSTILE), md.code(HOSTILE)):
        assert "\n" not in text and not re.search(r"(?<!\\)\|", text)
    assert "<" not in md.plain(HOSTILE) and not re.search(r"(?<!\\)[`$*_\[\]]", md.plain(HOSTILE))
    assert md.code(HOSTILE).count("`") == 2


def test_names_of_data_sets_have_no_effect_in_a_page():
    table = md.table(["name", "number"], [[md.plain(HOSTILE), "1"], [md.code(HOSTILE), "2"]])
    found = Page(page(Report(HOSTILE, f"# Title\n\n{table}\n", {})))
    assert not found.tags & {"script", "img", "a"}
    one_line = " ".join(HOSTILE.split())
    assert found.cells == ["name", "number", one_line, "1", " ".join(HOSTILE.splitlines()).replace("`", "'"), "2"]
    overview = Page(page(report("index", "Targets", {}, verdicts={"a": "wins"}, summary=table)))
    assert not overview.tags & {"script", "img"} and overview.links == ["a/report.html"]


def test_a_page_needs_no_other_file_and_no_network(demonstration):
    pages = {name: Page(content.decode()) for name, content in demonstration.items() if name.endswith(".html")}
    assert sorted(pages) == ["index.html", "scipy_docs/report.html"]
    for found in pages.values():
        assert found.sources and all(source.startswith("data:image/svg+xml;base64,") for source in found.sources)
        assert not found.tags & {"script", "link", "iframe", "object"}
    assert pages["index.html"].links == ["scipy_docs/report.html"] and pages["scipy_docs/report.html"].links == []
    for name in pages:
        outside = re.sub(rb'"data:[^"]*"', b"", demonstration[name])
        assert b"url(" not in outside and b"@import" not in outside


def test_a_report_has_the_same_bytes_when_it_is_written_again(tmp_path, demonstration):
    again = written("text_mixture_demo", tmp_path)
    assert list(again) == list(demonstration)
    assert [name for name in again if again[name] != demonstration[name]] == []


@pytest.mark.slow
@pytest.mark.parametrize("width", [PHONE, 1280])
@pytest.mark.parametrize("name", ["index.html", "scipy_docs/report.html"])
def test_a_page_is_no_wider_than_the_screen(tmp_path, demonstration, name, width):
    """Tables may be wider: they scroll in their box. The page stands in a frame, as no window is narrower than 500."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("there is no Chromium on this machine")
    frame = tmp_path / "frame.html"
    frame.write_text(FRAME.format(width=width, page=html.escape(demonstration[name].decode())))
    command = [browser, *CHROMIUM, f"--user-data-dir={tmp_path / 'profile'}", frame.as_uri()]
    dumped = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    measured = re.search(r"<title>(\d+),(\d+),(\d+)</title>", dumped)
    assert measured, dumped[-500:]
    page_width, scrolling, broken = map(int, measured.groups())
    assert page_width <= width and broken == 0
    assert scrolling or width > PHONE or name == "index.html"  # a phone has to scroll the widest tables
