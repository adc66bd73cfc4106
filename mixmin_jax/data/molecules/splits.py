"""Splits of molecules into train and test, and of the train part into folds, by scaffold or at random.

Axes: N molecules. `scaffold_N` holds the number of each molecule's scaffold (`cleaning.clean_molecules`); any other
grouping works too. Random orders come from `hash_order`, so splits are the same on every machine.
"""

from typing import Literal

import numpy as np
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
    train_N: Bool[np.ndarray, " N"], scaffold_N: Int[np.ndarray, " N"] | None, num_folds: int, seed: int
) -> Int32[np.ndarray, " N"]:
    """Divide the train molecules into folds, at random or by scaffold.

    Without scaffolds the sizes of folds differ by at most one. With `scaffold_N`, the molecules of a scaffold share a
    fold. Scaffolds go, largest first and in random order among equals, to the fold that is smallest so far. So seeds
    differ in the folds of small scaffolds; the largest ones are divided in the same way.

    Returns:
        The fold of each molecule, 0 to num_folds - 1; -1 for molecules that are not in `train_N`.

    Raises:
        InputError: fewer than two folds, or fewer molecules or scaffolds than folds.
    """
    rows = np.flatnonzero(train_N)
    if num_folds < 2:
        raise InputError(f"cross-fitting needs at least two folds; got {num_folds}")
    what = "molecules" if scaffold_N is None else "scaffolds"
    sizes = dict.fromkeys(rows.tolist(), 1) if scaffold_N is None else _sizes(scaffold_N[rows])
    if len(sizes) < num_folds:
        raise InputError(f"{len(sizes)} {what} in the train part cannot fill {num_folds} folds; ask for fewer folds")
    fold_of: dict[int, int] = {}
    filled = [0] * num_folds
    for group in sorted(hash_order(sizes, f"folds/{what}/{seed}"), key=lambda group: -sizes[group]):
        fold_of[group] = filled.index(min(filled))
        filled[fold_of[group]] += sizes[group]
    fold_N = np.full(len(train_N), -1, np.int32)
    fold_N[rows] = [fold_of[group] for group in (rows if scaffold_N is None else scaffold_N[rows]).tolist()]
    return fold_N


def _sizes(group_N: Int[np.ndarray, " N"]) -> dict[int, int]:
    groups, sizes = np.unique(group_N, return_counts=True)
    return dict(zip(groups.tolist(), sizes.tolist(), strict=True))
