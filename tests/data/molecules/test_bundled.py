import re

import numpy as np
import pytest
from rdkit import Chem, RDConfig

from experiments.harness.data_sets import table_record
from mixmin_jax.data.molecules.bundled import BUNDLED_TARGET, bundled_assays, esol
from mixmin_jax.data.molecules.cleaning import clean_molecules
from mixmin_jax.errors import InputError


@pytest.fixture(scope="module")
def table():
    return bundled_assays()


def column(table, name):
    return table.values_NxA[:, table.assays.index(name)]


def agreement(table, name, other):
    """Correlation of two assays' labels on the molecules that both have."""
    both_N = ~np.isnan(column(table, name) + column(table, other))
    return np.corrcoef(column(table, name)[both_N], column(table, other)[both_N])[0, 1]


def test_the_table_is_large_and_has_gaps_like_a_real_one(table):
    assert len(table.smiles) == 4999
    assert 12 <= len(table.assays) == len(set(table.assays)) <= 20
    assert set(np.unique(table.values_NxA[~np.isnan(table.values_NxA)])) == {0, 1}
    measured_A, positive_A = (~np.isnan(table.values_NxA)).sum(0), np.nansum(table.values_NxA, axis=0)
    target, rarer_A = table.assays.index(BUNDLED_TARGET), np.minimum(positive_A, measured_A - positive_A)
    assert 300 <= measured_A[target] <= 500 and positive_A[target] >= 60
    assert np.delete(measured_A, target).min() >= 900 and np.delete(rarer_A, target).min() >= 100
    # each assay has molecules of its own: about as many in common as independent draws would have
    there_NxA = ~np.isnan(table.values_NxA)
    shared_AxA = there_NxA.T.astype(int) @ there_NxA
    expected_AxA = np.outer(measured_A, measured_A) / len(table.smiles)
    off = ~np.eye(len(measured_A), dtype=bool)
    assert np.abs(shared_AxA / expected_AxA - 1)[off].max() < 0.3


def test_labels_say_what_the_structures_say(table):
    halogen = np.array([bool(re.search("F|Cl|Br|I(?!r)", text)) for text in table.smiles])
    measured_N = ~np.isnan(column(table, "halogen"))
    assert np.mean(halogen[measured_N] == column(table, "halogen")[measured_N]) > 0.95  # ions are not substituents
    ring = np.array([bool(re.search(r"\d", re.sub(r"\[.*?\]", "", text))) for text in table.smiles])
    assert not column(table, "two_aromatic_rings")[~ring & ~np.isnan(column(table, "two_aromatic_rings"))].any()


def test_some_sources_know_about_the_target_and_others_do_not(table):
    assert agreement(table, BUNDLED_TARGET, "lipophilic") > 0.5
    assert agreement(table, BUNDLED_TARGET, "heavy") > 0.3
    assert abs(agreement(table, BUNDLED_TARGET, "ester")) < 0.25


@pytest.mark.parametrize(
    ("smiles", "published"),  # the paper's own estimates, in the ESOL table of MoleculeNet
    [
        ("Cc1occc1C(=O)Nc2ccccc2", -2.885),
        ("CC(C)=CCCC(C)=CC(=O)", -2.579),
        ("c1ccc2c(c1)ccc3c2ccc4c5ccccc5ccc43", -6.618),
        ("c1ccsc1", -2.232),
    ],
)
def test_solubility_agrees_with_the_published_estimate(smiles, published):
    assert esol(Chem.MolFromSmiles(smiles)) == pytest.approx(published, abs=0.45)  # another logP than the paper's


def test_cleaning_finds_in_it_what_real_tables_have(table):
    cleaned = clean_molecules(table)
    assert len(cleaned.smiles) > 4500 and cleaned.scaffold_N.max() > 1000
    assert 0 < len(cleaned.cleaning.unparsable) < 50
    assert cleaned.cleaning.salts > 0 and cleaned.cleaning.duplicates > 0
    assert cleaned.cleaning.conflicts < 100


@pytest.mark.slow
def test_the_same_molecules_are_measured_again(table):
    measured = np.flatnonzero(~np.isnan(column(table, BUNDLED_TARGET))) + 1
    assert measured[:8].tolist() == [31, 35, 74, 101, 102, 116, 128, 132]  # drawn by a hash: these on every machine
    again = bundled_assays()
    np.testing.assert_array_equal(again.values_NxA, table.values_NxA)
    assert again.fingerprint == table.fingerprint
    assert table_record(table, None).sha256 == table.fingerprint["sha256"]  # what a run of the demonstration records


def test_a_build_without_the_file_is_one_clear_error(monkeypatch, tmp_path):
    monkeypatch.setattr(RDConfig, "RDDataDir", str(tmp_path))
    with pytest.raises(InputError, match=r"this build of RDKit .* has no NCI/first_5K\.smi .*--assays"):
        bundled_assays()
