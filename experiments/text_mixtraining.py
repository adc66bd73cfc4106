"""More accuracy for less compute on text? See `experiments.mixtraining.text`."""

from experiments.harness.command_line import run
from experiments.mixtraining.text.__main__ import main
from experiments.mixtraining.text.config import PRESETS, TextMixTraining

if __name__ == "__main__":
    run(TextMixTraining, main, PRESETS)
