"""Vision transformers in files of other libraries: their parameters under one set of names, and what is known of them.

Names are those of timm's `VisionTransformer`, which DeiT, MAE, DINO and DINOv2 share, or of Hugging Face's `ViTModel`
and `ViTMAEModel`. Here all become timm's.

Axes: D width, C channels, p side of a patch, G patches per side of the grid.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from mixmin_jax.errors import InputError, list_some
from mixmin_jax.models.encoder import EncoderConfig, Gelu
from mixmin_jax.models.weight_files import read_arrays

Naming = Literal["timm", "hugging_face"]


class Normalization(NamedTuple):
    """What a model expects of pixels u in 0..1: (u - mean) / deviation, by channel."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]


NORMALIZATIONS: Mapping[str, Normalization] = {
    "imagenet": Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),  # DeiT, MAE, DINO and DINOv2
    "half": Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),  # Google's ViT and "augreg" in timm
}

_ANCHORS: Mapping[Naming, str] = {
    "timm": "patch_embed.proj.weight",
    "hugging_face": "embeddings.patch_embeddings.projection.weight",
}
_TO_TIMM = (  # replaced one after the other in Hugging Face's names
    ("embeddings.patch_embeddings.projection", "patch_embed.proj"),
    ("embeddings.position_embeddings", "pos_embed"),
    ("embeddings.", ""),
    ("encoder.layer.", "blocks."),
    ("attention.attention.", "attn."),
    ("attention.output.dense", "attn.proj"),
    ("intermediate.dense", "mlp.fc1"),
    ("output.dense", "mlp.fc2"),
    ("layernorm_before", "norm1"),
    ("layernorm_after", "norm2"),
    ("layernorm", "norm"),
)
_QKV = ("query", "key", "value")
# of no use to an encoder: the first part of a name begins with one of these
_LEFT_OUT = ("head", "fc_norm", "pre_logits", "pooler", "classifier", "decoder", "mask_token")
_OPTIONAL = ("attn.qkv.bias", "ls1.gamma", "ls2.gamma")  # of a block
_EXPECTED = (
    "timm's names (cls_token, pos_embed, patch_embed.proj.weight, blocks.0.attn.qkv.weight, ..., norm.weight) or"
    " Hugging Face's (embeddings.cls_token, encoder.layer.0.attention.attention.query.weight, ...)"
)
# heads of the published widths; those of others must be told
_HEADS = {192: 3, 384: 6, 512: 8, 768: 12, 1024: 16, 1280: 16}
_GELU: Mapping[str, Gelu] = {"gelu": "exact", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh"}


@dataclasses.dataclass(frozen=True, eq=False)
class VitFile:
    """A vision transformer that a file holds."""

    path: Path
    sha256: str  # of the file
    naming: Naming
    weights: Mapping[str, np.ndarray]  # by timm's names; float32
    taken: tuple[str, ...]  # keys of the file that `weights` come from
    unused: tuple[str, ...]  # all other keys of the file
    notes: tuple[str, ...]  # what the file lacks, and what stands for it
    normalization: Normalization | None  # of pixels; None: not known
    heads: int | None  # None: neither known from its width nor told
    gelu: Gelu
    norm_epsilon: float

    @property
    def width(self) -> int:
        return len(self.weights[_ANCHORS["timm"]])

    @property
    def depth(self) -> int:
        return _depth(self.weights)

    @property
    def mlp_ratio(self) -> int:
        return len(self.weights["blocks.0.mlp.fc1.weight"]) // self.width

    @property
    def patch_size(self) -> int:
        return self.weights[_ANCHORS["timm"]].shape[2]

    @property
    def grid(self) -> int:
        """G, of the positions."""
        return math.isqrt(len(self.weights["pos_embed"]) - 1)

    def encoder(self, heads: int | None = None) -> EncoderConfig:
        """The configuration under which the encoder computes what the file's model did.

        Raises:
            InputError: the number of attention heads is not known; give it.
        """
        heads = heads or self.heads
        if heads is None:
            raise InputError(
                f"{self.path} does not say how many attention heads its {self.width} features are split into: put a"
                ' config.json beside it with {"num_attention_heads": ...}'
            )
        sizes = self.width, self.depth, heads, self.mlp_ratio
        return EncoderConfig(*sizes, gelu=self.gelu, norm_epsilon=self.norm_epsilon)


def read_vit(path: Path, normalization: str | None = None) -> VitFile:
    """The vision transformer in a file, or in the `model.safetensors` of a folder.

    `config.json` and `preprocessor_config.json` beside the file, as Hugging Face's hub has them, say how it normalizes
    pixels, how many heads it has, which GELU and which epsilon. Without them: the published sizes' heads, the exact
    GELU, and 1e-6 (timm) or 1e-12 (Hugging Face).

    Args:
        path: of a .safetensors, .npz, or (needs torch) .pth, .pt or .bin file.
        normalization: a name in `NORMALIZATIONS`; None: as the files beside it say. MAE's, with its decoder, is known.

    Returns:
        Its parameters by timm's names, and what is known of it.

    Raises:
        InputError: a file that cannot be read, or holds another architecture (which keys).
    """
    path = path / "model.safetensors" if path.is_dir() else path
    arrays = read_arrays(path)
    naming, names, unused = _names(path, arrays)
    weights: dict[str, np.ndarray] = {}
    for name, keys in names.items():
        try:
            parts = [np.atleast_1d(arrays[key]).astype(np.float32) for key in keys]
        except ValueError as error:
            raise InputError(f"{path}: {list_some(keys)} holds no numbers ({error})") from error
        if len({part.shape[1:] for part in parts}) > 1:
            raise InputError(f"{path}: {list_some(keys)} do not fit together: {list_some([_shape(p) for p in parts])}")
        weights[name] = parts[0] if len(parts) == 1 else np.concatenate(parts)
        if not np.isfinite(weights[name]).all():
            raise InputError(f"{path}: {list_some(keys)} holds values that are not finite")
    notes = _complete(path, weights)
    told = _beside(path, len(weights["cls_token"]))
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    pixels = _normalization(path, normalization, told, any("decoder_pred" in key for key in unused))
    activation = told.get("hidden_act", "gelu")
    if activation not in _GELU:
        raise InputError(f"{path}: the activation {activation!r} is none of {', '.join(_GELU)}")
    return VitFile(
        path=path,
        sha256=sha256,
        naming=naming,
        weights=weights,
        taken=tuple(key for keys in names.values() for key in keys),
        unused=tuple(unused),
        notes=notes,
        normalization=pixels,
        heads=told.get("num_attention_heads", _HEADS.get(len(weights["cls_token"]))),
        gelu=_GELU[activation],
        norm_epsilon=told.get("layer_norm_eps", 1e-6 if naming == "timm" else 1e-12),
    )


def mismatches(weights: Mapping[str, np.ndarray], width: int, depth: int, hidden: int) -> list[str]:
    """Parameters whose shape is not that of an encoder of this size, as `NAME is 576 x 192, not 288 x 96`."""
    found = []
    for name, shape in _shapes(width, depth, hidden).items():
        if name in weights and weights[name].shape != shape:
            found.append(f"{name} is {_shape(weights[name])}, not {' x '.join(map(str, shape))}")
    return found


def _names(path: Path, keys: Iterable[str]) -> tuple[Naming, dict[str, tuple[str, ...]], list[str]]:
    """The naming, the keys of the file by timm's names (three for a `qkv` in parts), and the keys that are not used."""
    keys = list(keys)
    anchors = [(naming, key) for naming, anchor in _ANCHORS.items() for key in keys if f".{key}".endswith(f".{anchor}")]
    if not anchors:
        raise InputError(
            f"{path} holds no vision transformer that is known here: it has the keys {list_some(keys)}; expected are"
            f" {_EXPECTED}"
        )
    if len(anchors) > 1:
        raise InputError(
            f"{path} holds more than one vision transformer: {' and '.join(key for _, key in anchors)}; save one of"
            " them in a file of its own"
        )
    naming, anchor = anchors[0]
    prefix = anchor.removesuffix(_ANCHORS[naming])
    found: dict[str, str] = {}
    for key in keys:
        if key.startswith(prefix):
            found[_timm_name(key.removeprefix(prefix), naming)] = key
    decoded = any(key.removeprefix(prefix).startswith("decoder") for key in keys)  # whose mask token it is then
    names: dict[str, tuple[str, ...]] = {}
    for block in sorted({name.split(".")[1] for name in found if name.startswith("blocks.") and name.count(".") > 1}):
        for part in ("weight", "bias"):
            split = [f"blocks.{block}.attn.{which}.{part}" for which in _QKV]
            if all(name in found for name in split):
                names[f"blocks.{block}.attn.qkv.{part}"] = tuple(found.pop(name) for name in split)
    known = {*_shapes(1, _depth([*names, *found]) or 1, 1), "pos_embed", _ANCHORS["timm"]}
    if naming == "timm" and decoded:
        known -= {"mask_token"}
    if "norm.weight" not in found:
        known |= {"fc_norm.weight", "fc_norm.bias"}
    unknown = [key for name, key in found.items() if name not in known and not name.startswith(_LEFT_OUT)]
    names |= {name: (key,) for name, key in found.items() if name in known}
    has = {name.replace("fc_norm", "norm") for name in names}
    lacking = [
        name
        for name in known
        if name not in has and not name.endswith(_OPTIONAL) and name.split(".")[0] not in _LEFT_OUT
    ]
    if unknown or lacking:
        wrong = {"it has": unknown, "it lacks": sorted(lacking)}
        said = [f"{verb} {list_some(which)}" for verb, which in wrong.items() if which]
        raise InputError(
            f"{path} holds another architecture than a plain vision transformer: {' and '.join(said)}; expected are"
            f" {_EXPECTED}"
        )
    used = {key for keys in names.values() for key in keys}
    return naming, names, [key for key in keys if key not in used]


def _timm_name(name: str, naming: Naming) -> str:
    if naming == "hugging_face":
        for theirs, timms in _TO_TIMM:
            name = name.replace(theirs, timms)
    return name


def _depth(names: Iterable[str]) -> int:
    """The number of blocks; some are lacking if it is not one more than the highest of their numbers."""
    return len({name.split(".")[1] for name in names if name.startswith("blocks.")})


def _shapes(width: int, depth: int, hidden: int) -> dict[str, tuple[int, ...]]:
    """All parameters of a fixed shape by timm's names: all but positions and patch embedding."""
    block = {
        "norm1.weight": (width,),
        "norm1.bias": (width,),
        "attn.qkv.weight": (3 * width, width),
        "attn.qkv.bias": (3 * width,),
        "attn.proj.weight": (width, width),
        "attn.proj.bias": (width,),
        "ls1.gamma": (width,),
        "norm2.weight": (width,),
        "norm2.bias": (width,),
        "mlp.fc1.weight": (hidden, width),
        "mlp.fc1.bias": (hidden,),
        "mlp.fc2.weight": (width, hidden),
        "mlp.fc2.bias": (width,),
        "ls2.gamma": (width,),
    }
    ends = {name: (width,) for name in ("cls_token", "mask_token", "patch_embed.proj.bias", "norm.weight", "norm.bias")}
    return ends | {f"blocks.{i}.{name}": shape for i in range(depth) for name, shape in block.items()}


def _complete(path: Path, weights: dict[str, np.ndarray]) -> tuple[str, ...]:
    """Bring the parameters into one form, in place, and say what was missing. Raises InputError for odd shapes."""
    notes = []
    if "norm.weight" not in weights:
        weights |= {f"norm.{part}": weights.pop(f"fc_norm.{part}") for part in ("weight", "bias")}
        notes.append("fc_norm, of the mean over patches, normalizes each patch: features differ a little")
    patches, positions = weights[_ANCHORS["timm"]], weights["pos_embed"]
    for name in ("cls_token", "mask_token"):
        if name in weights:
            weights[name] = weights[name].reshape(-1)
    if patches.ndim != 4 or patches.shape[1] != 3 or patches.shape[2] != patches.shape[3] or not patches.size:
        raise InputError(f"{path}: the patch embedding is {_shape(patches)}; it must be width x 3 x p x p, for RGB")
    width, rows = len(patches), positions.shape[1] if positions.ndim == 3 else 0
    if positions.shape != (1, rows, width) or not (_is_square(rows) or _is_square(rows - 1)):
        raise InputError(
            f"{path}: the positions are {_shape(positions)}; they must be those of a square grid of patches, with or"
            f" without the class token's: 1 x (1 + G^2) x {width} or 1 x G^2 x {width}"
        )
    weights["pos_embed"] = positions[0]
    if _is_square(rows):
        weights["pos_embed"] = np.pad(positions[0], ((1, 0), (0, 0)))
        notes.append("pos_embed: none of the class token; zeros")
    depth, hidden = _depth(weights), len(weights["blocks.0.mlp.fc1.weight"])
    biases = [f"blocks.{block}.attn.qkv.bias" for block in range(depth)]
    if absent := [name for name in biases if name not in weights]:
        weights |= {name: np.zeros(3 * width, np.float32) for name in absent}
        notes.append(f"{list_some(absent, 1)}: none; zeros")
    if wrong := mismatches(weights, width, depth, hidden):
        raise InputError(f"{path}: shapes do not fit together: {list_some(wrong)}")
    if hidden % width:
        raise InputError(f"{path}: its feed-forward layers are {hidden} wide, no whole multiple of {width}")
    return tuple(notes)


def _is_square(count: int) -> bool:
    return count > 0 and math.isqrt(count) ** 2 == count


def _shape(array: np.ndarray) -> str:
    return " x ".join(map(str, array.shape)) or "a number"


def _beside(path: Path, width: int) -> dict[str, Any]:
    """What the configurations beside a file say, timm's entries in `pretrained_cfg` included."""
    told: dict[str, Any] = {}
    for name in ("config.json", "preprocessor_config.json"):
        place = path.parent / name
        if place.exists():
            try:
                found = json.loads(place.read_text())
                told |= found | found.get("pretrained_cfg", {})
            except (OSError, ValueError, AttributeError, TypeError) as error:
                raise InputError(f"{place}, beside the pretrained weights, cannot be read ({error})") from error
    for name, kind in {"num_attention_heads": int, "layer_norm_eps": float, "hidden_act": str}.items():
        if name in told and not isinstance(told[name], kind):
            raise InputError(f"{path.parent}: the configuration beside the weights says {name} {told[name]!r}")
    if told.get("hidden_size", width) != width:
        raise InputError(
            f"{path} is {width} wide, but the config.json beside it is of a model {told['hidden_size']} wide: keep the"
            " file in a folder of its own"
        )
    return told


def _normalization(path: Path, name: str | None, told: Mapping[str, Any], mae: bool) -> Normalization | None:
    if name is not None:
        if name not in NORMALIZATIONS:
            raise InputError(f"the normalization must be one of {', '.join(NORMALIZATIONS)}, not {name!r}")
        return NORMALIZATIONS[name]
    if told.get("do_normalize") is False:
        return Normalization((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    for names in (("image_mean", "image_std"), ("mean", "std")):
        if all(name in told for name in names):
            try:
                mean, deviation = (tuple(map(float, told[name])) for name in names)
            except (TypeError, ValueError):
                mean = deviation = ()
            if len(mean) != 3 or len(deviation) != 3 or min(deviation) <= 0:
                raise InputError(f"{path.parent}: {' and '.join(names)} beside the weights must be 3 numbers each")
            return Normalization(mean, deviation)
    return NORMALIZATIONS["imagenet"] if mae else None
