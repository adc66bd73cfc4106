"""Files that the tests make in the layouts of others, against a vision transformer in NumPy."""

import dataclasses
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf

from mixmin_jax.errors import InputError
from mixmin_jax.models.encoder import EncoderConfig
from mixmin_jax.models.pretrained import adapt, load_pretrained, resize_patches, resize_positions
from mixmin_jax.models.vision_transformer import ImageEncoder, VisionConfig
from mixmin_jax.models.vit_files import NORMALIZATIONS, read_vit
from tests.models.made_up_vits import DEPTH, GRID, PATCH, WIDTH, saved, timm_vit

HEADS = 2
ENCODER = EncoderConfig(WIDTH, DEPTH, HEADS, mlp_ratio=2, gelu="exact")
CONFIG = VisionConfig(GRID * PATCH, PATCH, 3, (5,), ENCODER, EncoderConfig(8, 1, 2))
PIXELS = np.random.default_rng(1).integers(0, 256, (2, GRID * PATCH, GRID * PATCH, 3), np.uint8)


def hugging_face(weights):
    """The same weights under the names of transformers' ViTForImageClassification."""
    renamed = {}
    for name, value in weights.items():
        if ".qkv." in name:
            layer, part = name.split(".")[1], name.rsplit(".", 1)[1]
            for which, third in zip(("query", "key", "value"), np.split(value, 3), strict=True):
                renamed[f"vit.encoder.layer.{layer}.attention.attention.{which}.{part}"] = third
            continue
        for timms, theirs in {
            "blocks.": "encoder.layer.",
            "attn.proj": "attention.output.dense",
            "mlp.fc1": "intermediate.dense",
            "mlp.fc2": "output.dense",
            "norm1": "layernorm_before",
            "norm2": "layernorm_after",
            "patch_embed.proj": "embeddings.patch_embeddings.projection",
            "pos_embed": "embeddings.position_embeddings",
            "cls_token": "embeddings.cls_token",
            "mask_token": "embeddings.mask_token",
        }.items():
            name = name.replace(timms, theirs)
        name = name.replace("norm.", "layernorm.") if name.startswith("norm.") else name
        renamed[name.replace("head.", "classifier.") if name.startswith("head.") else f"vit.{name}"] = value
    return renamed


def reference_features(weights, pixels, mean, deviation, epsilon=1e-6, heads=HEADS):
    """timm's VisionTransformer in NumPy: features_BxTxD after the last norm."""
    w = {name: value.astype(np.float64) for name, value in weights.items()}

    def linear(name, x):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(name, x):
        centered = x - x.mean(-1, keepdims=True)
        scaled = centered / np.sqrt((centered**2).mean(-1, keepdims=True) + epsilon)
        return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]

    def attention(name, x):
        query, key, value = np.split(linear(f"{name}.qkv", x), 3, axis=-1)
        found = []
        for part in np.split(np.arange(x.shape[-1]), heads):
            logits = query[..., part] @ key[..., part].swapaxes(1, 2) / np.sqrt(len(part))
            share = np.exp(logits - logits.max(-1, keepdims=True))
            found.append(share / share.sum(-1, keepdims=True) @ value[..., part])
        return linear(f"{name}.proj", np.concatenate(found, axis=-1))

    images = ((pixels / 255 - np.array(mean)) / np.array(deviation)).transpose(0, 3, 1, 2)  # B x C x H x W
    kernel = w["patch_embed.proj.weight"]
    size = kernel.shape[-1]
    x = np.stack(
        [
            np.einsum("bcij,dcij->bd", images[:, :, r : r + size, c : c + size], kernel) + w["patch_embed.proj.bias"]
            for r in range(0, images.shape[2], size)
            for c in range(0, images.shape[3], size)
        ],
        axis=1,
    )
    x = np.concatenate([np.broadcast_to(w["cls_token"], (len(x), 1, x.shape[-1])), x], axis=1) + w["pos_embed"]
    for i in range(sum(name.endswith("norm1.weight") for name in w)):
        gamma1, gamma2 = (w.get(f"blocks.{i}.ls{which}.gamma", 1.0) for which in (1, 2))
        x = x + gamma1 * attention(f"blocks.{i}.attn", norm(f"blocks.{i}.norm1", x))
        h = linear(f"blocks.{i}.mlp.fc1", norm(f"blocks.{i}.norm2", x))
        x = x + gamma2 * linear(f"blocks.{i}.mlp.fc2", h * (1 + erf(h / np.sqrt(2))) / 2)
    return norm("norm", x)


