"""Convolutions that are as fast inside loops and branches as outside of them, on a CPU.

XLA's CPU compiler has a fast kernel for convolutions whose axes are in the order batch, space, features (of the kernel:
space, inputs, outputs). It brings others into that order only in a program's outermost computation, not in the body of
a loop or in a branch (its pass `ConvCanonicalization`). There they take several times as long. Gradients by kernels
always have another order, so a model with convolutions would train that slowly in a scan.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, jaxpr_as_fun
from jax.lax import ConvDimensionNumbers

_PRIMITIVE = "conv_general_dilated"


def with_fast_convolutions(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function of arrays, its convolutions in the fast order of axes if JAX computes on a CPU.

    Take gradients inside of the function: those of the result have convolutions in other orders again. `inspect.unwrap`
    gives the function itself.
    """

    @functools.wraps(function)
    def reordered(*args: Any) -> Any:
        if jax.default_backend() != "cpu":
            return function(*args)
        closed, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
        results = jaxpr_as_fun(_of_parameter(closed))(*jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(shapes), results)

    return reordered


def _of_parameter(value: Any) -> Any:
    """A parameter of an equation. Calls, loops and branches have the functions that they run among theirs.

    What holds no convolution stays the same object, because JAX lowers an object once.
    """
    if isinstance(value, ClosedJaxpr):
        jaxpr = _of_parameter(value.jaxpr)
        return value if jaxpr is value.jaxpr else ClosedJaxpr(jaxpr, value.consts)
    if isinstance(value, Jaxpr):
        eqns = [_of_equation(eqn) for eqn in value.eqns]
        return value if _same(eqns, value.eqns) else value.replace(eqns=eqns)
    if type(value) is tuple:  # of branches
        values = tuple(map(_of_parameter, value))
        return value if _same(values, value) else values
    return value


def _of_equation(eqn: JaxprEqn) -> JaxprEqn:
    if eqn.primitive.name == _PRIMITIVE:
        convolve = jax.jit(functools.partial(_convolve, **eqn.params))
        (call,) = jax.make_jaxpr(convolve)(*(operand.aval for operand in eqn.invars)).eqns
        return call.replace(invars=eqn.invars, outvars=eqn.outvars)
    params = {name: _of_parameter(value) for name, value in eqn.params.items()}
    return eqn if _same(params.values(), eqn.params.values()) else eqn.replace(params=params)


def _convolve(inputs: jax.Array, kernel: jax.Array, *, dimension_numbers: ConvDimensionNumbers, **params: Any) -> Any:
    """The same convolution, with axes transposed into the fast order and back."""
    (batch, features, *space), (out, into, *kernel_space), (out_batch, out_features, *out_space) = dimension_numbers
    last = len(space) + 1
    fast = 0, last, *range(1, last)
    results = jax.lax.conv_general_dilated(
        inputs.transpose(batch, *space, features),
        kernel.transpose(*kernel_space, into, out),
        dimension_numbers=ConvDimensionNumbers(fast, (last, last - 1, *range(last - 1)), fast),
        **params,
    )
    axes = out_batch, *out_space, out_features  # where those of `results` belong
    return results.transpose([axes.index(axis) for axis in range(last + 1)])


def _same(new: Iterable[Any], old: Iterable[Any]) -> bool:
    return all(a is b for a, b in zip(new, old, strict=True))
