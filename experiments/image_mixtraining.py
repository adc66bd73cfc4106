"""More accuracy for less compute on images? SSL and SL one after the other, against both in one phase.

    python -m experiments.image_mixtraining                       demonstration on digits (under 5 minutes on two cores)
    python -m experiments.image_mixtraining --preset micro --dataset folder:PATH --fractions 0.1 0.25 --seeds 3 --tune

MixTraining (Li et al., arXiv:2502.19513) on a vision transformer with a masked-autoencoder decoder.
"""

from experiments.harness.command_line import run
from experiments.harness.devices import see_devices
from experiments.harness.processes import together
from experiments.mixtraining.images.config import PRESETS, ImageMixTraining
from experiments.mixtraining.images.data import read_domain
from experiments.mixtraining.run import run_experiment


def main(config: ImageMixTraining) -> None:
    see_devices(config)
    with together():
        domain, reconstruct = read_domain(config)
    run_experiment("image_mixtraining", domain, config, demonstration=config.demonstration, reconstruct=reconstruct)


if __name__ == "__main__":
    run(ImageMixTraining, main, PRESETS)
