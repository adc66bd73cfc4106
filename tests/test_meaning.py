"""A semantic fuzz: valid inputs are changed so that they mean something else, or only look different.

A reader must give the same answer as before, or refuse. It may never give another one.
"""

import json

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from experiments.weights_from_file.data import Roles
from experiments.weights_from_file.targets import read_targets
from mixmin_jax import InputError, cross_entropy, solve, squared_error
from mixmin_jax.data.images.folders import read_image_folder
from mixmin_jax.data.molecules.assay_tables import read_assays
from tests.data.images.test_folders import PETS, written
from tests.experiments.weights_from_file.harness_lines import cloze, write

SEEDS = range(6)
SAME, REFUSED = "same", "refused"
NAMES = ("web", "code", "books")


def table(rng):
    """Log-likelihoods by source."""
    logp = -20 + rng.normal(size=(12, 3)) * 3
    return dict(zip(NAMES, logp.T, strict=True))


def an_id(rng):
    """A column that is no source, under a usual name."""
    ids = rng.permutation(12) + rng.integers(0, 1000)
    kind = rng.integers(4)
    name = rng.choice([["doc_id", "idx", "Unnamed: 0"], ["num_tokens", "n"], ["x", "key"], ["fold", "label"]][kind])
    return name, [ids, ids % 5 + 3, np.sort(ids), ids % 2][kind]


def inserted(rng, columns, name, values):
    items = list(columns.items())
    items.insert(rng.integers(len(items) + 1), (name, values))
    return dict(items)


def shuffled(rng, items):
    items = list(items)
    return [items[n] for n in rng.permutation(len(items))]


def permuted(rng, columns):
    order = rng.permutation(12)
    return {name: values[order] for name, values in shuffled(rng, columns.items())}


def flipped(rng, columns):
    which = rng.choice(NAMES, size=rng.integers(1, 4), replace=False)
    return {name: -values if name in which else values for name, values in columns.items()}


CHANGES = {
    "permuted": (permuted, SAME),
    "ids shifted in": (lambda rng, columns: inserted(rng, columns, *an_id(rng)), REFUSED),
    "signs flipped": (flipped, REFUSED),
    "probabilities": (lambda rng, columns: {name: np.exp(values) for name, values in columns.items()}, REFUSED),
}


