"""A pseudo-random order of numbers that is the same on every machine and with every NumPy version."""

import hashlib
from collections.abc import Iterable


def hash_order(numbers: Iterable[int], key: str) -> list[int]:
    """The numbers, sorted by sha256("key/number").

    Two numbers keep their relative order whatever others there are, so a subset keeps the order of the whole.
    """
    return sorted(numbers, key=lambda number: hashlib.sha256(f"{key}/{number}".encode()).digest())
