"""Vision transformers of random weights in files, in the layout of timm."""

import json

import numpy as np
from safetensors.numpy import save_file

WIDTH, DEPTH, PATCH, GRID = 16, 2, 4, 3


def timm_vit(width=WIDTH, depth=DEPTH, mlp_ratio=2, patch=PATCH, grid=GRID, **more):
    """Weights by timm's names; drawn wide, so that biases and norms take part. `more`: other shapes."""
    shapes = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, 1 + grid**2, width),
        "patch_embed.proj.weight": (width, 3, patch, patch),
        "patch_embed.proj.bias": (width,),
    }
    for i in range(depth):
        for norm in ("norm1", "norm2"):
            shapes |= {f"blocks.{i}.{norm}.weight": (width,), f"blocks.{i}.{norm}.bias": (width,)}
        for name, ends in {
            "attn.qkv": (3 * width, width),
            "attn.proj": (width, width),
            "mlp.fc1": (mlp_ratio * width, width),
            "mlp.fc2": (width, mlp_ratio * width),
        }.items():
            shapes |= {f"blocks.{i}.{name}.weight": ends, f"blocks.{i}.{name}.bias": ends[:1]}
    shapes |= {"norm.weight": (width,), "norm.bias": (width,), "head.weight": (7, width), "head.bias": (7,)} | more
    rng = np.random.default_rng(0)
    return {name: (0.3 * rng.normal(size=shape)).astype(np.float32) for name, shape in shapes.items()}


def saved(folder, weights, name="model.safetensors", **config):
    folder.mkdir(exist_ok=True)
    if config:
        (folder / "config.json").write_text(json.dumps(config))
    save_file({key: np.ascontiguousarray(value) for key, value in weights.items()}, folder / name)
    return folder / name
