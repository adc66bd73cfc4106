"""Which joint step, alpha, mix ratio, mask and restarts are best for MixTraining on images? One change at a time.

    python -m experiments.image_mixtraining_variants                  on digits
    python -m experiments.image_mixtraining_variants --preset micro --dataset folder:PATH --fractions 0.1 --seeds 3
    python -m experiments.image_mixtraining_variants --changes mask mix_ratio         some of the changes only

Judged on the validation part; the test part is not touched.
"""

from experiments.harness.command_line import run
from experiments.harness.devices import see_devices
from experiments.harness.processes import together
from experiments.mixtraining.images.data import read_domain
from experiments.mixtraining.images.variants import VARIANT_PRESETS, ImageMixTrainingVariants
from experiments.mixtraining.variants import run_variants


def main(config: ImageMixTrainingVariants) -> None:
    see_devices(config)
    with together():
        domain, _ = read_domain(config)
    run_variants("image_mixtraining_variants", domain, config, config.changes)


if __name__ == "__main__":
    run(ImageMixTrainingVariants, main, VARIANT_PRESETS)
