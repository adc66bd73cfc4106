"""The word n-grams that tell a bucket of documents from all other buckets.

Axes: N n-grams of a bucket.
"""

import itertools
from collections import Counter
from collections.abc import Sequence

import numpy as np

from mixmin_jax.data.text.samples import sample_documents
from mixmin_jax.data.text.words import find_words, join_words
from mixmin_jax.errors import InputError

_PASSAGE = 200  # words of a passage, in which an n-gram counts once: one strange document cannot rule a bucket
_LONGEST = 40  # characters of a word; what is longer is a key or an address
_FEWEST = 2  # passages of a bucket in which an n-gram must occur to count there: bounds memory
_DIGITS = 4  # in an n-gram that is shown: more may be a phone number
_PRIOR = 10.0  # passages that the prior is worth

_Gram = tuple[str, ...]


def telling(
    documents_by_bucket: Sequence[Sequence[bytes]],
    top: int = 5,
    max_words: int = 3,
    max_bytes: int = 100_000,
    seed: int = 0,
) -> tuple[tuple[str, ...], ...]:
    """Each bucket's most telling n-grams of 1 to `max_words` words against all other buckets, best first.

    Log-odds ratios with an informative Dirichlet prior (Monroe, Colaresi and Quinn 2008, "Fightin' Words"), of passages
    of 200 words in which an n-gram does or does not occur. The score is the ratio less two standard errors: what is
    both much more frequent here than elsewhere, and surely so. Words like "the" score low.

        score(g, b) = logit(g, b) - logit(g, others) - 2 sqrt(1 / (y(g, b) + a p(g)) + 1 / (y(g, others) + a p(g)))
        logit(g, S) = log((y(g, S) + a p(g)) / (n(S) - y(g, S) + a (1 - p(g))))

    y(g, S) of the n(S) passages of S contain g, p(g) is its share of all passages, and a = 10. An n-gram counts in a
    bucket in which at least two passages contain it (one, of a bucket with one passage). Of n-grams that contain each
    other, the better one is shown. N-grams with more than four digits are not shown, nor words of more than 40
    characters.

    Args:
        documents_by_bucket: of each bucket, none without documents.
        top: the most n-grams of a bucket; fewer come out of a bucket with few words.
        max_words: the length of the longest n-grams.
        max_bytes: of a random sample of a bucket's documents; the rest is not read.
        seed: of the samples.

    Returns:
        N-grams in lower case, for each bucket. They hold letters, digits, underscores and spaces only.

    Raises:
        InputError: `top` or `max_words` < 1, or a bucket without documents.
    """
    if top < 1 or max_words < 1:
        raise InputError(f"telling n-grams need top >= 1 and max_words >= 1, not {top} and {max_words}")
    counted = []
    for bucket, documents in enumerate(documents_by_bucket):
        if not len(documents):
            raise InputError(f"bucket {bucket} has no documents, so nothing can be telling for it: leave it out")
        counted.append(_count(documents, max_words, max_bytes, seed))
    total: Counter[_Gram] = Counter()
    for count, _ in counted:
        total.update(count)
    num_passages = sum(passages for _, passages in counted)
    return tuple(_best(count, passages, total, num_passages, top) for count, passages in counted)


def _count(documents: Sequence[bytes], max_words: int, max_bytes: int, seed: int) -> tuple[dict[_Gram, int], int]:
    """In how many passages each n-gram occurs, and how many passages there are."""
    count: Counter[_Gram] = Counter()
    num_passages = 0
    for index in sample_documents(documents, max_bytes, seed):
        words = [word for word in find_words(documents[index][:max_bytes]) if len(word) <= _LONGEST]
        for start in range(0, len(words), _PASSAGE):
            passage = words[start : start + _PASSAGE]
            for length in range(1, max_words + 1):
                count.update(set(zip(*(passage[i:] for i in range(length)), strict=False)))
            num_passages += 1
    fewest = min(_FEWEST, num_passages)
    return {gram: number for gram, number in count.items() if number >= fewest}, num_passages


def _best(count: dict[_Gram, int], num_own: int, total: Counter[_Gram], num_all: int, top: int) -> tuple[str, ...]:
    grams = list(count)
    if not grams:
        return ()
    own_N = np.fromiter(count.values(), float)
    all_N = np.fromiter((total[gram] for gram in grams), float)
    rest_N, num_rest = all_N - own_N, num_all - num_own
    prior_N = _PRIOR * all_N / num_all

    def logit(y_N: np.ndarray, num: int) -> np.ndarray:
        return np.log((y_N + prior_N) / (num - y_N + _PRIOR - prior_N + 1e-9))  # an n-gram of every passage: no 0 / 0

    error_N = np.sqrt(1 / (own_N + prior_N) + 1 / (rest_N + prior_N))
    score_N = logit(own_N, num_own) - logit(rest_N, num_rest) - 2 * error_N
    shown: list[_Gram] = []
    for place in sorted(range(len(grams)), key=lambda i: (-score_N[i], -len(grams[i]), grams[i])):
        gram = grams[place]
        if sum(map(str.isdigit, itertools.chain(*gram))) > _DIGITS or any(_within(gram, other) for other in shown):
            continue
        shown.append(gram)
        if len(shown) == top:
            break
    return tuple(map(join_words, shown))


def _within(one: _Gram, other: _Gram) -> bool:
    """Whether one holds the other."""
    short, long = sorted((one, other), key=len)
    return any(long[i : i + len(short)] == short for i in range(len(long) - len(short) + 1))
