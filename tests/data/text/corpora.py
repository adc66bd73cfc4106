"""Small corpora for tests."""

from mixmin_jax.data.text.documents import Corpus


def corpus(name, *documents, num_skipped=0):
    return Corpus(name, tuple(document.encode() for document in documents), "made here", num_skipped=num_skipped)


def numbered(prefix, first, last):
    """Words of which no two are equal."""
    return " ".join(f"{prefix}{i}" for i in range(first, last))
