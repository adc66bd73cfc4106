"""What the benchmark of proxies trains: a model per assay on made-up molecules, a model per source on made-up text.

Axes: N molecules, D fingerprint bits, A assays, C bits that assays depend on, P pairs of them, K sources, T steps,
M models (A or K).
"""

import dataclasses
from typing import ClassVar, Literal, NamedTuple, get_args

import numpy as np
from jax import block_until_ready, random
from jaxtyping import Bool, Float, Float32, UInt8

from benchmarks.proxies.sklearn_logistic import train_sklearn
from experiments.text_mixture.config import DEMO_PROXY
from mixmin_jax.data.text.tokens import TokenStore, build_store
from mixmin_jax.errors import InputError
from mixmin_jax.stats.prediction_metrics import evaluate
from mixmin_jax.training import language_model, mlp_learner
from mixmin_jax.training.boosted_trees import TreeLearner, TreeRun
from mixmin_jax.training.inner_folds import NUM_FOLDS, random_folds
from mixmin_jax.training.language_model import LanguageModelRun
from mixmin_jax.training.logistic_learner import LogisticLearner, LogisticRun
from mixmin_jax.training.mesh import make_mesh, source_devices
from mixmin_jax.training.mlp_learner import MlpLearner, MlpRun
from mixmin_jax.training.proxies import train_on_mixtures
from mixmin_jax.training.weighted_examples import Learner, WeightedExamples, mixture_examples

BITS_SET = 50  # bits of a molecule, of 2048: about what ECFP4 sets
POSITIVE = 0.15  # share of an assay's molecules, about that of ToxCast
TEST_PART = 5  # one molecule in five is held out

CaseName = Literal["molecules", "text", "ngrams", "ngrams_large"]
ONE_PROGRAM = "one_program"
TrainedRival = Literal["one_device", "one_after_another", "compiled_anew", "logistic", "sklearn", "xgboost"]
Outputs = Float[np.ndarray, "X M"]  # of M models: scores of N molecules, or losses of T steps


class MoleculeData(NamedTuple):
    features_NxD: UInt8[np.ndarray, "N D"]
    values_NxA: Float32[np.ndarray, "N A"]  # 0 or 1; NaN where not labelled
    is_train_N: Bool[np.ndarray, " N"]
    examples: WeightedExamples  # model m is trained on assay m

    @property
    def num_used(self) -> int:
        """Molecules that some assay labels for training."""
        return int(self.examples.weight_MxN.any(0).sum())

    @property
    def num_own(self) -> int:
        """Molecules that one assay labels for training."""
        return int((self.examples.weight_MxN[0] > 0).sum())


