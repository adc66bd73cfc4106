"""What metrics.json says of weights found from files of log-likelihoods."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from experiments.harness.data_sets import file_record
from experiments.reporting.json_files import to_builtins
from experiments.reporting.schema import Certificate, MadeBy, Note, RunRecord, Weights
from experiments.weights_from_file.config import Config
from experiments.weights_from_file.data import Target, read_targets
from mixmin_jax import Solution
from mixmin_jax.data.text.source_notes import SourceNote


@dataclasses.dataclass(frozen=True, kw_only=True)
class Solved(Certificate):
    """The certificate of the weights; the gap bounds loss + penalty."""

    penalty: float  # of the prior; 0 without one
    status: str  # a sentence on how the solver ended


@dataclasses.dataclass(frozen=True)
class Arm:
    """Weights, and the value of what was minimized: without the penalty of a prior."""

    loss: float
    weights: Weights


@dataclasses.dataclass(frozen=True, kw_only=True)
class TargetResult:
    """One file; one file alone has the reference 0 and the price 1."""

    file: str
    examples: int
    example_weight: float
    loss: float
    reference: float  # to which a worst case compares the loss
    excess: float = 0.0  # loss less reference
    price: float  # its weight in the weighted sum of losses that the weights minimize
    loss_uniform: float
    loss_alone: dict[str, float | None]  # of each source with all the weight; None: infinite
    above_zero: int  # log-likelihoods above 0, which densities may be and probabilities may not

    def derived(self) -> Self:
        return dataclasses.replace(self, excess=self.loss - self.reference)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightsFromFile(RunRecord):
    """Weights with their certificate, and the losses of every file under them."""

    unit: str
    combine: Literal["weighted", "worst_case"] | None  # None: there is one file
    compared_to: Literal["best", "uniform"] | None  # of a worst case, what each loss is compared to
    mixmin: Solved
    arms: dict[str, Arm]  # mixmin, uniform
    targets: tuple[TargetResult, ...]
    source_notes: dict[str, Note]

    @property
    def left_out(self) -> tuple[str, ...]:
        """Sources that may not be used."""
        return tuple(name for name, note in self.source_notes.items() if not note.allowed)

    def objective(self, losses: Sequence[float]) -> float:
        """What is minimized, where the targets have these losses."""
        pairs = list(zip(self.targets, losses, strict=True))
        if self.combine == "worst_case":
            return max(loss - target.reference for target, loss in pairs)
        return sum(target.price * loss for target, loss in pairs)

    def derived(self) -> Self:
        weights = self.arms["mixmin"].weights
        uniform = self.objective([target.loss_uniform for target in self.targets])
        arms = {
            "mixmin": Arm(self.mixmin.loss, weights),
            "uniform": Arm(uniform, dict.fromkeys(weights, 1 / len(weights))),
        }
        return dataclasses.replace(self, arms=arms)


def build_metrics(
    config: Config,
    targets: Sequence[Target],
    notes: Mapping[str, SourceNote],
    solution: Solution,
    made_by: MadeBy,
    seconds: float,
) -> WeightsFromFile:
    """The record of a run, converged or not; `targets` have the columns of the sources that may be used."""
    files = tuple(file_record("log-likelihoods", target.path, target.counts) for target in targets)
    options = to_builtins(config)
    weights = dict(zip(targets[0].table.sources, np.asarray(solution.weights, np.float64).tolist(), strict=True))
    return WeightsFromFile(
        experiment="weights_from_file",
        seeds=(),  # nothing here is random
        made_by=made_by,
        config=options,
        identity={key: value for key, value in options.items() if key not in ("log_likelihoods", "out", "overwrite")}
        | {"data": [file.sha256 for file in files]},
        data_sets=files,
        seconds={"solve": seconds},
        stage_commits=(str(made_by.git_commit),),
        unit=targets[0].unit,
        combine=config.combine,
        compared_to=None if config.relative_to == "none" else config.relative_to,
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
        arms={"mixmin": Arm(float(solution.loss), weights)},
        targets=_targets(targets, solution),
        source_notes={name: Note(**dataclasses.asdict(note)) for name, note in notes.items()},
    ).derived()


def _targets(targets: Sequence[Target], solution: Solution) -> tuple[TargetResult, ...]:
    if solution.targets is None:
        found = [(float(solution.loss), 0.0, 1.0)]
    else:
        found = list(zip(*map(np.ndarray.tolist, dataclasses.astuple(solution.targets)), strict=True))
    return tuple(
        TargetResult(
            file=str(target.path),
            examples=target.num_rows,
            example_weight=target.example_weight,
            loss=loss,
            reference=reference,
            price=price,
            loss_uniform=target.uniform_loss,
            loss_alone={
                name: alone if math.isfinite(alone) else None
                for name, alone in zip(target.table.sources, target.loss_alone_K.tolist(), strict=True)
            },
            above_zero=int((target.table.logp_NxK > 0).sum()),
        ).derived()
        for target, (loss, reference, price) in zip(targets, found, strict=True)
    )


def weights_json(metrics: WeightsFromFile) -> dict[str, Any]:
    """What weights.json holds."""
    weights: dict[str, Any] = {"mixmin": metrics.arms["mixmin"].weights}
    return weights | ({"sources": metrics.source_notes} if metrics.source_notes else {})


def problems(metrics: WeightsFromFile, folder: Path) -> list[str]:
    """Losses that do not follow from the weights and the files of log-likelihoods, as far as these are there."""
    wrong = _differing("the loss", metrics.mixmin.loss, metrics.objective([found.loss for found in metrics.targets]))
    paths = tuple(Path(found.file) for found in metrics.targets)
    if not all(path.exists() for path in paths):
        return wrong
    weights = metrics.arms["mixmin"].weights
    for stated, target in zip(metrics.targets, read_targets(paths, metrics.config.get("rows")), strict=True):
        again = target.restricted(tuple(weights))
        wrong += _differing(f"{stated.file}: the loss", stated.loss, again.loss(np.array(list(weights.values()))))
        wrong += _differing(f"{stated.file}: the loss of uniform weights", stated.loss_uniform, again.uniform_loss)
    return wrong


def _differing(what: str, stated: float, again: float) -> list[str]:
    """A sentence if two numbers differ by more than rounding: the solver sums in another order."""
    same = math.isclose(stated, again, rel_tol=1e-9, abs_tol=1e-9)
    return [] if same else [f"{what} is {stated:.9g} on record, and {again:.9g} when computed again"]
