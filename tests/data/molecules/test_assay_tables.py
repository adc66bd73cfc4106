import gzip
import hashlib

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixmin_jax.data.molecules.assay_tables import read_assays
from mixmin_jax.errors import InputError, closest_names

TABLE = """mol_id,NR-AR,smiles,NR-ER,unused
TOX1,0,CCO,1,
TOX2,1.0,c1ccccc1,,
TOX3,,CC(=O)O,0.0,
TOX4,True,,false,
"""


def write(path, text):
    data = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(gzip.compress(data) if path.name.endswith(".gz") else data)
    return path


def write_parquet(path, **columns):
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


# ------------------------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
def test_a_table_in_the_layout_of_moleculenet(tmp_path, name):
    path = write(tmp_path / name, TABLE)
    table = read_assays(path)
    assert table.smiles == ("CCO", "c1ccccc1", "CC(=O)O", "")
    assert table.row_N.tolist() == [2, 3, 4, 5]
    assert table.assays == ("NR-AR", "NR-ER")
    np.testing.assert_array_equal(table.values_NxA, [[0, 1], [1, np.nan], [np.nan, 0], [1, 0]])
    assert table.ignored == {"mol_id": "text", "unused": "empty"}
    data = path.read_bytes()
    assert table.fingerprint == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    assert (table.task, table.origin) == ("classification", str(path))


def test_blank_rows_do_not_move_the_row_numbers_and_quoting_and_byte_order_marks_do_no_harm(tmp_path):
    plain = read_assays(write(tmp_path / "a.csv", "smiles,a,note\nC,1,\nCC,0,x\n"))
    odd = b'\xef\xbb\xbf"smiles","a","note"\r\n\r\n" C ","1",\r\n,,\r\nCC, 0 ,"x, ""y""\nz"\r\n\r\n'
    table = read_assays(write(tmp_path / "b.csv", odd))
    assert table.row_N.tolist() == [3, 5]
    assert table.smiles == plain.smiles
    np.testing.assert_array_equal(table.values_NxA, plain.values_NxA)
    # a row that says anything is kept, even in a column that is not an assay
    assert read_assays(write(tmp_path / "c.csv", "smiles,a,note\nC,1,\n,,lost\n")).smiles == ("C", "")


def test_the_smiles_column_is_found_by_name_or_given(tmp_path):
    path = write(tmp_path / "t.csv", "Mol,SMILES,other,a\nC,CC,CCC,1\n")
    assert read_assays(path).smiles == ("CC",)
    assert read_assays(path, smiles_column="other").smiles == ("CCC",)
    assert read_assays(path).ignored == {"Mol": "text", "other": "text"}
    assert read_assays(write(path, "a,Canonical_Smiles,Mol\n1,CCC,C\n")).smiles == ("CCC",)
    assert read_assays(write(path, "a,mol\n1,CCC")).smiles == ("CCC",)


def test_measured_values_are_read_as_they_are(tmp_path):
    text = "smiles,logS,id,flag\nC,-1.5,M1,true\nCC,3e-2,M2,false\nCCC,,M3,\n"
    table = read_assays(write(tmp_path / "t.csv", text), task="regression")
    np.testing.assert_array_equal(table.values_NxA, np.array([[-1.5], [0.03], [np.nan]], np.float32))
    assert (table.assays, table.ignored, table.task) == (("logS",), {"id": "text", "flag": "text"}, "regression")


def test_ignored_columns_may_hold_anything(tmp_path):
    path = write(tmp_path / "t.csv", "smiles,a,pIC50\nC,1,6.2\n")
    table = read_assays(path, ignore=["pIC50"])
    assert (table.assays, table.ignored) == (("a",), {"pIC50": "as asked"})


