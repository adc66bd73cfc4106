"""Mixture weights from log-likelihoods that models of any framework wrote to a file.

    python -m experiments.weights_from_file --log-likelihoods scores.npz --out runs/weights

The file holds the log-likelihood (nats) of N target examples under K models, one model per data source:

    .npz        log_likelihoods (N x K), sources (K names) and, if you like, lengths (N)
    .csv        a column per source, headed by its name, and, if you like, a column `length`
    .parquet    the same columns
"""

import csv
import dataclasses
import difflib
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow
import pyarrow.csv
import pyarrow.parquet
import tyro
from jaxtyping import Float
from scipy.special import logsumexp

from experiments.command_line import run
from experiments.provenance import provenance
from experiments.result_files import claim_folder, file_fingerprint, write_json
from mixmin_jax import NotConverged, cross_entropy, solve
from mixmin_jax.errors import InputError

LENGTH = "length"
RESULTS = ("weights.json", "metrics.json")


@dataclasses.dataclass(frozen=True)
class Config:
    """Find the mixture of data sources that explains a target best, from a file of log-likelihoods.

    Minimises the cross-entropy - sum_n v_n log sum_k w_k p_nk over the weights w, where p_nk is the likelihood of
    example n under the model trained on source k alone (MixMin, arXiv:2502.10510). Prints the weights and a bound on
    their error; writes weights.json ({"mixmin": {source: weight}}) and metrics.json.

    Without lengths every example has v_n = 1/N, and the loss is in nats per example. With lengths (tokens per
    example) every example has v_n = 1 / (sum of all lengths), and the loss is in nats per token of the whole file:
    total nats / total tokens, not the mean over examples of each one's nats per token. Both give the same weights,
    as all examples count alike, except with a prior, whose strength is in the unit of the loss.
    """

    log_likelihoods: Path
    """The file: .npz (log_likelihoods N x K, sources, optional lengths), .csv or .parquet (a column per source and,
    optionally, `length`); spaces around names are dropped. Natural logarithms; -inf where a model excludes an example.
    Errors count rows from 0."""

    out: Path
    """Folder for weights.json and metrics.json; one that holds results already is refused."""

    method: Literal["interior_point", "projected_gradient", "mirror_descent"] = "interior_point"
    """Solver; every one returns a certified gap."""

    upper_bounds: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE ...")] = ()
    """Largest weight that a source may have, for as many sources as you like: code=0.2 news=0.5."""

    prior: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE ...")] = ()
    """Weights to stay close to, one per source, summing to 1: adds strength * KL(w || prior) to the loss."""

    prior_strength: float | None = None
    """Strength of the prior, in the unit of the loss (nats per example; with lengths, total nats / total tokens)."""

    tolerance: float = 1e-9
    """Largest gap accepted, relative to the sum of v_n."""

    overwrite: bool = False
    """Replace the results that --out holds."""


@dataclasses.dataclass(frozen=True)
class Table:
    """Log-likelihoods of N examples under K sources, in nats; `length_N` in tokens, if the file has lengths."""

    sources: tuple[str, ...]
    logp_NxK: Float[np.ndarray, "N K"]
    length_N: Float[np.ndarray, " N"] | None


def read_table(path: Path) -> Table:
    """Read a .npz, .csv or .parquet file of log-likelihoods; values are checked later, by `cross_entropy`.

    Raises:
        InputError: the file is missing, of another kind, empty or corrupt, has a cell that is not a number, lacks an
            array, or has shapes or names that do not fit. The message starts with the path.
    """
    readers = {".npz": _read_npz, ".csv": _read_csv, ".parquet": _read_parquet}
    if path.suffix not in readers:
        raise InputError(f"{path}: unknown kind of file {path.suffix!r}; known are {', '.join(readers)}")
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if not path.stat().st_size:
        raise InputError(f"{path}: the file is empty")
    try:
        table = readers[path.suffix](path)
        _check_shapes(table)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except Exception as error:
        # Damaged files make the readers raise almost anything: BadZipFile, zlib.error, ArrowInvalid, MemoryError, ...
        detail = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: cannot be read as {path.suffix}: {detail}") from error
    return table


def _check_shapes(table: Table) -> None:
    shape, names = table.logp_NxK.shape, table.sources
    if len(shape) != 2:
        raise InputError(f"log_likelihoods must have two axes, examples x sources; got the shape {shape}")
    if len(names) != shape[1]:
        raise InputError(f"{len(names)} source names for {shape[1]} columns of log-likelihoods")
    if not shape[1]:
        raise InputError("no column of log-likelihoods")
    if not shape[0]:
        raise InputError("no rows of log-likelihoods")
    _refuse_twice(names)
    if not all(names):
        raise InputError(
            f"column {names.index('')} (counting from 0) has no name; if it is a row "
            "number written by pandas, save with index=False"
        )
    if table.length_N is not None:
        if table.length_N.shape != shape[:1]:
            raise InputError(f"lengths have the shape {table.length_N.shape} for {shape[0]} rows of log-likelihoods")
        good_N = np.isfinite(table.length_N) & (table.length_N > 0)
        if not good_N.all():
            row = int(np.argmin(good_N))
            raise InputError(f"row {row}: the length must be positive and finite; got {table.length_N[row]}")


