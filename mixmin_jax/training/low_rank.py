"""Low-rank adapters (LoRA): a few trained numbers beside parameters that stay as they are.

Hu et al., arXiv:2106.09685, section 4.1. An adapter turns a kernel W into

    W + (scale / R) A B

A starts from a normal distribution and B from 0, so an adapted model begins as exactly the model itself. Adapters are
trained in place of the kernels. All else in the encoder (norms, biases, embeddings, class token) stays as it is, as in
the paper.

This is a transform of parameters, not of layers: it works for every model, and `merge` gives ordinary parameters. It
saves optimizer state and the size of what is stored for a task. It saves no FLOPs: the gradient of A and B is computed
from that of W.

Axes: I inputs, O outputs of a kernel, R rank.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mixmin_jax.errors import InputError
from mixmin_jax.training.losses import Learner, TrainedParts

PyTree = Any
Path = tuple[str, ...]  # to an array in a tree, such as ("block_0", "qkv", "kernel")
Targets = Callable[[Path], bool]  # which arrays are meant

ADAPTERS = "adapters"  # part of the parameters of an adapted learner
SCALE = 16.0


class Adapter(NamedTuple):
    """The trained numbers of one kernel."""

    a_IxR: jax.Array
    b_RxO: jax.Array


Adapters = dict[str, Adapter]  # by the path of the kernel, joined by "/"


def attention_and_mlp(path: Path) -> bool:
    """The kernels of attention and of feed-forward layers in every transformer here."""
    return path[-1:] == ("kernel",) and path[-2:-1] in (("qkv",), ("out",), ("up",), ("down",))


def every_kernel(path: Path) -> bool:
    """All kernels, those of embeddings of patches, of heads and of `models.mlp.BitMLP` too."""
    return "".join(path[-1:]).endswith("kernel")


def matched(params: PyTree, targets: Targets = attention_and_mlp) -> dict[str, Any]:
    """The arrays that are meant, by their paths.

    Raises:
        InputError: there are none.
    """
    leaves = [(path_of(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(params)]
    found = {"/".join(path): leaf for path, leaf in leaves if targets(path)}
    if not found:
        some = ", ".join("/".join(path) for path, _ in leaves[:8])
        raise InputError(f"no array of the parameters is a target; name those of a model with {some}, ... by `targets`")
    return found


def path_of(path: tuple[Any, ...]) -> Path:
    """A path of `jax.tree_util` in words."""
    return tuple(jax.tree_util.keystr((entry,), simple=True) for entry in path)


def init_adapters(key: jax.Array, params: PyTree, rank: int, targets: Targets = attention_and_mlp) -> Adapters:
    """New adapters: entries of A have variance 1 / I, B is 0.

    Args:
        key: of A.
        params: of the model; `jax.ShapeDtypeStruct`s will do.
        rank: R, at most the smaller side of every kernel.
        targets: the kernels to adapt. `matched` lists them.

    Raises:
        InputError: there are no such kernels, or one has another number of axes than two or is smaller than the rank.
    """
    if rank < 1:
        raise InputError(f"the rank of an adapter must be at least 1, not {rank}")
    adapters = {}
    for number, (name, kernel) in enumerate(matched(params, targets).items()):
        if len(kernel.shape) != 2 or rank > min(kernel.shape):
            raise InputError(
                f"{name} has the shape {kernel.shape}: an adapter of rank {rank} needs two axes of at least that length"
            )
        inputs, outputs = kernel.shape
        a_IxR = jax.random.normal(jax.random.fold_in(key, number), (inputs, rank), kernel.dtype) / inputs**0.5
        adapters[name] = Adapter(a_IxR, jnp.zeros((rank, outputs), kernel.dtype))
    return adapters


def merge(params: PyTree, adapters: Mapping[str, Adapter], scale: float = SCALE) -> PyTree:
    """Ordinary parameters: each adapted kernel becomes W + (scale / R) A B, all else stays.

    Differentiate through it to train adapters: `loss(merge(params, adapters), batch)`. Pass `params` to a compiled
    function as an argument (a part of the batch, or the `data` of `compile_block`), or they become constants of it.

    Raises:
        InputError: an adapter belongs to no array of the parameters.
    """
    names = {"/".join(path_of(path)) for path, _ in jax.tree_util.tree_leaves_with_path(params)}
    if strange := sorted(set(adapters) - names):
        raise InputError(f"these adapters are of another model: {', '.join(strange[:8])}")

    def merged(path: tuple[Any, ...], kernel: Any) -> Any:
        if (adapter := adapters.get("/".join(path_of(path)))) is None:
            return kernel
        return kernel + (scale / adapter.a_IxR.shape[1]) * adapter.a_IxR @ adapter.b_RxO

    return jax.tree_util.tree_map_with_path(merged, params)


@functools.cache
def adapted(
    learner: Learner, rank: int, *, scale: float = SCALE, targets: Targets = attention_and_mlp, after_ssl: bool = False
) -> Learner:
    """The learner with an adapted encoder: its params have a fourth part, "adapters".

    The encoder's own parameters are arguments of the compiled training like all others, and a part of its checkpoints.
    Parts that no phase trains have no optimizer state. The same arguments give the same learner.

    Args:
        learner: the learner.
        rank: R.
        scale: as in `merge`.
        targets: kernels of the encoder to adapt.
        after_ssl: SSL and joint steps train the encoder itself, and SL steps the adapters: for an encoder that the same
            run makes. Otherwise all steps train adapters: for one that was made before (`initial` of `train`).

    Raises:
        InputError: from `init`, as in `init_adapters`.
    """

    def init(key: jax.Array) -> PyTree:
        params = learner.init(key)
        return params | {ADAPTERS: init_adapters(jax.random.fold_in(key, 1), params["encoder"], rank, targets)}

    low_rank = TrainedParts((ADAPTERS, "ssl"), (ADAPTERS, "ssl", "sl"), (ADAPTERS, "sl"))
    return dataclasses.replace(
        learner,
        init=init,
        encode=lambda params, *args: learner.encode(merged_learner_params(params, scale), *args),
        ssl_loss=lambda params, *args: learner.ssl_loss(merged_learner_params(params, scale), *args),
        sl_logits=lambda params, *args: learner.sl_logits(merged_learner_params(params, scale), *args),
        trained=TrainedParts(sl=low_rank.sl) if after_ssl else low_rank,
    )


def merged_learner_params(params: Mapping[str, PyTree], scale: float = SCALE) -> dict[str, PyTree]:
    """Parameters of an adapted learner -> those of the learner itself; others stay as they are."""
    own = {part: tree for part, tree in params.items() if part != ADAPTERS}
    return own | {"encoder": merge(own["encoder"], params.get(ADAPTERS, {}), scale)}
