"""Labeled time series from any of the known places: made ones, files and folders, the few that aeon ships."""

import dataclasses
import importlib.metadata
import importlib.util
import re
from pathlib import Path

from mixmin_jax.data.files import list_folder, read_bytes, refuse_odd_name
from mixmin_jax.data.series.made_series import made_series
from mixmin_jax.data.series.series_files import Axes, read_lines, read_npz, read_parquet, read_ts
from mixmin_jax.data.series.series_sets import Missing, RawSeries, SeriesSet, SeriesSets, series_sets
from mixmin_jax.errors import InputError, closest_names, list_some

MADE = "made"
FOLDER_PREFIX, FILE_PREFIX, AEON_PREFIX = "folder:", "file:", "aeon:"
SUFFIXES = (".ts", ".tsv", ".parquet", ".npz", ".txt")  # the first that a folder has both parts of is read
_PART = re.compile(r"(?:(.*)[_-])?(train|test)", re.I)


@dataclasses.dataclass(frozen=True)
class SeriesReading:
    """What files do not say themselves. See `series_sets`, `read_npz` and `read_parquet`."""

    length: int | None = None
    missing: Missing = "refuse"
    axes: Axes | None = None
    label_column: str | None = None


def read_series(spec: str, reading: SeriesReading = SeriesReading()) -> SeriesSets:
    """The training and the test set of `made`, `folder:PATH`, `file:PATH` or `aeon:NAME`.

    - made: `made_series`.
    - folder: the files NAME_TRAIN and NAME_TEST of one format in it (also train and test), or its only file with both.
    - file: a training file with its test file beside it, or one file, of which a fifth of each class is drawn to test
      on, unless it has both parts.
    - aeon: data sets of the UCR and UEA archives that the installed package aeon carries. Nothing is downloaded.

    Raises:
        InputError: another spec, files that are missing or not clearly two parts of one data set, an option that the
            data have no use for; errors of the readers and of `series_sets`.
    """
    if spec == MADE:
        if reading != SeriesReading():
            raise InputError(
                f"{MADE} series come from no file: leave out --length, --missing, --axes and --label-column"
            )
        return made_series()
    for prefix, find in ((FOLDER_PREFIX, _in_folder), (FILE_PREFIX, _file), (AEON_PREFIX, _in_aeon)):
        if spec.startswith(prefix) and spec != prefix:
            refuse_odd_name(spec)
            found = _read(*find(spec.removeprefix(prefix)), reading)
            return found if prefix != AEON_PREFIX else SeriesSets(*map(_of_package, (found.train, found.test)))
    hint = ""
    if spec and Path(spec).exists():
        hint = f"; did you mean {FOLDER_PREFIX if Path(spec).is_dir() else FILE_PREFIX}{spec}?"
    raise InputError(
        f"{spec!r}: unknown series; known are {MADE}, {FOLDER_PREFIX}PATH, {FILE_PREFIX}PATH and"
        f" {AEON_PREFIX}NAME{hint}"
    )


