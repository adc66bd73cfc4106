"""Language models as stages of a run: several trained at once, and their log-likelihoods of documents.

Axes: M models, K sources, D documents, N bytes of all documents.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import Mesh

from experiments.harness.stages import Product, Running, Stages
from experiments.reporting.schema import Unlearned
from mixmin_jax.data.text.tokens import TokenStore
from mixmin_jax.training import language_model
from mixmin_jax.training.language_model import LanguageModelRun
from mixmin_jax.training.mesh import gathered
from mixmin_jax.training.nonfinite import OnNonfinite
from mixmin_jax.training.proxies import train_on_mixtures
from mixmin_jax.training.scoring import count_windows, score_documents
from mixmin_jax.training.source_monitor import SourceMonitor
from mixmin_jax.training.unlearned import Learned, end_losses, frequencies_loss, left_out


@dataclasses.dataclass(frozen=True, eq=False)
class Models:
    """Trained models and all that determines them."""

    run: LanguageModelRun
    inputs: Any
    params: Any
    draws_MxK: np.ndarray
    monitor: SourceMonitor | None = None
    end_loss_M: np.ndarray | None = None  # of their training; None: of an earlier version, which did not keep it


@dataclasses.dataclass(frozen=True, eq=False)
class Proxies:
    """One trained model per source, and all that determines each."""

    run: LanguageModelRun
    inputs: Mapping[str, Any]  # by source
    products: Mapping[str, Product]  # by source, with its parameters

    @property
    def learned(self) -> dict[str, Learned]:
        """By source; without those that an earlier version trained, which did not keep it."""
        found = {source: product.get("learned") for source, product in self.products.items()}
        return {source: Learned(*own) for source, own in found.items() if own is not None}


def unlearned_records(
    name: str, seed: int, proxies: Mapping[str, Learned], otherwise: Literal["used", "passed over"] = "used"
) -> tuple[Unlearned, ...]:
    """The proxies that learned less than frequencies of bytes; `otherwise`: what happens if none is left out."""
    bits, then = 1 / math.log(2), "left out" if left_out(proxies) else otherwise
    return tuple(
        Unlearned(seed, name, source, found.loss * bits, found.frequencies * bits, then)
        for source, found in proxies.items()
        if found.too_little
    )


training_flops = functools.lru_cache(language_model.training_flops)  # counting lowers a program
_row_flops = functools.lru_cache(language_model.scoring_flops_per_row)


def scoring_flops(run: LanguageModelRun, documents: Sequence[bytes]) -> float:
    """One model's forward passes over some documents."""
    return count_windows(documents, run.sequence_length) * _row_flops(run)


def train_models(
    stages: Stages,
    name: str,
    run: LanguageModelRun,
    store: TokenStore,
    weights_MxK: np.ndarray,
    key: jax.Array,
    inputs: Mapping[str, Any],
    *,
    labels: tuple[str, ...],
    max_epochs: float | None = None,
    mesh: Mesh | None = None,
    tokens_on: str = "device",
    target: str | None = None,
    on_nonfinite: OnNonfinite = "stop",
    monitor_sources: bool = False,
) -> Models:
    """Train one model per row of weights; `inputs` says as JSON what data and key are, the rest is added to it."""
    inputs = {
        **inputs,
        "run": dataclasses.asdict(run),
        "weights": weights_MxK.tolist(),
        "max_epochs": max_epochs,
        "on_nonfinite": on_nonfinite,
        "monitor_sources": monitor_sources,
    }

    def compute(stage: Running) -> Product:
        with stage.checkpoints() as checkpoints:
            trained = train_on_mixtures(
                run,
                store,
                weights_MxK,
                key,
                max_epochs=max_epochs,
                mesh=mesh,
                tokens_on=tokens_on,
                on_block=lambda done, of, losses: stage.advance(done, of),
                names=labels,
                checkpoints=checkpoints,
                on_nonfinite=on_nonfinite,
                monitor_sources=monitor_sources,
            )
            product = _stored(trained.params)
        stage.skipped({label: int(n) for label, n in zip(labels, trained.skipped_M, strict=True) if n})
        if trained.monitor is not None:
            product |= {f"monitor/{name}": sums for name, sums in trained.monitor._asdict().items()}
        return product | {"draws_MxK": trained.draws_MxK, "end_loss_M": end_losses(trained.loss_TxM)}

    product = stages.run(name, inputs, compute, cost=len(weights_MxK) * training_flops(run), target=target)
    seen = [product[f"monitor/{name}"] for name in SourceMonitor._fields] if monitor_sources else []
    monitor = SourceMonitor(*seen) if seen else None
    return Models(run, inputs, _params(product), product["draws_MxK"], monitor, product.get("end_loss_M"))


