import importlib.util

import numpy as np
import pytest

from mixmin_jax.data.molecules import cleaning
from mixmin_jax.data.molecules.assay_tables import AssayTable
from mixmin_jax.data.molecules.cleaning import clean_molecules, morgan_fingerprints, rdkit_version, read_structures
from mixmin_jax.errors import InputError

NAN = np.nan


def table(rows, task="classification"):
    """A table of (SMILES, values...) rows, as from a file."""
    values_NxA = np.array([row[1:] for row in rows], np.float32).reshape(len(rows), -1)
    return AssayTable(
        smiles=tuple(row[0] for row in rows),
        row_N=np.arange(len(rows)) + 2,
        assays=tuple(f"assay{i}" for i in range(values_NxA.shape[1])),
        values_NxA=values_NxA,
        ignored={},
        fingerprint={},
        task=task,
        origin="t.csv",
    )


def parents(*smiles):
    return clean_molecules(table([(text, 1) for text in smiles])).smiles


def scaffolds(*smiles):
    return clean_molecules(table([(text, 1) for text in smiles])).scaffold_N.tolist()


# ------------------------------------------------------------------------------------------------------ cleaning


@pytest.mark.parametrize(
    ("written", "parent"),
    [
        ("OCC", "CCO"),
        ("C1=CC=CC=C1", "c1ccccc1"),
        ("[Na+].CC([O-])=O", "CC(=O)O"),
        ("CC[NH3+].[Cl-]", "CCN"),
        ("[O-]S(=O)(=O)[O-].CC[NH3+].CC[NH3+]", "CCN"),
        ("O.O.c1ccncc1", "c1ccncc1"),
        ("CN.OS(=O)(=O)OS(=O)(=O)O", "CN"),
        ("C[N+](C)(C)C.[Br-]", "C[N+](C)(C)C"),  # no proton to take off
        ("C[N+](=O)[O-]", "C[N+](=O)[O-]"),
        ("[Cu+2].[O-]S(=O)(=O)[O-]", "O=S(=O)([O-])[O-].[Cu+2]"),  # not the sulfuric acid that zinc sulfate also is
        ("[Na+].[Cl-]", "[Cl-].[Na+]"),
        ("[Fe+2].c1cc[cH-]c1.c1cc[cH-]c1", "[Fe+2].c1cc[cH-]c1.c1cc[cH-]c1"),  # unreadable when neutralised
        ("C[C@H](N)C(=O)O", "C[C@H](N)C(=O)O"),
    ],
)
def test_the_parent_is_the_largest_organic_fragment_without_charge(written, parent):
    assert parents(written) == (parent,)
    assert parents(parent) == (parent,)  # cleaning what is clean changes nothing


def test_salts_duplicates_and_conflicts_are_merged_and_counted():
    cleaned = clean_molecules(
        table(
            [
                ("CCO", 1, 0, NAN, NAN),
                ("c1ccccc1", NAN, 1, 1, NAN),
                ("OCC", 1, 1, 0, NAN),
                ("CCO.Cl", NAN, 0, NAN, NAN),
                ("CC[O-].[Na+]", 1, NAN, NAN, NAN),
                ("c1ccccc1", 0, 1, 0, NAN),
            ]
        )
    )
    assert cleaned.smiles == ("CCO", "c1ccccc1")
    np.testing.assert_array_equal(cleaned.values_NxA, [[1, NAN, 0, NAN], [0, 1, NAN, NAN]])
    counts = cleaned.cleaning
    assert (counts.rows, counts.salts, counts.duplicates, counts.unparsable) == (6, 2, 4, ())
    assert (counts.conflicts, counts.conflicts_by_assay) == (2, {"assay1": 1, "assay2": 1})
    assert cleaned.assays == ("assay0", "assay1", "assay2", "assay3") and counts.undecided == 2


def test_of_contradicting_labels_those_of_most_rows_stay_if_asked_for():
    rows = [
        ("CCO", 1, 1, 0),
        ("OCC", 1, 0, 0),
        ("CCO", 0, NAN, 1),
        ("CC", 1, 0, NAN),
        ("CC", 1, 1, 0),
        ("CC", NAN, 1, 1),
    ]
    cleaned = clean_molecules(table(rows), contradictions="majority")
    np.testing.assert_array_equal(cleaned.values_NxA, [[1, NAN, 0], [1, 1, NAN]])
    assert (cleaned.cleaning.conflicts, cleaned.cleaning.undecided) == (5, 2)
    assert cleaned.cleaning.conflicts_by_assay == {"assay0": 1, "assay1": 2, "assay2": 2}