def features(params, config, images):
    return ImageEncoder(config).apply({"params": params}, jnp.asarray(images))


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_a_file_of_timm_computes_what_it_did(tmp_path, normalization):
    weights = timm_vit()
    params, taken = load_pretrained(saved(tmp_path, weights), CONFIG, normalization)
    expected = reference_features(weights, PIXELS, *NORMALIZATIONS[normalization])
    np.testing.assert_allclose(features(params, CONFIG, PIXELS), expected, atol=1e-5)  # float32 against float64
    assert taken.unused == ("head.bias", "head.weight") and taken.unfilled == ("tokens/mask_token",)
    assert set(taken.taken) | set(taken.unused) == set(weights) and len(taken.adapted) == (normalization != "half")
    tanh = dataclasses.replace(CONFIG, encoder=dataclasses.replace(ENCODER, gelu="tanh"))
    assert np.abs(features(params, tanh, PIXELS) - expected).max() > 5e-5  # so that the form of GELU is seen


def test_layer_scale_and_missing_biases_and_positions_keep_the_function(tmp_path):
    scales = {f"blocks.{i}.ls{which}.gamma": (WIDTH,) for i in range(DEPTH) for which in (1, 2)}
    weights = timm_vit(**scales, mask_token=(1, WIDTH))
    weights["pos_embed"][:, 0] = 0
    without = {key: value for key, value in weights.items() if not key.endswith("qkv.bias")}
    for key in weights.keys() - without.keys():
        weights[key][:] = 0
    path = saved(tmp_path, without | {"pos_embed": weights["pos_embed"][:, 1:]})
    params, taken = load_pretrained(path, CONFIG, "half")
    expected = reference_features(weights, PIXELS, *NORMALIZATIONS["half"])
    np.testing.assert_allclose(features(params, CONFIG, PIXELS), expected, atol=1e-5)
    np.testing.assert_array_equal(params["tokens"]["mask_token"], weights["mask_token"][0])
    assert taken.unfilled == () and len(taken.adapted) == 3 and "mask_token" in taken.taken


def test_the_names_of_hugging_face_give_the_same_parameters(tmp_path):
    weights = timm_vit(mask_token=(1, 1, WIDTH))
    told = {"num_attention_heads": HEADS, "layer_norm_eps": 1e-12, "hidden_act": "gelu"}
    theirs = read_vit(saved(tmp_path / "hf", hugging_face(weights), **told).parent, "half")
    config = dataclasses.replace(CONFIG, encoder=theirs.encoder())
    assert config.encoder == dataclasses.replace(ENCODER, norm_epsilon=1e-12)
    params, taken = adapt(theirs, config)
    assert_same(params, load_pretrained(saved(tmp_path / "timm", weights), CONFIG, "half").params)
    assert taken.unused == ("classifier.bias", "classifier.weight") and taken.unfilled == ()
    assert taken.naming == "hugging_face" and taken.adapted == ()


def test_a_norm_after_the_mean_becomes_one_before_it_and_that_is_said(tmp_path):
    weights = timm_vit()
    pooled = {
        key.replace("norm.", "fc_norm.") if key.startswith("norm.") else key: value for key, value in weights.items()
    }
    params, taken = load_pretrained(saved(tmp_path / "fc_norm", pooled), CONFIG, "half")
    assert_same(params, load_pretrained(saved(tmp_path / "norm", weights), CONFIG, "half").params)
    assert taken.adapted == ("fc_norm, of the mean over patches, normalizes each patch: features differ a little",)
    both = timm_vit(**{"fc_norm.weight": (WIDTH,), "fc_norm.bias": (WIDTH,)})
    assert "fc_norm.bias" in load_pretrained(saved(tmp_path / "both", both), CONFIG, "half").taken.unused


def test_an_mae_checkpoint_gives_its_encoder(tmp_path):
    decoder = {"decoder_blocks.0.norm1.weight": (8,), "decoder_pred.weight": (48, 8), "mask_token": (1, 1, 8)}
    weights = timm_vit(**decoder)
    taken = load_pretrained(saved(tmp_path, weights), CONFIG).taken  # ImageNet's normalization is known
    assert taken.normalization == NORMALIZATIONS["imagenet"]
    assert set(decoder) < set(taken.unused) and taken.unfilled == ("tokens/mask_token",)


def test_archives_of_numpy_and_wrapped_names_are_read_too(tmp_path):
    weights = timm_vit()
    np.savez(tmp_path / "vit.npz", **{f"state_dict.model.{name}": value for name, value in weights.items()})
    wrapped = load_pretrained(tmp_path / "vit.npz", CONFIG, "half")
    assert_same(wrapped.params, load_pretrained(saved(tmp_path, weights), CONFIG, "half").params)


def test_files_of_pytorch_need_torch(tmp_path, monkeypatch):
    (tmp_path / "mae.pth").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InputError, match=r"mae.pth .* needs torch: .*safetensors.torch.save_file"):
        read_vit(tmp_path / "mae.pth")


