"""From a template and its context to report.md and to a report.html that needs no other file and no network.

Templates are Jinja2, in `templates/`: one `QUESTION.md.jinja` for each question, and what several share. They hold all
words of the reports. A report is a verdict table, at most three sentences, figures with tables, and how it was made.
The functions of `experiments.reporting.markdown` are their filters, and so is `sentences`: the first three lines that
are not empty, as one paragraph. Put rules in order of weight.
"""

import base64
import dataclasses
import inspect
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import jinja2
from markdown_it import MarkdownIt
from markdown_it.token import Token
from matplotlib.figure import Figure

from experiments.reporting import markdown
from experiments.reporting.figures import figure_svg
from mixmin_jax.errors import list_some

MOST_SENTENCES = 3  # of a verdict: what a reader takes in before the table
LEAST_PIXELS = 56  # per inch of a figure on a page (96 is its full size): text of 8.5 points stays readable on a phone


@dataclasses.dataclass(frozen=True)
class Report:
    """A report in Markdown, with the figures that it shows by file name."""

    title: str
    markdown: str
    figures: Mapping[str, Figure]


def report(template: str, title: str, figures: Mapping[str, Figure], **context: Any) -> Report:
    """The report that `template` makes of a context; `title` and the names of the figures are part of it.

    Raises jinja2.TemplateError for what the template cannot do with the context.
    """
    text = _ENVIRONMENT.get_template(f"{template}.md.jinja").render(title=title, figures=list(figures), **context)
    return Report(title, text, figures)


def sentences(template: str, block: str = "verdict", **context: Any) -> str:
    """A block of a template alone, as `verdict`, which is one line: what a run prints at its end."""
    found = _ENVIRONMENT.get_template(f"{template}.md.jinja")
    return "".join(found.blocks[block](found.new_context(context))).strip()


def page(report: Report) -> str:
    """The report as one HTML page: its figures inside as SVG, its tables scroll on a narrow screen."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")

    def image(self: Any, tokens: list[Token], index: int, options: Any, env: Any) -> str:
        name, style = str(tokens[index].attrs["src"]), ""
        alt = escape(self.renderInlineAsText(tokens[index].children, options, env))
        if name in report.figures:
            style = f' style="min-width: {LEAST_PIXELS * report.figures[name].get_figwidth():.0f}px"'
            name = f"data:image/svg+xml;base64,{base64.b64encode(figure_svg(report.figures[name])).decode()}"
        return f'<span class="wide"><img src="{name}" alt="{alt}"{style}></span>'

    def table_open(self: Any, tokens: list[Token], index: int, options: Any, env: Any) -> str:
        return '<div class="wide"><table>'

    def table_close(self: Any, tokens: list[Token], index: int, options: Any, env: Any) -> str:
        return "</table></div>"

    for rule in (image, table_open, table_close):
        parser.add_render_rule(rule.__name__, rule)
    title = "".join(token.content for token in parser.parseInline(report.title)[0].children or ())
    return _ENVIRONMENT.get_template("page.html.jinja").render(title=title, body=parser.render(report.markdown))


def _sentences(text: str) -> str:
    lines = [line.strip() for line in text.splitlines()]
    return " ".join([line for line in lines if line][:MOST_SENTENCES])


_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    undefined=jinja2.StrictUndefined,
    autoescape=jinja2.select_autoescape(["html.jinja"]),
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_ENVIRONMENT.filters |= dict(inspect.getmembers(markdown, inspect.isfunction)) | {
    "sentences": _sentences,
    "list_some": list_some,
}
