"""MixTraining against "pretrain, then fine-tune": the time and FLOPs of each kind of step and of whole pipelines.

    python -m benchmarks.mixtraining                                  # the micro model on a CPU, ViT-Tiny elsewhere
    python -m benchmarks.mixtraining --quick                          # few kinds and small blocks, under a minute
    python -m benchmarks.mixtraining --model tiny --batch-size 512 --bfloat16
    python -m benchmarks.mixtraining --report benchmarks/results/mixtraining-cpu-2-cores.json

Everything is timed in turns in one process, in compiled blocks of steps, after compilation and a first run. Four
tables: kinds of step, each alone in its program; the same steps inside the program that selects the phase by
`lax.switch`, which shows that a step pays for its own phase only; pipelines, as blocks that follow their schedules; and
a convolutional model in a scan and step by step.
`experiments.image_mixtraining` says what the pipelines learn.
"""

import dataclasses
from collections.abc import Mapping

import jax

from benchmarks.mixtraining.cases import BATCH_SIZES, MODELS, SSL_MASK, ModelName, chosen, sized
from benchmarks.mixtraining.measure import measure
from benchmarks.mixtraining.records import MixTrainingRecord, Settings
from benchmarks.mixtraining.report import report, summary
from benchmarks.options import Options
from benchmarks.records import made_by, write_record, write_report
from experiments.harness.command_line import run
from mixmin_jax.models.vision_transformer import VisionConfig

DISTRIBUTIONS = ("mixmin_jax", "jax", "jaxlib", "flax", "optax", "numpy")


@dataclasses.dataclass(frozen=True)
class Config(Options):
    """Times MixTraining's steps and pipelines side by side, on random images.

    Writes mixtraining-DEVICE.json and .md (mixtraining-DEVICE-quick with --quick, mixtraining-DEVICE-part if the model,
    the batch or the blocks are not the default ones), replacing older ones. The whole run takes about ten minutes on
    two cores; let the machine do nothing else. With --quick it measures what one compiled program needs (no two passes,
    no mask tokens, one mask ratio), with half of the model's blocks and a quarter of the batch and of the steps.
    Defaults: 7 repeats, a budget of 120 s; with --quick 3 and 5 s.
    """

    model: ModelName | None = None
    """micro (24 x 24 images in patches of 4, 96 wide, 4 deep) or tiny (32 x 32 images in patches of 4, ViT-Tiny: 192
    wide, 12 deep); by default micro on a CPU and tiny on an accelerator."""

    batch_size: int | None = None
    """Images in a step; 128 for micro, 256 for tiny."""

    bfloat16: bool = False
    """Compute in bfloat16; parameters and losses stay float32."""

    steps: int | None = None
    """Steps of an epoch, which is one compiled block; 8 on a CPU, 48 on an accelerator."""

    def settings(self, accelerator: bool) -> Settings:
        """The options, with their defaults on a CPU or an accelerator."""
        model: ModelName = self.model or ("tiny" if accelerator else "micro")
        batch_size, steps = BATCH_SIZES[model], 48 if accelerator else 8
        if self.quick:
            return self.fill(Settings(3, 5.0, model, batch_size // 4, self.bfloat16, steps // 4))
        return self.fill(Settings(7, 120.0, model, batch_size, self.bfloat16, steps))

    def is_whole(self, accelerator: bool) -> bool:
        """Whether everything that is measured has its usual size."""
        usual = Config(quick=self.quick, repeats=self.repeats, budget=self.budget)
        return self.settings(accelerator) == usual.settings(accelerator)


def main(config: Config, models: Mapping[ModelName, VisionConfig] = MODELS) -> None:
    """Measure, print, write."""
    if config.report:
        return write_report(config.report, MixTrainingRecord, report)
    origin = made_by(*DISTRIBUTIONS)
    accelerator = jax.default_backend() != "cpu"
    settings = config.settings(accelerator)
    model = sized(models[settings.model], config.quick, settings.bfloat16)
    records, compile_seconds = measure(model, *chosen(config.quick), settings)
    record = MixTrainingRecord(
        made_by=origin,
        settings=settings,
        model=model,
        ssl_mask=SSL_MASK,
        **records._asdict(),
        compile_seconds=compile_seconds,
    )
    record = dataclasses.replace(record, summary=summary(record))
    write_record(config.stem("mixtraining", config.is_whole(accelerator)), record, report)


if __name__ == "__main__":
    run(Config, main)
