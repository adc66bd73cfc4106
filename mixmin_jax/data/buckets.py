"""Items cut into buckets by a number (quality), by a label (topic), or by both: of text, molecules or images alike.

Axes: D items, B buckets.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Int
from numpy.typing import ArrayLike

from mixmin_jax.errors import InputError, list_some


@dataclass(frozen=True, eq=False)
class Buckets:
    """The bucket of each item. None is empty."""

    bucket_D: Int[np.ndarray, " D"]
    labels: tuple[str, ...]  # of the buckets
    notices: tuple[str, ...] = ()  # what differs from what was asked for

    def take(self, items: slice | np.ndarray) -> "Buckets":
        """Those of some items."""
        present, bucket_D = np.unique(self.bucket_D[items], return_inverse=True)
        return Buckets(bucket_D, tuple(self.labels[bucket] for bucket in present), self.notices)


def quantile_buckets(
    values_D: ArrayLike, num_buckets: int, sizes_D: np.ndarray | None = None, name: str = "quality"
) -> Buckets:
    """Buckets of about equal size by a number, the lowest first.

    Item d, with c_d the size of all items of lower values and s_d that of the items of its value, falls into bucket
    floor(num_buckets (c_d + s_d / 2) / total). Items of equal value stay together, so there may be fewer buckets.

    Args:
        values_D: a finite number for each item.
        num_buckets: at least 1.
        sizes_D: of the items (bytes, tokens); default: 1 each.
        name: of the number, for labels (quality1of4) and errors.

    Raises:
        InputError: no numbers (numbers written as text, and truth values, are none), numbers that are not finite, or
            all are equal and more than one bucket is asked for.
    """
    values_D = np.asarray(values_D)
    if values_D.size and values_D.dtype.kind not in "iuf":  # NumPy would read "1e3" as a number
        kind = type(values_D.flat[0]).__name__
        raise InputError(f"{name} must be numbers, one for each item, and not {kind}; convert them first")
    values_D = values_D.astype(np.float64)
    if num_buckets < 1:
        raise InputError(f"{name}: the number of buckets must be at least 1, not {num_buckets}")
    if values_D.ndim != 1 or not values_D.size:
        raise InputError(f"{name} must be one number for each item; got the shape {values_D.shape}")
    if (bad := np.flatnonzero(~np.isfinite(values_D))).size:
        raise InputError(
            f"{name} is {values_D[bad[0]]} for item {bad[0]} and not finite for {len(bad)} in all;"
            " leave these items out, or give them a number"
        )
    unique, value_D = np.unique(values_D, return_inverse=True)
    if len(unique) == 1 and num_buckets > 1:
        raise InputError(
            f"{name} is {unique[0]:g} for all {len(values_D)} items: it tells nothing apart; ask for one bucket,"
            " or give another number"
        )
    size_V = np.bincount(value_D, sizes_D)
    middle_V = np.cumsum(size_V) - size_V / 2
    number_V = np.minimum((num_buckets * middle_V / size_V.sum()).astype(int), num_buckets - 1)
    present, bucket_D = np.unique(number_V[value_D], return_inverse=True)
    made = len(present)
    few = f"{num_buckets} buckets by {name} were asked for and {made} made: {len(values_D)} items, {len(unique)} values"
    labels = tuple(f"{name}{number + 1}of{made}" for number in range(made))
    return Buckets(bucket_D, labels, (few,) * (made < num_buckets))


def label_buckets(labels_D: Sequence[Any]) -> Buckets:
    """A bucket for each label, in order of first appearance."""
    texts = [str(label) for label in labels_D]
    number = {label: index for index, label in enumerate(dict.fromkeys(texts))}
    return Buckets(np.array([number[label] for label in texts], int), tuple(number))


def cross(first: Buckets, second: Buckets) -> Buckets:
    """Items that share both buckets; combinations without items are left out."""
    key_D = first.bucket_D * len(second.labels) + second.bucket_D
    keys, bucket_D = np.unique(key_D, return_inverse=True)
    labels = (f"{first.labels[key // len(second.labels)]}x{second.labels[key % len(second.labels)]}" for key in keys)
    return Buckets(bucket_D, tuple(labels), (*first.notices, *second.notices))


def merge_small(buckets: Buckets, sizes_D: np.ndarray, least: int) -> Buckets:
    """Join each bucket of less than `least` to the one before it, the first one to the next; said in a notice.

    Raises:
        InputError: all items together are too small.
    """
    sizes_D = np.asarray(sizes_D)
    if sizes_D.sum() < least:
        raise InputError(f"all items together have the size {sizes_D.sum()}, fewer than the {least} of one bucket")
    bucket_D, labels, joined = buckets.bucket_D, list(buckets.labels), list[str]()
    while (size_B := np.bincount(bucket_D, sizes_D, len(labels))).min() < least:
        small = int(size_B.argmin())
        joined.append(labels.pop(small))
        bucket_D = np.where(bucket_D >= max(small, 1), bucket_D - 1, bucket_D)
    notice = f"too small for a bucket and joined to the one beside: {list_some(joined)}"
    return replace(
        buckets, bucket_D=bucket_D, labels=tuple(labels), notices=(*buckets.notices, *([notice] if joined else []))
    )
