import numpy as np
import pytest

from mixmin_jax.data.molecules.cleaning import morgan_fingerprints
from mixmin_jax.data.molecules.features import (
    AT_LEAST,
    LEVELS,
    descriptors,
    molecule_bits,
    num_features,
    quantile_bits,
)

SMILES = ("CCO", "CCCCCCCC", "c1ccccc1", "CC(=O)Oc1ccccc1C(=O)O")
EVERYTHING = np.ones(4, bool)


def bits(kind, train_N=EVERYTHING):
    return molecule_bits(SMILES, kind, train_N, num_bits=256)


def test_fingerprints_come_first_and_alone_by_default():
    plain = morgan_fingerprints(SMILES, num_bits=256)
    np.testing.assert_array_equal(bits("ecfp"), plain)
    for kind in ("ecfp_counts", "ecfp_descriptors"):
        np.testing.assert_array_equal(bits(kind)[:, :256], plain)
        assert bits(kind).max() == 1 and bits(kind).dtype == np.uint8
        assert bits(kind).shape[1] == num_features(kind, 256)


def test_bits_of_counts_say_how_often_a_part_occurs():
    twice, often = np.split(bits("ecfp_counts")[:, 256:], len(AT_LEAST), axis=1)
    assert often[1].sum() >= 1 and twice[1].sum() > often[1].sum()  # octane has six CH2
    assert (often <= twice).all() and (twice <= bits("ecfp")).all()
    assert often[0].sum() == 0  # ethanol has nothing four times


def test_bits_of_a_descriptor_are_its_quantiles_over_the_training_molecules():
    values = np.array([[1.0], [2.0], [3.0], [100.0]])
    np.testing.assert_array_equal(quantile_bits(values, EVERYTHING).sum(1), [0, 2, 5, LEVELS])
    without_last = quantile_bits(values, np.arange(4) < 3)
    assert without_last[2].sum() == LEVELS and without_last[3].sum() == LEVELS
    assert bits("ecfp_descriptors").shape[1] == 256 + LEVELS * descriptors(SMILES).shape[1]


def test_descriptors_are_rdkit_s():
    from rdkit.Chem import MolFromSmiles
    from rdkit.Chem.Descriptors import ExactMolWt

    assert descriptors(SMILES[:1])[0, 0] == pytest.approx(ExactMolWt(MolFromSmiles("CCO")))
