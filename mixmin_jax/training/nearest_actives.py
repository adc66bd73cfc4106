"""Similarity to the nearest actives: the baseline that needs no training.

Axes: N molecules, P actives, D bits.
"""

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from mixmin_jax.errors import InputError

BLOCK = 4096  # molecules that are compared at once


def nearest_active(
    features_NxD: UInt8[np.ndarray, "N D"], is_active_N: Bool[np.ndarray, " N"]
) -> Float32[np.ndarray, " N"]:
    """The largest Tanimoto similarity of each molecule to an active one; of an active one, to another.

        max over active j != i of   |x_i and x_j| / |x_i or x_j|

    Ranking by it is similarity searching with MAX fusion (Hert et al., J. Chem. Inf. Comput. Sci. 2004, 44, 1177).

    Raises:
        InputError: fewer than two molecules are active.
    """
    active_P = np.flatnonzero(is_active_N)
    if len(active_P) < 2:
        raise InputError(f"similarity to the nearest active needs two actives at least, got {len(active_P)}")
    bits_PxD = features_NxD[active_P].astype(np.float32)
    size_P = bits_PxD.sum(1)
    nearest_N = np.zeros(len(features_NxD), np.float32)
    for block in np.array_split(np.arange(len(features_NxD)), -(-len(features_NxD) // BLOCK)):
        bits_BxD = features_NxD[block].astype(np.float32)
        both_BxP = bits_BxD @ bits_PxD.T
        either_BxP = bits_BxD.sum(1)[:, None] + size_P - both_BxP
        similarity_BxP = both_BxP / np.maximum(either_BxP, 1)
        similarity_BxP[block[:, None] == active_P] = -1
        nearest_N[block] = similarity_BxP.max(1)
    return nearest_N
