"""Weights found from files of log-likelihoods: the tables that are printed, and the report."""

from pathlib import Path

from experiments.harness.question import Question, Results
from experiments.harness.result_files import write_report
from experiments.reporting.render import Report, report
from experiments.weights_from_file.results import TargetResult, WeightsFromFile, problems, weights_json


def printed(metrics: WeightsFromFile) -> str:
    """Sources by falling weight, several targets, the losses and the certificate."""
    targets, solved = metrics.targets, metrics.mixmin
    weights = by_weight(metrics)
    width = max(len("source"), *(len(name) for name in weights))
    loss, about = objective_name(metrics), f"{len(weights)} sources; losses in {metrics.unit}"
    files = [f"{target.file}: {target.examples} examples" for target in targets]
    if several := len(targets) > 1:
        heading, of_uniform = [*(f"target {t}: {file}" for t, file in enumerate(files, 1)), about], f"{loss} of uniform"
        titles = [f"alone on {t}" for t in range(1, len(targets) + 1)]
    else:
        heading, of_uniform, titles = [f"{files[0]}, {about}"], "loss of uniform", ["loss alone"]
    wide = max(len("penalty of the prior"), len(of_uniform)) + 2
    lines = [*heading, "", f"{'source':<{width}}  weight  {'  '.join(titles)}"]
    for name, weight in weights.items():
        alone = "  ".join(f"{_alone(target, name):>10}" for target in targets)
        lines.append(f"{name:<{width}}  {weight:6.4f}  {alone}")
    if several:
        titles, *rows = target_rows(metrics)
        lines += ["", "  ".join(["target", *(f"{title:>10}" for title in titles)])]
        lines += ["  ".join([f"{t:>6}", *(f"{cell:>10}" for cell in row)]) for t, row in enumerate(rows, 1)]
    lines += ["", f"{loss:<{wide}}{solved.loss:.6f}"]
    lines += [f"{'penalty of the prior':<{wide}}{solved.penalty:.6f}"] if solved.penalty else []
    lines += [
        f"{'certified gap':<{wide}}{solved.gap:.1e}  (no weights allowed are better by more than this)",
        f"{of_uniform:<{wide}}{metrics.arms['uniform'].loss:.6f}",
        solved.status,
    ]
    if metrics.left_out:
        lines.append(f"left out (allowed = false in {metrics.config['sources_info']}): {', '.join(metrics.left_out)}")
    if any(target.above_zero for target in targets):
        lines.append("note: some log-likelihoods are above 0, which densities may be and probabilities may not")
    return "\n".join(lines)


def by_weight(metrics: WeightsFromFile) -> dict[str, float]:
    """The weights, the largest first."""
    return dict(sorted(metrics.arms["mixmin"].weights.items(), key=lambda item: -item[1]))


def objective_name(metrics: WeightsFromFile) -> str:
    """What is minimized."""
    if metrics.combine is None:
        return "loss of this mixture"
    if metrics.combine == "weighted":
        return "weighted loss"
    return "worst excess" if metrics.compared_to else "worst loss"


def target_rows(metrics: WeightsFromFile) -> list[list[str]]:
    """A head, and a row per target: its loss, that of uniform weights, its excess if it is compared, its price."""
    columns = {"loss": "loss", "of uniform": "loss_uniform"}
    if metrics.compared_to:
        columns |= {f"of {metrics.compared_to}": "reference", "excess": "excess"}  # uniform is there already
    columns["weight" if metrics.combine == "weighted" else "price"] = "price"
    rows = [[f"{getattr(target, field):.4f}" for field in columns.values()] for target in metrics.targets]
    return [list(columns), *rows]


def _alone(target: TargetResult, source: str) -> str:
    loss = target.loss_alone[source]
    return "inf" if loss is None else f"{loss:.4f}"


def weights_report(metrics: WeightsFromFile) -> Report:
    """The same tables as Markdown."""
    return report(
        "weights_from_file",
        "Mixture weights from log-likelihoods",
        {},
        metrics=metrics,
        weights=by_weight(metrics),
        objective=objective_name(metrics),
        rows=target_rows(metrics),
        alone={name: [_alone(target, name) for target in metrics.targets] for name in by_weight(metrics)},
    )


def _write(folder: Path, results: Results) -> None:
    write_report(folder, weights_report(results[""]))


QUESTION = Question(
    "weights_from_file",
    WeightsFromFile,
    _write,
    files=lambda metrics: {"weights.json": weights_json(metrics)},
    problems=problems,
)
