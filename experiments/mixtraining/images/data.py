"""Images as the domain of a MixTraining experiment.

Axes: B batch, E images that are shown.
"""

import dataclasses
import functools
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.harness.data_sets import image_records
from experiments.mixtraining.domain import Domain, Labels, model_record, pooled_features
from experiments.mixtraining.images.config import ImageMixTraining
from experiments.mixtraining.images.pretrained import frozen_references, read_init, sizes, start_from
from experiments.mixtraining.run import Reconstruct
from experiments.reporting.markdown import plural
from mixmin_jax.data.epochs import batch_rows
from mixmin_jax.data.images.augmentation import crop_and_flip
from mixmin_jax.data.images.image_sets import Images, ImageSet, hold_out
from mixmin_jax.data.images.sources import DIGITS, read_images
from mixmin_jax.errors import InputError, list_some
from mixmin_jax.models.masking import random_view
from mixmin_jax.models.vision_transformer import VisionConfig, gray_out, reconstruct
from mixmin_jax.trained.model import TrainedModel
from mixmin_jax.training.learners import image_learner
from mixmin_jax.training.mixtraining import Batch, Fetch, Labeled, Learner
from mixmin_jax.training.probes import linear_probe

SHOWN = 8  # reconstructions in the report
SPLIT_SEED = 0  # of the validation part
# Bytes that a run needs beside the images, for each byte of those it trains on: pixels as float32 and float64, which
# the reference standardizes, and a copy for the device.
RUN_COPIES = 13
SKIPPED_NAMED = 100  # images that could not be read, in metrics.json; their number is there in any case


def read_domain(config: ImageMixTraining) -> tuple[Domain, Reconstruct]:
    """The data and the model that the options name, and what makes pictures of them."""
    init = read_init(config)
    images = read_images(
        config.dataset,
        config.image_size,
        unlabeled=config.unlabeled,
        follow_links=config.follow_links,
        train_copies=RUN_COPIES * max(config.shares),
    )
    skipped = images.train.skipped + images.test.skipped
    for found in (skipped, images.unlabeled.skipped if images.unlabeled else ()):
        if found:
            print(f"left out, because unreadable: {plural(len(found), 'image')}: {list_some(found)}", file=sys.stderr)
    height, width, channels = images.train.images_NxHxWxC.shape[1:]
    if height != width:
        raise InputError(f"images are {height} x {width} and must be square here: give --image-size")
    encoder, decoder = (dataclasses.replace(size, bfloat16=config.bfloat16) for size in sizes(config, init))
    classes = (len(images.train.classes),)
    model = VisionConfig(height, config.patch_size, channels, classes, encoder, decoder, config.pool)
    start = None if init is None else start_from(init, model)
    natural = config.dataset != DIGITS  # digits are centred, eight pixels wide, and no digit when mirrored
    padding = height // 8 * natural if config.padding is None else config.padding
    try:
        rest, held = hold_out(images.train.labels_N, config.validation_fraction, SPLIT_SEED, images.train.classes)
    except InputError as error:
        raise InputError(f"--validation-fraction {config.validation_fraction:g}: {error}") from error

    @functools.cache
    def learner(mask: float, mask_tokens: bool, joint_only: bool) -> Learner:
        return image_learner(model, mask, mask_tokens, joint_only=joint_only)

    augment = functools.partial(crop_and_flip, padding=padding, flip=natural if config.flip is None else config.flip)

    features = pooled_features(learner(0.0, False, True), config.pool)

    def references(train: Labels, test: Labels) -> dict[str, float]:
        return linear_on_pixels(train, test) | (frozen_references(features, start, train, test) if start else {})

    domain = Domain(
        name="images",
        train=_labels(images.train.take(rest)),
        validation=_labels(images.train.take(held)),
        test=_labels(images.test),
        classes=images.train.classes,
        learner=learner,
        fetch=image_fetch(config.batch_size, padding, natural if config.flip is None else config.flip),
        dataset={
            "name": images.train.name,
            "origin": images.train.origin,
            "classes": list(images.train.classes),
            "train": len(rest),
            "validation": len(held),
            "test": images.test.num_images,
            "skipped": len(skipped),
            "skipped_files": list(skipped[:SKIPPED_NAMED]),
            "shape": list(images.train.images_NxHxWxC.shape[1:]),
            "fingerprint": f"{images.train.fingerprint[:16]}+{images.test.fingerprint[:16]}",
            **unlabeled_entry(images),
        },
        model=model_record(config.model, model, learner(0.0, False, True)),
        data_sets=image_records(
            images, config.dataset, config.image_size, unlabeled=config.unlabeled, follow_links=config.follow_links
        ),
        references=references,
        augment=augment,
        unlabeled=images.unlabeled.images_NxHxWxC if images.unlabeled else None,
        notices=images.notices,
        as_model=functools.partial(TrainedModel, model, images.train.classes, resize=config.image_size is not None),
        features=features,
        start=start,
    )
    return domain, reconstructions(model, images.test, "mixtraining", config.ssl_sees == "all_tokens")


