"""--init: the pretrained vision transformer that arms start from, and what its features are worth without training."""

import dataclasses
from typing import Any

import jax

from experiments.mixtraining.domain import Features, Labels
from experiments.mixtraining.images.config import SIZES, ImageMixTraining
from experiments.mixtraining.probing import probe
from mixmin_jax.errors import InputError
from mixmin_jax.models.encoder import EncoderConfig
from mixmin_jax.models.pretrained import Pretrained, adapt
from mixmin_jax.models.vision_transformer import VisionConfig
from mixmin_jax.models.vit_files import VitFile, read_vit

REFERENCES = {
    "linear": "frozen: linear probe on the pretrained encoder",
    "k_nn": "k_nn: nearest neighbors under the pretrained encoder",
}


def read_init(config: ImageMixTraining) -> VitFile | None:
    """The file of --init, if there is one."""
    if config.init is None:
        return None
    try:
        init = read_vit(config.init, config.init_normalization)
    except InputError as error:
        raise InputError(f"--init: {error}") from error
    if init.normalization is None:
        raise InputError(
            f"--init: {init.path} does not say how its model normalizes pixels, nor does a config.json beside it: give"
            " --init-normalization imagenet (DeiT, MAE, DINO) or half (Google's ViT, augreg in timm)"
        )
    return init


def sizes(config: ImageMixTraining, init: VitFile | None) -> tuple[EncoderConfig, EncoderConfig]:
    """Encoder and decoder that the options name; with --init, the encoder computes as the file's model does.

    The decoder beside an encoder of a file's size has half its width and two blocks, as that of ViT-Tiny.
    """
    if init is None:
        return SIZES[config.model]
    if config.model == "file":
        encoder = init.encoder()
        return encoder, EncoderConfig(encoder.width // 2, 2, encoder.heads)
    encoder, decoder = SIZES[config.model]
    return dataclasses.replace(encoder, gelu=init.gelu, norm_epsilon=init.norm_epsilon), decoder


def start_from(init: VitFile, model: VisionConfig) -> Pretrained:
    """The file's encoder as that of the model. Raises InputError, with the --model that fits, if it is none."""
    hint = ""
    if not _fits(init, model.encoder):
        fitting = [name for name, (encoder, _) in SIZES.items() if _fits(init, encoder)]
        hint = f"; give --model {(*fitting, 'file')[0]}"
    try:
        return adapt(init, model)
    except InputError as error:
        raise InputError(f"--init: {error}{hint}") from error


def frozen_references(features: Features, start: Pretrained, train: Labels, test: Labels) -> dict[str, float]:
    """Test accuracy of a linear probe and of nearest neighbors, with the encoder as it is in the file."""
    params: Any = {"encoder": jax.device_put(start.params)}
    return {REFERENCES[name]: reached for name, reached in probe(features, params, train, test).items()}


def _fits(init: VitFile, encoder: EncoderConfig) -> bool:
    sizes = (init.width, init.depth, init.mlp_ratio) == (encoder.width, encoder.depth, encoder.mlp_ratio)
    return sizes and init.heads in (None, encoder.heads)
