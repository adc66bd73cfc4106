"""Pretrained vision transformers as parameters of `ImageEncoder`: grids, patches and channels fitted to its images.

Axes: D width, C channels, P = p^2 C values of a patch, G patches per side of the grid.
"""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from mixmin_jax.errors import InputError
from mixmin_jax.models.encoder import EncoderConfig
from mixmin_jax.models.vision_transformer import VisionConfig
from mixmin_jax.models.vit_files import NORMALIZATIONS, Naming, Normalization, VitFile, mismatches, read_vit

_KNOWN = '"imagenet" (DeiT, MAE, DINO) or "half" (Google\'s ViT, augreg in timm)'


@dataclasses.dataclass(frozen=True)
class Taken:
    """What an encoder took from a file."""

    file: str
    sha256: str  # of the file
    naming: Naming
    normalization: Normalization  # of pixels, that the file's model expects; part of the patch embedding now
    taken: tuple[str, ...]  # keys of the file that the encoder starts from
    adapted: tuple[str, ...]  # what was changed, and how
    unused: tuple[str, ...]  # all other keys of the file
    unfilled: tuple[str, ...]  # parameters of the encoder that the file does not have; they are zeros
    encoder: EncoderConfig  # under which the encoder computes what the file's model did


class Pretrained(NamedTuple):
    """An encoder from a file."""

    params: Any  # of `ImageEncoder`
    taken: Taken


def load_pretrained(path: Path | str, config: VisionConfig, normalization: str | None = None) -> Pretrained:
    """Parameters of `ImageEncoder(config)` from a file in timm's or Hugging Face's naming: `read_vit`, then `adapt`.

    Raises:
        InputError: as those do.
    """
    return adapt(read_vit(Path(path), normalization), config)


def adapt(vit: VitFile, config: VisionConfig) -> Pretrained:
    """Parameters of `ImageEncoder(config)` that compute what the file's model does, on images of the config's size.

    With images and patches of the file's own sizes and three channels, features are those of the file's model on the
    same images. Otherwise:

    - Positions are resized by bicubic interpolation; that of the class token is kept.
    - Patch embeddings are resized by the pseudo-inverse of bicubic interpolation (FlexiViT, Beyer et al.,
      arXiv:2212.08013, equation 5): a resized patch embeds as before.
    - One channel is embedded as three that are the same.
    - The normalization of pixels that the file's model expects becomes part of the embedding of values in [-1, 1].

    Args:
        vit: a file as `read_vit` returns it.
        config: of the model. `vit.encoder()` is the encoder that fits.

    Returns:
        The parameters, and a record of what was taken.

    Raises:
        InputError: an encoder of another size or with another GELU, epsilon or number of heads, or images that have
            neither one nor three channels, or pixels whose normalization is not known.
    """
    _check_fit(vit, config)
    if vit.normalization is None:
        raise InputError(f"{vit.path} does not say how its model normalizes pixels: give {_KNOWN}, to `read_vit`")
    weights, adapted = vit.weights, list(vit.notes)

    def dense(name: str, scale: str | None = None) -> dict[str, np.ndarray]:
        kernel, bias = weights[f"{name}.weight"].T, weights[f"{name}.bias"]
        gamma = weights.get(scale, 1.0) if scale else 1.0
        return {"kernel": kernel * gamma, "bias": bias * gamma}

    def norm(name: str) -> dict[str, np.ndarray]:
        return {"scale": weights[f"{name}.weight"], "bias": weights[f"{name}.bias"]}

    stack: dict[str, Any] = {"final_norm": norm("norm")}
    for i in range(vit.depth):
        block = f"blocks.{i}"
        stack[f"block_{i}"] = {
            "attention_norm": norm(f"{block}.norm1"),
            "qkv": dense(f"{block}.attn.qkv"),
            "out": dense(f"{block}.attn.proj", f"{block}.ls1.gamma"),
            "feed_forward_norm": norm(f"{block}.norm2"),
            "up": dense(f"{block}.mlp.fc1"),
            "down": dense(f"{block}.mlp.fc2", f"{block}.ls2.gamma"),
        }
    if "blocks.0.ls1.gamma" in weights:
        adapted.append("ls1.gamma and ls2.gamma of every block: multiplied into attn.proj and mlp.fc2")
    unfilled = () if "mask_token" in weights else ("tokens/mask_token",)
    tokens = {
        "class_token": weights["cls_token"],
        "mask_token": weights.get("mask_token", np.zeros(vit.width, np.float32)),
        "positions": _positions(vit, config, adapted),
        "stack": stack,
    }
    patches = _patch_embedding(vit, vit.normalization, config, adapted)
    params = {"patch_embedding": patches, "tokens": tokens}
    params = jax.tree.map(lambda leaf: np.ascontiguousarray(leaf, np.float32), params)
    record = Taken(
        file=str(vit.path),
        sha256=vit.sha256,
        naming=vit.naming,
        normalization=vit.normalization,
        taken=vit.taken,
        adapted=tuple(adapted),
        unused=vit.unused,
        unfilled=unfilled,
        encoder=config.encoder,
    )
    return Pretrained(params, record)


