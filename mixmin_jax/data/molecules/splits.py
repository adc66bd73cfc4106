"""Splits of molecules into train and test, and of the train part into folds, by scaffold or at random.

Axes: N molecules, A assays, R train molecules, G groups of them, F folds, E pairs of a molecule and an assay.
`scaffold_N` holds the number of each molecule's scaffold (`cleaning.clean_molecules`); any other grouping works too.
Random orders come from `hash_order`, so splits are the same on every machine.
"""

from typing import Literal

import numpy as np
import scipy.sparse
from jaxtyping import Bool, Int, Int32

from mixmin_jax.data.hash_order import hash_order
from mixmin_jax.errors import InputError

SplitKind = Literal["scaffold", "random"]


def split_molecules(
    kind: SplitKind, scaffold_N: Int[np.ndarray, " N"], test_fraction: float, seed: int
) -> Bool[np.ndarray, " N"]:
    """Choose about T = round(test_fraction N) test molecules, at least one.

    random: exactly T molecules, whatever their scaffolds.
    scaffold: whole scaffolds, taken in random order, each if it still fits. So at most T molecules are taken, and no
    scaffold left in train would fit. Scaffolds of more than T / 2 molecules stay in train: one of them would be most
    of the test part. So frequent scaffolds (benzene has a fifth of ToxCast) are never tested. The side of a scaffold
    depends on its number and the sizes, not on the order of the molecules.

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
    test_N = np.zeros(num_molecules, bool)
    if kind == "random":
        test_N[hash_order(range(num_molecules), f"split/random/{seed}")[:num_test]] = True
        return test_N

    sizes = _sizes(scaffold_N)
    taken: list[int] = []
    room = num_test
    for scaffold in hash_order(sizes, f"split/scaffold/{seed}"):
        if sizes[scaffold] <= min(room, max(num_test / 2, 1)):
            taken.append(scaffold)
            room -= sizes[scaffold]
    if 2 * room > num_test:
        raise InputError(
            f"a scaffold split needs many small scaffolds: of {len(sizes)} scaffold(s), the largest with "
            f"{max(sizes.values())} of {num_molecules} molecules, only {num_test - room} molecule(s) could be taken "
            f"for a test part of {num_test}; use a random split"
        )
    test_N[np.isin(scaffold_N, taken)] = True
    return test_N


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

    With `rare_NxA`, scaffolds (molecules, without scaffolds) that hold rare molecules go first. Those of the rarest
    assay begin, and within an assay those that hold most. Each goes to the fold that has the fewest rare molecules of
    that assay so far, among equals to the smallest. (This is iterative stratification, Sechidis et al., ECML 2011, for
    groups.) So every fold gets its share of them as far as scaffolds allow, and sizes are even only roughly.

    Args:
        train_N: the molecules to divide.
        scaffold_N: the group of each molecule; None: molecules are divided one by one.
        num_folds: at least two.
        seed: of the random order.
        rare_NxA: the molecules that each assay can least do without in a fold, such as its positives.

    Returns:
        The fold of each molecule, 0 to num_folds - 1; -1 for molecules that are not in `train_N`.

    Raises:
        InputError: fewer than two folds, or fewer molecules or scaffolds than folds.
    """
    rows = np.flatnonzero(train_N)
    if num_folds < 2:
        raise InputError(f"cross-fitting needs at least two folds; got {num_folds}")
    what, name_R = ("molecules", rows) if scaffold_N is None else ("scaffolds", scaffold_N[rows])
    name_G, group_R, size_G = np.unique(name_R, return_inverse=True, return_counts=True)
    if len(name_G) < num_folds:
        raise InputError(f"{len(name_G)} {what} in the train part cannot fill {num_folds} folds; ask for fewer folds")
    hashed = np.searchsorted(name_G, hash_order(name_G.tolist(), f"folds/{what}/{seed}"))
    order_G = hashed[np.argsort(-size_G[hashed], kind="stable")]
    fold_G, size_F = np.full(len(name_G), -1, np.int32), np.zeros(num_folds, np.int64)

    def put(group: int, fold: int) -> None:
        fold_G[group] = fold
        size_F[fold] += size_G[group]

    if rare_NxA is not None:
        row_E, assay_E = np.nonzero(rare_NxA[rows])
        shape = len(name_G), rare_NxA.shape[1]
        by_group = scipy.sparse.csr_array((np.ones(len(row_E), np.int64), (group_R[row_E], assay_E)), shape)
        by_assay, rare_FxA = by_group[order_G].tocsc(), np.zeros((num_folds, shape[1]), np.int64)
        for assay in np.argsort(by_assay.sum(0), kind="stable"):
            held = slice(*by_assay.indptr[assay : assay + 2])
            most_first = by_assay.indices[held][np.argsort(-by_assay.data[held], kind="stable")]
            for group in order_G[most_first].tolist():
                if fold_G[group] < 0:
                    fold = int(np.lexsort((size_F, rare_FxA[:, assay]))[0])
                    own = slice(*by_group.indptr[group : group + 2])
                    rare_FxA[fold, by_group.indices[own]] += by_group.data[own]
                    put(group, fold)
    for group in order_G[fold_G[order_G] < 0].tolist():
        put(group, int(size_F.argmin()))
    fold_N = np.full(len(train_N), -1, np.int32)
    fold_N[rows] = fold_G[group_R]
    return fold_N


def _sizes(group_N: Int[np.ndarray, " N"]) -> dict[int, int]:
    groups, sizes = np.unique(group_N, return_counts=True)
    return dict(zip(groups.tolist(), sizes.tolist(), strict=True))
