"""metrics.json of weights that were found from files of log-likelihoods.

Axes: K sources, T targets (one a file).
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Self

import numpy as np

from experiments.harness.data_sets import file_record
from experiments.reporting.json_files import to_builtins
from experiments.reporting.schema import Certificate, MadeBy, Note, RunRecord, Weights
from experiments.weights_from_file.config import Config
from experiments.weights_from_file.data import Target
from mixmin_jax import Solution

EXPERIMENT = "weights_from_file"


@dataclasses.dataclass(frozen=True)
class Solved(Certificate):
    """The certificate, with the penalty of a prior (no part of the loss) and the solver's last words."""

    penalty: float = 0.0
    status: str = ""


@dataclasses.dataclass(frozen=True)
class Arm:
    """A mixture, with what is minimized at it."""

    loss: float
    weights: Weights


@dataclasses.dataclass(frozen=True)
class FileTarget:
    """One target: its loss, that to which it is compared (0: nothing), and its say in the choice (`price`)."""

    file: str
    examples: int
    example_weight: float
    loss: float
    reference: float
    excess: float
    price: float
    loss_uniform: float
    loss_alone: dict[str, float | None]  # of each source with all the weight; None: infinite

    def derived(self) -> Self:
        return dataclasses.replace(self, excess=self.loss - self.reference)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightsFromFile(RunRecord):
    """The weights, and the losses that they and uniform weights give."""

    unit: str  # of all losses
    mixmin: Solved
    arms: dict[str, Arm]
    targets: tuple[FileTarget, ...]
    source_notes: dict[str, Note]

    def derived(self) -> Self:
        uniform = dataclasses.replace(self.arms["uniform"], loss=self.minimized([t.loss_uniform for t in self.targets]))
        return dataclasses.replace(self, arms=self.arms | {"uniform": uniform})

    def minimized(self, losses: Sequence[float]) -> float:
        """What is minimized, where the targets have these losses."""
        found = list(zip(self.targets, losses, strict=True))
        if self.config["combine"] == "worst_case":
            return max(loss - target.reference for target, loss in found)
        return sum(target.price * loss for target, loss in found)


def build_metrics(
    config: Config,
    targets: Sequence[Target],
    solution: Solution,
    notes: dict[str, Note],
    made_by: MadeBy,
    seconds: float,
) -> WeightsFromFile:
    """The record of a solution, converged or not."""
    sources = targets[0].table.sources
    weights = dict(zip(sources, np.asarray(solution.weights, np.float64).tolist(), strict=True))
    data_sets = tuple(file_record("log-likelihoods", target.path, target.counts) for target in targets)
    options = to_builtins(config)
    return WeightsFromFile(
        experiment=EXPERIMENT,
        seeds=(),  # nothing here is random
        made_by=made_by,
        config=options,
        identity={key: value for key, value in options.items() if key not in ("log_likelihoods", "out", "overwrite")}
        | {"data": {found.name: found.sha256 for found in data_sets}},
        data_sets=data_sets,
        seconds={"solve": seconds},
        stage_commits=(str(made_by.git_commit),),
        unit=targets[0].unit,
        mixmin=Solved(
            loss=float(solution.loss),
            gap=float(solution.gap),
            tolerance=float(solution.goal),
            iterations=int(solution.iterations),
            converged=bool(solution.converged),
            method=str(solution.method),
            penalty=float(solution.penalty),
            status=str(solution.status),
        ),
        arms={
            "mixmin": Arm(float(solution.loss), weights),
            "uniform": Arm(0.0, dict.fromkeys(sources, 1 / len(sources))),
        },
        targets=_targets(targets, solution),
        source_notes=notes,
    ).derived()


def _targets(targets: Sequence[Target], solution: Solution) -> tuple[FileTarget, ...]:
    losses, references, prices = (float(solution.loss),), (0.0,), (1.0,)
    if solution.targets is not None:
        found = solution.targets
        losses, references, prices = (tuple(x.tolist()) for x in (found.losses, found.references, found.prices))
    return tuple(
        FileTarget(
            file=str(target.path),
            examples=target.num_rows,
            example_weight=target.example_weight,
            loss=loss,
            reference=reference,
            excess=0.0,
            price=price,
            loss_uniform=target.uniform_loss,
            loss_alone={
                name: alone if math.isfinite(alone) else None
                for name, alone in zip(target.table.sources, target.loss_alone_K.tolist(), strict=True)
            },
        ).derived()
        for target, loss, reference, price in zip(targets, losses, references, prices, strict=True)
    )
