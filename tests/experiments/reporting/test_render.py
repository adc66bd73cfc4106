"""Reports as pages: what templates choose, that text of others has no effect, and that a page needs nothing else."""

import base64
import dataclasses
import html.parser
import json
import re
import shutil
import subprocess
import urllib.parse

import pytest

from experiments.harness.result_files import write_index, write_report
from experiments.reporting import markdown as md
from experiments.reporting import render
from experiments.reporting.figures import loss_figure
from experiments.text_mixture import report
from experiments.text_mixture.report import text_mixture_report, verdict
from tests.experiments.text_mixture.made_up import made_up

HOSTILE = ["a|b", "<script>alert(1)</script>", "`b` **c**", "$x$ ~~y~~", "](http://evil.example)", "\n# title\n| a |"]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Page(html.parser.HTMLParser):
    """Tags, text, and what a browser would load or link to."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.links, self.loads = [], "", [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            if name == "href":
                self.links.append(value)
            elif name in ("src", "srcset", "data", "action", "poster", "background"):
                self.loads.append(value)
            elif name == "style":
                assert "url" not in value
            else:
                assert not name.startswith("on")

    def handle_data(self, data):
        self.text += data


def rendered(source, **context):
    return render._ENVIRONMENT.from_string(source).render(**context)


def test_a_verdict_is_the_first_three_sentences_that_hold():
    rules = "{% if incomplete %}It did not end.\n{% endif %}\n\n  A wins.\nB ties.\nC.\nD.\n"
    for incomplete, expected in ((True, "It did not end. A wins. B ties."), (False, "A wins. B ties. C.")):
        assert rendered(f"{{% filter sentences %}}\n{rules}{{% endfilter %}}", incomplete=incomplete) == expected


def test_a_verdict_alone_is_the_first_paragraph_of_the_report():
    metrics = made_up(2)
    assert text_mixture_report(metrics).markdown.split("\n\n")[1].strip() == verdict(metrics)


def test_what_a_template_does_not_know_is_an_error():
    with pytest.raises(render.jinja2.UndefinedError):
        rendered("{{ nothing }}")


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("quote", [md.plain, md.code])
def test_names_and_quotations_have_no_effect_in_tables_and_paragraphs(name, quote):
    name = name if quote is md.plain else " ".join(name.split())  # sources and targets have no line breaks
    table = md.table(["source", "weight"], [[quote(name), "1"], ["b", "2"]])
    page = Page(render.page(render.Report("t", f"# t\n\n{table}\n\nSee {quote(name)}, which is `here`.\n", {})))
    assert page.tags.count("tr") == 3 and page.tags.count("td") == 4 and page.tags.count("h1") == 1
    assert not {"script", "a", "img", "strong", "s"} & set(page.tags) and not page.links
    shown = " ".join(name.split()).replace("`", "'" if quote is md.code else "`")
    bars = "\\|" if quote is md.code else "|"  # Markdown shows the backslash in code outside of tables
    assert f"\n{shown}\n1" in page.text and f"See {shown.replace('|', bars)}, which is here." in page.text


def test_a_target_of_any_name_has_a_report_with_the_same_tables(monkeypatch):
    monkeypatch.setattr(report, "_figures", lambda metrics: {})  # they take seconds
    metrics = made_up(1)
    expected = Page(render.page(text_mixture_report(metrics))).tags
    for name in HOSTILE[:5]:
        assert Page(render.page(text_mixture_report(dataclasses.replace(metrics, target=name)))).tags == expected, name


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Reports on made-up results of several targets, the first with figures, and their index."""
    folder, verdicts = tmp_path_factory.mktemp("run"), {}
    for target in ("science_news", "two words (1)", "t" * 80):
        metrics = dataclasses.replace(made_up(1), target=target)
        found = text_mixture_report(metrics)
        (folder / target).mkdir()
        write_report(folder / target, dataclasses.replace(found, figures={}) if verdicts else found)
        verdicts[target] = verdict(metrics)
    row = ["`mixmin`", *["3.030 ± 0.004 (tie)"] * len(verdicts)]
    summary = md.table(["test bits per byte", *map(md.code, verdicts)], [row])
    write_index(folder, "Which mixture?", verdicts, summary, {"summary.png": loss_figure({"mixmin": [3.0, 3.1]})})
    return folder


def test_a_page_loads_nothing_and_links_to_its_siblings_alone(run):
    page = Page((run / "science_news" / "report.html").read_text())
    index = Page((run / "index.html").read_text())
    assert not page.links and len(page.loads) == 5 and len(index.loads) == 1
    assert len(index.links) == 3
    for link in index.links:
        assert (run / urllib.parse.unquote(link)).is_file()
    for load in (*page.loads, *index.loads):
        kind, _, content = load.partition(",")
        assert kind == "data:image/svg+xml;base64"
        svg = base64.b64decode(content).decode()
        assert all(link.startswith(("#", "data:")) for link in re.findall(r'href="([^"]*)"', svg))
        assert "url(http" not in svg and "<script" not in svg
    assert not {"link", "script", "iframe", "object", "base"} & {*page.tags, *index.tags}
    style = (run / "index.html").read_text().partition("<style>")[2].partition("</style>")[0]
    assert style and "url(" not in style and "@import" not in style and "@font-face" not in style


def test_reports_are_the_same_bytes_each_time(run, tmp_path):
    write_report(tmp_path, text_mixture_report(dataclasses.replace(made_up(1), target="science_news")))
    assert {path.name for path in tmp_path.iterdir()} >= {"report.html", "report.md", "loss.png"}
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (run / "science_news" / path.name).read_bytes()


def test_a_title_is_plain_text():
    page = render.page(render.Report("Which for `a<b` & c?", "# t\n", {}))
    assert "<title>Which for a&lt;b &amp; c?</title>" in page


FRAME = """<iframe id="page" style="width: 390px; height: 800px; border: 0" src="{page}"></iframe><pre id="found"></pre>
<script>
page.onload = () => {{
  const inside = page.contentDocument, root = inside.documentElement;
  found.textContent = JSON.stringify({{
    width: root.clientWidth, needed: root.scrollWidth, title: inside.title,
    images: [...inside.images].map(image => image.naturalWidth),
    scrolled: [...inside.querySelectorAll(".wide")].filter(part => part.scrollWidth > part.clientWidth).length,
  }});
}};
</script>"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (Debian's package: chromium)")
@pytest.mark.parametrize("name", ["science_news/report.html", "index.html"])
def test_a_browser_shows_a_page_on_a_phone_without_network(run, tmp_path, name):
    (tmp_path / "frame.html").write_text(FRAME.format(page=(run / name).as_uri()))
    options = ["--headless", "--disable-gpu", "--no-sandbox", "--hide-scrollbars", "--allow-file-access-from-files"]
    options += [f"--user-data-dir={tmp_path / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND", "--dump-dom"]
    command = [CHROMIUM, *options, (tmp_path / "frame.html").as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    found = json.loads(html.unescape(re.search('<pre id="found">(.*?)</pre>', shown, re.DOTALL)[1]))
    assert found["width"] == 390 and found["needed"] == 390  # the page itself does not scroll sideways
    assert found["title"].startswith("Which mixture") and "`" not in found["title"]
    assert found["images"] and all(found["images"]) and found["scrolled"]