@dataclasses.dataclass(frozen=True)
class MoleculeCase:
    """Models on fingerprints, one per assay, that predict its labels: perceptrons, and what they are compared with."""

    name: ClassVar[CaseName] = "molecules"
    base: ClassVar[str] = ONE_PROGRAM
    rivals: ClassVar[tuple[str, ...]] = get_args(TrainedRival)
    molecules: int
    bits: int
    assays: int
    labelled: float  # share of the molecules, in training and test part, that each assay labels
    run: MlpRun = MlpRun()
    regressions: LogisticRun = LogisticRun()
    trees: TreeRun = TreeRun()
    seed: int = 0

    @property
    def num_models(self) -> int:
        return self.assays

    @property
    def what(self) -> str:
        """The case in words, for the report."""
        hidden = " and ".join(map(str, self.run.hidden)) or "no"
        return (
            f"{self.assays} assays on {self.molecules} molecules of {self.bits} bits, each labelling"
            f" {self.labelled:.0%} of them; perceptrons with {hidden} hidden units, at most {self.run.steps} steps of"
            f" {self.run.batch_size} molecules; regressions: {len(self.regressions.penalties)} penalties;"
            f" trees: {self.trees.rounds} rounds, at most {self.trees.depth} deep"
        )

    def data(self) -> MoleculeData:
        """Molecules with some 50 bits set, few of them common, and labels that depend on common bits and on pairs.

        The parts are the held-out molecules and the inner folds of the others. Every assay labels equally many
        molecules of a part. Raises InputError if an assay has molecules of one class only in one of the parts.
        """
        rng = np.random.default_rng(self.seed)
        frequency_D = 1 / (np.arange(self.bits) + 20)
        frequency_D *= min(BITS_SET, self.bits / 8) / frequency_D.sum()
        shape = self.molecules, self.bits
        features_NxD = (rng.random(shape, np.float32) < np.minimum(frequency_D, 0.6)).astype(np.uint8)
        score_NxA = _scores(features_NxD[:, :128].astype(np.float32), self.assays, rng)
        is_positive_NxA = score_NxA > np.quantile(score_NxA, 1 - POSITIVE, axis=0)

        is_train_N = np.arange(self.molecules) >= self.molecules // TEST_PART
        part_N = np.where(is_train_N, random_folds(self.molecules, self.seed), NUM_FOLDS)
        values_NxA = np.full(score_NxA.shape, np.nan, np.float32)
        for part in (np.flatnonzero(part_N == number) for number in range(NUM_FOLDS + 1)):
            for a in range(self.assays):
                rows = rng.permutation(part)[: round(self.labelled * len(part))]
                values_NxA[rows, a] = is_positive_NxA[rows, a]
                if len(np.unique(values_NxA[rows, a])) < 2:
                    raise InputError(
                        f"assay {a} labels {len(rows)} of {len(part)} molecules, all of one class: give more molecules,"
                        " or label a larger share of them"
                    )
        examples = mixture_examples(values_NxA, np.eye(self.assays), is_train_N)
        return MoleculeData(features_NxD, values_NxA, is_train_N, examples)

    def train_all(self, data: MoleculeData, devices: int) -> Outputs:
        """All models in one program, spread as the experiment spreads them."""
        return self._scores(MlpLearner(self.run, mesh=make_mesh(devices)), data, data.examples)

    def train_one(self, data: MoleculeData, m: int) -> Outputs:
        """Model m alone, on the first device: up to rounding column m of `train_all`."""
        return self._scores(MlpLearner(self.run), data, data.examples.rows(slice(m, m + 1)))

    def train_logistic(self, data: MoleculeData, devices: int) -> Outputs:
        """All regressions in one program, spread as `train_all` spreads perceptrons."""
        return self._scores(LogisticLearner(self.regressions, mesh=make_mesh(devices)), data, data.examples)

    def train_sklearn(self, data: MoleculeData) -> Outputs:
        """The regressions of `train_logistic` up to the solvers' tolerances, one after the other."""
        return train_sklearn(self.regressions, data.features_NxD, data.examples, self.seed)

    def train_trees(self, data: MoleculeData) -> Outputs:
        return self._scores(TreeLearner(self.trees), data, data.examples)

    def _scores(self, learner: Learner, data: MoleculeData, examples: WeightedExamples) -> Outputs:
        return learner(data.features_NxD, examples, self.seed).scores_NxM

    def flops(self, data: MoleculeData, together: bool = True) -> float:
        """Of `train_all` without padding, or of `train_one` for all models: it judges a model on its own molecules."""
        return mlp_learner.training_flops(self.run, data.num_used if together else data.num_own, self.bits, self.assays)

    def quality(self, data: MoleculeData, outputs: Outputs) -> dict[str, float]:
        """On the held-out labels: log loss in nats, and average precision."""
        losses, precisions = [], []
        for score_N, value_N in zip(outputs.T.astype(np.float64), data.values_NxA.T, strict=True):
            judged_N = ~data.is_train_N & ~np.isnan(value_N)
            score_T, label_T = score_N[judged_N], value_N[judged_N]
            losses.append(np.mean(np.logaddexp(0, score_T) - label_T * score_T))
            precisions.append(evaluate("average_precision", score_T, label_T)[0])
        return {"log_loss": float(np.mean(losses)), "average_precision": float(np.mean(precisions))}

    def nothing_learned(self, data: MoleculeData) -> dict[str, float]:
        """The quality of scores that ignore the molecule."""
        mean_A = np.nanmean(data.values_NxA[data.is_train_N], axis=0, dtype=np.float64)
        return self.quality(data, np.broadcast_to(np.log(mean_A / (1 - mean_A)), data.values_NxA.shape))


