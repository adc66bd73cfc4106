"""Which part of MixTraining on images matters? See `experiments.mixtraining.images.variants`."""

from experiments.harness.command_line import run
from experiments.mixtraining.images.variants import VARIANT_PRESETS, ImageMixTrainingVariants, main

if __name__ == "__main__":
    run(ImageMixTrainingVariants, main, VARIANT_PRESETS)
