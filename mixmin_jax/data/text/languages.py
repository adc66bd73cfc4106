"""Languages of groups of documents.

Axes: G groups, L languages.
"""

import functools
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from mixmin_jax.data.hash_order import hash_order

CODE, UNKNOWN = "code", "unknown"
_READ = 1000  # bytes from the middle of a document: beginnings are often boilerplate
_SURE = 0.8  # least probability of a language; most pieces of shuffled English get less
# what programs are full of, and other text is not: calls, assignments, operators, keywords at the start of a line
_CODE = re.compile(
    r"\w\(|[;{}]\s*$|==|!=|->|=>|::|\w\[|\w ?[-+*/|&]?= ?[\w\"'({\[]|</\w|\w_\w"
    r"|^\s*(?:#include|import \w|from \w+ import|def |class |return\b)",
    re.MULTILINE,
)
_CODE_SHARE = 0.1  # of these per word: 86 % of pieces of Python have more; of prose, mathematics and tickets, under 1 %
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Languages:
    """Shares of bytes of each language in each group, largest first over all groups.

    A mixture w of bytes has `w_G @ share_GxL`.
    """

    languages: tuple[str, ...]  # ISO 639 codes, or names such as "Latin script"; also "code" and "unknown"
    share_GxL: Float[np.ndarray, "G L"]  # each row sums to 1; 0 for a group without documents
    num_documents_G: Int[np.ndarray, " G"]  # that were looked at
    by_script: bool  # py3langid is not installed, so only scripts are told apart


def languages(documents_by_group: Sequence[Sequence[bytes]], max_documents: int = 200, seed: int = 0) -> Languages:
    """The share of each language in a random sample of each group's documents, by their bytes.

    A document has one language: that of 1000 bytes from its middle, by py3langid, which knows 139
    (`pip install "mixmin_jax[contents]"`). It is "code" if calls, assignments, operators and the like are more than a
    tenth of the number of words, and "unknown" if no language has a probability of 0.8: numbers, a few words, most
    noise. Shuffled letters of other scripts than Latin may still pass for a language. Without py3langid, the script of
    most letters takes the place of the language.

    Args:
        documents_by_group: of each group.
        max_documents: of each group; a document takes about half a millisecond.
        seed: of the samples.
    """
    identify, by_script = _identifier()
    bytes_of: list[Counter[str]] = []
    num_documents = []
    for documents in documents_by_group:
        chosen = hash_order(range(len(documents)), f"languages/{seed}")[:max_documents]
        found: Counter[str] = Counter()
        for document in map(documents.__getitem__, chosen):
            found[_language(document, identify)] += len(document)
        bytes_of.append(found)
        num_documents.append(len(chosen))
    total: Counter[str] = Counter()
    for found in bytes_of:
        total.update(found)
    names = tuple(sorted(total, key=lambda name: (-total[name], name)))
    bytes_GxL = np.array([[found[name] for name in names] for found in bytes_of], float)
    bytes_GxL = bytes_GxL.reshape(len(bytes_of), len(names))
    share_GxL = bytes_GxL / np.maximum(bytes_GxL.sum(axis=1, keepdims=True), 1)
    return Languages(names, share_GxL, np.array(num_documents, int), by_script)


def _language(document: bytes, identify: Callable[[str], str]) -> str:
    start = max(len(document) - _READ, 0) // 2
    text = document[start : start + _READ].decode(errors="ignore")
    signs, words = len(_CODE.findall(text)), len(_WORD.findall(text))
    if signs >= 3 and signs >= _CODE_SHARE * words:
        return CODE
    return identify(text) if any(map(str.isalpha, text)) else UNKNOWN


@functools.cache
def _identifier() -> tuple[Callable[[str], str], bool]:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        return _script, True
    model = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True, min_confidence=_SURE)

    def identify(text: str) -> str:
        name = model.classify(text)[0]
        return UNKNOWN if name in ("und", "zxx") else name  # undetermined, no language

    return identify, False


def _script(text: str) -> str:
    """The first word of most letters' names in Unicode: "LATIN SMALL LETTER A" is of the "Latin script"."""
    names = Counter(unicodedata.name(letter, UNKNOWN).split()[0] for letter in text if letter.isalpha())
    name = names.most_common(1)[0][0]
    return f"{name if name == 'CJK' else name.title()} script"
