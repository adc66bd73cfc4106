import pytest
from matplotlib import font_manager
from matplotlib.text import Text

from experiments.reporting import glyphs
from experiments.reporting.figures import figure_png, figure_svg, weights_figure

NAMES = ("数学", "コード", "한국어", "news")


def drawn(figure):
    """Saved both ways, where a missing glyph is a warning and so an error; all texts that it then has."""
    figure_png(figure)
    figure_svg(figure)
    return {text.get_text() for text in figure.findobj(Text)}


def figure_of(names):
    return weights_figure({"mixmin": [dict.fromkeys(names, 1 / len(names))]})


@pytest.fixture(autouse=True)
def not_told_yet():
    glyphs._tell.cache_clear()


def test_without_a_font_names_become_escapes_and_one_line_says_so(monkeypatch, capsys):
    monkeypatch.setattr(glyphs, "FONTS", ())
    for _ in range(2):
        texts = drawn(figure_of(NAMES))
        assert {r"\u6570\u5b66", r"\u30b3\u30fc\u30c9", "news", "mixmin"} <= texts and not texts & {*NAMES[:3]}
    assert capsys.readouterr().err.count("\n") == 1


def test_a_font_that_has_a_character_draws_it(monkeypatch, capsys):
    """As of CJK, of which none need be installed here: a character of another font that comes with matplotlib."""
    monkeypatch.setattr(glyphs, "FONTS", ("no such font", "STIXGeneral"))
    character = chr(min(glyphs._characters("STIXGeneral") - glyphs._characters("DejaVu Sans")))
    figure = figure_of([character, "news"])
    assert character in drawn(figure) and capsys.readouterr().err == ""
    labels = [text for text in figure.findobj(Text) if text.get_text() == character]
    assert labels and all(label.get_fontfamily() == ["DejaVu Sans", "STIXGeneral"] for label in labels)


def test_names_of_the_usual_font_look_the_same_whatever_is_installed(monkeypatch):
    png = figure_png(figure_of(["naïve", "данные"]))
    monkeypatch.setattr(glyphs, "FONTS", tuple({font.name for font in font_manager.fontManager.ttflist}))
    assert figure_png(figure_of(["naïve", "данные"])) == png
