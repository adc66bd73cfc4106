"""More accuracy for less compute? SSL and SL one after the other, against both in one phase, on text.

    python -m experiments.text_mixtraining                        demonstration on text that Python carries (minutes)
    python -m experiments.text_mixtraining --sources DIR --out DIR --preset micro --seeds 3 --tune
    python -m experiments.text_mixtraining --ssl-sees all_tokens --joint all_tokens   masked language modelling, as BERT

MixTraining (Li et al., arXiv:2502.19513) on a transformer over bytes: self-supervision predicts hidden bytes, by
default from the visible ones alone, and the labels are the sources that windows of text are from.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import jax

from experiments.harness.command_line import run
from experiments.harness.data_sets import text_record
from experiments.harness.devices import see_devices
from experiments.harness.processes import together
from experiments.mixtraining.config import MixTrainingOptions
from experiments.mixtraining.run import run_experiment
from experiments.mixtraining.text.data import text_domain
from experiments.mixtraining.text.model import SIZES as SIZES
from experiments.mixtraining.text.model import TextSize, text_model
from mixmin_jax.data.text.installed_text import installed_sources
from mixmin_jax.data.text.sources import read_sources
from mixmin_jax.errors import InputError
from mixmin_jax.training.language_model import num_parameters
from mixmin_jax.training.learners import text_learner


@dataclasses.dataclass(frozen=True)
class TextMixTraining(MixTrainingOptions):
    """Compare supervised training, "pretrain, then fine-tune" and MixTraining on text.

    The task: which of the sources is a window of text from? With no arguments: a demonstration on text that every
    Python installation carries. Presets: demo (minutes on a laptop), micro (a larger model
    and more text; not yet run by anyone).
    """

    out: Path = Path("runs/text_mixtraining")
    """Folder for the results."""
    sources: tuple[str, ...] = ()
    """The classes: a folder with one file or folder per source (.jsonl, .jsonl.gz with a "text" field; .txt), or
    several paths and TFDS data sets (tfds:NAME:FIELD[@SPLIT]), one per source."""
    field: str = "text"
    """The field of JSON lines that holds the text."""
    ssl_mask: float = 0.5
    """Share of the bytes hidden in an SSL step."""
    length: int = 64
    """Bytes of a window."""
    windows: int = 120
    """Windows of each class to train on, at most: all classes get the same number."""
    test_windows: int = 250
    """Windows of each class to test on, at most."""
    test_fraction: float = 0.3
    """Share of each source's documents that is tested on, and on nothing else."""
    split_seed: int = 0
    """Seed of the split into documents to train, validate and test on, and of the choice of windows."""
    model: TextSize = "nano"
    """Transformers 64 wide and 2 deep, and 96 wide and 4 deep."""
    pool: Literal["mean", "cls"] = "mean"
    """What the classification head reads: the mean of the bytes' features, or the class token's."""
    bfloat16: bool = False
    """Compute in bfloat16; parameters and losses stay float32."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.length, self.windows, self.test_windows) < 1:
            raise InputError("--length, --windows and --test-windows must be at least 1")
        if not 0 < self.test_fraction < 1:
            raise InputError(f"--test-fraction must lie between 0 and 1, not {self.test_fraction}")

    @property
    def demonstration(self) -> bool:
        return not self.sources


PRESETS: Mapping[str, TextMixTraining] = {
    "demo": TextMixTraining(ssl_epochs=8, sl_epochs=8),
    "micro": TextMixTraining(model="micro", length=128, windows=1000, test_windows=500, fractions=(0.1, 0.25), seeds=3),
}


def main(config: TextMixTraining) -> None:
    see_devices(config)
    with together():
        sources = read_sources(*config.sources, field=config.field) if config.sources else installed_sources()
        model = text_model(config.model, config.length, (len(sources),), config.pool, config.bfloat16)
        params = jax.eval_shape(text_learner(model, config.ssl_mask).init, jax.random.key(0))
        field = config.field if config.sources else None
        domain = text_domain(
            sources,
            model,
            config.model,
            config.batch_size,
            config.windows,
            config.test_windows,
            config.test_fraction,
            config.validation_fraction,
            config.split_seed,
            {part: num_parameters(tree) for part, tree in params.items()},
            [text_record("class", corpus, field) for corpus in sources],
        )
    run_experiment("text_mixtraining", domain, config, demonstration=config.demonstration)


if __name__ == "__main__":
    run(TextMixTraining, main, PRESETS)
