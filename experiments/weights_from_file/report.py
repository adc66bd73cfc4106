"""What is printed of weights that were found from files, from the record alone. There is no report in a file."""

import math
from typing import Any

from experiments.harness.question import Question
from experiments.weights_from_file.results import EXPERIMENT, WeightsFromFile


def tables(metrics: WeightsFromFile) -> str:
    """Sources by falling weight, several targets, the losses and the certificate."""
    weights, solved = metrics.arms["mixmin"].weights, metrics.mixmin
    several, combine = len(metrics.targets) > 1, metrics.config["combine"]
    width = max(len("source"), *(len(name) for name in weights))
    about = f"{len(weights)} sources; losses in {metrics.unit}"
    files = [f"{target.file}: {target.examples} examples" for target in metrics.targets]
    if several:
        heading = [*(f"target {t}: {file}" for t, file in enumerate(files, 1)), about]
        alone = [f"alone on {t}" for t in range(1, len(files) + 1)]
        loss = "weighted loss" if combine == "weighted" else "worst excess" if _compared_to(metrics) else "worst loss"
        losses, of_uniform = [*_targets(metrics), ""], f"{loss} of uniform"
    else:
        heading, alone = [f"{files[0]}, {about}"], ["loss alone"]
        losses, loss, of_uniform = [], "loss of this mixture", "loss of uniform"
    wide = max(len("penalty of the prior"), len(of_uniform)) + 2
    return "\n".join(
        [
            *heading,
            "",
            f"{'source':<{width}}  weight  {'  '.join(alone)}",
            *(
                f"{name:<{width}}  {weight:6.4f}  {'  '.join(_alone(metrics, name))}"
                for name, weight in sorted(weights.items(), key=lambda item: -item[1])
            ),
            "",
            *losses,
            f"{loss:<{wide}}{solved.loss:.6f}",
            *([f"{'penalty of the prior':<{wide}}{solved.penalty:.6f}"] if solved.penalty else []),
            f"{'certified gap':<{wide}}{solved.gap:.1e}  (no weights allowed are better by more than this)",
            f"{of_uniform:<{wide}}{metrics.arms['uniform'].loss:.6f}",
            solved.status,
        ]
    )


def _alone(metrics: WeightsFromFile, source: str) -> list[str]:
    """The loss of a source with all the weight, on each target."""
    losses = [target.loss_alone[source] for target in metrics.targets]
    return [f"{math.inf if loss is None else loss:10.4f}" for loss in losses]


def _compared_to(metrics: WeightsFromFile) -> str | None:
    """What the loss of each target is compared to; None for nothing."""
    relative_to = metrics.config["relative_to"]
    return None if relative_to == "none" else relative_to


def _targets(metrics: WeightsFromFile) -> list[str]:
    """A line per target: its loss, that of uniform weights, its excess where it is compared, and what it weighs."""
    columns = {"loss": "loss", "of uniform": "loss_uniform"}
    if relative_to := _compared_to(metrics):
        columns |= {f"of {relative_to}": "reference", "excess": "excess"}  # uniform is there already
    columns["weight" if metrics.config["combine"] == "weighted" else "price"] = "price"
    lines = ["  ".join(["target", *(f"{title:>10}" for title in columns)])]
    for t, target in enumerate(metrics.targets, 1):
        lines.append("  ".join([f"{t:>6}", *(f"{getattr(target, name):10.4f}" for name in columns.values())]))
    return lines


def _files(metrics: WeightsFromFile) -> dict[str, Any]:
    notes = {"sources": metrics.source_notes} if metrics.source_notes else {}
    return {"weights.json": {"mixmin": metrics.arms["mixmin"].weights} | notes}


QUESTION = Question(EXPERIMENT, WeightsFromFile, lambda folder, results: None, files=_files)