def test_files_of_pytorch_are_read_without_running_code(tmp_path):
    torch = pytest.importorskip("torch")
    weights = timm_vit()
    torch.save(
        {"model": {key: torch.from_numpy(value) for key, value in weights.items()}, "epoch": 3}, tmp_path / "a.pth"
    )
    loaded = load_pretrained(tmp_path / "a.pth", CONFIG, "half")
    assert_same(loaded.params, load_pretrained(saved(tmp_path, weights), CONFIG, "half").params)
    torch.save({"model": test_files_of_pytorch_need_torch}, tmp_path / "b.pth")
    with pytest.raises(InputError, match=r"b.pth cannot be read as tensors alone"):
        read_vit(tmp_path / "b.pth")


def test_gray_images_embed_as_colored_ones_of_three_equal_channels(tmp_path):
    vit = read_vit(saved(tmp_path, timm_vit()), "imagenet")
    gray = dataclasses.replace(CONFIG, channels=1)
    of_gray = features(adapt(vit, gray).params, gray, PIXELS[..., :1])
    of_colors = features(adapt(vit, CONFIG).params, CONFIG, np.repeat(PIXELS[..., :1], 3, axis=-1))
    np.testing.assert_allclose(of_gray, of_colors, atol=1e-4)


def test_larger_patches_embed_enlarged_images_as_before(tmp_path):
    """What the pseudo-inverse is for; the grid of positions is the same."""
    vit = read_vit(saved(tmp_path, timm_vit()), "imagenet")
    twice = dataclasses.replace(CONFIG, image_size=2 * CONFIG.image_size, patch_size=2 * PATCH)
    patches = (PIXELS / 127.5 - 1).reshape(2, GRID, PATCH, GRID, PATCH, 3).astype(np.float32)
    large = jax.image.resize(patches, (2, GRID, 2 * PATCH, GRID, 2 * PATCH, 3), "cubic")
    params, taken = adapt(vit, twice)
    np.testing.assert_allclose(
        features(params, twice, large.reshape(2, 2 * GRID * PATCH, -1, 3)),
        features(adapt(vit, CONFIG).params, CONFIG, PIXELS),
        atol=5e-4,
    )
    assert [words.split(":")[0] for words in taken.adapted] == ["patch_embed.proj", "patch_embed.proj.weight"]


def test_positions_of_another_grid(tmp_path):
    vit = read_vit(saved(tmp_path, timm_vit()), "half")
    wider = dataclasses.replace(CONFIG, image_size=5 * PATCH)
    params, taken = adapt(vit, wider)
    positions, before = params["tokens"]["positions"], vit.weights["pos_embed"]
    assert positions.shape == (26, WIDTH) and taken.adapted == (
        "pos_embed: grid of 3 x 3 to 5 x 5, bicubic; the class token's position is kept",
    )
    np.testing.assert_array_equal(positions[0], before[0])
    np.testing.assert_allclose(positions[1 + 12], before[1 + 4], atol=1e-6)  # the middle is the middle


def test_resizing_keeps_what_has_the_size_constants_and_symmetry():
    rng = np.random.default_rng(3)
    grid, kernel = rng.normal(size=(4, 4, 6)), rng.normal(size=(6, 3, 4, 4))
    np.testing.assert_allclose(resize_positions(grid, 4), grid, atol=1e-12)
    np.testing.assert_allclose(resize_patches(kernel, 4), kernel, atol=1e-12)
    for side in (2, 7):
        np.testing.assert_allclose(resize_positions(np.ones((4, 4, 1)), side), 1, atol=1e-6)
        turned = resize_positions(grid[::-1].swapaxes(0, 1), side)
        np.testing.assert_allclose(turned, resize_positions(grid, side)[::-1].swapaxes(0, 1), atol=1e-5)


