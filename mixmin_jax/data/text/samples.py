"""A few documents of a group that stand for all of them."""

from collections.abc import Sequence

from mixmin_jax.data.hash_order import hash_order


def sample_documents(documents: Sequence[bytes], max_bytes: int, seed: int) -> list[int]:
    """Sorted numbers of randomly chosen documents with at most `max_bytes` bytes in all, but at least one document.

    The order in which documents are taken depends on their numbers and `seed` only.

    Args:
        documents: of one group.
        max_bytes: a document that does not fit ends the sample.
        seed: of the order.
    """
    chosen: list[int] = []
    total = 0
    for index in hash_order(range(len(documents)), f"sample/{seed}"):
        total += len(documents[index])
        if chosen and total > max_bytes:
            break
        chosen.append(index)
    return sorted(chosen)
