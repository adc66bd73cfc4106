"""Topics of documents, so that one pile becomes several sources.

Axes: D documents, W documents with words, S documents of the sample that is fitted, K topics, F hashed words,
C components.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int
from scipy.sparse import csr_array
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction import FeatureHasher
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer
from threadpoolctl import threadpool_limits

from mixmin_jax.data.hash_order import hash_order
from mixmin_jax.data.text.telling import telling
from mixmin_jax.data.text.words import find_words
from mixmin_jax.errors import InputError

NO_WORDS = "(no words)"
_LETTER = re.compile(r"[^\W\d_]")
_READ = 10_000  # bytes of a document that say what it is about
_FIT = 20_000  # documents that topics are fitted on
_BATCH = 4096  # documents that are assigned at a time, to bound memory
_COMPONENTS = 64


@dataclass(frozen=True)
class Topics:
    """A topic for each document. Topics are numbered by size, most documents first, and none is empty."""

    topic_D: Int[np.ndarray, " D"]
    labels: tuple[tuple[str, ...], ...]  # of each topic: its most telling word n-grams

    @property
    def num_topics(self) -> int:
        return len(self.labels)


def topics(documents: Sequence[bytes], num_topics: int, seed: int) -> Topics:
    """Clusters of documents that use the same words.

    Words are hashed and weighted by TF-IDF, (1 + log tf) log((1 + number of documents) / df). A truncated SVD reduces
    them to 64 components, which are scaled to unit length and clustered by mini-batch k-means. Numbers are left out.
    A document's first 10 kB count. Topics are fitted on a random sample of 20,000 documents, and documents are assigned
    in batches, so memory does not grow with the text. It runs on one core, with the same result each time.

    Documents without a letter in their first 10 kB are a topic of their own, the last one, labeled `NO_WORDS`. It is
    one of the `num_topics`, unless that is 1. Where too few documents differ, fewer topics come out.

    Args:
        documents: of all sources.
        num_topics: the most topics.
        seed: of the samples, the SVD and k-means.

    Raises:
        InputError: `num_topics` < 1 or above the number of documents.
    """
    if not 1 <= num_topics <= len(documents):
        raise InputError(
            f"{num_topics} topics cannot be made of {len(documents)} document(s): "
            "ask for at least 1 topic, and for at most one per document"
        )
    has_words_D = np.array([_LETTER.search(_head(document)) is not None for document in documents])
    topic_D = np.full(len(documents), num_topics)  # where there are no words; numbered last below
    if num_topics == 1:
        topic_D[:] = 0
    elif has_words_D.any():
        worded = _Chosen(documents, np.flatnonzero(has_words_D))
        with threadpool_limits(1):
            cluster_W = _cluster(worded, num_topics - (not has_words_D.all()), seed)
        by_size = np.argsort(-np.bincount(cluster_W), kind="stable")
        topic_D[has_words_D] = np.argsort(by_size)[cluster_W]
    topic_D = np.unique(topic_D, return_inverse=True)[1]  # without the empty ones, which are the smallest
    num_worded = topic_D[has_words_D].max(initial=-1) + 1
    labels = telling([_Chosen(documents, np.flatnonzero(topic_D == k)) for k in range(num_worded)], seed=seed)
    return Topics(topic_D, labels + (topic_D.max() + 1 - num_worded) * ((NO_WORDS,),))


class _Chosen(Sequence[bytes]):
    """Some of the documents, without a copy of them."""

    def __init__(self, documents: Sequence[bytes], chosen_n: Int[np.ndarray, " n"]) -> None:
        self._documents, self._chosen_n = documents, chosen_n

    def __len__(self) -> int:
        return len(self._chosen_n)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        return self._documents[int(self._chosen_n[index])]


def _head(document: bytes) -> str:
    return document[:_READ].decode(errors="ignore")


def _cluster(documents: _Chosen, num_topics: int, seed: int) -> Int[np.ndarray, " W"]:
    hasher = FeatureHasher(1 << 18, input_type="string", alternate_sign=False, dtype=np.float32)

    def count(numbers: Sequence[int]) -> csr_array:
        words = (find_words(documents[i][:_READ]) for i in numbers)
        return csr_array(hasher.transform([word for word in found if not word.isdigit()] for found in words))

    count_SxF = count(sorted(hash_order(range(len(documents)), f"topics/{seed}")[:_FIT]))
    num_fitted = count_SxF.shape[0]
    df_F = np.bincount(count_SxF.indices, minlength=count_SxF.shape[1])
    kept_F = np.flatnonzero(df_F >= min(2, df_F.max()))  # a word of one document makes it similar to no other
    idf_F = np.log((1 + num_fitted) / df_F[kept_F]).astype(np.float32)

    def weigh(count_SxF: csr_array) -> csr_array:
        weight_SxF = count_SxF[:, kept_F]
        weight_SxF.data = (1 + np.log(weight_SxF.data)) * idf_F[weight_SxF.indices]
        return weight_SxF

    reduce = make_pipeline(TruncatedSVD(min(_COMPONENTS, num_fitted, len(kept_F)), random_state=seed), Normalizer())
    with np.errstate(invalid="ignore"):  # the share of the variance that is explained, where there is no variance
        point_SxC = reduce.fit_transform(weigh(count_SxF))
    kmeans = MiniBatchKMeans(min(num_topics, num_fitted), random_state=seed, batch_size=_BATCH, n_init=3)
    kmeans.fit(point_SxC)
    batches = (range(start, min(start + _BATCH, len(documents))) for start in range(0, len(documents), _BATCH))
    return np.concatenate([kmeans.predict(reduce.transform(weigh(count(batch)))) for batch in batches])