def unlabeled_entry(images: Images) -> dict[str, Any]:
    """The entry `unlabeled` of the data set in metrics.json, if there are such images."""
    if images.unlabeled is None:
        return {}
    found = images.unlabeled
    return {
        "unlabeled": {
            "origin": found.origin,
            "examples": found.num_images,
            "copies_of_test": images.num_test_copies,
            "skipped": found.num_skipped,
            "fingerprint": found.fingerprint[:16],
        }
    }


def image_fetch(batch_size: int, padding: int, flip: bool) -> Fetch:
    """Batches of one data set with one label per image: each epoch in a new order, cropped and flipped."""

    def fetch(step: jax.Array, key: jax.Array, data_key: jax.Array, images: jax.Array, labels: jax.Array) -> Batch:
        rows_B = batch_rows(step, batch_size, len(labels), data_key)
        return Batch(sl=(Labeled(crop_and_flip(key, images[rows_B], padding, flip), labels[rows_B]),))

    return fetch


def linear_on_pixels(train: Labels, test: Labels) -> dict[str, float]:
    """Test accuracy of logistic regression on standardised pixels, what a model should at least beat."""

    def flat(examples: Labels) -> np.ndarray:
        return examples.inputs.reshape(len(examples), -1).astype(np.float32) / 255

    reached = linear_probe(flat(train), train.labels_N, flat(test), test.labels_N)
    return {"logistic regression on pixels": reached}


def reconstructions(
    model: VisionConfig, images: ImageSet, arm: str, mask_tokens: bool = False
) -> Callable[[Any, float], dict[str, np.ndarray]]:
    """What goes into reconstructions.npz, made from the parameters of `arm`: test images, evenly over the set.

    `mask_tokens`: as the SSL steps had it.
    """
    rows = np.linspace(0, images.num_images - 1, min(SHOWN, images.num_images)).astype(int)
    original = jnp.asarray(images.images_NxHxWxC[rows])

    @functools.partial(jax.jit, static_argnums=1)
    def pictures(params: Any, mask_ratio: float) -> dict[str, jax.Array]:
        view = random_view(jax.random.key(0), len(rows), model.tokens, mask_ratio)
        return {
            "original_ExHxWxC": original,
            "masked_ExHxWxC": gray_out(model, original, view),
            "reconstructed_ExHxWxC": reconstruct(model, params, original, view, mask_tokens),
        }

    def made(params: Any, mask_ratio: float) -> dict[str, np.ndarray]:
        shown = {name: np.asarray(picture) for name, picture in pictures(params, mask_ratio).items()}
        return shown | {"mask_ratio": np.array(mask_ratio), "arm": np.array(arm)}

    return made


def _labels(images: ImageSet) -> Labels:
    return Labels(images.images_NxHxWxC, images.labels_N)