RESNET = {"conv1.weight": (64, 3, 7, 7), "bn1.weight": (64,), "layer1.0.conv1.weight": (64, 64, 3, 3)}
SWIN = {"patch_embed.proj.weight": (96, 3, 4, 4), "layers.0.blocks.0.attn.qkv.weight": (288, 96)}
BERT = {"bert.embeddings.word_embeddings.weight": (10, 8), "bert.encoder.layer.0.output.dense.weight": (8, 8)}


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        (RESNET, r"keys bn1.weight, conv1.weight, layer1.0.conv1.weight; expected are timm's names \(cls_token"),
        (SWIN, r"another architecture .*: it has layers.0.blocks.0.attn.qkv.weight and it lacks blocks.0"),
        (BERT, r"no vision transformer that is known here: it has the keys bert.embeddings"),
        ({}, r"no vision transformer"),
    ],
)
def test_another_architecture_is_refused_with_its_keys(tmp_path, shapes, said):
    path = saved(tmp_path, {name: np.ones(shape, np.float32) for name, shape in shapes.items()})
    with pytest.raises(InputError, match=said):
        read_vit(path)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"dist_token": (1, 1, WIDTH)}, "it has dist_token;"),
        ({"blocks.0.attn.q_norm.weight": (8,)}, r"it has blocks.0.attn.q_norm.weight;"),
        ({"blocks.7.norm1.weight": (WIDTH,)}, r"it lacks blocks"),
        ({"teacher.patch_embed.proj.weight": (WIDTH, 3, 4, 4)}, "holds more than one"),
        ({"pos_embed": (1, 12, WIDTH)}, r"positions are 1 x 12 x 16; they must be those of a square grid"),
        ({"patch_embed.proj.weight": (WIDTH, 1, 4, 4)}, r"patch embedding is 16 x 1 x 4 x 4; .* RGB"),
        ({"blocks.1.mlp.fc1.bias": (31,)}, r"do not fit together: blocks.1.mlp.fc1.bias is 31, not 32"),
        (
            {f"blocks.{i}.attn.qkv.weight": (9, WIDTH) for i in range(2)},
            r"blocks.0.attn.qkv.weight is 9 x 16, not 48 x",
        ),
    ],
)
def test_what_would_compute_something_else_is_refused(tmp_path, more, said):
    with pytest.raises(InputError, match=said):
        read_vit(saved(tmp_path, timm_vit(**more)))


def test_a_model_of_another_size_is_refused_with_the_keys(tmp_path):
    vit = read_vit(saved(tmp_path, timm_vit()), "half")
    for other, said in {
        EncoderConfig(
            32, 2, 2, 2, gelu="exact"
        ): r"width 16 \(model: 32\): cls_token is 16, not 32, patch_embed.proj.bias is",
        EncoderConfig(16, 3, 2, 2, gelu="exact"): r"depth 2 \(model: 3\): blocks.2 and on are the model's alone",
        EncoderConfig(16, 2, 2, 2): r"gelu exact \(model: tanh\)",
    }.items():
        with pytest.raises(InputError, match=said):
            adapt(vit, dataclasses.replace(CONFIG, encoder=other))
    with pytest.raises(InputError, match="these have 2"):
        adapt(vit, dataclasses.replace(CONFIG, channels=2))


def test_what_a_file_does_not_say_is_asked_for(tmp_path):
    vit = read_vit(saved(tmp_path, timm_vit()))
    with pytest.raises(InputError, match=r'normalizes pixels: give "imagenet"'):
        adapt(vit, CONFIG)
    with pytest.raises(InputError, match=r"how many attention heads its 16 features"):
        vit.encoder()
    assert vit.encoder(2) == ENCODER
    with pytest.raises(InputError, match=r"one of imagenet, half, not 'gray'"):
        read_vit(vit.path, "gray")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("{", r"config.json, beside the pretrained weights, cannot be read"),
        ('{"hidden_size": 768}', r"is 16 wide, but the config.json beside it is of a model 768 wide"),
        ("[1]", r"config.json, beside the pretrained weights, cannot be read"),
        ('{"num_attention_heads": "two"}', r"num_attention_heads 'two'"),
        ('{"hidden_act": "quick_gelu"}', r"'quick_gelu' is none of gelu"),
        ('{"mean": [0.5], "std": [0.5]}', r"mean and std beside the weights must be 3 numbers"),
    ],
)
def test_a_strange_configuration_beside_the_file_is_refused(tmp_path, config, said):
    path = saved(tmp_path, timm_vit())
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(InputError, match=said):
        read_vit(path)


def test_the_configuration_beside_a_file_of_timm_says_how_pixels_are_normalized(tmp_path):
    told = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    vit = read_vit(saved(tmp_path, timm_vit(), architecture="vit", pretrained_cfg=told))
    assert vit.normalization == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


def test_broken_files_are_refused(tmp_path):
    for name in ("a.safetensors", "a.npz"):
        (tmp_path / name).write_bytes(b"no weights")
        with pytest.raises(InputError, match=rf"{name} cannot be read"):
            read_vit(tmp_path / name)
    with pytest.raises(InputError, match=r"model.safetensors cannot be read"):
        read_vit(tmp_path)
    with pytest.raises(InputError, match=r"end in .safetensors, .npz"):
        read_vit(tmp_path / "a.h5")
    weights = timm_vit()
    weights["norm.bias"][0] = np.nan
    with pytest.raises(InputError, match=r"norm.bias holds values that are not finite"):
        read_vit(saved(tmp_path, weights))