def test_parquet_gives_what_csv_gives(tmp_path):
    expected = read_assays(write(tmp_path / "t.csv", TABLE))
    path = write_parquet(
        tmp_path / "t.parquet",
        **{
            "mol_id": pyarrow.array(["TOX1", "TOX2", "TOX3", "TOX4"]).dictionary_encode(),
            "NR-AR": pyarrow.array([0.0, 1.0, float("nan"), 1.0]),
            "smiles": ["CCO", "c1ccccc1", "CC(=O)O", None],
            "NR-ER": [True, None, False, False],
            "unused": pyarrow.nulls(4),
            "when": pyarrow.array([0, 1, 2, 3], pyarrow.date32()),
            "__index_level_0__": [7, 8, 9, 10],
        },
    )
    table = read_assays(path)
    assert (table.smiles, table.assays) == (expected.smiles, expected.assays)
    assert table.ignored == {**expected.ignored, "when": "date32[day]", "__index_level_0__": "index of pandas"}
    np.testing.assert_array_equal(table.values_NxA, expected.values_NxA)
    np.testing.assert_array_equal(table.row_N, expected.row_N)


CELLS = st.sampled_from(["", "0", "1", "0.0", "1.0", "true", "FALSE", " 1"])


@settings(deadline=None)  # the machine may be busy
@given(rows=st.lists(st.lists(CELLS, min_size=3, max_size=3), min_size=1, max_size=20), zipped=st.booleans())
def test_every_cell_comes_back_where_it_was(tmp_path_factory, rows, zipped):
    path = tmp_path_factory.mktemp("t") / ("t.csv" + ".gz" * zipped)
    lines = ["smiles,a,b,c", "C,0,0,0", *(f"CC{'C' * i},{','.join(row)}" for i, row in enumerate(rows))]
    table = read_assays(write(path, "\n".join(lines)))
    meaning = {"": np.nan, "0": 0, "1": 1, "0.0": 0, "1.0": 1, "true": 1, "FALSE": 0, " 1": 1}
    np.testing.assert_array_equal(table.values_NxA[1:], [[meaning[cell] for cell in row] for row in rows])


WORDS = "smiles,outcome,sign,odd\nC,Active,1,0\nCC,Inactive,-1,NA\nCCC,inconclusive,-1.0,1\nCCCC,,,\n"


def test_labels_give_cells_a_meaning(tmp_path):
    path = write(tmp_path / "t.csv", WORDS)
    labels = {"active": 1.0, "INACTIVE": 0.0, "inconclusive": None, "-1": 0.0, "na": None}
    table = read_assays(path, labels=labels)
    assert table.assays == ("outcome", "sign", "odd") and not table.ignored
    expected = [[1, 1, 0], [0, 0, np.nan], [np.nan, 0, 1], [np.nan] * 3]
    np.testing.assert_array_equal(table.values_NxA, expected)
    assert "cells 'active' are 1" in table.notes and "cells 'na' are not measured" in table.notes
    with pytest.raises(InputError) as caught:
        read_assays(path)
    head, cells, words = str(caught.value).splitlines()
    assert head == "2 things are wrong:" and "column 'sign': '-1' is neither" in cells and "--labels 1=1,-1=0" in cells
    assert "column 'outcome' holds labels in words: say what they mean with labels (--labels active=1" in words
    assert "inactive=0,inconclusive=;" in words
    measured = read_assays(write(path, "smiles,a\nC,1.5\nCC,n.d.\n"), task="regression", labels={"n.d.": None})
    np.testing.assert_array_equal(measured.values_NxA, np.array([[1.5], [np.nan]], np.float32))


@pytest.mark.parametrize(("separator", "name"), [(";", "semicolon"), ("\t", "tab"), ("|", "bar")])
def test_other_separators_and_decimal_commas_are_found(tmp_path, separator, name):
    text = "smiles;logS;unit price\nC;-1,5;3.5\nCC;0,125;4\nCCC;;1\n".replace(";", separator)
    table = read_assays(write(tmp_path / "t.csv", text), task="regression")
    np.testing.assert_array_equal(table.values_NxA, np.array([[-1.5, 3.5], [0.125, 4], [np.nan, 1]], np.float32))
    assert table.notes == (f"columns are separated by a {name}", "decimal commas in logS")