def test_merging_agrees_with_a_loop_over_molecules():
    rng = np.random.default_rng(0)
    molecules = ["C" * length for length in rng.integers(1, 12, 60)]
    values_NxA = np.where(rng.random((60, 5)) < 0.4, np.round(rng.random((60, 5))), NAN)
    for task in ("classification", "regression"):
        rows = [(text, *values) for text, values in zip(molecules, values_NxA, strict=True)]
        cleaned = clean_molecules(table(rows, task))
        assert cleaned.smiles == tuple(dict.fromkeys(molecules))
        conflicts = 0
        for text, merged_A in zip(cleaned.smiles, cleaned.values_NxA, strict=True):
            own_RxA = values_NxA[np.array(molecules) == text]
            for assay in range(5):
                known = own_RxA[~np.isnan(own_RxA[:, assay]), assay]
                differ = len(set(known.tolist())) > 1
                conflicts += differ
                missing = not len(known) or (differ and task == "classification")
                np.testing.assert_allclose(merged_A[assay], NAN if missing else known.mean(), rtol=1e-6)
        assert cleaned.cleaning.conflicts == conflicts > 0


def test_structures_that_were_read_before_are_not_read_again_and_progress_is_told(monkeypatch):
    rows, told = [*(("CCO", 1), ("FAIL", 0), ("OCC.Cl", 1)), *[("CC", 0)] * 599], []
    structures = read_structures([text for text, _ in rows], lambda done, of: told.append((done, of)))
    assert told == sorted(told) and {of for _, of in told} == {602} and told[0][0] == 0 and len(told) > 3
    plain = clean_molecules(table(rows))
    monkeypatch.setattr(cleaning, "read_structures", lambda *_: pytest.fail("read again"))
    given = clean_molecules(table(rows), structures=structures)
    assert given.smiles == plain.smiles and given.cleaning == plain.cleaning and plain.cleaning.salts == 1
    np.testing.assert_array_equal(given.values_NxA, plain.values_NxA)


def test_unreadable_rows_are_skipped_with_row_and_reason(capfd):
    rows = [("CCO", 1), ("CN(C)(C)C", 0), ("", 1), ("FAIL", 0), ("CC", 0), ("c1cccc1", 1)]
    cleaned = clean_molecules(table(rows), max_unparsable=0.7)
    assert cleaned.smiles == ("CCO", "CC")
    np.testing.assert_array_equal(cleaned.values_NxA, [[1], [0]])
    assert [(one.row, one.smiles) for one in cleaned.cleaning.unparsable] == [
        (3, "CN(C)(C)C"),
        (4, ""),
        (5, "FAIL"),
        (7, "c1cccc1"),
    ]
    reasons = [one.reason for one in cleaned.cleaning.unparsable]
    assert "valence for atom # 1 N" in reasons[0] and "kekulize" in reasons[3]
    assert reasons[1:3] == ["no structure", "not valid SMILES"]
    assert capfd.readouterr() == ("", "")  # RDKit's own log would repeat this for each row
    with pytest.raises(InputError, match=r"t\.csv: 4 of 6 .*is 0\.5\): row 3 'CN\(C\)\(C\)C' \(Explicit.*; \.\.\.;"):
        clean_molecules(table(rows), max_unparsable=0.5)
    with pytest.raises(InputError, match=r"2 of 2 structures cannot be read"):
        clean_molecules(table([("methane", 1), ("ethane", 0)]), max_unparsable=1.0)
    with pytest.raises(InputError, match=r"max_unparsable must lie in \[0, 1\]; it is 1\.5"):
        clean_molecules(table(rows), max_unparsable=1.5)


def test_the_order_of_rows_changes_the_order_of_molecules_alone():
    rng = np.random.default_rng(0)
    smiles = ["CCO", "OCC", "c1ccccc1C", "Cc1ccccc1", "c1ccccc1O", "C1CCCCC1", "CC(=O)[O-].[Na+]", "CC(=O)O", "CCN"]
    rows = [(text, *np.round(rng.random(4))) for text in smiles]
    plain, turned = clean_molecules(table(rows)), clean_molecules(table(rows[::-1]))
    place = [turned.smiles.index(text) for text in plain.smiles]
    assert sorted(place) == list(range(len(turned.smiles)))
    np.testing.assert_array_equal(turned.values_NxA[place], plain.values_NxA)
    same_NxN = plain.scaffold_N[:, None] == plain.scaffold_N
    np.testing.assert_array_equal(turned.scaffold_N[place][:, None] == turned.scaffold_N[place], same_NxN)
    assert plain.cleaning == turned.cleaning


