"""What models see of molecules: bits of fingerprints, of how often their parts occur, and of descriptors.

Needs RDKit. Axes: N molecules, D bits, P descriptors.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64, UInt8

from mixmin_jax.data.molecules.cleaning import OnProgress, morgan_fingerprints

Features = Literal["ecfp", "ecfp_counts", "ecfp_descriptors"]
AT_LEAST = (2, 4)  # counts that have a bit of their own
LEVELS = 8  # bits of a descriptor


def molecule_bits(
    smiles: Sequence[str],
    kind: Features,
    train_N: Bool[np.ndarray, " N"],
    *,
    radius: int = 2,
    num_bits: int = 2048,
    on_progress: OnProgress | None = None,
) -> UInt8[np.ndarray, "N D"]:
    """The bits of every molecule.

        ecfp               num_bits bits of extended-connectivity fingerprints (Rogers and Hahn, J. Chem. Inf. Model.
                           2010, 50, 742)
        ecfp_counts        these, and as many for parts that occur twice or more, and four times or more
        ecfp_descriptors   these, and bit l of each descriptor of RDKit's `Properties` says whether it is above the
                           (l + 1) / (LEVELS + 1) quantile over the training molecules

    So all are bits, which any learner takes, in units that do not matter.

    Args:
        smiles: readable structures.
        kind: which bits.
        train_N: the molecules that quantiles are taken over.
        radius, num_bits: of the fingerprints.
        on_progress: as `morgan_fingerprints`.

    Raises:
        InputError: as `morgan_fingerprints`.
    """
    bits_NxD = morgan_fingerprints(smiles, radius=radius, num_bits=num_bits, on_progress=on_progress)
    if kind == "ecfp":
        return bits_NxD
    more = _counts(smiles, radius, num_bits) if kind == "ecfp_counts" else quantile_bits(descriptors(smiles), train_N)
    return np.concatenate([bits_NxD, more], axis=1)


def num_features(kind: Features, num_bits: int) -> int:
    """D of `molecule_bits`."""
    if kind == "ecfp_descriptors":
        from rdkit.Chem.rdMolDescriptors import Properties

        return num_bits + LEVELS * len(Properties.GetAvailableProperties())
    return num_bits * (1 + len(AT_LEAST)) if kind == "ecfp_counts" else num_bits


def quantile_bits(values_NxP: Float64[np.ndarray, "N P"], train_N: Bool[np.ndarray, " N"]) -> UInt8[np.ndarray, "N D"]:
    """D = P LEVELS bits: whether each value is above each of LEVELS quantiles over the training molecules."""
    shares = np.arange(1, LEVELS + 1) / (LEVELS + 1)
    edge_LxP = np.quantile(values_NxP[train_N], shares, axis=0)
    return (values_NxP[:, None] > edge_LxP).reshape(len(values_NxP), -1).astype(np.uint8)


def descriptors(smiles: Sequence[str]) -> Float64[np.ndarray, "N P"]:
    """RDKit's fast descriptors (`rdMolDescriptors.Properties`): weight, rings, polar surface and the like."""
    from rdkit import Chem, rdBase
    from rdkit.Chem.rdMolDescriptors import Properties

    properties = Properties()
    with rdBase.BlockLogs():
        return np.array([list(properties.ComputeProperties(Chem.MolFromSmiles(text))) for text in smiles], np.float64)


def _counts(smiles: Sequence[str], radius: int, num_bits: int) -> UInt8[np.ndarray, "N D"]:
    from rdkit import Chem, rdBase
    from rdkit.Chem import rdFingerprintGenerator

    generator = rdFingerprintGenerator.GetMorganGenerator(radius=radius, fpSize=num_bits)
    with rdBase.BlockLogs():
        counts_NxD = np.stack([generator.GetCountFingerprintAsNumPy(Chem.MolFromSmiles(text)) for text in smiles])
    return np.concatenate([counts_NxD >= least for least in AT_LEAST], axis=1).astype(np.uint8)