@pytest.mark.parametrize("text", ['smiles,a\nC,"1,5"\nCC,"2,5"\n', "smiles;a\nC;1,500\nCC;2,250\n"])
def test_numbers_with_commas_that_may_mean_something_else_are_refused(tmp_path, text):
    with pytest.raises(InputError, match=r"column 'a' holds numbers with a comma .*decimal points"):
        read_assays(write(tmp_path / "t.csv", text), task="regression")


@pytest.mark.parametrize(
    ("name", "cells", "why"),
    [
        ("CID", [2244, 17, 5793, 6], "is called like an id"),
        ("Unnamed: 0", [0, 1, 2, 3], "is called like an id"),
        ("serial", range(100, 112), "grow from row to row"),
        ("ESOL predicted log solubility", [-1.5, -2.5, 0.5, 1], "is called a prediction"),
    ],
)
def test_ids_and_predictions_are_no_assays_unless_kept(tmp_path, name, cells, why):
    rows = "".join(f"{'C' * (n + 1)},{-n / 2},{cell}\n" for n, cell in enumerate(cells))
    path = write(tmp_path / "t.csv", f"smiles,measured log solubility,{name}\n{rows}")
    with pytest.raises(InputError, match=f"column '{name}' .*{why}.*--ignore.*--keep"):
        read_assays(path, task="regression")
    assert read_assays(path, task="regression", keep=[name]).assays == ("measured log solubility", name)
    assert read_assays(path, task="regression", ignore=[name]).ignored == {name: "as asked"}


def test_counts_are_assays(tmp_path):
    rows = "".join(f"{'C' * (n + 1)},{-n / 2},{n % 3},{7 - n}\n" for n in range(8))
    path = write(tmp_path / "t.csv", f"smiles,logS,Number of Rings,Minimum Degree\n{rows}")
    assert read_assays(path, task="regression").assays == ("logS", "Number of Rings", "Minimum Degree")


# --------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("smiles,a,b\nC,1,0\nCC,1,2\n", r"row 3, column 'b': '2' is neither 0, 1 nor empty; .*--ignore.*--task regr"),
        ("smiles,a,b,c\nC,1,0,7\nCC,NA,-1,\n", r"row 3, column 'a': 'NA' .*also in b, c\).*leave cells empty"),
        ("smiles,a\nC,1\nCC,nan\n", "row 3, column 'a': 'nan' .*leave cells empty"),
        ("smiles,a\n\nC,1\nCC,1_0\n", "row 4, column 'a': '1_0'"),
        ("smiles,a,b\nC,1,0\nCC,1\n", "row 3: 2 cell.* where the header has 3; .*cut off"),
        ("smiles,a\nC,1\nCC,1,0\nC,0\n", "row 3: 3 cell.* where the header has 2"),
        ('smiles,a\nC,1\n"CC,0\nCCC,1\n', "row 3: 1 cell.* where the header has 2; a quotation mark is not closed"),
        (b"smiles,a\nC,1\n\xff,1\n", "row 3: not valid UTF-8"),
        ("smiles,a,a\nC,1,1\n", "the column 'a' is there 2 times"),
        (",smiles,a\n0,C,1\n", "column 1 has no name.*index=False"),
        ("name,a,b\nC,1,1\n", "no SMILES column .*the columns are name, a, b; .*--smiles-column"),
        ("\nsmiles,a\nC,1\n", "the first row must name the columns; it is blank"),
        ("smiles,a\n", "a header without rows"),
        ("smiles,a", "a header without rows"),
        ("smiles,name,a\nC,methane,\n", r"no assay; the columns are smiles \(SMILES\), name \(text\), a \(empty\)"),
        ("smiles\nC\n", r"no assay; the columns are smiles \(SMILES\)$"),
        (b"", "empty"),
        (" \n\n", "empty"),
    ],
)
def test_bad_tables_name_file_and_place(tmp_path, text, message):
    with pytest.raises(InputError, match=rf"bad\.csv.*{message}"):
        read_assays(write(tmp_path / "bad.csv", text))