def resize_positions(position_GxGxD: Float[np.ndarray, "G G D"], side: int) -> Float[np.ndarray, "side side D"]:
    """A grid of positions with `side` places per side, by bicubic interpolation; the same if it has that already."""
    resize = _resize_matrix(position_GxGxD.shape[0], side)
    return np.einsum("ag,bh,ghd->abd", resize, resize, position_GxGxD)


def resize_patches(kernel_DxCxpxp: Float[np.ndarray, "D C p p"], size: int) -> Float[np.ndarray, "D C size size"]:
    """The embedding w' of patches of another size, nearest in squares to <w', resize(x)> = <w, x> for every patch x.

    With M the matrix of bicubic interpolation along one side, w' = pinv(M)^T w pinv(M). It is exact for larger patches.
    """
    inverse = np.linalg.pinv(_resize_matrix(kernel_DxCxpxp.shape[-1], size))
    return np.einsum("ia,jb,dcij->dcab", inverse, inverse, kernel_DxCxpxp)


def _resize_matrix(old: int, new: int) -> np.ndarray:
    """new x old: bicubic interpolation with half-pixel centers, and antialiasing where it shrinks."""
    if old == new:
        return np.eye(old)
    return np.asarray(jax.image.resize(jnp.eye(old), (new, old), "cubic"), np.float64)


def _positions(vit: VitFile, config: VisionConfig, adapted: list[str]) -> np.ndarray:
    position_1GGxD = vit.weights["pos_embed"]
    old, new = vit.grid, config.image_size // config.patch_size
    if old == new:
        return position_1GGxD
    adapted.append(f"pos_embed: grid of {old} x {old} to {new} x {new}, bicubic; the class token's position is kept")
    grid = resize_positions(position_1GGxD[1:].reshape(old, old, -1), new)
    return np.concatenate([position_1GGxD[:1], grid.reshape(new * new, -1)])


def _patch_embedding(
    vit: VitFile, normalization: Normalization, config: VisionConfig, adapted: list[str]
) -> dict[str, np.ndarray]:
    """Kernel_PxD, for values in the order (row, column, channel), and bias."""
    kernel_DxCxpxp = np.asarray(vit.weights["patch_embed.proj.weight"], np.float64)
    mean_C, deviation_C = map(np.array, normalization)
    offset_C = (0.5 - mean_C) / deviation_C  # of x = 0, as u = (x + 1) / 2
    bias_D = vit.weights["patch_embed.proj.bias"] + np.einsum("dcij,c->d", kernel_DxCxpxp, offset_C)
    kernel_DxCxpxp = kernel_DxCxpxp * (0.5 / deviation_C)[:, None, None]
    if normalization != NORMALIZATIONS["half"]:
        mean, deviation = (", ".join(f"{value:g}" for value in values) for values in normalization)
        adapted.append(f"patch_embed.proj: pixels normalized by mean {mean} and deviation {deviation} to [-1, 1]")
    if vit.patch_size != (size := config.patch_size):
        adapted.append(
            f"patch_embed.proj.weight: {vit.patch_size} x {vit.patch_size} to {size} x {size} pixels, pseudo-inverse of"
            " bicubic interpolation"
        )
        kernel_DxCxpxp = resize_patches(kernel_DxCxpxp, size)
    if config.channels == 1:
        adapted.append("patch_embed.proj.weight: 3 channels to 1, summed")
        kernel_DxCxpxp = kernel_DxCxpxp.sum(axis=1, keepdims=True)
    return {"kernel": kernel_DxCxpxp.transpose(2, 3, 1, 0).reshape(config.patch_values, vit.width), "bias": bias_D}


def _check_fit(vit: VitFile, config: VisionConfig) -> None:
    ours = config.encoder
    named = ("width", "depth", "heads", "mlp_ratio", "gelu", "norm_epsilon")
    both = {name: (getattr(vit, name), getattr(ours, name)) for name in named}
    differing = [f"{name} {a} (model: {b})" for name, (a, b) in both.items() if a is not None and a != b]
    if differing:
        wrong = mismatches(vit.weights, ours.width, ours.depth, ours.mlp_ratio * ours.width)[:3]
        if vit.depth != ours.depth:
            whose = "the file's" if vit.depth > ours.depth else "the model's"
            wrong.append(f"blocks.{min(vit.depth, ours.depth)} and on are {whose} alone")
        keys = f": {', '.join(wrong)}" if wrong else ""
        raise InputError(f"{vit.path} does not fit the model: it has {', '.join(differing)}{keys}")
    if config.channels not in (1, 3):
        raise InputError(f"{vit.path} is for images of three channels, or one; these have {config.channels}")
