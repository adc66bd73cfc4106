"""All proxies in one program against one after the other: time, FLOPs and quality, for molecules and for text.

    python -m benchmarks.proxies                                    # ten to twenty minutes on two cores
    python -m benchmarks.proxies --quick                            # small models and few of them, about a minute
    python -m benchmarks.proxies --cases molecules --assays 300 --against one_after_another xgboost
    python -m benchmarks.proxies --report benchmarks/results/proxies-cpu-2-cores.json

MixMin needs a model per source. They can be trained all at once, one after the other by the same compiled program, or
one after the other with everything compiled anew. Perceptrons on molecules are also compared with logistic regressions,
in one program and by scikit-learn, and with XGBoost's trees. A case's methods are timed in turns, after compilation and
a first run. N-grams are counted beside transformers and NLTK. The data are made up, see `benchmarks.proxies.cases` and
`benchmarks.proxies.ngrams`.
"""

import dataclasses

import jax

from benchmarks.options import Options, Rounds
from benchmarks.proxies.cases import CaseName, MoleculeCase, TextCase
from benchmarks.proxies.measure import measure
from benchmarks.proxies.methods import RIVALS, WHAT, Case, Rival
from benchmarks.proxies.ngrams import NgramCase
from benchmarks.proxies.records import ProxiesRecord
from benchmarks.proxies.report import report, summary
from benchmarks.records import made_by, write_record, write_report
from experiments.harness.command_line import run
from experiments.harness.provenance import cpu_cores
from experiments.text_mixture.config import DEMO_PROXY
from mixmin_jax.errors import InputError
from mixmin_jax.models.transformer import TransformerConfig
from mixmin_jax.training.language_model import LanguageModelRun
from mixmin_jax.training.mesh import split_cpu
from mixmin_jax.training.mlp_learner import MlpRun

DISTRIBUTIONS = ("mixmin_jax", "jax", "jaxlib", "flax", "optax", "numpy", "scikit-learn", "xgboost-cpu", "nltk")
QUICK_PROXY = LanguageModelRun(TransformerConfig(32, 1, 2), sequence_length=64)


@dataclasses.dataclass(frozen=True)
class Config(Options):
    """Times ways to train one proxy per source side by side, on made-up molecules and text.

    Writes proxies-DEVICE.json and .md (proxies-DEVICE-quick with --quick, proxies-DEVICE-part if cases, rivals or sizes
    are not the default ones), replacing older ones. The whole run takes about ten minutes on two cores; let the machine
    do nothing else. Defaults: 3 repeats, a budget of 100 s; with --quick 2 and 3 s.
    """

    cases: tuple[CaseName, ...] = ("molecules", "text", "ngrams", "ngrams_large")
    """What to train or count."""

    against: tuple[Rival, ...] = RIVALS
    """What to compare with all models in one program, and with n-grams."""

    molecules: int | None = None
    """Molecules, of which a fifth is held out; 6000, with --quick 1000."""

    bits: int | None = None
    """Fingerprint bits, of which some 50 are set; 2048, with --quick 512."""

    assays: int | None = None
    """Assays: molecule proxies to train; 32, with --quick 4."""

    labelled: float | None = None
    """Share of the molecules that each assay labels; 0.3 (ToxCast's is about that)."""

    steps: int | None = None
    """Steps that a perceptron on molecules trains at most; 200 as in the experiment."""

    sources: int | None = None
    """Sources of text: text proxies to train; 6 (8 for n-grams), with --quick 2."""

    tokens: int | None = None
    """Bytes that a text proxy is trained on; on a CPU 12800, on an accelerator 102400, with --quick 5120."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.labelled is not None and self.labelled > 1:
            raise InputError(f"--labelled is a share, at most 1; got {self.labelled}")
        if not self.cases:
            raise InputError("--cases names nothing to train: give some of molecules, text, ngrams, ngrams_large")

    def chosen(self, accelerator: bool) -> list[Case]:
        """The cases in their sizes, with the defaults on a CPU or an accelerator."""
        molecules = MoleculeCase(1000, 512, 4, 0.3) if self.quick else MoleculeCase(6000, 2048, 32, 0.3)
        tokens = 5120 if self.quick else DEMO_PROXY.tokens if accelerator else 12_800
        model = dataclasses.replace(QUICK_PROXY if self.quick else DEMO_PROXY, tokens=tokens)
        small, large = NgramCase(8, 250_000, 3, 40_000), NgramCase(8, 4_000_000, 6, 1_000_000)
        cases: dict[CaseName, Case] = {
            "molecules": self.fill(dataclasses.replace(molecules, run=self.fill(MlpRun()))),
            "text": self.fill(TextCase(2 if self.quick else 6, self.fill(model))),
            "ngrams": self.fill(NgramCase(2, 20_000, 3, 4000, model) if self.quick else small),
            "ngrams_large": self.fill(NgramCase(2, 300_000, 6, 4000, model) if self.quick else large),
        }
        return [cases[name] for name in dict.fromkeys(self.cases)]

    def is_whole(self, accelerator: bool) -> bool:
        """Whether all cases have their usual sizes and rivals."""
        usual = Config(quick=self.quick)
        return self.chosen(accelerator) == usual.chosen(accelerator) and self.against == usual.against


def main(config: Config) -> None:
    """Measure, print, write."""
    if config.report:
        return write_report(config.report, ProxiesRecord, report)
    split_cpu(min(cpu_cores(), 8))  # as the experiments do
    origin = made_by(*DISTRIBUTIONS)
    accelerator = jax.default_backend() != "cpu"
    rounds = config.fill(Rounds(2, 3.0) if config.quick else Rounds(3, 100.0))
    cases = tuple(measure(case, config.against, rounds) for case in config.chosen(accelerator))
    record = ProxiesRecord(made_by=origin, settings=rounds, methods=WHAT, cases=cases)
    record = dataclasses.replace(record, summary=summary(record))
    write_record(config.stem("proxies", config.is_whole(accelerator)), record, report)


if __name__ == "__main__":
    run(Config, main)
