"""Words of a text, in languages with and without spaces between them."""

import re
from collections.abc import Iterable

# Thai, Lao, Myanmar, Khmer, kana, Han: scripts that put no space between words
_UNSPACED = (
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
# a run of letters, digits and underscores, or one character of these scripts: a sentence of them would be one word
WORD = re.compile(rf"[^\W{_UNSPACED}]+|[{_UNSPACED}]")
_NO_SPACE = re.compile(rf"(?<=[{_UNSPACED}]) (?=[{_UNSPACED}])")


def find_words(document: bytes) -> list[str]:
    """The document's words in lower case. A character that a cut left incomplete is left out."""
    return WORD.findall(document.decode(errors="ignore").lower())


def join_words(words: Iterable[str]) -> str:
    """The words as a reader writes them: no space between two characters of a script without spaces."""
    return _NO_SPACE.sub("", " ".join(words))
