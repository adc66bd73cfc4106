"""Adapters on a tiny vision transformer, a language model and a perceptron: what they start from, train and give back.

Axes: N images, B batch.
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mixmin_jax.errors import InputError
from mixmin_jax.models.encoder import EncoderConfig
from mixmin_jax.models.mlp import BitMLP
from mixmin_jax.models.transformer import TransformerConfig, TransformerLM
from mixmin_jax.models.vision_transformer import VisionConfig
from mixmin_jax.training.language_model import token_log_likelihoods
from mixmin_jax.training.learners import image_learner
from mixmin_jax.training.loop import compile_block, init_state, make_train_step
from mixmin_jax.training.low_rank import (
    Adapter,
    adapted,
    every_kernel,
    init_adapters,
    matched,
    merge,
    merged_learner_params,
)
from mixmin_jax.training.mixtraining import (
    Batch,
    Labeled,
    Learner,
    OptimizerSettings,
    TrainedParts,
    sl_loss,
    step_flops,
    train,
)
from mixmin_jax.training.mixtraining import init_state as init_mix_state
from mixmin_jax.training.schedule import plan_steps
from tests.training.trees import assert_same

SMALL = EncoderConfig(width=8, depth=1, heads=1)
PLAIN = image_learner(VisionConfig(4, 2, 1, (3,), SMALL, SMALL), 0.5)
KERNELS = [f"tokens/stack/block_0/{name}/kernel" for name in ("down", "out", "qkv", "up")]
IMAGES_N = jax.random.normal(jax.random.key(0), (12, 4, 4, 1))
LABELS_N = jnp.arange(12, dtype=jnp.int32) % 3
OPTIMIZER = OptimizerSettings()


def numbers(key):
    """Of a learner that compiles in a moment."""
    keys, shapes = jax.random.split(key, 3), {"encoder": (16, 6), "ssl": (6, 16), "sl": (6, 3)}
    return {
        part: {"up": {"kernel": 0.3 * jax.random.normal(key, shapes[part])}}
        for part, key in zip(shapes, keys, strict=True)
    }


QUICK = Learner(
    numbers,
    hide=lambda key, x: jax.random.bernoulli(key, 0.5, x.shape),
    encode=lambda params, x, view: jnp.tanh((x if view is None else x * view) @ params["encoder"]["up"]["kernel"]),
    ssl_loss=lambda params, features, x, view: (~view * (features @ params["ssl"]["up"]["kernel"] - x) ** 2).mean(),
    sl_logits=lambda params, features, task: features @ params["sl"]["up"]["kernel"],
)


def whole(step, key, images_N, labels_N):
    return Batch((Labeled(images_N, labels_N),))


def nudged(adapters):
    """Adapters that change something."""
    return {name: Adapter(a_IxR, b_RxO + 0.1) for name, (a_IxR, b_RxO) in adapters.items()}


@pytest.mark.slow
def test_an_adapted_learner_starts_as_the_learner_itself():
    learner = adapted(PLAIN, 2)
    params = jax.jit(learner.init)(jax.random.key(1))
    assert sorted(params["adapters"]) == KERNELS
    assert {adapter.a_IxR.shape[1] for adapter in params["adapters"].values()} == {2}
    assert_same({part: params[part] for part in ("encoder", "ssl", "sl")}, jax.jit(PLAIN.init)(jax.random.key(1)))
    assert_same(merged_learner_params(params), {part: params[part] for part in ("encoder", "ssl", "sl")})
    np.testing.assert_array_equal(learner.encode(params, IMAGES_N, None), PLAIN.encode(params, IMAGES_N, None))


def test_merged_parameters_are_those_of_the_adapted_learner():
    learner = adapted(PLAIN, 2, scale=3.0)
    params = jax.jit(learner.init)(jax.random.key(1))
    params["adapters"] = nudged(params["adapters"])
    plain = merged_learner_params(params, 3.0)
    batch = whole(0, None, IMAGES_N, LABELS_N)
    losses = [float(sl_loss(*pair, batch)) for pair in ((learner, params), (PLAIN, plain), (PLAIN, params))]
    assert losses[0] == losses[1] != losses[2]
    kernel = params["encoder"]["tokens"]["stack"]["block_0"]["up"]["kernel"]
    a_IxR, b_RxO = params["adapters"][KERNELS[3]]
    found = plain["encoder"]["tokens"]["stack"]["block_0"]["up"]["kernel"]
    np.testing.assert_allclose(found, kernel + 1.5 * a_IxR @ b_RxO, rtol=1e-5)
    assert_same(merged_learner_params(plain), plain)


def test_each_phase_trains_its_parts_alone():
    learner = adapted(QUICK, 2, after_ssl=True)
    start = jax.jit(learner.init)(jax.random.split(jax.random.key(3))[0])
    kept = []

    def on_block(done, of, losses, state):
        kept.append((done, jax.device_get(state.params)))

    plan = plan_steps([("ssl", 1), ("joint", 1), ("sl", 1)], 2, learning_rate=1e-2)
    data = IMAGES_N.reshape(12, 16), LABELS_N
    run = train(learner, plan, whole, data, OPTIMIZER, jax.random.key(3), block_steps=2, on_block=on_block)
    assert run.failure is None and [done for done, _ in kept] == [2, 4, 6]
    assert np.isfinite(run.losses.sl[2:]).all() and np.isfinite(run.losses.ssl[:4]).all()

    def changed(old, new):
        leaves = {part: zip(jax.tree.leaves(old[part]), jax.tree.leaves(new[part]), strict=True) for part in old}
        return {part for part, pairs in leaves.items() if any((np.asarray(a) != b).any() for a, b in pairs)}

    states = [start, *(params for _, params in kept)]
    assert [changed(a, b) for a, b in itertools.pairwise(states)] == [
        {"encoder", "ssl"}, {"encoder", "ssl", "sl"}, {"adapters", "sl"},
    ]  # fmt: skip


def test_a_frozen_encoder_has_no_moments():
    state = jax.eval_shape(lambda: init_mix_state(adapted(PLAIN, 2), OPTIMIZER, jax.random.key(0)))
    assert set(state.opt_state) == {"adapters", "ssl", "sl"}
    assert adapted(PLAIN, 2).trained == TrainedParts(("adapters", "ssl"), ("adapters", "ssl", "sl"), ("adapters", "sl"))


@pytest.mark.slow
def test_a_language_model_is_adapted_by_a_plain_loss():
    """The base is an argument of the compiled block, the optimizer knows adapters alone."""
    config = TransformerConfig(width=8, depth=1, heads=1)
    tokens_BxL1 = jnp.asarray(np.frombuffer(b"to be or not to be" * 2, np.uint8).reshape(4, 9))
    base = jax.jit(TransformerLM(config).init)(jax.random.key(0), tokens_BxL1[:, :-1])
    adapters = init_adapters(jax.random.key(1), base, 2)
    assert {name.split("/")[-2] for name in adapters} == {"qkv", "out", "up", "down"}

    def loss(adapters, batch, key):
        base, tokens_BxL1 = batch
        return -token_log_likelihoods(config, merge(base, adapters), tokens_BxL1).mean()

    optimizer = optax.adam(3e-2)
    block = compile_block(make_train_step(loss, optimizer), lambda x, base, tokens: (base, tokens))
    state = init_state(jax.tree.map(jnp.copy, adapters), optimizer, jax.random.key(2))
    state, losses = block(state, jnp.arange(20), base, tokens_BxL1)
    np.testing.assert_allclose(losses[0], -token_log_likelihoods(config, base, tokens_BxL1).mean(), rtol=1e-6)
    assert losses[-1] < losses[0] - 0.3
    merged_loss = -token_log_likelihoods(config, merge(base, state.params), tokens_BxL1).mean()
    assert merged_loss < losses[0] - 0.3
    size = sum(leaf.size for leaf in jax.tree.leaves(state.opt_state))
    assert size == 1 + 2 * sum(leaf.size for leaf in jax.tree.leaves(adapters))


def test_other_targets_are_named_by_a_predicate():
    params = BitMLP((4,)).init(jax.random.key(0), jnp.zeros((2, 6)))
    assert sorted(matched(params, every_kernel)) == ["params/Dense_0/kernel", "params/bits_kernel"]
    adapters = nudged(init_adapters(jax.random.key(1), params, 3, lambda path: path[-1] == "bits_kernel"))
    assert {name: adapter.a_IxR.shape for name, adapter in adapters.items()} == {"params/bits_kernel": (4, 3)}
    changed = jax.tree.map(lambda a, b: bool((a != b).any()), merge(params, adapters), params)
    assert changed["params"]["bits_kernel"] and sum(jax.tree.leaves(changed)) == 1


def test_what_cannot_be_adapted_is_named():
    params = BitMLP((4,)).init(jax.random.key(0), jnp.zeros((2, 6)))
    with pytest.raises(InputError, match=r"no array of the parameters is a target.*params/bits_kernel"):
        init_adapters(jax.random.key(0), params, 2)
    with pytest.raises(InputError, match=r"params/Dense_0/kernel has the shape \(4, 1\).*rank 2"):
        init_adapters(jax.random.key(0), params, 2, every_kernel)
    with pytest.raises(InputError, match="at least 1, not 0"):
        init_adapters(jax.random.key(0), params, 0, every_kernel)
    with pytest.raises(InputError, match="of another model: block_0/up/kernel"):
        merge(params, {"block_0/up/kernel": Adapter(jnp.zeros((1, 1)), jnp.zeros((1, 1)))})
    strange = dataclasses.replace(PLAIN, trained=TrainedParts(sl=("adapters", "sl")))
    with pytest.raises(InputError, match="a dict of the trees encoder, ssl, sl, adapters"):
        step_flops(strange, whole, (IMAGES_N, LABELS_N), OPTIMIZER)
