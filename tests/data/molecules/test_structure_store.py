import dataclasses

import numpy as np
import pytest

from mixmin_jax.data.molecules import structure_store
from mixmin_jax.data.molecules.cleaning import read_structures
from mixmin_jax.data.molecules.structure_store import stored_path, stored_structures, structure_folder

SMILES = ("CCO", "OCC.Cl", "c1ccccc1C", "FAIL", "C[C@H](N)C(=O)O", "CN(C)(C)C", "")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(structure_store, "LEAST", 3)
    return tmp_path / "cache" / "mixmin_jax" / "structures"


def never(*_):
    pytest.fail("structures were read again")


def assert_same(found, expected):
    for field in dataclasses.fields(expected):
        one, other = getattr(found, field.name), getattr(expected, field.name)
        np.testing.assert_array_equal(one, other)
        assert type(one) is type(other) and getattr(one, "dtype", None) == getattr(other, "dtype", None)


def test_the_second_reading_is_the_first_one_from_disk(folder, monkeypatch):
    first = stored_structures(SMILES)
    assert_same(first, read_structures(SMILES))
    assert [path.name for path in folder.iterdir()] == [stored_path(SMILES).name] and folder == structure_folder()
    monkeypatch.setattr(structure_store, "read_structures", never)
    assert_same(stored_structures(SMILES), first)


def test_other_structures_and_other_versions_of_rdkit_have_another_file(monkeypatch):
    path = stored_path(SMILES)
    assert len({path, stored_path(SMILES[::-1]), stored_path(("CCOOCC.Cl", *SMILES[2:]))}) == 3
    monkeypatch.setattr(structure_store, "rdkit_version", lambda: "1999.09.1")
    assert stored_path(SMILES) != path


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-100], lambda data: b"", lambda data: data[:200] + b"?" + data[201:]]
)
def test_a_damaged_file_is_made_again(damage):
    first, path = stored_structures(SMILES), stored_path(SMILES)
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert structure_store.read_stored(path) is None
    assert_same(stored_structures(SMILES), first)
    assert path.read_bytes() == whole


def test_where_nothing_can_be_kept_and_for_few_structures_reading_goes_on(folder, tmp_path, monkeypatch):
    assert stored_structures(SMILES[:2]).parents == ("CCO",) and not folder.exists()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert_same(stored_structures(SMILES), read_structures(SMILES))


def test_what_fails_while_it_is_written_leaves_nothing(folder, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    assert_same(stored_structures(SMILES), read_structures(SMILES))
    assert list(folder.iterdir()) == []