def _read_npz(path: Path) -> Table:
    with path.open("rb") as file:
        archive = np.load(file, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise InputError("a single array; save with np.savez(file, log_likelihoods=..., sources=...)")
        if missing := [name for name in ("log_likelihoods", "sources") if name not in archive]:
            raise InputError(f"no array {missing[0]!r}; the file has {', '.join(archive.files) or 'none'}")
        if unknown := [name for name in archive.files if name not in ("log_likelihoods", "sources", "lengths")]:
            raise InputError(
                f"unknown array {unknown[0]!r}; known are log_likelihoods, sources and, for tokens per example, lengths"
            )
        names = _member(archive, "sources", "U", "strings (np.array(names, dtype=str))")
        if names.ndim != 1:
            raise InputError(f"sources must have one axis; got the shape {names.shape}")
        logp_NxK = _member(archive, "log_likelihoods", "fiu", "real numbers").astype(np.float64)
        has_lengths = "lengths" in archive
        length_N = _member(archive, "lengths", "fiu", "real numbers").astype(np.float64) if has_lengths else None
    return Table(tuple(name.strip() for name in names.tolist()), logp_NxK, length_N)


def _member(archive: np.lib.npyio.NpzFile, name: str, kinds: str, what: str) -> np.ndarray:
    """An array of an archive whose dtype is of one of `kinds` (letters as in `numpy.dtype.kind`)."""
    try:
        array = archive[name]
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise InputError(f"{name} is pickled, which is not read; save it as an array of {what}") from None
    if array.dtype.kind not in kinds:
        raise InputError(f"{name} must be an array of {what}; got {array.dtype}")
    return array


def _read_csv(path: Path) -> Table:
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = csv.reader(file)
        names = next(lines, [])
        header_lines = lines.line_num
    if not names or all(_is_number(name) for name in names):
        raise InputError("the first line must name the sources, one per column")
    _refuse_twice(names)

    def read(kind: pyarrow.DataType) -> pyarrow.Table:
        return pyarrow.csv.read_csv(
            path,
            read_options=pyarrow.csv.ReadOptions(column_names=names, skip_rows=header_lines),
            convert_options=pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, kind), null_values=[""]),
        )

    try:
        table = read(pyarrow.float64())
    except pyarrow.ArrowInvalid:
        # the fast way does not say where: look again, at the text of the cells
        cells = read(pyarrow.string())
        for name in names:
            for row, cell in enumerate(cells[name].to_pylist()):
                if cell is not None and not _is_number(cell.strip()):
                    raise InputError(f"row {row}, column {name!r}: {cell!r} is not a number") from None
        raise
    return _from_arrow(names, table.columns)


def _read_parquet(path: Path) -> Table:
    table = pyarrow.parquet.ParquetFile(path).read()
    # pandas keeps its row numbers in columns of this name
    columns = {i: name for i, name in enumerate(table.column_names) if not name.startswith("__index_level_")}
    return _from_arrow(list(columns.values()), [table.column(i) for i in columns])


def _from_arrow(names: list[str], columns: list[pyarrow.ChunkedArray]) -> Table:
    for name in names:
        if name != LENGTH and name.strip().lower() in (LENGTH, "lengths"):
            raise InputError(f"the column of lengths must be called `{LENGTH}`; there is one called {name!r}")
    names = [name.strip() for name in names]
    _refuse_twice(names)
    arrays = {}
    for name, column in zip(names, columns, strict=True):
        is_number = (pyarrow.types.is_integer, pyarrow.types.is_floating, pyarrow.types.is_decimal)
        if not any(test(column.type) for test in is_number):
            raise InputError(f"column {name!r} must hold numbers; got {column.type}")
        if column.null_count:
            row = int(np.argmax(column.is_null().to_numpy()))
            raise InputError(f"row {row}, column {name!r}: the cell is empty")
        arrays[name] = column.cast(pyarrow.float64()).to_numpy()
    length_N = arrays.pop(LENGTH, None)
    if not arrays:
        raise InputError("no column of log-likelihoods")
    return Table(tuple(arrays), np.column_stack(list(arrays.values())), length_N)


def _refuse_twice(names: Sequence[str]) -> None:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"the name {twice[0]!r} is there {names.count(twice[0])} times")


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell


def parse_assignments(pairs: tuple[str, ...], option: str, sources: tuple[str, ...]) -> dict[str, float]:
    """`NAME=VALUE` pairs of a command-line option as a dictionary.

    Raises:
        InputError: a pair without =, a value that is no number, a source that is not in the file (with the closest name
            that is) or is there twice.
    """
    values: dict[str, float] = {}
    for pair in pairs:
        name, equals, value = pair.rpartition("=")
        if not equals or not _is_number(value):
            raise InputError(f"{option} {pair}: expected NAME=VALUE with a number, such as {sources[0]}=0.25")
        if name not in sources:
            closest = difflib.get_close_matches(name, sources, n=1, cutoff=0.0)[0]
            raise InputError(f"{option} {pair}: no source is called {name!r}; the closest name is {closest!r}")
        if name in values:
            raise InputError(f"{option}: {name!r} is there twice")
        values[name] = float(value)
    return values


