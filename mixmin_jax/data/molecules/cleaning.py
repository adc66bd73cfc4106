"""Molecules from the structures of a table: cleaned and merged, with scaffolds and fingerprints.

Axes: N molecules, A assays, D bits of a fingerprint, R readable rows. RDKit, from the extra `mixmin_jax[molecules]`, is
imported by the functions that use it.
"""

import dataclasses
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int, Int32, UInt8

from mixmin_jax.data.molecules.assay_tables import AssayTable, Task
from mixmin_jax.errors import InputError

MAX_UNPARSABLE = 0.05
_TOLD_EVERY = 256  # structures between two reports of progress

Contradictions = Literal["drop", "majority"]
OnProgress = Callable[[int, int], None]  # (done, of how many)


class Unparsable(NamedTuple):
    """A structure that was left out, and why; `row` as in `AssayTable.row_N`."""

    row: int
    smiles: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Cleaning:
    """Counts of a table's rows.

    rows: all rows.      unparsable: rows left out.      salts: rows from which smaller fragments were removed.
    duplicates: rows merged into the molecule of an earlier row: molecules = rows - len(unparsable) - duplicates.
    conflicts: values of molecules on which their rows disagree.      conflicts_by_assay: the same for each assay.
    undecided: conflicts of which no value came: they count as not measured.
    """

    rows: int
    unparsable: tuple[Unparsable, ...]
    salts: int
    duplicates: int
    conflicts: int
    conflicts_by_assay: dict[str, int]
    undecided: int


