"""A table of assays that needs no download: structures that come with RDKit, with computed properties as labels.

It is a demonstration. Labels are computed from the structures, not measured, so its results are no evidence on mixing.
"""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mixmin_jax.data.molecules.assay_tables import AssayTable
from mixmin_jax.data.molecules.cleaning import rdkit_version, require_rdkit
from mixmin_jax.errors import InputError

BUNDLED_TARGET = "poorly_soluble"

_FILE = Path("NCI", "first_5K.smi")  # in RDKit's data folder; lines of a structure and a number, without a header


class _Assay(NamedTuple):
    """Label 1 where a descriptor is at least `threshold`; about a `share` of the molecules has labels."""

    name: str
    descriptor: str
    threshold: float
    share: float


_ASSAYS = (
    _Assay(BUNDLED_TARGET, "insolubility", 4.0, 0.08),
    _Assay("lipophilic", "MolLogP", 3.0, 0.5),
    _Assay("very_lipophilic", "MolLogP", 5.0, 0.3),
    _Assay("refractive", "MolMR", 80.0, 0.4),
    _Assay("heavy", "MolWt", 300.0, 0.6),
    _Assay("flexible", "NumRotatableBonds", 5.0, 0.5),
    _Assay("aromatic", "aromatic_share", 0.5, 0.4),
    _Assay("two_aromatic_rings", "NumAromaticRings", 2.0, 0.3),
    _Assay("aliphatic_ring", "NumAliphaticRings", 1.0, 0.6),
    _Assay("aromatic_heterocycle", "NumAromaticHeterocycles", 1.0, 0.5),
    _Assay("saturated", "FractionCSP3", 0.5, 0.7),
    _Assay("polar", "TPSA", 75.0, 0.4),
    _Assay("hydrogen_bond_donor", "NumHDonors", 1.0, 0.2),
    _Assay("hydrogen_bond_acceptors", "NumHAcceptors", 4.0, 0.3),
    _Assay("carboxylic_acid", "fr_COO", 1.0, 0.6),
    _Assay("nitro", "fr_nitro", 1.0, 0.5),
    _Assay("halogen", "fr_halogen", 1.0, 0.7),
    _Assay("aniline", "fr_aniline", 1.0, 0.3),
    _Assay("ester", "fr_ester", 1.0, 0.4),
)


def bundled_assays() -> AssayTable:
    """Nineteen computed 0/1 properties of 4999 structures of the NCI's open database, in a few seconds.

    The target, `BUNDLED_TARGET`, is a solubility in water of at most 1e-4 mol/l by Delaney's ESOL (`esol`). ESOL is a
    linear function of lipophilicity, weight, flexibility and aromaticity. The target has labels on a twelfth of the
    molecules (some 400). The sources, these four properties and others, have 1000 to 3500 labels each. Half of the
    sources (functional groups, hydrogen bonds) say little about the target.

    A hash of the assay's name and the row decides which molecules have a label: the same on every machine. `row_N`
    holds line numbers of RDKit's file. The few structures that RDKit cannot read have no labels.

    Raises:
        InputError: RDKit is not installed, or its build lacks the file.
    """
    require_rdkit()
    from rdkit import Chem, RDConfig, rdBase
    from rdkit.Chem import Descriptors

    file = Path(RDConfig.RDDataDir, _FILE)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InputError(
            f"this build of RDKit ({rdkit_version()}) has no {_FILE.as_posix()} in its data folder, from which the "
            "demonstration is made; install the wheel (pip install rdkit), or give a table of your own (--assays)"
        ) from error
    smiles = tuple(line.split()[0] for line in data.decode().splitlines())
    computed = {"insolubility": lambda mol: -esol(mol), "aromatic_share": _aromatic_share}
    descriptors = dict(Descriptors.descList) | computed
    values_NxA = np.full((len(smiles), len(_ASSAYS)), np.nan, np.float32)
    measured_NxA = np.array([[_drawn(assay, row) for assay in _ASSAYS] for row in range(1, len(smiles) + 1)])
    with rdBase.BlockLogs():
        for place, text in enumerate(smiles):
            if (mol := Chem.MolFromSmiles(text)) is not None:
                for column in np.flatnonzero(measured_NxA[place]):
                    assay = _ASSAYS[column]
                    values_NxA[place, column] = descriptors[assay.descriptor](mol) >= assay.threshold
    return AssayTable(
        smiles=smiles,
        row_N=np.arange(1, len(smiles) + 1),
        assays=tuple(assay.name for assay in _ASSAYS),
        values_NxA=values_NxA,
        ignored={},
        fingerprint={
            "bytes": len(data),
            "sha256": hashlib.sha256(data + values_NxA.astype("<f4").tobytes()).hexdigest(),
        },
        task="classification",
        origin=f"RDKit {rdkit_version()}, {_FILE.as_posix()}, computed properties",
    )


def esol(mol: Any) -> float:
    """Estimated solubility in water, log10 of mol/l, of an RDKit molecule.

    0.16 - 0.63 logP - 0.0062 weight + 0.066 rotatable bonds - 0.74 aromatic share of the heavy atoms

    Delaney, J. Chem. Inf. Comput. Sci. 2004, 44, 1000. logP is Crippen's here; the paper takes Daylight's.
    """
    from rdkit.Chem import Descriptors

    known = dict(Descriptors.descList)
    logp, weight, rotatable_bonds = (known[name](mol) for name in ("MolLogP", "MolWt", "NumRotatableBonds"))
    return 0.16 - 0.63 * logp - 0.0062 * weight + 0.066 * rotatable_bonds - 0.74 * _aromatic_share(mol)


def _aromatic_share(mol: Any) -> float:
    return sum(atom.GetIsAromatic() for atom in mol.GetAtoms()) / max(mol.GetNumHeavyAtoms(), 1)


def _drawn(assay: _Assay, row: int) -> bool:
    digest = hashlib.sha256(f"{assay.name}/{row}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < assay.share * 2**64
