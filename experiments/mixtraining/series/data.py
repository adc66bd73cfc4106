"""Time series as the domain of a MixTraining experiment.

Axes: N series, S steps, C channels.
"""

import dataclasses
import functools

import jax
import numpy as np

from experiments.harness.data_sets import series_records
from experiments.mixtraining.domain import Domain, Labels, model_record, pooled_features
from experiments.mixtraining.series.config import SIZES, SeriesMixTraining
from experiments.mixtraining.series.references import other_models
from mixmin_jax.data.epochs import batch_rows
from mixmin_jax.data.images.image_sets import hold_out
from mixmin_jax.data.series.augmentation import shift_and_jitter
from mixmin_jax.data.series.sources import read_series
from mixmin_jax.errors import InputError
from mixmin_jax.models.series_encoder import SeriesEncoderConfig
from mixmin_jax.trained.model import SeriesPreprocessing, TrainedModel
from mixmin_jax.training.learners import series_learner
from mixmin_jax.training.mixtraining import Batch, Fetch, Labeled, Learner

SPLIT_SEED = 0  # of the validation part


def read_domain(config: SeriesMixTraining) -> Domain:
    """The data and the model that the options name.

    Raises InputError for what `read_series` and the model refuse, a validation part that leaves a class empty, and a
    shift that is not shorter than the series.
    """
    series = read_series(config.dataset, config.reading)
    length, channels = series.train.series_NxSxC.shape[1:]
    encoder, decoder = (dataclasses.replace(size, bfloat16=config.bfloat16) for size in SIZES[config.model])
    model = SeriesEncoderConfig(
        length=length,
        patch_length=config.patch_length,
        channels=channels,
        classes=(len(series.train.classes),),
        encoder=encoder,
        decoder=decoder,
        pool=config.pool,
        normalize=config.normalize == "series",
    )
    if config.shift >= length:
        raise InputError(f"--shift {config.shift} must be less than the series' {length} steps")
    try:
        rest, held = hold_out(series.train.labels_N, config.validation_fraction, SPLIT_SEED, series.train.classes)
    except InputError as error:
        raise InputError(f"--validation-fraction {config.validation_fraction:g}: {error}") from error
    mean_C, deviation_C = channel_scale(series.train.series_NxSxC[rest])

    preprocessing = SeriesPreprocessing(
        tuple(mean_C.tolist()), tuple(deviation_C.tolist()), config.length is not None, config.missing
    )

    def labels(found, rows=slice(None)) -> Labels:
        scaled = (found.series_NxSxC[rows] - mean_C) / deviation_C
        return Labels(scaled.astype(np.float32), found.labels_N[rows])

    @functools.cache
    def learner(mask: float, mask_tokens: bool, joint_only: bool) -> Learner:
        return series_learner(model, mask, mask_tokens, joint_only=joint_only)

    return Domain(
        name="series",
        train=labels(series.train, rest),
        validation=labels(series.train, held),
        test=labels(series.test),
        classes=series.train.classes,
        learner=learner,
        fetch=series_fetch(config.batch_size, config.shift, config.jitter),
        dataset={
            "name": series.train.name,
            "origin": " and ".join(dict.fromkeys([series.train.origin, series.test.origin])),
            "classes": list(series.train.classes),
            "train": len(rest),
            "validation": len(held),
            "test": series.test.num_series,
            "skipped": 0,
            "shape": [length, channels],
            "fingerprint": f"{series.train.fingerprint[:16]}+{series.test.fingerprint[:16]}",
        },
        model=model_record(config.model, model, learner(0.0, False, True)),
        data_sets=series_records(series, config.dataset, config.reading),
        references=other_models,
        augment=functools.partial(shift_and_jitter, shift=config.shift, jitter=config.jitter),
        as_model=functools.partial(TrainedModel, model, series.train.classes, series=preprocessing),
        features=pooled_features(learner(0.0, False, True), config.pool),
    )


def channel_scale(series_NxSxC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel, float64; 1 for a channel that never changes."""
    mean_C = series_NxSxC.mean(axis=(0, 1), dtype=np.float64)
    deviation_C = series_NxSxC.std(axis=(0, 1), dtype=np.float64)
    return mean_C, np.where(deviation_C > 0, deviation_C, 1.0)


def series_fetch(batch_size: int, shift: int, jitter: float) -> Fetch:
    """Batches of one data set with one label per series: each epoch in a new order, shifted and with noise."""

    def fetch(step: jax.Array, key: jax.Array, data_key: jax.Array, series: jax.Array, labels: jax.Array) -> Batch:
        rows_B = batch_rows(step, batch_size, len(labels), data_key)
        return Batch(sl=(Labeled(shift_and_jitter(key, series[rows_B], shift, jitter), labels[rows_B]),))

    return fetch