def main(config: Config) -> None:
    """Solve, print, write; exits with status 1, writing nothing, if the solver does not reach the tolerance."""
    path = config.log_likelihoods
    table = read_table(path)
    sources, num_rows = table.sources, len(table.logp_NxK)
    caps = parse_assignments(config.upper_bounds, "--upper-bounds", sources)
    prior = parse_assignments(config.prior, "--prior", sources)
    if prior and (missing := [name for name in sources if name not in prior]):
        raise InputError(f"--prior must name every source; {missing[0]!r} is missing")
    if bool(prior) != (config.prior_strength is not None):
        raise InputError("--prior and --prior-strength go together")

    per_row = 1 / num_rows if table.length_N is None else 1 / table.length_N.sum()
    unit = "nats per example" if table.length_N is None else "nats per token"
    v_N = np.full(num_rows, per_row)
    try:
        objective = cross_entropy(table.logp_NxK, example_weights=v_N, sources=sources)
    except InputError as error:
        raise InputError(f"{path}: {error} (rows are counted from 0)") from None
    options: dict[str, Any] = {"upper_bounds": caps} if caps else {}
    options |= {"prior": prior, "prior_strength": config.prior_strength} if prior else {}
    options |= {"method": config.method, "tolerance": config.tolerance}
    solve(objective, max_iterations=0, throw=False, **options)  # finds what is wrong with the options
    claim_folder(config.out, RESULTS, config.overwrite)
    for name in RESULTS:
        (config.out / name).unlink(missing_ok=True)  # so that old results are never taken for those of this run

    try:
        solution = solve(objective, **options)
    except NotConverged as error:
        solution = error.solution
    weights = dict(zip(sources, np.asarray(solution.weights, np.float64).tolist(), strict=True))
    uniform = float(-(v_N @ (logsumexp(table.logp_NxK, axis=1) - math.log(len(sources)))))
    alone_K = -(v_N @ table.logp_NxK)
    result = {
        "loss": float(solution.loss),
        "penalty": float(solution.penalty),
        "gap": float(solution.gap),
        "converged": bool(solution.converged),
        "status": str(solution.status),
        "iterations": int(solution.iterations),
        "method": str(solution.method),
    }
    print(render(path, num_rows, unit, weights, alone_K, uniform, result))
    if (table.logp_NxK > 0).any():
        print("note: some log-likelihoods are above 0, which densities may be and probabilities may not")
    if not solution.converged:
        print("error: the gap is above the tolerance, so no weights were written", file=sys.stderr)
        raise SystemExit(1)
    record = {
        "schema_version": 1,
        "config": dataclasses.asdict(config) | {"log_likelihoods": str(path), "out": str(config.out)},
        **provenance("mixmin_jax", "jax", "numpy", "pyarrow"),
        "data": file_fingerprint(path) | {"num_examples": num_rows, "num_sources": len(sources)},
        "unit": unit,
        "example_weight": per_row,
        "mixmin": result,
        "arms": {
            "mixmin": {"loss": result["loss"], "weights": weights},
            "uniform": {"loss": uniform, "weights": dict.fromkeys(sources, 1 / len(sources))},
        },
        "loss_alone": {k: v if math.isfinite(v) else None for k, v in zip(sources, alone_K.tolist(), strict=True)},
    }
    write_json(config.out / "metrics.json", record)
    write_json(config.out / "weights.json", {"mixmin": weights})


def render(
    path: Path,
    num_rows: int,
    unit: str,
    weights: dict[str, float],
    alone_K: Float[np.ndarray, " K"],
    uniform: float,
    result: dict[str, Any],
) -> str:
    """The table that is printed: sources by falling weight, then the losses and the solver's certificate."""
    width = max(len("source"), *(len(name) for name in weights))
    order = sorted(zip(weights.items(), alone_K, strict=True), key=lambda item: -item[0][1])
    return "\n".join(
        [
            f"{path}: {num_rows} examples, {len(weights)} sources; losses in {unit}",
            "",
            f"{'source':<{width}}  weight  loss alone",
            *(f"{name:<{width}}  {weight:6.4f}  {alone:10.4f}" for (name, weight), alone in order),
            "",
            f"loss of this mixture  {result['loss']:.6f}",
            *([f"penalty of the prior  {result['penalty']:.6f}"] if result["penalty"] else []),
            f"certified gap         {result['gap']:.1e}  (no weights allowed are better by more than this)",
            f"loss of uniform       {uniform:.6f}",
            result["status"],
        ]
    )


if __name__ == "__main__":
    run(Config, main)
