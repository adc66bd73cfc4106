"""The functions of a trained model: pure, the same in batches, and those of its learner."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mixmin_jax.errors import InputError
from mixmin_jax.trained.kinds import learner_of
from mixmin_jax.trained.model import SeriesPreprocessing
from tests.trained.small_models import IMAGES, SCALE, SERIES, TEXT, small_model, some_inputs


@pytest.mark.parametrize("config", [IMAGES, TEXT, SERIES], ids=["images", "text", "series"])
def test_predictions_are_those_of_the_learner_with_the_temperature(config):
    model, inputs = small_model(config), some_inputs(config, 5)
    learner = learner_of(config)
    seen = (inputs - np.float32([100, -1])) / np.float32([50, 2]) if config == SERIES else inputs
    features = learner.encode(model.params, jnp.asarray(seen), None)
    logits = learner.sl_logits(model.params, features, 0)
    predicted, embedded = jax.jit(lambda p, x: (model.predict(p, x), model.embed(p, x)))(model.params, inputs)
    np.testing.assert_allclose(predicted, jax.nn.softmax(logits / 1.3), rtol=1e-5)
    head = model.params["sl"]["heads_0"]
    np.testing.assert_allclose(embedded @ head["kernel"] + head["bias"], logits, rtol=1e-4, atol=1e-6)
    outputs = model.outputs(inputs, batch_size=2)  # the last batch is filled up
    np.testing.assert_allclose(outputs.probabilities_NxA, predicted, rtol=1e-5)
    np.testing.assert_allclose(outputs.embeddings_NxD, embedded, rtol=1e-4, atol=1e-6)


def test_predictions_follow_the_parameters_that_are_given():
    model, inputs = small_model(TEXT), some_inputs(TEXT, 2)
    others = jax.tree.map(lambda leaf: 2 * leaf, model.params)
    assert (model.predict(others, inputs) != model.predict(model.params, inputs)).any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ("a", "b")}, "heads for 3 classes, and 2 are named"),
        ({"classes": ("a", "b", "a")}, "two classes have one name"),
        ({"series": SCALE}, "preprocessing of series, and the model is one of images"),
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"config": IMAGES.encoder}, "an? EncoderConfig is no configuration of a model"),
    ],
)
def test_what_is_no_model_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(small_model(IMAGES), **changes)


def test_scales_that_do_not_fit_the_channels_are_refused():
    with pytest.raises(InputError, match="2 channels, and 1 means"):
        small_model(SERIES, series=SeriesPreprocessing((0.0,), (1.0,)))
    for mean, deviation in ((0.0, 0.0), (float("nan"), 1.0)):
        with pytest.raises(InputError, match="means must be finite, and their deviations positive"):
            SeriesPreprocessing((mean,), (deviation,))
