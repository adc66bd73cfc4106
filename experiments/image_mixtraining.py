"""More accuracy for less compute on images? See `experiments.mixtraining.images`."""

from experiments.harness.command_line import run
from experiments.mixtraining.images.__main__ import main
from experiments.mixtraining.images.config import PRESETS, ImageMixTraining

if __name__ == "__main__":
    run(ImageMixTraining, main, PRESETS)
