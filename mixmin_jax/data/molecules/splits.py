"""Splits of molecules into train and test, and of the train part into folds, by scaffold or at random.

Axes: N molecules, A assays, R train molecules, G groups of them, F folds, E pairs of a molecule and an assay.
`scaffold_N` holds the number of each molecule's scaffold (`cleaning.clean_molecules`); any other grouping works too.
Random orders come from `hash_order`, so splits are the same on every machine.
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np
import scipy.sparse
from jaxtyping import Bool, Int, Int32

from mixmin_jax.data.hash_order import hash_order
from mixmin_jax.errors import InputError

SplitKind = Literal["scaffold", "random"]


def split_molecules(
    kind: SplitKind,
    scaffold_N: Int[np.ndarray, " N"],
    test_fraction: float,
    seed: int,
    rare_NxA: Bool[np.ndarray, "N A"] | None = None,
) -> Bool[np.ndarray, " N"]:
    """Choose about T = round(test_fraction N) test molecules, at least one.

    random: exactly T molecules, whatever their scaffolds.
    scaffold: whole scaffolds, taken in random order, each if it still fits. So at most T molecules are taken, and no
    scaffold left in train would fit. Scaffolds of more than T / 2 molecules stay in train: one of them would be most
    of the test part. So frequent scaffolds (benzene has a fifth of ToxCast) are never tested. The side of a scaffold
    depends on its number and the sizes, not on the order of the molecules.

    With `rare_NxA`, scaffolds (random: molecules) that hold rare molecules go first, those of the rarest assay before
    all others. Each is taken unless that leads away from the assay's share, ceil(test_fraction n) of n. So an assay of
    24 positives is tested on 5 of them; by chance, it would be on fewer every other time.

    Args:
        kind: what is kept whole.
        scaffold_N: the group of each molecule.
        test_fraction: the share to test.
        seed: of the random order.
        rare_NxA: the molecules of which each assay has fewest, such as its positives.

    Returns:
        True for test molecules.

    Raises:
        InputError: `test_fraction` is outside (0, 1), there are fewer than two molecules, or the scaffolds are so few
            that less than half of T could be taken.
    """
    num_molecules = len(scaffold_N)
    if not 0 < test_fraction < 1:
        raise InputError(f"test_fraction must lie between 0 and 1, both excluded; it is {test_fraction}")
    if num_molecules < 2:
        raise InputError(f"{num_molecules} molecule(s) cannot be split into train and test")
    num_test = min(max(round(test_fraction * num_molecules), 1), num_molecules - 1)
    by_scaffold = kind == "scaffold"
    name_G, group_N, size_G = _groups(scaffold_N if by_scaffold else np.arange(num_molecules))
    order_G = _hashed(name_G, f"split/{kind}/{seed}")
    is_test_G, largest, room = np.zeros(len(name_G), bool), max(num_test / 2, 1), num_test
    later_G = np.ones(len(name_G), bool)  # taken only to fill the test part
    if rare_NxA is not None:
        wanted_A, later_G = np.ceil(test_fraction * rare_NxA.sum(0)), np.zeros(len(name_G), bool)
        for assay, group, own_A, held_A in _rarest_first(group_N, rare_NxA, order_G):
            too_many = held_A[own_A == assay].sum() > 2 * wanted_A[assay]
            later_G[group] = too_many or size_G[group] > min(room, largest)
            if not later_G[group]:
                is_test_G[group] = True
                room -= size_G[group]
                wanted_A[own_A] -= held_A
    for group in order_G[np.argsort(later_G[order_G], kind="stable")].tolist():
        if not is_test_G[group] and size_G[group] <= min(room, largest):
            is_test_G[group] = True
            room -= size_G[group]
    if 2 * room > num_test:
        raise InputError(
            f"a scaffold split needs many small scaffolds: of {len(name_G)} scaffold(s), the largest with "
            f"{size_G.max()} of {num_molecules} molecules, only {num_test - room} molecule(s) could be taken "
            f"for a test part of {num_test}; use a random split"
        )
    return is_test_G[group_N]


def make_folds(
    train_N: Bool[np.ndarray, " N"],
    scaffold_N: Int[np.ndarray, " N"] | None,
    num_folds: int,
    seed: int,
    rare_NxA: Bool[np.ndarray, "N A"] | None = None,
) -> Int32[np.ndarray, " N"]:
    """Divide the train molecules into folds, at random or by scaffold.

    Without scaffolds the sizes of folds differ by at most one. With `scaffold_N`, the molecules of a scaffold share a
    fold. Scaffolds go, largest first and in random order among equals, to the fold that is smallest so far. So seeds
    differ in the folds of small scaffolds; the largest ones are divided in the same way.

    With `rare_NxA`, scaffolds (molecules, without scaffolds) that hold rare molecules go first, those of the rarest
    assay before all others. Each goes to the fold that has the fewest rare molecules of that assay so far, among equals
    to the smallest. (This is iterative stratification, Sechidis et al., ECML 2011, for groups.) So every fold gets its
    share of them as far as scaffolds allow, and sizes are even only roughly.

    Args:
        train_N: the molecules to divide.
        scaffold_N: the group of each molecule; None: molecules are divided one by one.
        num_folds: at least two.
        seed: of the random order.
        rare_NxA: the molecules of which each assay has fewest, such as its positives.

    Returns:
        The fold of each molecule, 0 to num_folds - 1; -1 for molecules that are not in `train_N`.

    Raises:
        InputError: fewer than two folds, or fewer molecules or scaffolds than folds.
    """
    rows = np.flatnonzero(train_N)
    if num_folds < 2:
        raise InputError(f"cross-fitting needs at least two folds; got {num_folds}")
    what, name_R = ("molecules", rows) if scaffold_N is None else ("scaffolds", scaffold_N[rows])
    name_G, group_R, size_G = _groups(name_R)
    if len(name_G) < num_folds:
        raise InputError(f"{len(name_G)} {what} in the train part cannot fill {num_folds} folds; ask for fewer folds")
    order_G = _hashed(name_G, f"folds/{what}/{seed}")
    order_G = order_G[np.argsort(-size_G[order_G], kind="stable")]
    fold_G, size_F = np.full(len(name_G), -1, np.int32), np.zeros(num_folds, np.int64)
    if rare_NxA is not None:
        rare_FxA = np.zeros((num_folds, rare_NxA.shape[1]), np.int64)
        for assay, group, own_A, held_A in _rarest_first(group_R, rare_NxA[rows], order_G):
            fold_G[group] = fold = np.lexsort((size_F, rare_FxA[:, assay]))[0]
            size_F[fold] += size_G[group]
            rare_FxA[fold, own_A] += held_A
    for group in order_G[fold_G[order_G] < 0].tolist():
        fold_G[group] = fold = size_F.argmin()
        size_F[fold] += size_G[group]
    fold_N = np.full(len(train_N), -1, np.int32)
    fold_N[rows] = fold_G[group_R]
    return fold_N


def _groups(
    name_N: Int[np.ndarray, " N"],
) -> tuple[Int[np.ndarray, " G"], Int[np.ndarray, " N"], Int[np.ndarray, " G"]]:
    """The distinct names, which of them each molecule has, and how many have each."""
    return np.unique(name_N, return_inverse=True, return_counts=True)


def _hashed(name_G: Int[np.ndarray, " G"], key: str) -> Int[np.ndarray, " G"]:
    """Sorted names in random order."""
    return np.searchsorted(name_G, hash_order(name_G.tolist(), key))


def _rarest_first(
    group_N: Int[np.ndarray, " N"], rare_NxA: Bool[np.ndarray, "N A"], order_G: Int[np.ndarray, " G"]
) -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
    """The groups that hold rare molecules, each with the assay of which fewest are known; those of such assays first.

    Groups of an assay come in their order. With each, all assays of which it holds rare molecules, and how many.
    """
    molecule_E, assay_E = np.nonzero(rare_NxA)
    group_E, num_assays = group_N[molecule_E], rare_NxA.shape[1]
    counts = scipy.sparse.csr_array((np.ones(len(group_E), np.int64), (group_E, assay_E)), (len(order_G), num_assays))
    by_rank = np.argsort(rare_NxA.sum(0), kind="stable")
    rank_G = np.full(len(order_G), num_assays)
    np.minimum.at(rank_G, group_E, np.argsort(by_rank)[assay_E])
    holders = order_G[rank_G[order_G] < num_assays]
    for group in holders[np.argsort(rank_G[holders], kind="stable")].tolist():
        own = slice(*counts.indptr[group : group + 2])
        yield int(by_rank[rank_G[group]]), group, counts.indices[own], counts.data[own]
