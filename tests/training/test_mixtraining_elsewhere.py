"""The losses and the schedule of MixTraining in a plain optax loop, around a model that is not ours."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mixmin_jax.training.mixtraining import Batch, Labeled, Learner, joint_loss, sl_loss, ssl_loss
from mixmin_jax.training.schedule import SL, SSL, Schedule

# Somebody's denoising autoencoder with a classifier: vectors of 8 numbers, a view that says which of them are seen.


def init(key):
    encoder, decoder, classifier = jax.random.split(key, 3)
    return {
        "encoder": 0.3 * jax.random.normal(encoder, (8, 16)),
        "ssl": 0.3 * jax.random.normal(decoder, (16, 8)),
        "sl": 0.3 * jax.random.normal(classifier, (16, 2)),
    }


def hide(key, inputs):
    return jax.random.bernoulli(key, 0.5, inputs.shape)


def encode(params, inputs, view):
    return jnp.tanh((inputs if view is None else jnp.where(view, inputs, 0)) @ params["encoder"])


def reconstruction_error(params, features, inputs, view):
    return jnp.where(view, 0, (features @ params["ssl"] - inputs) ** 2).mean()


def logits(params, features, task):
    return features @ params["sl"]


def test_somebody_elses_model_in_somebody_elses_loop():
    factors = jax.random.normal(jax.random.key(0), (64, 2))
    inputs = factors @ jax.random.normal(jax.random.key(1), (2, 8))
    batch = Batch((Labeled(inputs, (factors[:, 0] > 0).astype(jnp.int32)),))

    learner = Learner(init, hide, encode, reconstruction_error, logits)
    plan = Schedule(ssl_epochs=20, sl_epochs=20, mix_ratio=0.5, learning_rate=0.02).plan(steps_per_epoch=1)
    optimizer = optax.scale_by_adam()  # the plan brings the learning rate

    @functools.partial(jax.jit, static_argnames="phase")
    def update(params, opt_state, key, phase, alpha, rate):
        def loss(params):
            if phase == SSL:
                return ssl_loss(learner, params, batch, key)
            if phase == SL:
                return sl_loss(learner, params, batch)
            return joint_loss(learner, params, batch, key, alpha)[0]

        updates, opt_state = optimizer.update(jax.grad(loss)(params), opt_state)
        return optax.apply_updates(params, jax.tree.map(lambda u: -rate * u, updates)), opt_state

    params = start = init(jax.random.key(2))
    opt_state = optimizer.init(params)
    for step, (phase, alpha, rate, restart) in enumerate(zip(*plan, strict=True)):
        if restart:
            opt_state = optimizer.init(params)
        params, opt_state = update(params, opt_state, jax.random.key(step), int(phase), alpha, rate)

    assert len(plan.phase) == 30
    key = jax.random.key(99)
    assert ssl_loss(learner, params, batch, key) < 0.7 * ssl_loss(learner, start, batch, key)
    assert sl_loss(learner, params, batch) < 0.5 * sl_loss(learner, start, batch)
    right = logits(params, encode(params, inputs, None), 0).argmax(1) == batch.sl[0].labels
    assert np.mean(right) > 0.9
