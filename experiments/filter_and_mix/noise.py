"""Noise on purpose: documents that no target needs, in place of some of a source's, to see whether they are found.

Three kinds in turn: the document's own characters, shuffled; boilerplate of web pages; and made-up languages, of
syllables in a script of their own, whose words are as frequent as those of real ones (Zipf). All follow from a seed.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool

from mixmin_jax.data.text.documents import Corpus

_BOILERPLATE = (
    "We use cookies to improve your experience on this site.",
    "Accept all cookies.",
    "By continuing you agree to our terms of service and privacy policy.",
    "Subscribe to our newsletter and never miss an update!",
    "Share this article on social media.",
    "All rights reserved.",
    "Sign in or create an account to continue reading.",
    "This page could not be displayed because JavaScript is disabled in your browser.",
    "Click here to read more.",
    "You may also like: related posts, popular posts, recent comments.",
)
_SCRIPTS = (  # (consonants, vowels) of a made-up language
    ("бвгджзклмнпрст", "аеиоуы"),
    ("βγδζθκλμνπρστφ", "αεηιουω"),
    ("קרשתבגדהזחטכלמ", "אויע"),
)
_WORDS = 2000  # of each language


@dataclasses.dataclass(frozen=True, eq=False)
class Noised:
    """Sources with noise in them."""

    sources: tuple[Corpus, ...]
    is_noise: tuple[Bool[np.ndarray, " D"], ...]  # for each source, of its documents


def with_noise(sources: Sequence[Corpus], share: float, seed: int) -> Noised:
    """Replace a share of the documents of each source, chosen at random, by noise of about the same length."""
    if not share:
        return Noised(tuple(sources), tuple(np.zeros(source.num_documents, bool) for source in sources))
    languages = [_lexicon(*script, np.random.default_rng([seed, number])) for number, script in enumerate(_SCRIPTS)]
    kinds: tuple[Callable[[str, np.random.Generator], str], ...] = (
        _shuffled,
        _boilerplate,
        lambda text, rng: _foreign(text, languages[rng.integers(len(languages))], rng),
    )
    noised, masks = [], []
    for number, source in enumerate(sources):
        rng = np.random.default_rng([seed, len(_SCRIPTS), number])
        chosen = rng.choice(source.num_documents, round(share * source.num_documents), replace=False)
        documents = list(source.documents)
        for turn, index in enumerate(chosen.tolist()):
            documents[index] = kinds[turn % len(kinds)](documents[index].decode(), rng).encode()
        is_noise_D = np.zeros(source.num_documents, bool)
        is_noise_D[chosen] = True
        noised.append(dataclasses.replace(source, documents=tuple(documents)))
        masks.append(is_noise_D)
    return Noised(tuple(noised), tuple(masks))


def _shuffled(text: str, rng: np.random.Generator) -> str:
    shuffled = "".join(np.array(list(text))[rng.permutation(len(text))])
    return shuffled if shuffled.strip() else text  # of spaces alone, nothing would be left


def _boilerplate(text: str, rng: np.random.Generator) -> str:
    parts, size = list[str](), 0
    while size < len(text):
        parts.append(_BOILERPLATE[rng.integers(len(_BOILERPLATE))])
        size += len(parts[-1]) + 1
    return " ".join(parts)


def _lexicon(consonants: str, vowels: str, rng: np.random.Generator) -> list[str]:
    def syllable() -> str:
        return consonants[rng.integers(len(consonants))] + vowels[rng.integers(len(vowels))]

    return ["".join(syllable() for _ in range(rng.integers(1, 5))) for _ in range(_WORDS)]


def _foreign(text: str, words: list[str], rng: np.random.Generator) -> str:
    """Of as many bytes: these letters have two each."""
    count = max(len(text.encode()) // 12, 1)
    ranks = np.minimum((_WORDS ** rng.random(count)).astype(int), _WORDS - 1)  # frequency ~ 1 / rank
    return " ".join(words[rank] for rank in ranks)
