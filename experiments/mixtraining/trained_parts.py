"""--train: what of the encoder SL steps train. SSL and joint steps always train all of it, as they make the encoder.

So `ssl_then_sl` adapts or reads out an encoder that has seen no label, `mixtraining` one that the joint phase has shown
labels, at equal FLOPs: does joint training make the encoder that is better to adapt? The arm `sl` has no other steps,
so without a pretrained start its encoder stays random, but for the adapters.
"""

import dataclasses
import functools

import jax

from mixmin_jax.errors import InputError
from mixmin_jax.training.low_rank import adapted
from mixmin_jax.training.mixtraining import Learner, TrainedParts


def adapter_rank(train: str) -> int | None:
    """The rank in `lora:RANK`; None for `all` and `head`.

    Raises:
        InputError: it is none of the three.
    """
    kind, _, rank = train.partition(":")
    if kind == "lora" and rank.isascii() and rank.isdecimal() and int(rank) > 0:
        return int(rank)
    if train not in ("all", "head"):
        raise InputError(f"--train must be all, head or lora:RANK such as lora:8, not {train!r}")
    return None


@functools.cache
def with_trained_parts(learner: Learner, train: str) -> Learner:
    """The learner whose SL steps train what --train says, beside the heads: nothing, adapters, or the encoder.

    Raises:
        InputError: the encoder has no kernels for adapters of this rank.
    """
    rank = adapter_rank(train)
    if train == "head":
        return dataclasses.replace(learner, trained=TrainedParts(sl=("sl",)))
    if rank is None:
        return learner
    with_adapters = adapted(learner, rank, after_ssl=True)
    try:
        jax.eval_shape(with_adapters.init, jax.random.key(0))
    except InputError as error:
        raise InputError(f"--train {train}: {error}") from error
    return with_adapters