@pytest.mark.parametrize("cell", ["inf", "-Infinity", "1e39", "x", "1,5"])
def test_a_measured_value_must_be_a_finite_number(tmp_path, cell):
    path = write(tmp_path / "bad.csv", f'smiles,a\nC,2.5\nCC,"{cell}"\n')
    with pytest.raises(
        InputError, match=rf"bad\.csv, row 3, column 'a': '{cell}' is neither a finite number nor empty"
    ):
        read_assays(path, task="regression")


def test_names_that_are_no_column_come_with_the_closest(tmp_path):
    path = write(tmp_path / "t.csv", "smiles,NR-AR,NR-ER,SR-p53\nC,1,1,1\n")
    with pytest.raises(InputError, match=r"--ignore\) names 'sr-P35', which is no column; the closest names are 'SR-p"):
        read_assays(path, ignore=["sr-P35"])
    with pytest.raises(InputError, match=r"t\.csv: no column is called 'smile'; the closest names are 'smiles'"):
        read_assays(path, smiles_column="smile")
    with pytest.raises(InputError, match="'smiles', which is the SMILES column"):
        read_assays(path, ignore=["smiles"])
    assert closest_names("nr-xr", ["SR-p53", "NR-AR", "NR-ER"], shown=2) == "the closest names are 'NR-AR', 'NR-ER'"
    assert closest_names("b", ["a"]) == "the closest name is 'a'"


def test_damaged_and_foreign_files_are_named(tmp_path):
    rows = "".join(f"{'C' * (i % 50 + 1)},{i % 2}\n" for i in range(5000))
    path = write(tmp_path / "cut.csv.gz", "smiles,a\n" + rows)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cut\.csv\.gz: truncated gzip, the end is missing from row [1-9]\d+ on"):
        read_assays(path)
    path.write_bytes(b"smiles,a\nC,1\n")
    with pytest.raises(InputError, match=r"cut\.csv\.gz: not a valid gzip"):
        read_assays(path)
    path.write_bytes(whole[:50] + bytes(50) + whole[100:])
    with pytest.raises(InputError, match=r"cut\.csv\.gz"):
        read_assays(path)
    with pytest.raises(InputError, match=r"a\.xlsx: unsupported kind of file; known are \.csv, \.csv\.gz, \.parquet"):
        read_assays(tmp_path / "a.xlsx")
    with pytest.raises(InputError, match=r"none\.csv: no such file"):
        read_assays(tmp_path / "none.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InputError, match=r"folder\.csv: cannot be read \(Is a directory\)"):
        read_assays(tmp_path / "folder.csv")


def test_a_row_with_nothing_but_a_date_is_kept(tmp_path):
    when = pyarrow.array([None, 3, None], pyarrow.date32())
    path = write_parquet(tmp_path / "t.parquet", smiles=["C", None, None], a=[1, None, None], when=when)
    assert read_assays(path).row_N.tolist() == [2, 3]


def test_bad_parquet_names_file_and_place(tmp_path):
    path = write_parquet(tmp_path / "t.parquet", smiles=["C", "CC"], a=[1, 2])
    with pytest.raises(InputError, match=r"t\.parquet, row 3, column 'a': '2' is neither 0, 1 nor empty"):
        read_assays(path)
    path = write_parquet(tmp_path / "t.parquet", smiles=[1, 2], a=[1, 0])
    with pytest.raises(InputError, match=r"t\.parquet: the SMILES column 'smiles' holds int64, not text"):
        read_assays(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"t\.parquet: cannot be read as Parquet"):
        read_assays(path)
