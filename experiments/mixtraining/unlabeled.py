"""Self-supervision on more examples than have labels: the pool, and batches of both.

The pool holds all that SSL sees, labeled examples among it. An epoch, of SSL and SL alike, is a pass over the pool, and
labeled examples repeat to fill it: so the number of steps does not depend on how many labels there are.

Axes: B batch, P examples of the pool.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from experiments.mixtraining.config import Budget, MixTrainingOptions
from experiments.mixtraining.domain import Domain
from mixmin_jax.data.epochs import batch_rows, repeated_rows
from mixmin_jax.training.mixtraining import Batch, Fetch, Labeled

LABELED_ALONE: Budget = "labeled"  # the FLOPs of ssl_then_sl with the pool, but SSL on the labeled examples alone


def has_pool(domain: Domain, options: MixTrainingOptions) -> bool:
    """Whether SSL sees other examples than SL."""
    return domain.unlabeled is not None or bool(options.label_fractions)


def pool_size(domain: Domain, options: MixTrainingOptions, labeled: np.ndarray) -> int:
    """P, given the training rows whose labels are used."""
    shared = len(domain.train) if options.label_fractions else len(labeled)
    return shared + (0 if domain.unlabeled is None else len(domain.unlabeled))


def pool_of(domain: Domain, options: MixTrainingOptions, labeled: np.ndarray) -> np.ndarray:
    """The inputs of the pool: with --label-fractions those of the whole training part, and the unlabeled ones."""
    shared = domain.train.inputs if options.label_fractions else domain.train.inputs[labeled]
    return shared if domain.unlabeled is None else np.concatenate([shared, domain.unlabeled])


def notices(domain: Domain, options: MixTrainingOptions) -> tuple[str, ...]:
    """What the plan says of the pool, and of the data."""
    if not has_pool(domain, options):
        return domain.notices
    seen = f"self-supervision sees {'all training examples' if options.label_fractions else 'those of a run'}"
    if found := domain.dataset.get("unlabeled"):
        seen += f", and {found['examples']:,} without labels: {found['origin']}"
        seen += f" ({found['copies_of_test']:,} left out, which are tested on)" if found["copies_of_test"] else ""
    epoch = "an epoch is a pass over all that it sees; labeled examples repeat to fill it"
    labeled = "*labeled*: the FLOPs of ssl_then_sl, and self-supervision on the labeled examples alone"
    return seen, epoch, *([labeled] if options.matched else []), *domain.notices


@functools.cache  # the same object, so that programs are compiled once
def pool_fetch(batch_size: int, augment: Callable[[jax.Array, Any], Any]) -> Fetch:
    """Batches with B labeled rows for SL and B rows of the pool for SSL; without a pool, both see the labeled ones."""

    def fetch(
        step: jax.Array, key: jax.Array, data_key: jax.Array, inputs: jax.Array, labels: jax.Array, *pool: jax.Array
    ) -> Batch:
        rows_B = repeated_rows(step, batch_size, len(labels), data_key)
        sl = (Labeled(augment(key, inputs[rows_B]), labels[rows_B]),)
        if not pool:
            return Batch(sl)
        ssl_B = batch_rows(step, batch_size, len(pool[0]), jax.random.fold_in(data_key, 1))
        return Batch(sl, augment(jax.random.fold_in(key, 1), pool[0][ssl_B]))

    return fetch
