"""What a run of the molecule experiment reads: molecules, the split, and which assays can be targets and sources.

Axes: N molecules, A assays, S seeds, E pairs of a molecule and an assay.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata

from experiments.harness.progress import RunProgress
from experiments.molecule_mixture.config import AUTOMATIC, LEAST_IN_FOLD, MoleculeMixture
from experiments.reporting.markdown import plural
from mixmin_jax.data.molecules.assay_tables import AssayTable, Task, read_assays
from mixmin_jax.data.molecules.bundled import BUNDLED_TARGET, bundled_assays
from mixmin_jax.data.molecules.cleaning import Molecules, clean_molecules
from mixmin_jax.data.molecules.splits import make_folds, split_molecules
from mixmin_jax.data.molecules.structure_store import stored_structures
from mixmin_jax.errors import InputError, closest_names, list_some
from mixmin_jax.training.boosted_trees import require_xgboost

LEAK = 0.95  # rank correlation with the target above which, or below its negative, a source is a copy of it
SPLITS = 2  # version of `split_molecules` and `make_folds`, on which all stages depend
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

    @functools.cached_property
    def test_scaffolds(self) -> np.ndarray:
        """Scaffolds of the test molecules that hold positives and negatives (regression: molecules), 2 x A."""
        scaffold_N, values_NxA = self.molecules.scaffold_N[self.is_test_N], self.molecules.values_NxA[self.is_test_N]

        def held(is_one_NxA: np.ndarray) -> np.ndarray:
            row_E, column_E = np.nonzero(is_one_NxA)
            pairs_Ex2 = np.unique(np.stack([scaffold_N[row_E], column_E], 1), axis=0)
            return np.bincount(pairs_Ex2[:, 1], minlength=len(self.names))

        if self.config.task == "regression":
            return np.stack([held(np.isfinite(values_NxA))] * 2)
        return np.stack([held(values_NxA == label) for label in (1, 0)])

    @functools.cache  # noqa: B019  one split lives as long as the run
    def folds(self, seed: int) -> np.ndarray:
        """The fold of every training molecule in one seed; -1 for test molecules."""
        scaffold_N = self.molecules.scaffold_N if self.config.split == "scaffold" else None
        return make_folds(~self.is_test_N, scaffold_N, self.config.folds, seed, _rare(self.molecules, self.config.task))

    @functools.cached_property
    def fewest_SxA(self) -> np.ndarray:
        """The fewest molecules of one class that a fold of a seed holds."""
        seeds = range(self.config.seeds)
        return np.stack(
            [
                np.min([self.counts(self.folds(seed) == fold).min(0) for fold in range(self.config.folds)], axis=0)
                for seed in seeds
            ]
        )

    @functools.cached_property
    def unusable(self) -> dict[str, str]:
        """Assays that can be no source, each with the reason."""
        measures, least = self.config.task == "regression", self.config.least_to_train
        reasons: dict[str, str] = {}
        for a, name in enumerate(self.names):
            if (fewest := self.train_counts[:, a].min()) < least:
                kind = "one class only" if fewest == 0 and not measures else f"fewer than {least}"
                reasons[name] = f"{kind} among the training molecules ({self._describe(self.train_counts[:, a])})"
            elif measures and self._is_constant(a, ~self.is_test_N):
                reasons[name] = "all values are equal"
            elif (in_fold := self.fewest_SxA[:, a].min()) < LEAST_IN_FOLD:
                what = "measured molecules" if measures else "of a class"
                seed = self.fewest_SxA[:, a].argmin()
                reasons[name] = f"fewer than {LEAST_IN_FOLD} {what} in a fold ({in_fold} in seed {seed})"
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
        a, least = self.names.index(name), self.config.least_to_test
        if (test_2 := self.test_counts[:, a]).min() < least:
            return f"fewer than {least} among the test molecules ({self._describe(test_2)})"
        if (scaffolds := self.test_scaffolds[:, a].min()) < (least := self.config.least_scaffolds_to_test):
            return f"a class of the test molecules has fewer than {least} scaffolds ({scaffolds})"
        return "all values of its test molecules are equal" if self._is_constant(a, self.is_test_N) else None

    @functools.cached_property
    def can_be_targets(self) -> tuple[str, ...]:
        return tuple(name for name in self.names if self.unfit_as_target(name) is None)

    def inputs(self) -> dict[str, Any]:
        """What every stage depends on, as JSON."""
        keys = ["task", "smiles_column", "ignore", "split", "test_fraction", "split_seed"]
        keys += ["labels"] if self.config.labels else []
        keys += ["contradictions"] if self.config.contradictions != "drop" else []
        return {"table": self.table.fingerprint, "splits": SPLITS} | {key: getattr(self.config, key) for key in keys}

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
    if config.learner == "trees":
        require_xgboost()
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
    with RunProgress(0.0).stage(f"reading {plural(len(table.smiles), 'structure')}", 0.0) as advance:
        structures = stored_structures(table.smiles, advance)
    molecules = clean_molecules(
        table, config.max_unparsable, contradictions=config.contradictions, structures=structures
    )
    return split_of(config, table, molecules)


def split_of(config: MoleculeMixture, table: AssayTable, molecules: Molecules) -> Split:
    """The molecules of a table, divided as the options say."""
    kind, fraction, seed = config.split, config.test_fraction, config.split_seed
    rare_NxA = _rare(molecules, config.task)
    return Split(config, table, molecules, split_molecules(kind, molecules.scaffold_N, fraction, seed, rare_NxA))


def _rare(molecules: Molecules, task: Task) -> np.ndarray:
    """The molecules of the rarer class of each assay; of measured values, all. N x A."""
    values_NxA = molecules.values_NxA
    if task == "regression":
        return np.isfinite(values_NxA)
    return values_NxA == ((values_NxA == 1).sum(0) <= (values_NxA == 0).sum(0))


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
            raise InputError(f"--target {name}: {reason}; {_what_admits(split, [name], Split.unfit_as_target)}")
    if named:
        return named
    positives_A = split.train_counts[0] + split.test_counts[0]
    fit = sorted((int(positives_A[split.names.index(name)]), name) for name in split.can_be_targets)
    if not fit:
        raise InputError(
            f"no assay of {split.table.origin} has enough data to be a target ({config.least_to_train} to train on,"
            f" {config.least_to_test} in the test part{', of each class' * (config.task == 'classification')}):"
            f" {_counted(split, split.names)};"
            f" {_what_admits(split, split.names, Split.unfit_as_target)}"
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
    if not chosen:
        others = [name for name in split.names if name in split.unusable and name != target]
        leaks = list(split.leaks(target))
        wrong = [f"{_counted(split, others)}; {_what_admits(split, others, _unfit_as_source)}"] if others else []
        wrong += [f"--keep admits what nearly copies it ({list_some(leaks)})"] if leaks else []
        raise InputError(
            f"target {target}: no other assay has enough data to be a source: {'; '.join(wrong) or 'there is none'}"
        )
    return tuple(sorted(chosen))


def _unfit_as_source(split: Split, name: str) -> str | None:
    return split.unusable.get(name)


def _counted(split: Split, names: Sequence[str]) -> str:
    """The positives of assays among the training and the test molecules; the negatives too where these are fewer."""
    measures, counted = split.config.task == "regression", list[tuple[int, str]]()
    for name in names:
        a = split.names.index(name)
        (positives, negatives), (test_positives, test_negatives) = split.train_counts[:, a], split.test_counts[:, a]
        fewer = f" (negatives {negatives} / {test_negatives})" if negatives + test_negatives < positives else ""
        fewest = int(min(positives, negatives) + min(test_positives, test_negatives))
        counted.append((-fewest, f"{name} {positives} / {test_positives}{fewer}"))
    what = "measured molecules" if measures else "positives"
    return f"{what} to train on / in the test part: {list_some([text for _, text in sorted(counted)], 20)}"


def _what_admits(split: Split, names: Sequence[str], unfit: Callable[[Split, str], str | None]) -> str:
    """The options under which some of these assays are fit, each with what it admits."""
    config, columns = split.config, [split.names.index(name) for name in names]
    train_A = np.minimum(split.train_counts.min(0), config.least_to_train)[columns]
    test_A = np.minimum(split.test_counts, split.test_scaffolds).min(0)[columns]
    test_A = np.minimum(test_A, config.least_to_test)
    least_train, least_test = AUTOMATIC[config.task]
    changes: list[dict[str, Any]] = [
        {"min_test_positives": min(max(test_A[train_A == config.least_to_train], default=0), least_test)},
        {"min_positives": min(max(train_A[test_A == config.least_to_test], default=0), least_train)},
    ]
    nearest = int((train_A + test_A).argmax())  # where both are too few
    if train_A[nearest] < config.least_to_train and test_A[nearest] < config.least_to_test:
        changes.append({"min_positives": train_A[nearest], "min_test_positives": test_A[nearest]})
    changes += [{"split": "random"}, {"test_fraction": min(2 * config.test_fraction, 0.5)}, {"folds": 2}]
    found: list[str] = []
    for change in changes:
        with contextlib.suppress(InputError):  # a number of 0, or a split that cannot be made
            changed = split_of(dataclasses.replace(config, **change), split.table, split.molecules)
            if admitted := [name for name in names if unfit(changed, name) is None]:
                options = " ".join(f"--{option.replace('_', '-')} {value}" for option, value in change.items())
                found.append(f"{options} admits {list_some(admitted)}")
    return "; ".join(found) or "no option admits more: they need more measurements"
