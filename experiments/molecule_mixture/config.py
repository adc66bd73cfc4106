"""The configuration of the molecule experiment."""

import dataclasses
from pathlib import Path
from typing import Literal

from experiments.harness.options import ManyModelsOptions
from mixmin_jax.data.molecules.cleaning import Contradictions
from mixmin_jax.data.molecules.features import Features
from mixmin_jax.errors import InputError
from mixmin_jax.training.boosted_trees import TreeRun
from mixmin_jax.training.logistic_learner import LogisticRun
from mixmin_jax.training.mlp_learner import MAX_BYTES, MlpRun
from mixmin_jax.training.multitask import MultitaskRun

AUTOMATIC = {"classification": (10, 5), "regression": (20, 20)}  # of --min-positives and --min-test-positives
LEAST_IN_FOLD = 2  # of each class of an assay: with one, nothing is left to choose a model's settings by


@dataclasses.dataclass(frozen=True)
class MoleculeMixture(ManyModelsOptions):
    """Find how to mix the data of other assays for a target assay, train on that mixture, report if it was worth it.

    With no arguments: a demonstration on structures that RDKit ships, with computed properties as assays.
    """

    assays: Path | None = None
    """A table of molecules (.csv, .csv.gz, .parquet): a SMILES column, one column per assay."""
    target: tuple[str, ...] = ()
    """One or more columns. By default --num-targets of them, chosen by rule: assays with enough data, in the order of
    their numbers of positives, at equal distances in that order (the demonstration has a target of its own)."""
    out: Path = Path("runs/molecule_mixture")
    """Folder for the results."""
    seeds: int = 3
    """Repeat folds, proxies, weights and arms with seeds 0, 1, ...; the test molecules stay the same."""
    task: Literal["classification", "regression"] = "classification"
    """What the columns hold: 0, 1 or nothing (cross-entropy), or measured values (squared error)."""
    smiles_column: str | None = None
    """The column of structures. By default the one that is called so."""
    ignore: tuple[str, ...] = ()
    """Columns that are no assays."""
    keep: tuple[str, ...] = ()
    """Columns that are assays though they look like an id or a prediction, and sources though they nearly copy a
    target."""
    labels: tuple[str, ...] = ()
    """What cells mean, if not 0, 1 or a number: active=1,inactive=0,inconclusive= (nothing behind = for what was not
    measured)."""
    num_targets: int = 10
    """Targets where none is named."""
    sources: int = 300
    """At most this many source assays per target: those with the most molecules of their rarer class (regression: with
    the most molecules)."""
    numbers_of_sources: tuple[int, ...] = (10, 30, 100)
    """Smaller random sets of the sources, one inside the next, to show how the gain grows with their number."""
    random_mixtures: int | None = None
    """Random mixtures per target for random_search. By default as many as make its training cost that of MixMin's
    proxies, which all targets share: sources / targets."""
    min_positives: int | None = None
    """An assay needs as many positives, and negatives, among the training molecules (regression: molecules). By
    default 10 (regression: 20)."""
    min_test_positives: int | None = None
    """A target needs as many of both among the test molecules, from 5 scaffolds or more (fewer, if this is less). By
    default 5 (regression: 20)."""
    contradictions: Contradictions = "drop"
    """Rows of one molecule whose labels contradict: both count as not measured, or the majority of the rows decides
    (a draw counts as not measured). Measured values are averaged."""
    max_unparsable: float = 0.05
    """Stop if RDKit cannot read more than this share of the rows."""
    split: Literal["scaffold", "random"] = "scaffold"
    """Test molecules have scaffolds that no training molecule has (molecules without a ring are parted one by one, and
    a scaffold of more than half of the test part stays in training), or are drawn at random."""
    test_fraction: float = 0.2
    """Share of the molecules that results are reported on; no model and no weight sees them, whatever the assay."""
    split_seed: int = 0
    """Seed of that split."""
    folds: int = 2
    """Proxies are trained on all folds but one and judged on the one left out."""
    balance: bool = True
    """Positives and negatives get half of the weight each, in every source and in the target's loss; with --no-balance,
    every label gets the same."""
    calibrate: bool = True
    """Each proxy's scores are rescaled so that they predict its own assay's left-out labels best (Platt's scaling);
    --no-calibrate leaves them as they are."""
    learner: Literal["auto", "logistic", "perceptron", "trees"] = "auto"
    """Proxies and target models: penalized logistic regressions (linear ones for --task regression) or perceptrons, all
    in one compiled program, or gradient-boosted trees (XGBoost). By default the one that predicts left-out training
    molecules of some sources best, trees only where XGBoost is installed and no devices are named."""
    logistic: LogisticRun = LogisticRun()
    """Of logistic regressions."""
    perceptron: MlpRun = MlpRun()
    """Of perceptrons."""
    trees: TreeRun = TreeRun()
    """Of trees."""
    multitask: MultitaskRun = MultitaskRun()
    """Of the baseline: one perceptron with all assays as outputs."""
    fingerprints: Features = "ecfp"
    """What models see: extended-connectivity fingerprints (ecfp), these with how often each part is there
    (ecfp_counts), or with descriptors by RDKit (ecfp_descriptors)."""
    radius: int = 2
    """Of the fingerprints (2: ECFP4)."""
    bits: int = 2048
    """Length of the fingerprints."""
    method: Literal["auto", "interior_point", "active_set", "projected_gradient", "mirror_descent"] = "auto"
    """Solver for the weights; all are certified."""
    max_bytes: int = MAX_BYTES
    """Memory for the models that are trained at once (more of them are trained in groups)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        numbers = ("seeds", "sources", "num_targets", "min_positives", "min_test_positives", "bits", "random_mixtures")
        least = {**dict.fromkeys((*numbers, "numbers_of_sources"), 1), "radius": 0, "folds": 2}
        for name, bound in least.items():
            given = getattr(self, name)
            if small := [n for n in (given if isinstance(given, tuple) else (given,)) if n is not None and n < bound]:
                why = ": proxies are judged on what they did not see" if name == "folds" else ""
                raise InputError(f"--{name.replace('_', '-')} must be at least {bound}, not {min(small)}{why}")
        if not 0 < self.test_fraction < 1:
            raise InputError(f"--test-fraction must lie between 0 and 1, not {self.test_fraction}")
        if not 0 <= self.max_unparsable <= 1:
            raise InputError(f"--max-unparsable must lie in [0, 1], not {self.max_unparsable}")
        if len(set(self.target)) < len(self.target):
            raise InputError(f"--target names a column twice: {' '.join(self.target)}")
        if self.task == "regression" and self.method == "active_set":
            raise InputError("--method active_set knows no squared error: use --method auto")
        if self.learner in ("logistic", "trees") and self.on_nonfinite == "skip":
            raise InputError(
                f"--on-nonfinite skip is for --learner perceptron: {self.learner} has no steps that could be skipped"
            )
        if self.learner in ("auto", "perceptron"):
            self.check_batches(perceptron__batch_size=self.perceptron.batch_size)
        if self.learner == "trees" and self.is_spread:
            raise InputError(
                "--learner trees runs in one process, on the cores of one machine: leave out --mesh-source,"
                " --mesh-data, --coordinator and --distributed, or choose another learner"
            )
        table = self.smiles_column or self.ignore or self.keep or self.labels
        if self.demonstration and (self.task == "regression" or table):
            raise InputError("--task, --smiles-column, --ignore, --keep and --labels describe a table: give --assays")
        if self.task == "regression" and self.contradictions != "drop":
            raise InputError("--contradictions majority: measured values that differ are averaged; leave it out")
        if both := [name for name in self.keep if name in self.ignore]:
            raise InputError(f"--keep and --ignore both name {both[0]!r}")
        _ = self.meaning  # for its errors

    @property
    def demonstration(self) -> bool:
        return self.assays is None

    @property
    def is_spread(self) -> bool:
        """Whether devices or processes are named, which trees know nothing of."""
        return self.mesh_source is not None or self.mesh_data > 1 or bool(self.coordinator) or self.distributed

    @property
    def least_to_train(self) -> int:
        """Positives, and negatives, that an assay needs among the training molecules (regression: molecules).

        10, unless --min-positives says otherwise: each proxy is calibrated by one slope, which takes ten events by the
        rule of thumb of logistic regression (Peduzzi et al., J. Clin. Epidemiol. 1996, 49, 1373). Measured values: 20.
        `LEAST_IN_FOLD` of them must lie in every fold of every seed.
        """
        return self.min_positives or AUTOMATIC[self.task][0]

    @property
    def least_to_test(self) -> int:
        """Positives, and negatives, that a target needs among the test molecules (regression: molecules).

        5, unless --min-test-positives says otherwise, and from `least_scaffolds_to_test` scaffolds. Intervals come from
        resamples of the scaffolds. If the positives are in g scaffolds, a resample lacks all of them with a probability
        of about e^-g: 0.7 % with 5, 5 % with 3, which is more than an interval of 95 % leaves out at either end.
        Intervals from few positives are sound but rough: those of a mean of 5 normal numbers cover 85 %, of 10 90 %, of
        20 93 %. Measured values: 20, as a rank correlation of a handful says nothing.
        """
        return self.min_test_positives or AUTOMATIC[self.task][1]

    @property
    def least_scaffolds_to_test(self) -> int:
        """Scaffolds that the positives, and the negatives, of a target need among the test molecules."""
        return min(AUTOMATIC["classification"][1], self.least_to_test)

    @property
    def meaning(self) -> dict[str, float | None]:
        """The values of cells that --labels gives; None for what was not measured."""
        found: dict[str, float | None] = {}
        for pair in (pair for given in self.labels for pair in given.split(",")):
            cell, equals, value = (part.strip() for part in pair.rpartition("="))
            if not (cell and equals) or value not in ("", "0", "1"):
                raise InputError(f"--labels {pair}: expected CELL=1, CELL=0 or CELL= (not measured), as in active=1")
            if value and self.task == "regression":
                raise InputError(f"--labels {pair}: measured values have no labels; CELL= says what was not measured")
            if cell.lower() in map(str.lower, found):
                raise InputError(f"--labels: {cell!r} is there twice")
            found[cell] = float(value) if value else None
        return found

    @property
    def balanced(self) -> bool:
        """Whether classes have equal weight; measured values have none."""
        return self.balance and self.task == "classification"
