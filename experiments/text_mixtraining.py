"""More accuracy for less compute on text? SSL and SL one after the other, against both in one phase.

    python -m experiments.text_mixtraining                        demonstration on text that Python carries (minutes)
    python -m experiments.text_mixtraining --sources DIR --out DIR --preset micro --seeds 3 --tune
    python -m experiments.text_mixtraining --ssl-sees all_tokens --joint all_tokens   masked language modelling, as BERT

MixTraining (Li et al., arXiv:2502.19513) on a transformer over bytes: self-supervision predicts hidden bytes, by
default from the visible ones alone, and the labels are the sources that windows of text are from.
"""

from experiments.harness.command_line import run
from experiments.harness.devices import see_devices
from experiments.harness.processes import together
from experiments.mixtraining.run import run_experiment
from experiments.mixtraining.text.config import PRESETS, TextMixTraining
from experiments.mixtraining.text.data import read_domain


def main(config: TextMixTraining) -> None:
    see_devices(config)
    with together():
        domain = read_domain(config)
    run_experiment("text_mixtraining", domain, config, demonstration=config.demonstration)


if __name__ == "__main__":
    run(TextMixTraining, main, PRESETS)
