"""The targets that --log-likelihoods names: a table each, from a file of log-likelihoods or from a log per source."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.special import logsumexp

from experiments.weights_from_file.data import DOCUMENT, LENGTH, SOURCES_ONLY, Roles, Table, check_table, read_table
from experiments.weights_from_file.harness_logs import LOG, read_logs
from mixmin_jax import cross_entropy
from mixmin_jax.data.files import refuse_odd_name
from mixmin_jax.errors import InputError, read_each
from mixmin_jax.mixture.rows import row_length


@dataclasses.dataclass(frozen=True)
class Target:
    """What a mixture shall explain: the table of one file, or of several logs, and the weight of each example."""

    name: str  # the file; of several logs the first, and how many others
    files: tuple[Path, ...]
    table: Table
    example_weight: float
    densities: bool = False  # whether log-likelihoods may be above 0 everywhere

    @property
    def unit(self) -> str:
        return "nats per example" if self.table.length_N is None else "nats per token"

    @property
    def num_rows(self) -> int:
        return len(self.table.logp_NxK)

    @property
    def num_groups(self) -> int:
        return self.num_rows if self.table.group_N is None else len(np.unique(self.table.group_N))

    @property
    def counts(self) -> dict[str, int]:
        return {"examples": self.num_rows, "sources": len(self.table.sources)}

    @property
    def loss_alone_K(self) -> Float[np.ndarray, " K"]:
        """The loss of each source with all the weight."""
        return -(np.full(self.num_rows, self.example_weight) @ self.table.logp_NxK)

    @property
    def uniform_loss(self) -> float:
        num_sources = len(self.table.sources)
        return self.loss(np.full(num_sources, 1 / num_sources))

    def loss(self, weights_K: Float[np.ndarray, " K"]) -> float:
        """That of a mixture with these weights; inf if it gives an example no density."""
        with np.errstate(divide="ignore"):
            return float(-self.example_weight * logsumexp(self.table.logp_NxK, axis=1, b=weights_K).sum())

    def restricted(self, sources: Sequence[str]) -> "Target":
        """The same with the columns of `sources`, in their order."""
        return dataclasses.replace(self, table=self.table.restricted(sources))

    def objective(self) -> Any:
        """The cross-entropy; its errors name the file."""
        v_N = np.full(self.num_rows, self.example_weight)
        try:
            return cross_entropy(
                self.table.logp_NxK, example_weights=v_N, sources=self.table.sources, densities=self.densities
            )
        except InputError as error:
            raise InputError(f"{self.name}: {error} (rows are counted from 0)") from None


def read_targets(specs: Sequence[str | Path], row: str | None = None, roles: Roles = SOURCES_ONLY) -> list[Target]:
    """The targets, all with the columns of the first in its order.

    Args:
        specs: a file of log-likelihoods per target; or NAME=LOG, a per-sample log per source. Where a name is there
            several times, its first log belongs to the first target, its second log to the second.
        row: how tokens become rows (`row_length`).
        roles: columns that are no sources. In logs, `group` is the field of `doc` with the labels of groups.

    Raises:
        InputError: what `read_table` and `read_logs` refuse, of all files at once; sources that differ; lengths in some
            of the files only; a file of tokens without `row`, or `row` without one; logs without names, or not one of
            every source.
    """
    if not specs:
        raise InputError("--log-likelihoods: give at least one file")
    if roles.group is not None and roles.group in (LENGTH, f"{LENGTH}s", roles.length):
        raise InputError(f"--groups: `{roles.group}` holds the tokens of each example, not what it belongs to")
    logs = [spec for spec in map(str, specs) if spec.endswith(LOG)]
    if logs and len(logs) < len(specs):
        raise InputError(f"--log-likelihoods: give logs ({LOG}) or tables, not both")
    if logs:
        if row is not None:
            raise InputError("--rows makes rows of the tokens of a table; in a log, a row is a document")
        if roles.length is not None or roles.ignore or roles.densities:
            raise InputError(
                "--length-column, --ignore and --densities are for tables: a log has no columns, and log-probabilities"
            )
        read = read_each(_logs_by_target(logs), lambda paths: _from_logs(paths, roles.group))
    else:
        read = read_each(specs, lambda path: _from_table(Path(path), row, roles))
    first = read[0]
    targets: list[Target] = []
    for target in read:
        if (target.table.length_N is None) != (first.table.length_N is None):
            bare = target if target.table.length_N is None else first
            raise InputError(f"{bare.name}: no lengths, but another file has them; give all files lengths, or none")
        try:
            table = target.table.reordered(first.table.sources)
        except InputError as error:
            raise InputError(f"{target.name}: {error}; all files need the sources of {first.name}") from None
        targets.append(dataclasses.replace(target, table=table))
    return targets


def _from_table(path: Path, row: str | None, roles: Roles) -> Target:
    # with --rows, documents are numbered, and the groups that there are anyway
    if row is not None and roles.group == DOCUMENT:
        roles = dataclasses.replace(roles, group=None)
    table = read_table(path, roles)
    try:
        if row is not None:
            table = table.in_rows(row_length(row))
        elif table.document_N is not None:
            raise InputError(
                f"its rows are tokens of documents: say --rows document, token, or how many tokens (or --groups"
                f" {DOCUMENT}, if its rows are whole passages)"
            )
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    per_row = 1 / len(table.logp_NxK) if table.length_N is None else float(1 / table.length_N.sum())
    return Target(str(path), (path,), table, per_row, roles.densities)


def _from_logs(paths: dict[str, Path], group: str | None) -> Target:
    table = read_logs(paths, group)
    check_table(table)
    source, first = next(iter(paths.items()))
    name = f"{source}={first}" + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")
    return Target(name, tuple(paths.values()), table, 1 / len(table.logp_NxK))


def _logs_by_target(specs: Sequence[str]) -> list[dict[str, Path]]:
    """The log of each source, for every target."""
    by_source: dict[str, list[Path]] = {}
    for spec in specs:
        name, _, file = spec.partition("=")
        if not (name.strip() and file) or Path(spec).is_file():
            raise InputError(
                f"--log-likelihoods {spec}: say which source the model of a log was trained on, NAME={spec}"
            )
        refuse_odd_name(name)
        by_source.setdefault(name.strip(), []).append(Path(file))
    counts = {name: len(paths) for name, paths in by_source.items()}
    (most, count), (least, fewer) = max(counts.items(), key=_second), min(counts.items(), key=_second)
    if fewer < count:
        raise InputError(
            f"--log-likelihoods: {count} logs of {most!r}, but {fewer} of {least!r}; every target needs one of each"
        )
    return [dict(zip(by_source, paths, strict=True)) for paths in zip(*by_source.values(), strict=True)]


def _second(pair: tuple[str, int]) -> int:
    return pair[1]
