"""Names in any script in figures: a font that has them where one is installed, otherwise escapes and one line."""

import functools
import sys

from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.text import Text

# Fonts with Chinese, Japanese or Korean, as systems install them; each has more than one of the scripts, or one well.
FONTS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "Noto Sans CJK TC", "Noto Sans SC", "Noto Sans JP"),
    *("Noto Sans KR", "Source Han Sans SC", "Source Han Sans", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei"),
    *("Droid Sans Fallback", "IPAexGothic", "IPAGothic", "TakaoGothic", "NanumGothic", "UnDotum", "Baekmuk Gulim"),
    *("PingFang SC", "Hiragino Sans", "Hiragino Sans GB", "Apple SD Gothic Neo", "Arial Unicode MS"),
    *("Microsoft YaHei", "SimHei", "Yu Gothic", "MS Gothic", "Malgun Gothic", "Unifont"),
)
_DEFAULT = "DejaVu Sans"  # which comes with matplotlib


def show_all_characters(figure: Figure) -> None:
    """Let every text of a figure use the fonts that it needs; characters that none has become escapes, and are told of.

    A figure whose characters are all in the usual font stays as it is, whatever is installed.
    """
    texts = figure.findobj(Text)
    missing = {character for text in texts for character in text.get_text() if character.isprintable()}
    missing -= {character for character in missing if ord(character) in _characters(_DEFAULT)}
    if not missing:
        return
    installed = {font.name for font in font_manager.fontManager.ttflist}
    families = [_DEFAULT]
    for name in FONTS:
        if name in installed and (has := {one for one in missing if ord(one) in _characters(name)}):
            families.append(name)
            missing -= has
    for text in texts:
        text.set_fontfamily(families)
    if missing:
        _tell()
    escapes = str.maketrans({one: one.encode("ascii", "backslashreplace").decode() for one in missing})
    for text in texts:
        text.set_text(text.get_text().translate(escapes))
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        labels = [label.get_text() for label in axis.get_ticklabels()]  # which a drawing sets again
        if any(not missing.isdisjoint(label) for label in labels):
            axis.set_ticklabels([label.translate(escapes) for label in labels])


@functools.cache
def _characters(font: str) -> frozenset[int]:
    return frozenset(font_manager.get_font(font_manager.findfont(font)).get_charmap())


@functools.cache  # once
def _tell() -> None:
    print(
        "no font here has all characters of the names: figures show those as escapes (\\uXXXX), and all else has the"
        " names. Install a font such as Noto Sans CJK, then run experiments.report",
        file=sys.stderr,
    )
