"""What a run of the molecule experiment reads: molecules, the split, and which assays can be targets and sources.

Axes: N molecules, A assays, F folds.
"""

import dataclasses
import functools
from typing import Any

import numpy as np
from scipy.stats import rankdata

from experiments.molecule_mixture.config import MoleculeMixture
from mixmin_jax.data.molecules.assay_tables import AssayTable, read_assays
from mixmin_jax.data.molecules.bundled import BUNDLED_TARGET, bundled_assays
from mixmin_jax.data.molecules.cleaning import Molecules, clean_molecules
from mixmin_jax.data.molecules.splits import make_folds, split_molecules
from mixmin_jax.errors import InputError, closest_names, list_some

LEAK = 0.95  # rank correlation with the target above which, or below its negative, a source is a copy of it
LEAST_SHARED = 20  # molecules that both measured: with fewer, a correlation says little


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Cleaned molecules, and which of them results are reported on."""

    config: MoleculeMixture
    table: AssayTable
    molecules: Molecules
    is_test_N: np.ndarray

    @property
    def names(self) -> tuple[str, ...]:
        return self.molecules.assays

    @functools.cached_property
    def values_NxA(self) -> np.ndarray:
        """Labels; measured values with mean 0 and variance 1 over the training molecules of each assay."""
        values_NxA = self.molecules.values_NxA
        if self.config.task == "classification":
            return values_NxA
        train_NxA = values_NxA[~self.is_test_N].astype(np.float64)
        count_A = np.maximum(np.isfinite(train_NxA).sum(0), 1)
        mean_A = np.nansum(train_NxA, axis=0) / count_A
        std_A = np.sqrt(np.nansum((train_NxA - mean_A) ** 2, axis=0) / count_A)
        return ((values_NxA - mean_A) / np.where(std_A > 0, std_A, 1)).astype(np.float32)

    @functools.cached_property
    def train_counts(self) -> np.ndarray:
        return self.counts(~self.is_test_N)

    @functools.cached_property
    def test_counts(self) -> np.ndarray:
        return self.counts(self.is_test_N)

    def counts(self, is_member_N: np.ndarray) -> np.ndarray:
        """Positives and negatives of every assay among these molecules (regression: molecules, twice), 2 x A."""
        values_NxA = self.molecules.values_NxA[is_member_N]
        if self.config.task == "regression":
            return np.stack([np.isfinite(values_NxA).sum(0)] * 2)
        return np.stack([(values_NxA == 1).sum(0), (values_NxA == 0).sum(0)])

    @functools.cache  # noqa: B019  one split lives as long as the run
    def folds(self, seed: int) -> np.ndarray:
        """The fold of every training molecule in one seed; -1 for test molecules."""
        scaffold_N = self.molecules.scaffold_N if self.config.split == "scaffold" else None
        return make_folds(~self.is_test_N, scaffold_N, self.config.folds, seed)

    @functools.cached_property
    def unusable(self) -> dict[str, str]:
        """Assays that can be no source, each with the reason."""
        measures, least = self.config.task == "regression", self.config.min_positives
        reasons: dict[str, str] = {}
        for a, name in enumerate(self.names):
            if (fewest := self.train_counts[:, a].min()) < least:
                kind = "one class only" if fewest == 0 and not measures else f"fewer than {least}"
                reasons[name] = f"{kind} among the training molecules ({self._describe(self.train_counts[:, a])})"
            elif measures and self._is_constant(a, ~self.is_test_N):
                reasons[name] = "all values are equal"
        what = "measured molecule" if measures else "positive or no negative"
        for seed, fold in np.ndindex(self.config.seeds, self.config.folds):
            fold_N = self.folds(seed)
            parts = fold_N == fold, (fold_N >= 0) & (fold_N != fold)
            fewest_A = np.concatenate([self.counts(part_N) for part_N in parts]).min(0)
            for column in np.flatnonzero(fewest_A == 0):
                reasons.setdefault(self.names[column], f"a fold holds no {what}, or all of them (seed {seed})")
        return reasons

    def _is_constant(self, column: int, is_member_N: np.ndarray) -> bool:
        values_N = self.molecules.values_NxA[is_member_N, column]
        return bool(np.nanmin(values_N) == np.nanmax(values_N))

    def _describe(self, counts_2: np.ndarray) -> str:
        if self.config.task == "regression":
            return f"{counts_2[0]} measured"
        return f"{counts_2[0]} positives, {counts_2[1]} negatives"

    def unfit_as_target(self, name: str) -> str | None:
        """Why the assay can be no target; None if it can."""
        if name in self.unusable:
            return self.unusable[name]
        a, least = self.names.index(name), self.config.min_test_positives
        if (test_2 := self.test_counts[:, a]).min() < least:
            return f"fewer than {least} among the test molecules ({self._describe(test_2)})"
        return "all values of its test molecules are equal" if self._is_constant(a, self.is_test_N) else None

    def inputs(self) -> dict[str, Any]:
        """What every stage depends on, as JSON."""
        keys = ["task", "smiles_column", "ignore", "split", "test_fraction", "split_seed"]
        keys += ["labels"] if self.config.labels else []
        return {"table": self.table.fingerprint} | {key: getattr(self.config, key) for key in keys}

    @functools.cache  # noqa: B019  one split lives as long as the run
    def leaks(self, target: str) -> dict[str, str]:
        """Assays that nearly copy the target, each with the reason: their rank correlation on training molecules.

        --keep takes them as sources all the same.
        """
        values_NxA = self.molecules.values_NxA[~self.is_test_N]
        values_NxA = values_NxA[np.isfinite(values_NxA[:, self.names.index(target)])]
        target_N, found = values_NxA[:, self.names.index(target)], dict[str, str]()
        for name, values_N in zip(self.names, values_NxA.T, strict=True):
            shared_N = np.isfinite(values_N)
            if name in (target, *self.config.keep) or shared_N.sum() < LEAST_SHARED:
                continue
            pair = rankdata(target_N[shared_N]), rankdata(values_N[shared_N])
            if min(map(np.ptp, pair)) and abs(correlation := float(np.corrcoef(*pair)[0, 1])) > LEAK:
                found[name] = f"rank correlation {correlation:.2f} on {shared_N.sum()} shared molecules"
        return found


def read_molecules(config: MoleculeMixture) -> Split:
    """Read and clean the table, and split its molecules."""
    if config.assays is None:
        table = bundled_assays()
    else:
        table = read_assays(
            config.assays,
            task=config.task,
            smiles_column=config.smiles_column,
            ignore=config.ignore,
            keep=config.keep,
            labels=config.meaning,
        )
    molecules = clean_molecules(table, config.max_unparsable)
    is_test_N = split_molecules(config.split, molecules.scaffold_N, config.test_fraction, config.split_seed)
    return Split(config, table, molecules, is_test_N)


def choose_targets(split: Split) -> tuple[str, ...]:
    """The targets that were named (in the demonstration, its own), or `--num-targets` by rule.

    The rule: assays that can be targets, in the order of their number of positives (then of name), at equal distances
    in that order, from the first to the last (one target: the middle). No result enters it.
    """
    config = split.config
    named = config.target or (BUNDLED_TARGET,) * config.demonstration
    for name in named:
        if name not in split.names:
            why = split.table.ignored.get(name)
            known = f"it was left out of the assays ({why})" if why else closest_names(name, split.names)
            raise InputError(f"--target {name} is no assay of {split.table.origin}: {known}")
        if reason := split.unfit_as_target(name):
            raise InputError(
                f"--target {name}: {reason}; choose another, or lower --min-positives or --min-test-positives"
            )
    if named:
        return named
    positives_A = split.train_counts[0] + split.test_counts[0]
    fit = sorted(
        (int(positives_A[a]), name) for a, name in enumerate(split.names) if split.unfit_as_target(name) is None
    )
    if not fit:
        raise InputError(
            f"no assay of {split.table.origin} has enough data to be a target: lower --min-positives"
            f" ({config.min_positives}) or --min-test-positives ({config.min_test_positives})"
        )
    first, last = (0.0, len(fit) - 1.0) if config.num_targets > 1 else ((len(fit) - 1) / 2,) * 2
    places = np.unique(np.linspace(first, last, min(config.num_targets, len(fit))).round().astype(int))
    return tuple(fit[place][1] for place in places)


def choose_sources(split: Split, target: str) -> tuple[str, ...]:
    """At most `--sources` other assays, those with the most training molecules of their rarer class, by name.

    Copies of the target are left out: what they know of its molecules is no gain from mixing.
    """
    rarer_A = split.train_counts.min(0)
    unfit = {target, *split.unusable, *split.leaks(target)}
    usable = [(-int(rarer_A[a]), name) for a, name in enumerate(split.names) if name not in unfit]
    chosen = [name for _, name in sorted(usable)][: split.config.sources]
    if len(chosen) < 2:
        leaks = split.leaks(target)
        why = f", or --keep what nearly copies it ({list_some(list(leaks))})" if leaks else ""
        raise InputError(
            f"target {target}: {len(chosen)} other assays have enough data to be sources, at least 2 are needed; "
            f"lower --min-positives ({split.config.min_positives}){why}"
        )
    return tuple(sorted(chosen))
