"""The command `python -m experiments.image_mixtraining`; see `experiments.mixtraining.images`."""

from experiments.harness.command_line import run
from experiments.mixtraining.images.__main__ import PRESETS, ImageMixTraining, main

if __name__ == "__main__":
    run(ImageMixTraining, main, PRESETS)