def train_proxies(
    stages: Stages,
    name: str,
    run: LanguageModelRun,
    store: TokenStore,
    key: jax.Array,
    inputs: Mapping[str, Any],
    *,
    mesh: Callable[[int], Mesh],
    tokens_on: str = "device",
    on_nonfinite: OnNonfinite = "stop",
) -> Proxies:
    """Train one model on each source of the store, a stage each; those that are missing are trained in one program.

    How many train together changes a model by rounding at most. The order of its windows follows from the place of its
    source in the store. A model that is found keeps the place that its source had when it was trained.

    Args:
        inputs: for each source as JSON, what its data and the key are; the rest is added to it.
        mesh: for a number of models.
    """
    inputs = {
        source: {**own, "run": dataclasses.asdict(run), "on_nonfinite": on_nonfinite} for source, own in inputs.items()
    }

    def compute(stage: Running, missing: list[str]) -> list[Product]:
        weights_MxK = np.eye(len(store.names))[[store.names.index(source) for source in missing]]
        with stage.checkpoints() as checkpoints:
            trained = train_on_mixtures(
                run,
                store,
                weights_MxK,
                key,
                mesh=mesh(len(missing)),
                tokens_on=tokens_on,
                on_block=lambda done, of, losses: stage.advance(done, of),
                names=tuple(missing),
                checkpoints=checkpoints,
                on_nonfinite=on_nonfinite,
            )
            stored = _stored(trained.params)
        stage.skipped({source: int(n) for source, n in zip(missing, trained.skipped_M, strict=True) if n})
        return [
            {path: leaf[m] for path, leaf in stored.items()}
            | {"learned": [float(loss), frequencies_loss(store.tokens_of(source))]}
            for m, (source, loss) in enumerate(zip(missing, end_losses(trained.loss_TxM), strict=True))
        ]

    return Proxies(run, inputs, stages.run_each(name, inputs, compute, cost=training_flops(run)))


def score_proxies(
    stages: Stages,
    name: str,
    proxies: Proxies,
    documents: Sequence[bytes],
    inputs: Mapping[str, Any],
    *,
    mesh: Callable[[int], Mesh],
    target: str | None = None,
) -> Mapping[str, Product]:
    """`token_N` of each source's proxy: log-likelihoods of the documents' bytes in nats, a stage each.

    `inputs` says as JSON what the documents are. Those that are missing are computed together.
    """

    def compute(stage: Running, missing: list[str]) -> list[Product]:
        each = [_params(proxies.products[source]) for source in missing]
        params = jax.tree.map(lambda *leaves: np.stack(leaves), *each)
        length, on = proxies.run.sequence_length, mesh(len(missing))
        scores = score_documents(proxies.run.model, params, documents, length, mesh=on, on_block=stage.advance)
        return [{"token_N": logp_N} for logp_N in scores.logp_NxM.T]

    return stages.run_each(
        name,
        {source: {"model": own, **inputs} for source, own in proxies.inputs.items()},
        compute,
        cost=scoring_flops(proxies.run, documents),
        target=target,
    )


def _stored(params: Any) -> Product:
    """Parameters as they stand in a product."""
    return {f"params/{path}": leaf for path, leaf in flatten_dict(gathered(params), sep="/").items()}


def _params(product: Product) -> Any:
    leaves = {key.removeprefix("params/"): leaf for key, leaf in product.items() if key.startswith("params/")}
    return unflatten_dict(leaves, sep="/")


def score_models(
    stages: Stages,
    name: str,
    models: Models,
    documents: Sequence[bytes],
    inputs: Mapping[str, Any],
    *,
    tokens: bool = False,
    mesh: Mesh | None = None,
    target: str | None = None,
) -> Product:
    """Log-likelihoods of the documents: `document_DxM`, and with `tokens` also `token_NxM`, in nats; `bytes_D`.

    `inputs` says as JSON what the documents are.
    """
    num_models = len(models.draws_MxK)

    def compute(stage: Running) -> Product:
        scores = score_documents(
            models.run.model, models.params, documents, models.run.sequence_length, mesh=mesh, on_block=stage.advance
        )
        product: Product = {"document_DxM": scores.document_logp_DxM, "bytes_D": scores.bytes_D}
        return product | ({"token_NxM": scores.logp_NxM} if tokens else {})

    return stages.run(
        name,
        {"models": models.inputs, **inputs, "tokens": tokens},
        compute,
        cost=num_models * scoring_flops(models.run, documents),
        target=target,
    )
