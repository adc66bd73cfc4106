"""Small corpora for tests."""

from hypothesis import strategies as st

from mixmin_jax.data.text.documents import Corpus

short_documents = st.lists(st.text(alphabet="ab c", max_size=25), min_size=1, max_size=6)  # with many repeats


def corpus(name, *documents, num_skipped=0):
    return Corpus(name, tuple(document.encode() for document in documents), "made here", num_skipped=num_skipped)


def numbered(prefix, first, last):
    """Words of which no two are equal."""
    return " ".join(f"{prefix}{i}" for i in range(first, last))
