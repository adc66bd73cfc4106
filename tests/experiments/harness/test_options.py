"""Values of options that parse and may mean something else, in every experiment that trains."""

import dataclasses
import importlib
import math
import types
import typing
from pathlib import Path

import pytest

import experiments
from experiments.harness.options import RunOptions
from mixmin_jax.errors import InputError

ODD = {int: (0, -1), float: (math.nan, math.inf, -1.0, 0.0, 50.0)}  # 50: a share in percent
LEGAL = {  # and say what they mean
    0: {
        *("alpha_end", "alpha_start", "checkpoints", "jitter", "joint_mask", "label_smoothing", "max_unparsable"),
        *("max_unreadable", "mix_ratio", "noise", "padding", "radius", "shift", "split_seed", "warmup_fraction"),
        *("weight_decay", "l2", "min_child_weight", "dropout", "matters"),
    },
    50: {
        *("learning_rate", "sl_learning_rate", "scratch_learning_rate", "weight_decay", "jitter", "max_epochs"),
        *("multiples", "price_per_hour", "times_cheaper", "epsilon", "l2", "min_child_weight"),
        *("epochs", "usual", "spread", "penalties", "matters"),
    },
    "twice": {"hidden", "max_share", "min_share", "penalties"},  # widths; said twice
}


def configs(of=RunOptions):
    """The classes of options of all experiments; tests have some too, and parts of them are classes themselves."""
    below = [one for one in of.__subclasses__() if one.__module__.startswith("experiments.")]
    return [found for one in below for found in configs(one)] or [of]


def values(annotation):
    """Odd ones of an option, each with what is odd."""
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is typing.Annotated:
        return values(arguments[0])
    if isinstance(annotation, types.UnionType):
        return [odd for one in arguments for odd in values(one)]
    if typing.get_origin(annotation) is tuple:
        one = typing.get_args(arguments[0])[0] if typing.get_origin(arguments[0]) else arguments[0]
        twice = {int: 2, float: 1.5}.get(one, one if isinstance(one, str) else "x")
        return [*(((value,), why) for value, why in values(one)), ((twice, twice), "twice")]
    return [(value, value) for value in ODD.get(annotation, ())]


def accepted(config):
    """Names and what is odd."""
    annotations = typing.get_type_hints(type(config), include_extras=True)
    for field in dataclasses.fields(config):
        now = getattr(config, field.name)
        if dataclasses.is_dataclass(now):
            yield from accepted(now)
        for value, why in values(annotations[field.name]):
            try:
                dataclasses.replace(config, **{field.name: value})
            except InputError:
                continue
            yield field.name, why


def test_odd_values_are_refused_unless_they_are_legal():
    """An option that takes one by mistake, or by right and not in `LEGAL`, fails here by its name."""
    for path in Path(experiments.__file__).parent.glob("**/config.py"):
        importlib.import_module(".".join(path.relative_to(Path(experiments.__file__).parents[1]).with_suffix("").parts))
    assert len({*configs()}) >= 7
    found = {one for config in configs() for one in accepted(config())}
    assert found == {(name, why) for why, names in LEGAL.items() for name in names}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seeds": 0}, "--seeds must be at least 1, not 0"),
        ({"fit_fraction": 50.0}, "--fit-fraction must lie between 0 and 1, not 50.0"),
        ({"price_per_hour": math.inf}, "--price-per-hour must be positive and finite, not inf"),
        ({"target": ("a", "b", "a")}, "--target names a twice"),
        ({"task": (("a", "b"), ("a", "b"))}, "--task names a b twice"),
    ],
)
def test_messages_name_the_option(options, message):
    fields = [(name, type(value), dataclasses.field(default=value)) for name, value in options.items()]
    with pytest.raises(InputError, match=f"^{message}$"):
        dataclasses.make_dataclass("Some", fields, bases=(RunOptions,), frozen=True)()