def read_one_file(path: Path, reading: SeriesReading, labels: bool) -> RawSeries:
    """The series of one file, as it holds them: to predict. Without `labels`, those in the file have no meaning.

    Raises:
        InputError: a file of another kind, or with a training and a test part; an option that it has no use for.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: series are read from {', '.join(SUFFIXES)} files")
    _refuse_useless(path, reading)
    found, more = _parts(path, reading, labels)
    if more is not None:
        raise InputError(f"{path}: it has a training and a test part; write the one that you mean, as X")
    return found


def _refuse_useless(path: Path, reading: SeriesReading) -> None:
    if reading.axes is not None and path.suffix.lower() != ".npz":
        raise InputError(f"{path}: --axes is for .npz files; leave it out")
    if reading.label_column is not None and path.suffix.lower() != ".parquet":
        raise InputError(f"{path}: --label-column is for .parquet files; leave it out")


def _read(train: Path, test: Path | None, reading: SeriesReading) -> SeriesSets:
    name = _name(train)
    _refuse_useless(train, reading)
    first, second = _parts(train, reading)
    if test is not None:
        other, more = _parts(test, reading)
        if second or more:
            raise InputError(f"{train if second else test}: it has training and test arrays, and {test} lies beside it")
        second = other
    return series_sets(name, first, second, reading.length, reading.missing)


def _parts(path: Path, reading: SeriesReading, labels: bool = True) -> tuple[RawSeries, RawSeries | None]:
    suffix = path.suffix.lower()
    if suffix == ".npz":
        return read_npz(path, reading.axes, labels)
    if suffix == ".parquet":
        return read_parquet(path, reading.label_column), None
    return (read_ts if suffix == ".ts" else read_lines)(path), None


def _part_of(path: Path) -> tuple[str, str] | None:
    """(name, part) of a file called NAME_TRAIN or NAME_TEST, in lower case; None for others."""
    found = _PART.fullmatch(path.stem)
    return ((found[1] or "").lower(), found[2].lower()) if found else None


def _name(train: Path) -> str:
    found = _PART.fullmatch(train.stem)
    return (found[1] or train.resolve().parent.name) if found else train.stem


def _in_folder(place: str) -> tuple[Path, Path | None]:
    files = [path for path in list_folder(Path(place)) if path.suffix.lower() in SUFFIXES and path.is_file()]
    parts: dict[tuple[str, str], dict[str, Path]] = {}
    for path in files:
        if found := _part_of(path):
            parts.setdefault((found[0], path.suffix.lower()), {})[found[1]] = path
    pairs = {key: pair for key, pair in parts.items() if len(pair) == 2}
    if len({name for name, _ in pairs}) > 1:
        trains = [str(pair["train"].name) for pair in pairs.values()]
        raise InputError(f"{place}: several data sets ({list_some(trains)}); name the training file, {FILE_PREFIX}PATH")
    if pairs:
        pair = min(pairs.items(), key=lambda item: SUFFIXES.index(item[0][1]))[1]
        return pair["train"], pair["test"]
    if len(files) == 1 and _part_of(files[0]) is None:
        return files[0], None
    raise InputError(
        f"{place}: no NAME_TRAIN with a NAME_TEST of the same format ({', '.join(SUFFIXES)}), and no single file; there"
        f" is {list_some([path.name for path in files]) or 'none of these formats'}"
    )


def _file(place: str) -> tuple[Path, Path | None]:
    path = Path(place)
    if not path.is_file():
        raise InputError(
            f"{place}: no such file" + (f"; did you mean {FOLDER_PREFIX}{place}?" if path.is_dir() else "")
        )
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{place}: series are read from {', '.join(SUFFIXES)} files")
    found = _part_of(path)
    if found is None:
        return path, None
    if found[1] == "test":
        raise InputError(f"{place}: name the training file; the test file beside it is found")
    for other in list_folder(path.parent):
        if other.suffix.lower() == path.suffix.lower() and _part_of(other) == (found[0], "test"):
            return path, other
    raise InputError(f"{place}: its test file is not beside it; rename the file to have a test part drawn from it")


def _of_package(found: SeriesSet) -> SeriesSet:
    """A set whose origin is the package's version, not the place where it is installed."""
    version = importlib.metadata.version("aeon")
    return dataclasses.replace(found, origin=f"aeon {version}, {Path(found.origin).name}")


def _in_aeon(name: str) -> tuple[Path, Path]:
    package = importlib.util.find_spec("aeon")
    if package is None or package.origin is None:
        raise InputError(f'{AEON_PREFIX}{name}: aeon is not installed; pip install -e ".[series]"')
    folder = Path(package.origin).parent / "datasets" / "data"
    known = {}
    for train in folder.glob("*/*_TRAIN.ts"):
        test = train.with_name(train.name.replace("_TRAIN", "_TEST"))
        if test.is_file() and b"@classlabel true" in read_bytes(train)[:5000].lower():
            known[train.stem.removesuffix("_TRAIN")] = train, test
    if name not in known:
        names = list_some(sorted(known), 20)
        raise InputError(
            f"{AEON_PREFIX}{name}: aeon does not carry it; {closest_names(name, known)}. It carries {names}. Others of"
            f" the archive: download them, and give {FOLDER_PREFIX}PATH"
        )
    return known[name]