@dataclasses.dataclass(frozen=True, eq=False)
class Structures:
    """What RDKit reads in the structures of R rows, whatever was measured on them (`read_structures`).

    parents: canonical SMILES of the distinct parents, in order of first appearance.
    scaffold_N: number of each parent's scaffold, by first appearance.
    parent_R: number of each row's parent; -1 if the row is unreadable.
    is_salt_R: whether smaller fragments were removed.
    reasons: why the unreadable rows are, in their order.
    """

    parents: tuple[str, ...]
    scaffold_N: Int32[np.ndarray, " N"]
    parent_R: Int32[np.ndarray, " R"]
    is_salt_R: Bool[np.ndarray, " R"]
    reasons: tuple[str, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Molecules:
    """Distinct molecules and their measurements, in order of first appearance in the table.

    smiles: canonical SMILES of the parent (`clean_molecules`).      values_NxA: as in `AssayTable`.
    scaffold_N: number of the Bemis-Murcko scaffold, by first appearance (`clean_molecules`).
    """

    smiles: tuple[str, ...]
    scaffold_N: Int[np.ndarray, " N"]
    values_NxA: Float32[np.ndarray, "N A"]
    assays: tuple[str, ...]
    cleaning: Cleaning


def require_rdkit() -> None:
    """Raise InputError, with the command that installs it, if RDKit is missing."""
    if importlib.util.find_spec("rdkit") is None:
        raise InputError('rdkit is not installed: pip install "mixmin_jax[molecules]"')


def rdkit_version() -> str:
    """RDKit's version; canonical SMILES, scaffolds and descriptors depend on it.

    Raises:
        InputError: RDKit is not installed.
    """
    require_rdkit()
    from rdkit import rdBase

    return str(rdBase.rdkitVersion)


def read_structures(smiles: Sequence[str], on_progress: OnProgress | None = None) -> Structures:
    """The parent and the scaffold of every structure: the slow part of `clean_molecules`, about a millisecond each.

    Parent: the largest organic fragment, neutralized where protons can do that. A salt and its acid or base are one
    compound in an assay, so they become one molecule. Two kinds stay whole: salts without carbon (else copper and zinc
    sulfate would be one molecule), and structures that RDKit cannot read after neutralizing (ferrocene). Molecules
    with the same canonical SMILES of the parent are the same; stereoisomers and tautomers differ.

    Scaffold: the ring systems and the chains between them (Bemis and Murcko, J. Med. Chem. 1996, 39, 2887), without
    stereochemistry. A molecule without a ring forms a group with its stereoisomers only. (A fifth of ToxCast has no
    ring, and these molecules have little in common. As one group they would fill a test part.)

    Raises:
        InputError: RDKit is not installed.
    """
    require_rdkit()
    from rdkit import rdBase

    def told(texts: Sequence[str], begun: float) -> Iterator[str]:
        """The texts, while progress is reported; each of two passes is half of it."""
        for place, text in enumerate(texts):
            if on_progress and place % _TOLD_EVERY == 0:
                on_progress(round((begun + place / len(texts) / 2) * len(smiles)), len(smiles))
            yield text

    parents: list[str] = []
    reasons: list[str] = []
    is_read_R, is_salt_R = np.ones(len(smiles), bool), np.zeros(len(smiles), bool)
    with rdBase.BlockLogs():
        parent_of = _parent_chooser()
        for row, text in enumerate(told(smiles, 0.0)):
            mol = _read(text)
            if isinstance(mol, str):
                is_read_R[row] = False
                reasons.append(mol)
            else:
                parent, is_salt_R[row] = parent_of(mol)
                parents.append(parent)
        distinct, number = _numbered(parents)
        _, scaffold_N = _numbered([_scaffold(parent) for parent in told(distinct, 0.5)])
    parent_R = np.full(len(smiles), -1, np.int32)
    parent_R[is_read_R] = number
    return Structures(tuple(distinct), scaffold_N, parent_R, is_salt_R, tuple(reasons))


def clean_molecules(
    table: AssayTable,
    max_unparsable: float = MAX_UNPARSABLE,
    *,
    contradictions: Contradictions = "drop",
    structures: Structures | None = None,
) -> Molecules:
    """Merge the rows of each distinct parent structure (`read_structures`) into one molecule.

    Merging: equal labels stay. Contradicting labels become NaN ("not measured"), or the label of most rows. Measured
    values become their mean. Cells without a value do not count.

    Args:
        table: the rows.
        max_unparsable: largest share of rows that may be unreadable.
        contradictions: "drop": labels that contradict become NaN. "majority": only those that have as many rows for 1
            as for 0 do.
        structures: of the table's rows, if `read_structures` was called before.

    Raises:
        InputError: RDKit is not installed, `max_unparsable` is outside [0, 1], or too many rows, or all of them, cannot
            be read (names the first few).
    """
    if not 0 <= max_unparsable <= 1:
        raise InputError(f"max_unparsable must lie in [0, 1]; it is {max_unparsable}")
    structures = structures or read_structures(table.smiles)
    is_read_R = structures.parent_R >= 0
    unparsable = [
        Unparsable(int(table.row_N[place]), table.smiles[place], reason)
        for place, reason in zip(np.flatnonzero(~is_read_R), structures.reasons, strict=True)
    ]
    _refuse_unparsable(table, unparsable, max_unparsable)
    values_NxA, differ_NxA = _merge(
        table.values_NxA[is_read_R], structures.parent_R[is_read_R], table.task, contradictions
    )
    conflicts_A = differ_NxA.sum(0)
    cleaning = Cleaning(
        rows=len(table.smiles),
        unparsable=tuple(unparsable),
        salts=int(structures.is_salt_R.sum()),
        duplicates=int(is_read_R.sum()) - len(structures.parents),
        conflicts=int(conflicts_A.sum()),
        conflicts_by_assay={n: c for n, c in zip(table.assays, conflicts_A.tolist(), strict=True) if c},
        undecided=int(np.isnan(values_NxA[differ_NxA]).sum()),
    )
    return Molecules(structures.parents, structures.scaffold_N, values_NxA, table.assays, cleaning)


def morgan_fingerprints(
    smiles: Sequence[str], *, radius: int = 2, num_bits: int = 2048, on_progress: OnProgress | None = None
) -> UInt8[np.ndarray, "N D"]:
    """Extended-connectivity fingerprints (Rogers and Hahn, J. Chem. Inf. Model. 2010, 50, 742).

    Chirality is ignored, so stereoisomers have the same bits.

    Args:
        smiles: the structures.
        radius: in bonds; 2 gives ECFP4.
        num_bits: D, to which the fingerprint is folded.
        on_progress: called now and then.

    Returns:
        bits_NxD, one bit (0 or 1) per byte.

    Raises:
        InputError: RDKit is not installed, a size is out of range, or a structure cannot be read.
    """
    if radius < 0 or num_bits < 1:
        raise InputError(f"fingerprints need radius >= 0 and num_bits >= 1; got {radius} and {num_bits}")
    require_rdkit()
    from rdkit import rdBase
    from rdkit.Chem import rdFingerprintGenerator

    generator = rdFingerprintGenerator.GetMorganGenerator(radius=radius, fpSize=num_bits)
    bits_NxD = np.zeros((len(smiles), num_bits), np.uint8)
    with rdBase.BlockLogs():
        for number, text in enumerate(smiles):
            if on_progress and number % _TOLD_EVERY == 0:
                on_progress(number, len(smiles))
            mol = _read(text)
            if isinstance(mol, str):
                raise InputError(f"molecule {number} (counting from 0), {text!r}: {mol}")
            bits_NxD[number] = generator.GetFingerprintAsNumPy(mol)
    return bits_NxD


def _read(smiles: str) -> Any:
    """RDKit's molecule, or a text that says why there is none."""
    from rdkit import Chem

    mol = Chem.MolFromSmiles(smiles)
    if mol is not None:
        return mol if mol.GetNumAtoms() else "no structure"
    unchecked = Chem.MolFromSmiles(smiles, sanitize=False)
    problems = () if unchecked is None else Chem.DetectChemistryProblems(unchecked)
    return problems[0].Message() if problems else "not valid SMILES"


def _parent_chooser() -> Callable[[Any], tuple[str, bool]]:
    """A function that gives a molecule's parent as canonical SMILES, and whether fragments were removed."""
    from rdkit import Chem
    from rdkit.Chem.MolStandardize import rdMolStandardize

    chooser = rdMolStandardize.LargestFragmentChooser(preferOrganic=True)
    uncharger = rdMolStandardize.Uncharger()

    def parent(mol: Any) -> tuple[str, bool]:
        whole = Chem.MolToSmiles(mol)
        several = "." in whole
        fragment = chooser.choose(mol) if several else mol
        if several and not any(atom.GetAtomicNum() == 6 for atom in fragment.GetAtoms()):
            return whole, False
        neutral = Chem.MolToSmiles(uncharger.uncharge(fragment))
        return (whole, False) if Chem.MolFromSmiles(neutral) is None else (neutral, several)

    return parent


def _scaffold(parent: str) -> str:
    """The SMILES of a parent's scaffold, or of the parent itself if it has no ring."""
    from rdkit import Chem
    from rdkit.Chem.Scaffolds import MurckoScaffold

    mol = Chem.MolFromSmiles(parent)
    rings = Chem.MolToSmiles(MurckoScaffold.GetScaffoldForMol(mol), isomericSmiles=False)
    return rings or Chem.MolToSmiles(mol, isomericSmiles=False)


def _numbered(names: Sequence[str]) -> tuple[list[str], Int32[np.ndarray, " _"]]:
    """The distinct names by first appearance, and the number of each of `names` among them."""
    number = {name: n for n, name in enumerate(dict.fromkeys(names))}
    return list(number), np.array([number[name] for name in names], np.int32)


def _refuse_unparsable(table: AssayTable, rows: list[Unparsable], max_unparsable: float) -> None:
    if len(rows) <= max_unparsable * len(table.smiles) and len(rows) < len(table.smiles):
        return
    first = "; ".join(f"row {row.row} {row.smiles[:40]!r} ({row.reason})" for row in rows[:3])
    raise InputError(
        f"{table.origin}: {len(rows)} of {len(table.smiles)} structures cannot be read (max_unparsable, "
        f"--max-unparsable, is {max_unparsable:g}): {first}{'; ...' if rows[3:] else ''}; check that the right column "
        "holds SMILES"
    )


def _merge(
    values_RxA: Float32[np.ndarray, "R A"],
    molecule_R: Int[np.ndarray, " R"],
    task: Task,
    contradictions: Contradictions,
) -> tuple[Float32[np.ndarray, "N A"], Bool[np.ndarray, "N A"]]:
    """Merge the values of each molecule's rows; also where rows disagree."""
    order_R = np.argsort(molecule_R, kind="stable")
    first_N = np.searchsorted(molecule_R[order_R], np.arange(molecule_R.max() + 1))
    sorted_RxA = values_RxA[order_R]
    low_NxA, high_NxA = (bound.reduceat(sorted_RxA, first_N, axis=0) for bound in (np.fmin, np.fmax))
    differ_NxA = low_NxA < high_NxA
    if task == "classification" and contradictions == "drop":
        return np.where(differ_NxA, np.float32(np.nan), low_NxA), differ_NxA
    there_RxA = ~np.isnan(sorted_RxA)
    count_NxA = np.add.reduceat(there_RxA, first_N, axis=0, dtype=np.int64)
    sum_NxA = np.add.reduceat(np.where(there_RxA, sorted_RxA, 0), first_N, axis=0, dtype=np.float64)
    mean_NxA = (sum_NxA / np.maximum(count_NxA, 1)).astype(np.float32)
    if task == "classification":
        mean_NxA = np.where(mean_NxA == 0.5, np.float32(np.nan), np.round(mean_NxA))
    return np.where(differ_NxA, mean_NxA, low_NxA), differ_NxA