def _scores(common_NxC: np.ndarray, assays: int, rng: np.random.Generator) -> np.ndarray:
    """What an assay responds to, N x A: one common bit in eight, a few pairs, and noise of half their deviation."""
    num_common = common_NxC.shape[1]
    pair_PxTwo = rng.integers(0, num_common, (num_common, 2))
    pair_NxP = common_NxC[:, pair_PxTwo[:, 0]] * common_NxC[:, pair_PxTwo[:, 1]]
    inputs_NxX = np.concatenate([common_NxC, pair_NxP], axis=1)
    effect_XxA = rng.normal(size=(2 * num_common, assays)) * (rng.random((2 * num_common, assays)) < 1 / 8)
    score_NxA = inputs_NxX @ effect_XxA
    return score_NxA + 0.5 * score_NxA.std(axis=0) * rng.normal(size=score_NxA.shape)


@dataclasses.dataclass(frozen=True)
class TextCase:
    """Transformers on bytes, one per source: MixMin's proxies as the text experiment trains them.

    Its methods do for text what those of `MoleculeCase` do.
    """

    name: ClassVar[CaseName] = "text"
    base: ClassVar[str] = ONE_PROGRAM
    rivals: ClassVar[tuple[str, ...]] = get_args(TrainedRival)
    sources: int
    run: LanguageModelRun = DEMO_PROXY
    seed: int = 0

    @property
    def num_models(self) -> int:
        return self.sources

    @property
    def what(self) -> str:
        model = self.run.model
        return (
            f"{self.sources} sources; transformers {model.width} wide and {model.depth} deep on"
            f" {self.run.num_windows * self.run.sequence_length} bytes each, in {self.run.num_steps} steps of"
            f" {self.run.batch_size} windows of {self.run.sequence_length}"
        )

    def data(self) -> TokenStore:
        """Random bytes, which each source draws from a distribution of its own; no window comes twice."""
        rng = np.random.default_rng(self.seed)
        size = (self.run.num_windows + 1) * self.run.sequence_length
        names = [f"source {k}" for k in range(self.sources)]
        documents = [[rng.choice(64, size, p=rng.dirichlet(np.ones(64))).astype(np.uint8).tobytes()] for _ in names]
        return build_store(names, documents, self.run.sequence_length)

    def train_all(self, data: TokenStore, devices: int) -> Outputs:
        return self._train(data, np.eye(self.sources), devices)

    def train_one(self, data: TokenStore, m: int) -> Outputs:
        return self._train(data, np.eye(self.sources)[[m]], 1)

    def _train(self, data: TokenStore, weights_MxK: np.ndarray, devices: int) -> Outputs:
        mesh = make_mesh(source_devices(len(weights_MxK), devices))
        trained = train_on_mixtures(self.run, data, weights_MxK, random.key(self.seed), mesh=mesh)
        block_until_ready(trained.params)
        return trained.loss_TxM

    def flops(self, data: TokenStore, together: bool = True) -> float:
        return self.sources * language_model.training_flops(self.run)

    def quality(self, data: TokenStore, outputs: Outputs) -> dict[str, float]:
        """The loss in nats per byte over the last fifth of the steps, on windows that were not seen before."""
        return {"loss": float(outputs[-max(1, len(outputs) // 5) :].mean())}

    def nothing_learned(self, data: TokenStore) -> dict[str, float]:
        return {"loss": float(np.log(256))}
