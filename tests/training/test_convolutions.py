"""Convolutions in the one order of axes that XLA's CPU compiler computes fast everywhere."""

import functools
import inspect
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixmin_jax.training.convolutions import with_fast_convolutions
from mixmin_jax.training.mixtraining import Batch, Labeled, Learner, OptimizerSettings, init_state, make_step
from mixmin_jax.training.schedule import plan_steps
from tests.training.trees import assert_same


def normal(*shape):
    return jax.random.normal(jax.random.key(len(shape)), shape)


KERNEL, IMAGES = normal(3, 3, 4, 4), normal(4, 6, 6, 4)


def convolve(kernel, images, axes=("NHWC", "HWIO", "NHWC"), strides=(1, 1), **options):
    return jax.lax.conv_general_dilated(images, kernel, strides, "SAME", dimension_numbers=axes, **options)


def in_a_scan(kernel, images):
    return jax.lax.scan(lambda x, _: (jnp.tanh(convolve(kernel, x)), None), images, None, length=2)[0]


def in_a_branch(kernel, images):
    return jax.lax.cond(images.sum() > -1e9, convolve, lambda kernel, images: images, kernel, images)


CASES = {
    "channels first": (
        functools.partial(convolve, axes=("NCHW", "OIHW", "NCHW")),
        KERNEL.T,
        IMAGES.transpose(0, 3, 1, 2),
    ),
    "any order": (functools.partial(convolve, axes=("HNCW", "OIHW", "WCHN")), KERNEL.T, normal(6, 2, 4, 5)),
    "strides": (functools.partial(convolve, strides=(2, 1), rhs_dilation=(1, 2)), KERNEL, IMAGES),
    "groups": (functools.partial(convolve, feature_group_count=2), normal(3, 3, 2, 4), IMAGES),
    "one axis": (functools.partial(convolve, axes=("NWC", "WIO", "NWC"), strides=(2,)), normal(3, 4, 5), IMAGES[0]),
    "in a scan": (in_a_scan, KERNEL, IMAGES),
    "in a branch": (in_a_branch, KERNEL, IMAGES),
    "in a call": (jax.jit(convolve), KERNEL, IMAGES),
    "computed twice": (jax.checkpoint(lambda kernel, images: jnp.tanh(convolve(kernel, images))), KERNEL, IMAGES),
}


FAST = {
    3: "lhs_spec=(0, 2, 1), rhs_spec=(2, 1, 0), out_spec=(0, 2, 1)",  # batch, features, space; outputs, inputs, space
    4: "lhs_spec=(0, 3, 1, 2), rhs_spec=(3, 2, 0, 1), out_spec=(0, 3, 1, 2)",
}


def orders(function, *arguments):
    """The orders of axes of all convolutions that a function and its parts make."""
    found = re.findall(r"lhs_spec=.*?, rhs_spec=.*?, out_spec=.*?\)", str(jax.make_jaxpr(function)(*arguments)))
    return set(found)


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_the_same_in_the_fast_order(case):
    forward, kernel, images = CASES[case]
    gradient = jax.grad(lambda *arguments: (forward(*arguments) ** 2).sum(), argnums=(0, 1))
    changed = with_fast_convolutions(gradient)
    assert orders(gradient, kernel, images) - {FAST[kernel.ndim]}
    assert orders(changed, kernel, images) == {FAST[kernel.ndim]}
    for found, wanted in zip(jax.jit(changed)(kernel, images), jax.jit(gradient)(kernel, images), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_what_has_no_convolution_stays_as_it_is():
    def function(x, parts):
        return jax.lax.scan(lambda x, _: (jax.nn.softmax(x @ parts["kernel"]), x.sum()), x, None, length=3)

    arguments = jnp.ones((2, 3)), {"kernel": jnp.ones((3, 3))}
    changed = with_fast_convolutions(function)
    assert str(jax.make_jaxpr(changed)(*arguments)) == str(jax.make_jaxpr(function)(*arguments))
    assert_same(changed(*arguments), function(*arguments))


def test_other_devices_choose_for_themselves(monkeypatch):
    gradient = jax.grad(lambda kernel: (convolve(kernel, IMAGES) ** 2).sum())
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert orders(with_fast_convolutions(gradient), KERNEL) == orders(gradient, KERNEL)


class Encoder(nn.Module):
    @nn.compact
    def __call__(self, images_BxHxWxC):
        return nn.relu(nn.Conv(4, (3, 3), strides=2)(images_BxHxWxC))


class Decoder(nn.Module):
    @nn.compact
    def __call__(self, features_BxHxWxC):
        return nn.Conv(4, (3, 3))(features_BxHxWxC.repeat(2, 1).repeat(2, 2))


ENCODER, DECODER, HEAD = Encoder(), Decoder(), nn.Dense(3)
FEATURES = normal(4, 3, 3, 4)
CNN = Learner(
    init=lambda key: {
        "encoder": ENCODER.init(key, IMAGES),
        "ssl": DECODER.init(key, FEATURES),
        "sl": HEAD.init(key, FEATURES),
    },
    hide=lambda key, images: jax.random.bernoulli(key, 0.5, (*images.shape[:3], 1)),
    encode=lambda params, images, view: ENCODER.apply(params["encoder"], images if view is None else images * view),
    ssl_loss=lambda params, features, images, view: ((DECODER.apply(params["ssl"], features) - images) ** 2).mean(),
    sl_logits=lambda params, features, task: HEAD.apply(params["sl"], features.mean((1, 2))),
)


def test_a_flax_cnn_has_the_fast_kernel_alone_in_a_scan_and_the_bits_of_single_steps():
    """Without the other order of axes, the scan would have the slow kernel in gradients."""
    batch, settings = Batch((Labeled(IMAGES, jnp.array([0, 1, 2, 0])),)), OptimizerSettings()
    plan = plan_steps([("joint", 1)], 3, learning_rate=0.01)
    step = make_step(CNN, settings, only="joint")

    def scan(step):
        return jax.jit(lambda state, rows: jax.lax.scan(lambda state, row: step(state, row, batch), state, rows))

    start = jax.jit(functools.partial(init_state, CNN, settings))(jax.random.key(0))
    program = scan(step).lower(start, plan).compile()
    assert kernels(program) == {"b01f_01io->b01f"}
    assert kernels(scan(inspect.unwrap(step)).lower(start, plan).compile()) > {"b01f_01io->b01f"}
    state, step_by_step = start, jax.jit(step)
    for row in zip(*plan, strict=True):
        state, _ = step_by_step(state, type(plan)(*row), batch)
    assert_same(program(start, plan)[0], state)


def kernels(program):
    return set(re.findall(r" convolution\(.*dim_labels=(\S+?),? ", program.as_text()))
