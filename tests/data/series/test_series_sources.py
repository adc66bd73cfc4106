"""Series from files of every format, made in the tests, and what is refused of them."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mixmin_jax.data.series.augmentation import shift_and_jitter
from mixmin_jax.data.series.made_series import made_series
from mixmin_jax.data.series.series_files import label_name, read_parquet
from mixmin_jax.data.series.series_sets import sorted_labels
from mixmin_jax.data.series.sources import SeriesReading, read_series
from mixmin_jax.errors import InputError

TRAIN_NxSxC = np.random.default_rng(0).normal(size=(6, 5, 2)).astype(np.float32)
TEST_NxSxC = np.random.default_rng(1).normal(size=(4, 5, 2)).astype(np.float32)
TRAIN_LABELS, TEST_LABELS = ["10", "9", "10", "9", "10", "9"], ["9", "10", "9", "10"]
PARTS = {"TRAIN": (TRAIN_NxSxC, TRAIN_LABELS), "TEST": (TEST_NxSxC, TEST_LABELS)}
HEADER = "# a comment\n@problemName p\n@timeStamps false\n@univariate false\n@classLabel true 9 10\n@data\n"


def ts(series, labels, header=HEADER):
    rows = [":".join(",".join(map(str, channel)) for channel in one.T) for one in series]
    return header + "".join(f"{row}:{label}\n" for row, label in zip(rows, labels, strict=True))


def lines(series, labels, separator="\t"):
    rows = [separator.join(map(str, one[:, 0])) for one in series]
    return "".join(f"{label}{separator}{row}\n" for label, row in zip(labels, rows, strict=True))


def write_pair(folder, suffix, text):
    for part, (series, labels) in PARTS.items():
        (folder / f"p_{part}{suffix}").write_text(text(series, labels))


def assert_read(found, channels):
    for part, (series, labels) in zip((found.train, found.test), PARTS.values(), strict=True):
        np.testing.assert_array_equal(part.series_NxSxC, series[..., :channels])
        assert part.classes == ("9", "10") and [part.classes[label] for label in part.labels_N] == labels
        assert part.name == "p"


@pytest.mark.parametrize(
    ("suffix", "text", "channels"),
    [
        (".ts", ts, 2),
        (".tsv", lines, 1),
        (".txt", lambda series, labels: lines(series, [f"{label}.0000e+00" for label in labels], "  "), 1),
        (".txt", lambda series, labels: lines(series, labels, ","), 1),
    ],
)
def test_text_formats_give_the_same_series_from_a_folder_and_from_the_training_file(tmp_path, suffix, text, channels):
    write_pair(tmp_path, suffix, text)
    assert_read(read_series(f"folder:{tmp_path}"), channels)
    assert_read(read_series(f"file:{tmp_path / f'p_TRAIN{suffix}'}"), channels)


def test_arrays_are_read_with_the_axes_that_are_named(tmp_path):
    arrays = {"X_train": TRAIN_NxSxC, "y_train": TRAIN_LABELS, "X_test": TEST_NxSxC, "y_test": TEST_LABELS}
    np.savez(tmp_path / "p.npz", **arrays)
    assert_read(read_series(f"file:{tmp_path / 'p.npz'}", SeriesReading(axes="NSC")), 2)
    with pytest.raises(InputError, match="6 x 5 x 2; say which axis is which: --axes"):
        read_series(f"folder:{tmp_path}")
    swapped = {name: x.swapaxes(1, 2) if name[0] == "X" else x for name, x in arrays.items()}
    np.savez(tmp_path / "p.npz", **swapped)
    assert_read(read_series(f"file:{tmp_path / 'p.npz'}", SeriesReading(axes="NCS")), 2)
    np.savez(tmp_path / "p.npz", X=TRAIN_NxSxC[..., 0], y=[1, 0, 1, 0, 1, 0])
    found = read_series(f"file:{tmp_path / 'p.npz'}")
    assert found.train.num_series == 4 and found.test.num_series == 2 and "drawn with seed" in found.test.origin
    np.savez(tmp_path / "p.npz", X=TRAIN_NxSxC, time=[1])
    with pytest.raises(InputError, match="the arrays X, time; expected X_train"):
        read_series(f"file:{tmp_path / 'p.npz'}")


def test_tables_are_read_with_a_column_per_step_or_a_list_per_channel(tmp_path):
    for part, (series, labels) in PARTS.items():
        columns = {"kind": labels} | {f"t{step}": series[:, step, 0] for step in range(5)}
        pq.write_table(pa.table(columns), tmp_path / f"p_{part}.parquet")
    named = SeriesReading(label_column="kind")
    assert_read(read_series(f"folder:{tmp_path}", named), 1)
    with pytest.raises(InputError, match="by --label-column; columns: kind, t0"):
        read_series(f"folder:{tmp_path}")
    with pytest.raises(InputError, match="no column 'knd'; the closest names are 'kind'"):
        read_series(f"folder:{tmp_path}", SeriesReading(label_column="knd"))
    for part, (series, labels) in PARTS.items():
        columns = {"kind": labels, "x": list(series[..., 0]), "y": list(series[..., 1])}
        pq.write_table(pa.table(columns), tmp_path / f"p_{part}.parquet")
    assert_read(read_series(f"folder:{tmp_path}", named), 2)
    pq.write_table(pa.table({"kind": ["a", "b"], "id": [1, 2], "t0": [0.5, 0.7]}), tmp_path / "p_TRAIN.parquet")
    with pytest.raises(InputError, match=r"numbers of one type.*id: int64, t0: double"):
        read_series(f"folder:{tmp_path}", named)


def test_series_of_other_lengths_are_resampled_when_asked(tmp_path):
    for part in PARTS:
        (tmp_path / f"p_{part}.tsv").write_text("a\t0\t1\t2\nb\t4\t6\tNaN\n")  # the archive pads shorter ones
    with pytest.raises(InputError, match=r"series of 2 to 3 steps; give --length .*--length 3\)"):
        read_series(f"folder:{tmp_path}")
    found = read_series(f"folder:{tmp_path}", SeriesReading(length=5)).train.series_NxSxC[..., 0]
    np.testing.assert_array_equal(found, [[0, 0.5, 1, 1.5, 2], [4, 4.5, 5, 5.5, 6]])


def test_missing_values_are_refused_with_their_place_or_filled(tmp_path):
    for part in PARTS:
        (tmp_path / f"p_{part}.ts").write_text(HEADER + "?,1,NaN,3,?:9\n5,5,5,5,5:10\n")
    with pytest.raises(InputError, match=r"p_TRAIN.ts, line 7: no value at step 1 of channel 1; --missing interpolate"):
        read_series(f"folder:{tmp_path}")
    found = read_series(f"folder:{tmp_path}", SeriesReading(missing="interpolate"))
    np.testing.assert_array_equal(found.train.series_NxSxC[0, :, 0], [1, 1, 2, 3, 3])


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no NAME_TRAIN with a NAME_TEST"),
        ({"a_TRAIN.ts": "", "a_TEST.ts": "", "b_TRAIN.tsv": "", "b_TEST.tsv": ""}, "several data sets"),
        ({"a_TRAIN.ts": "", "a_TEST.tsv": ""}, "no NAME_TRAIN with a NAME_TEST of the same format"),
        ({"a.tsv": ""}, "there is no series in it"),
        ({"a.tsv": "1\t2\t3\n2\t2\tx\n"}, "line 2: 'x' .value 2. is no number"),
        ({"a.tsv": "1 2 3\n"}, "line 1: one cell; expected a label and values, between tabs"),
        ({"a.tsv": "0.5\t2\t3\n"}, "label 0.5 is no whole number"),
        ({"a.tsv": "1\t2\tinf\n2\t2\t2\n"}, "line 1: an infinite value"),
        ({"a.tsv": "1\tNaN\tNaN\n2\t2\t2\n"}, "2 steps; give --length"),
        ({"a.tsv": "1\t2\t3\n1\t2\t2\n"}, "only one class"),
        ({"a.tsv": "1\t2\t3\n2\t2\t2\n"}, "class 1 has 1 series, too few to split"),
        ({"a.tsv": "1\t1e39\t3\n2\t2\t2\n"}, "values up to 1e[+]39"),
        ({"a.tsv": "1\t1000000000.1\t1000000000.2\n2\t1000000000.3\t1000000000.2\n"}, "less than float32 can tell"),
        (
            {"a_TRAIN.tsv": "1\t2\t3\n2\t2\t2\n", "a_TEST.tsv": "1\t2\t3\n3\t2\t2\n"},
            "only in train: 2",
        ),
        ({"a.ts": "1,2:3\n"}, "line 1: expected a header"),
        ({"a.ts": "@classLabel false\n@data\n1:2\n"}, "no header @classLabel true"),
        ({"a.ts": "@targetLabel true\n@data\n1:2\n"}, "this is a regression"),
        ({"a.ts": "@timeStamps true\n@classLabel true 1 2\n@data\n"}, "time stamps are not read"),
        ({"a.ts": "@classLabel true 1 2\n@data\n1,2:3\n"}, "'3' is none of @classLabel .1, 2."),
        ({"a.ts": "@classLabel true 1 2\n@data\n1,2:4:1\n"}, "channels of 2, 1 steps"),
        ({"a.ts": "@classLabel true 1 2\n@data\n1,2:4,4:1\n1,2:2\n"}, "line 4: 1 channel.*line 3 has 2"),
        ({"a.npz": "nothing"}, "no .npz file"),
        ({"a.parquet": "nothing"}, "no readable parquet"),
    ],
)
def test_files_that_are_not_clear_are_refused(tmp_path, files, message):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        read_series(f"folder:{tmp_path}")


def test_places_and_options_that_do_not_fit_are_refused(tmp_path):
    write_pair(tmp_path, ".ts", ts)
    for spec, message in (
        ("nowhere", "known are made, folder:PATH"),
        (str(tmp_path), "did you mean folder:"),
        (f"file:{tmp_path}", "no such file; did you mean folder:"),
        (f"file:{tmp_path / 'p_TEST.ts'}", "name the training file"),
    ):
        with pytest.raises(InputError, match=message):
            read_series(spec)
    for option, message in (({"axes": "NSC"}, "--axes is for .npz"), ({"label_column": "x"}, "--label-column is for")):
        with pytest.raises(InputError, match=message):
            read_series(f"folder:{tmp_path}", SeriesReading(**option))
    with pytest.raises(InputError, match="leave out --length"):
        read_series("made", SeriesReading(length=5))
    (tmp_path / "p_TEST.ts").unlink()
    with pytest.raises(InputError, match="its test file is not beside it"):
        read_series(f"file:{tmp_path / 'p_TRAIN.ts'}")


def test_labels_are_the_same_in_any_notation_and_sorted_as_numbers_if_they_are():
    assert {label_name(label, "") for label in (1, 1.0, "1", " 1.0", "1.0000e+00", b"1")} == {"1"}
    assert sorted_labels(["10", "9", "-1", "9"]) == ("-1", "9", "10") and sorted_labels(["b", "10", "9"])[0] == "10"


def test_made_series_are_always_the_same_balanced_and_all_different():
    one, other = made_series(), made_series()
    assert one.train.fingerprint == other.train.fingerprint != one.test.fingerprint
    assert one.train.series_NxSxC.shape == (1200, 128, 1) and one.train.classes[:2] == ("slow sine", "fast sine")
    assert (np.bincount(one.train.labels_N) == 150).all()
    both = np.concatenate([one.train.series_NxSxC, one.test.series_NxSxC])
    assert len(np.unique(both, axis=0)) == 2400


def test_shifts_move_whole_series_and_jitter_adds_noise():
    series = jnp.arange(20.0).reshape(1, 20, 1).repeat(50, axis=0)
    moved = np.asarray(shift_and_jitter(jax.random.key(0), series, 3, 0.0))[..., 0]
    assert set(moved[:, 10]) == {7, 8, 9, 10, 11, 12, 13} and moved.min() == 0 and moved.max() == 19
    noisy = shift_and_jitter(jax.random.key(0), series, 0, 0.5)
    assert abs(float((noisy - series).std()) - 0.5) < 0.05
    assert shift_and_jitter(jax.random.key(0), series, 0, 0.0) is series
    with pytest.raises(InputError, match="less than the series' 20 steps"):
        shift_and_jitter(jax.random.key(0), series, 20, 0.0)


def test_series_that_aeon_carries_are_those_that_aeon_reads():
    datasets = pytest.importorskip("aeon.datasets", exc_type=ImportError)
    for name in ("ItalyPowerDemand", "BasicMotions"):
        found = read_series(f"aeon:{name}")
        assert re.fullmatch(rf"aeon [\d.]+, {name}_TRAIN\.ts", found.train.origin)  # no path of this machine
        for part, split in ((found.train, "train"), (found.test, "test")):
            x_NxCxS, y = datasets.load_classification(name, split=split)
            np.testing.assert_array_equal(part.series_NxSxC, x_NxCxS.swapaxes(1, 2).astype(np.float32))
            assert [part.classes[label].lower() for label in part.labels_N] == list(y)  # aeon lowers names
    with pytest.raises(InputError, match=r"closest name.*'GunPoint'.*folder:PATH"):
        read_series("aeon:Gunpoints")


def test_an_index_of_pandas_is_no_step_and_an_id_is_refused(tmp_path):
    steps = {"t0": [1, 2], "t1": [3, 4], "label": ["a", "b"]}
    expected = read_parquet(written_parquet(tmp_path / "a.parquet", steps), "label")
    pandas = {"pandas": json.dumps({"index_columns": ["row"]})}
    indexed = read_parquet(written_parquet(tmp_path / "b.parquet", steps | {"row": [7, 8]}, pandas), "label")
    np.testing.assert_array_equal(indexed.series, expected.series)
    with pytest.raises(InputError, match="series_id would be steps"):
        read_parquet(written_parquet(tmp_path / "c.parquet", steps | {"series_id": [7, 8]}), "label")


def written_parquet(path, columns, metadata=None):
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), path)
    return path