def written_csv(path, columns, separator=",", mark="."):
    rows = zip(*columns.values(), strict=True)
    lines = [separator.join(columns), *(separator.join(f"{x}".replace(".", mark) for x in row) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def written_npz(path, columns):
    np.savez(path, log_likelihoods=np.column_stack(list(columns.values())), sources=list(columns))
    return path


def written_parquet(path, columns, index=None):
    found = pyarrow.table(columns)
    if index:
        found = found.replace_schema_metadata({"pandas": json.dumps({"index_columns": [index]})})
    pyarrow.parquet.write_table(found, path)
    return path


WRITERS = {".csv": written_csv, ".npz": written_npz, ".parquet": written_parquet}


def weights(path, **roles):
    """The answer: weights by source, and the loss."""
    (target,) = read_targets([path], roles=Roles(**roles))
    return solved(target.objective(), target.table.sources)


def solved(objective, names):
    solution = solve(objective)
    return dict(zip(names, solution.weights, strict=True)) | {"loss": solution.loss}


def verdict(expected, answer, *args, **options):
    """Whether an answer is the one expected, or an input is refused."""
    try:
        found = answer(*args, **options)
    except InputError:
        return REFUSED
    assert sorted(found) == sorted(expected), "another answer"
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-5, err_msg="another answer")
    return SAME


@pytest.mark.parametrize("kind", WRITERS)
def test_tables_of_log_likelihoods(tmp_path, kind):
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        columns = table(rng)
        expected = weights(WRITERS[kind](tmp_path / f"a{kind}", columns))
        for name, (change, right) in CHANGES.items():
            changed = change(rng, columns)
            path = WRITERS[kind](tmp_path / f"b{kind}", changed)
            assert verdict(expected, weights, path) == right, (name, seed, list(changed))
        name, values = an_id(rng)
        path = WRITERS[kind](tmp_path / f"b{kind}", inserted(rng, columns, name, values))
        assert verdict(expected, weights, path, ignore=(name,)) == SAME


def test_separators_and_indices_of_tables(tmp_path):
    columns = table(np.random.default_rng(0))
    expected = weights(written_csv(tmp_path / "a.csv", columns))
    for separator in ";\t|":
        for mark in ".,":
            assert verdict(expected, weights, written_csv(tmp_path / "b.csv", columns, separator, mark)) == REFUSED
    quoted = {f'"{name}"': [f'"{value}"'.replace(".", ",") for value in values] for name, values in columns.items()}
    assert verdict(expected, weights, written_csv(tmp_path / "b.csv", quoted)) == REFUSED
    for name in ("id", "__index_level_0__", "code2"):
        changed = columns | {name: np.arange(12) - 40.5}
        assert verdict(expected, weights, written_parquet(tmp_path / "b.parquet", changed, index=name)) == SAME


def test_logs(tmp_path):
    def answer(logs):
        return weights_of_logs({name: write(tmp_path / f"{name}.jsonl", lines) for name, lines in logs.items()})

    def weights_of_logs(paths):
        (target,) = read_targets([f"{name}={path}" for name, path in paths.items()])
        return solved(target.objective(), target.table.sources)

    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        columns = table(rng)
        logs = {name: [cloze(n, x) for n, x in enumerate(values.tolist())] for name, values in columns.items()}
        expected = answer(logs)
        assert verdict(expected, answer, {name: shuffled(rng, logs[name]) for name in shuffled(rng, logs)}) == SAME
        one = rng.choice(NAMES)
        shifted = [line | {"doc_id": line["doc_id"] + 1} for line in logs[one]]
        reversed_sign = [cloze(n, -x) for n, x in enumerate(columns[one].tolist())]
        renamed = [line | {"doc_id": 11 - line["doc_id"]} for line in logs[one]]
        for changed in (shifted, reversed_sign, renamed):
            assert verdict(expected, answer, logs | {one: changed}) == REFUSED


def test_labeled_arrays():
    pd = pytest.importorskip("pandas")
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        rows = [f"document {n}" for n in range(12)]
        frame = pd.DataFrame(table(rng), index=rows)
        v = pd.Series(rng.random(12) / 12, index=rows)

        def answer(frame, v=None):
            return solved(cross_entropy(frame, v), frame.columns)

        expected = answer(frame, v)
        assert verdict(expected, answer, frame[shuffled(rng, frame)], v.iloc[rng.permutation(12)]) == SAME
        assert verdict(expected, answer, frame.iloc[rng.permutation(12)], v) == SAME
        assert verdict(expected, answer, frame, v.set_axis(shuffled(rng, range(12)))) == REFUSED
        assert verdict(expected, answer, frame.assign(doc_id=rng.permutation(12)), v) == REFUSED
        assert verdict(expected, answer, -frame, v) == REFUSED
        y = pd.Series(rng.normal(size=12), index=rows)
        least = solved(squared_error(frame, y), NAMES)
        moved = y.iloc[rng.permutation(12)]
        assert verdict(least, lambda y, frame=frame: solved(squared_error(frame, y), NAMES), moved) == SAME


def values_of(path, **options):
    """The answer: values by assay and structure."""
    found = read_assays(path, **options)
    values = zip(found.smiles, found.values_NxA, strict=True)
    return {f"{text} {name}": x for text, row in values for name, x in zip(found.assays, row, strict=True)}


def test_assay_tables(tmp_path):
    path = tmp_path / "t.csv"
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        smiles = np.array(["C" * (n + 1) for n in range(12)])
        measured = {"smiles": smiles, "logS": -rng.random(12).round(3) * 5, "pKa": 9 * rng.random(12).round(2)}
        expected = values_of(written_csv(path, measured), task="regression")

        def check(columns, *layout, expected=expected, **options):
            return verdict(expected, values_of, written_csv(path, columns, *layout), task="regression", **options)

        assert check(permuted(rng, measured)) == SAME
        for separator in ";\t|":
            assert check(measured, separator) == SAME and check(measured, separator, ",") == SAME
        for name in ("CID", "Unnamed: 0", "pKa (predicted)", "serial"):
            changed = inserted(rng, measured, name, np.arange(100, 112))
            assert check(changed) == REFUSED and check(changed, ignore=(name,)) == SAME

        active = rng.random(12) < 0.5
        active[:2] = True, False
        labels = {"smiles": smiles, "tox": active.astype(int)}
        known = values_of(written_csv(path, labels))
        for yes, no in (("Active", "Inactive"), ("1", "-1"), ("yes", "no"), ("+", "-"), ("2", "1")):
            written_csv(path, labels | {"tox": np.where(active, yes, no)})
            assert verdict(known, values_of, path) == REFUSED
            assert verdict(known, values_of, path, labels={yes: 1.0, no: 0.0}) == SAME
        gap = known | {f"{smiles[3]} tox": np.nan}
        for cell in ("NA", "NaN", "None", "inconclusive", "-1", ""):
            written_csv(path, labels | {"tox": [cell if n == 3 else int(x) for n, x in enumerate(active)]})
            assert verdict(gap, values_of, path) == (REFUSED if cell else SAME)
            assert verdict(gap, values_of, path, labels={cell: None}) == SAME


@pytest.mark.parametrize(
    ("train", "test", "right"),
    [
        ("training", "testing", SAME),
        ("TRAIN", "val", SAME),
        ("training_set", "Test", SAME),
        ("test", "train", "swapped"),
        ("a", "b", REFUSED),
        ("train", "holdout", REFUSED),
        ("fit", "test", REFUSED),
    ],
)
def test_renamed_splits_of_images(tmp_path, train, test, right):
    def answer(files):
        images = read_image_folder(written(tmp_path / f"pets{len(list(tmp_path.iterdir()))}", files))
        return {"train": images.train.images_NxHxWxC, "test": images.test.images_NxHxWxC}

    renamed = {name.replace("train/", "A/").replace("test/", "B/"): data for name, data in PETS.items()}
    renamed = {name.replace("A/", f"{train}/").replace("B/", f"{test}/"): data for name, data in renamed.items()}
    if right == "swapped":  # a user says so, and nothing else does
        assert len(answer(renamed)["train"]) == len(answer(PETS)["test"])
    else:
        assert verdict(answer(PETS), answer, renamed) == right
