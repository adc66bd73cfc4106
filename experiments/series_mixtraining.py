"""More accuracy for less compute on time series? SSL and SL one after the other, against both in one phase.

    python -m experiments.series_mixtraining                      demonstration on made-up series (minutes)
    python -m experiments.series_mixtraining --dataset folder:PATH --out DIR --fractions 0.25 1 --seeds 3 --tune

MixTraining (Li et al., arXiv:2502.19513) on a transformer over patches of series: self-supervision predicts hidden
patches, and the report compares with logistic regression on simple features and, if aeon is installed, MiniRocket.
"""

from experiments.harness.command_line import run
from experiments.harness.devices import see_devices
from experiments.harness.processes import together
from experiments.mixtraining.run import run_experiment
from experiments.mixtraining.series.config import PRESETS, SeriesMixTraining
from experiments.mixtraining.series.data import read_domain


def main(config: SeriesMixTraining) -> None:
    see_devices(config)
    with together():
        domain = read_domain(config)
    run_experiment("series_mixtraining", domain, config, demonstration=config.demonstration)


if __name__ == "__main__":
    run(SeriesMixTraining, main, PRESETS)
