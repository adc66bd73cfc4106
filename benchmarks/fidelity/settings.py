"""How much is trained."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from experiments.harness.language_model_stages import training_flops
from mixmin_jax.models.transformer import TransformerConfig
from mixmin_jax.training.language_model import LanguageModelRun

if TYPE_CHECKING:
    from benchmarks.fidelity.data import World

BUILT_IN = "built_in"  # the world of the built-in sources
RULE_SEEDS = 2  # runs of uniform and natural: what another seed changes is the noise of one run


@dataclasses.dataclass(frozen=True)
class Trained:
    """Trained proxies, and whether each source was subsampled so that it repeats as in the target run."""

    tokens: int
    learning_rate: float
    matched: bool
    width: int = 64
    depth: int = 2

    @property
    def run(self) -> LanguageModelRun:
        return LanguageModelRun(
            TransformerConfig(self.width, self.depth, 4), tokens=self.tokens, learning_rate=self.learning_rate
        )

    @property
    def name(self) -> str:
        matched = ", repeats matched" * self.matched
        return f"transformer {self.width}x{self.depth}, {self.tokens // 1000}k, rate {self.learning_rate:g}{matched}"


@dataclasses.dataclass(frozen=True)
class Counted:
    """n-grams of each source's text, all of it or some of it."""

    limit: int | None  # bytes of a source; None for all

    @property
    def name(self) -> str:
        return "n-grams" if self.limit is None else f"n-grams of {self.limit / 1e6:g} MB"


@dataclasses.dataclass(frozen=True)
class Settings:
    """Sizes of all that is trained."""

    model: LanguageModelRun  # of the ground truth
    built_in_tokens: int  # of its runs on the built-in sources, which are small
    num_mixtures: int
    orders: tuple[int, ...]
    counted: tuple[Counted, ...]
    trained: tuple[Trained, ...]  # the last one is also used to find mixtures
    random_runs: tuple[tuple[int, Trained], ...]  # (how many, of what) for regressions
    lengths: tuple[int, ...]  # rows, beside whole documents
    tried_lengths: tuple[int, ...]  # of these, rows that mixtures are found with and trained on
    fit_bytes: int
    test_bytes: int

    def target_run(self, world: str) -> LanguageModelRun:
        return dataclasses.replace(self.model, tokens=self.built_in_tokens) if world == BUILT_IN else self.model

    def flops(self, worlds: Sequence["World"]) -> float:
        """Of all trainings, for the progress."""
        total = 0.0
        for world in worlds:
            found = 2 * (len(self.tried_lengths) + 3) + 2 * 3  # for two tuning targets and two others
            runs = self.num_mixtures + 2 * RULE_SEEDS + found
            total += runs * training_flops(self.target_run(world.name))
            total += sum(len(world.names) * training_flops(kind.run) for kind in self.trained)
            total += sum(num * training_flops(kind.run) for num, kind in self.random_runs)
        return total


WHOLE = Settings(
    LanguageModelRun(TransformerConfig(96, 3, 4), tokens=998_400, learning_rate=4e-3),
    built_in_tokens=614_400,
    num_mixtures=32,
    orders=(3, 4, 5, 6, 7),
    counted=(Counted(None), Counted(1_000_000), Counted(250_000)),
    trained=(
        Trained(96_000, 6e-3, False, width=32),
        Trained(96_000, 6e-3, False),
        Trained(96_000, 6e-3, True),
        Trained(96_000, 1.5e-3, False),
        Trained(384_000, 6e-3, True),
        Trained(384_000, 6e-3, False),
    ),
    random_runs=((64, Trained(48_000, 6e-3, False)),),
    lengths=(1, 4, 16, 32, 64, 128, 256),
    tried_lengths=(16, 32, 64),
    fit_bytes=200_000,
    test_bytes=150_000,
)
_TINY = LanguageModelRun(TransformerConfig(16, 1, 2), tokens=10_240)
QUICK = Settings(
    _TINY,
    built_in_tokens=10_240,
    num_mixtures=8,
    orders=(3, 6),
    counted=(Counted(100_000),),
    trained=(Trained(5_120, 6e-3, False, width=16, depth=1),),
    random_runs=((16, Trained(5_120, 6e-3, False, width=16, depth=1)),),
    lengths=(1, 32),
    tried_lengths=(1, 32),
    fit_bytes=50_000,
    test_bytes=30_000,
)