# ----------------------------------------------------------------------------------------------------- scaffolds


def test_molecules_with_the_same_rings_and_linkers_share_a_scaffold():
    # toluene, phenol, diphenylmethane, biphenyl, ethylpyridine, cyclohexanol
    assert scaffolds(
        "Cc1ccccc1", "Oc1ccccc1", "C(c1ccccc1)c1ccccc1", "c1ccccc1-c1ccccc1", "CCc1ccncc1", "OC1CCCCC1"
    ) == [*(0, 0, 1, 2, 3, 4)]


def test_scaffolds_have_no_stereochemistry():
    assert scaffolds("C[C@H]1CCN[C@@H](C)C1", "C[C@@H]1CCN[C@@H](C)C1", "CC1CCNCC1") == [0, 0, 0]
    assert scaffolds("C1CC[C@H]2CCCC[C@H]2C1", "C1CC[C@H]2CCCC[C@@H]2C1") == [0, 0]  # cis- and trans-decalin


def test_a_molecule_without_a_ring_is_a_group_of_its_own_with_its_stereoisomers():
    assert scaffolds("CCO", "CCN", "C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O", "c1ccccc1") == [0, 1, 2, 2, 3]


# -------------------------------------------------------------------------------------------------- fingerprints


def test_bits_are_those_of_the_atoms_environments():
    smiles = ["C", "CCO", "CCCCCCCC", "c1ccccc1", "CC(=O)Oc1ccccc1C(=O)O"]
    bits_NxD = morgan_fingerprints(smiles)
    assert bits_NxD.shape == (5, 2048) and set(np.unique(bits_NxD)) == {0, 1}
    # environments up to two bonds, counted by hand: methane its atom; ethanol three atoms, and each with its
    # neighbours (with two bonds, all atoms see the whole molecule, which is the environment of the middle one);
    # benzene an atom, and its surroundings at one and at two bonds
    assert bits_NxD.sum(1)[[0, 1, 3]].tolist() == [1, 6, 3]
    assert bits_NxD.sum(1)[4] == 24  # aspirin, at this length; a golden number
    np.testing.assert_array_equal(morgan_fingerprints(smiles[::-1]), bits_NxD[::-1])
    np.testing.assert_array_equal(morgan_fingerprints(["OCC"]), bits_NxD[1:2])  # however it is written


def test_a_larger_radius_adds_bits_and_fewer_bits_fold_them():
    aspirin = ["CC(=O)Oc1ccccc1C(=O)O"]
    small, large = (morgan_fingerprints(aspirin, radius=radius)[0] for radius in (1, 2))
    assert (small <= large).all() and small.sum() < large.sum()
    told: list[tuple[int, int]] = []
    folded = morgan_fingerprints(aspirin * 300, num_bits=1024, on_progress=lambda *done: told.append(done))[0]
    assert told == [(0, 300), (256, 300)]
    np.testing.assert_array_equal(folded, large.reshape(2, 1024).max(0))
    assert morgan_fingerprints([]).shape == (0, 2048)


def test_stereoisomers_have_the_same_bits():
    one, other = morgan_fingerprints(["C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O"])
    np.testing.assert_array_equal(one, other)


def test_bad_requests_for_fingerprints():
    with pytest.raises(InputError, match=r"molecule 1 \(counting from 0\), 'FAIL': not valid SMILES"):
        morgan_fingerprints(["C", "FAIL"])
    with pytest.raises(InputError, match="got -1 and 2048"):
        morgan_fingerprints(["C"], radius=-1)
    with pytest.raises(InputError, match="got 2 and 0"):
        morgan_fingerprints(["C"], num_bits=0)


def test_without_rdkit_the_command_that_installs_it_is_named(monkeypatch):
    assert rdkit_version()[:2] == "20"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for attempt in (
        rdkit_version,
        lambda: clean_molecules(table([("C", 1)])),
        lambda: morgan_fingerprints(["C"]),
    ):
        with pytest.raises(InputError, match=r'rdkit is not installed: pip install "mixmin_jax\[molecules\]"'):
            attempt()
