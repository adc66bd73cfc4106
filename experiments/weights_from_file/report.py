"""Weights found from files of log-likelihoods: the tables that are printed, and the report."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.harness.question import Question, Results
from experiments.harness.result_files import write_report
from experiments.reporting import markdown as md
from experiments.reporting.figures import weights_figure
from experiments.reporting.render import Report, report
from experiments.weights_from_file.results import WeightsFromFile, problems, weights_json


def printed(metrics: WeightsFromFile) -> str:
    """Sources by falling weight, several targets, the losses, the comparison and the certificate."""
    targets, solved = metrics.targets, metrics.mixmin
    loss, about = objective_name(metrics), f"{len(metrics.arms['mixmin'].weights)} sources; losses in {metrics.unit}"
    files = [f"{target.file}: {target.examples} examples" for target in targets]
    several = len(targets) > 1
    of_arm = f"{loss} of" if several else "loss of"
    heading = (
        [*(f"target {t}: {file}" for t, file in enumerate(files, 1)), about] if several else [f"{files[0]}, {about}"]
    )
    others = [arm for arm in metrics.arms if arm != "mixmin"]
    wide = max(len("penalty of the prior"), *(len(f"{of_arm} {arm}") for arm in others)) + 2
    columns = {"source": list(by_weight(metrics))} | source_columns(metrics)
    lines = [*heading, "", *_aligned(columns)]
    if several:
        titles, *rows = target_rows(metrics)
        lines += ["", "  ".join(["target", *(f"{title:>10}" for title in titles)])]
        lines += ["  ".join([f"{t:>6}", *(f"{cell:>10}" for cell in row)]) for t, row in enumerate(rows, 1)]
    lines += ["", f"{loss:<{wide}}{solved.loss:.6f}"]
    lines += [f"{'penalty of the prior':<{wide}}{solved.penalty:.6f}"] if solved.penalty else []
    lines.append(f"{'certified gap':<{wide}}{solved.gap:.1e}  (no weights allowed are better by more than this)")
    lines += [f"{f'{of_arm} {arm}':<{wide}}{_number(metrics.arms[arm].loss, '.6f')}" for arm in others]
    lines.append(solved.status)
    lines += [text for text in (comparison_sentence(metrics), intervals_sentence(metrics)) if text]
    lines += [f"cannot be left out: {reason}" for reason in needed(metrics)]
    if metrics.left_out:
        lines.append(f"left out (allowed = false in {metrics.config['sources_info']}): {', '.join(metrics.left_out)}")
    if any(target.above_zero for target in targets):
        lines.append("note: some log-likelihoods are above 0, which densities may be and probabilities may not")
    return "\n".join(lines)


def _aligned(columns: Mapping[str, Sequence[str]]) -> list[str]:
    """A table for a terminal: the first column to the left, numbers to the right."""
    widths = [max(map(len, (title, *cells))) for title, cells in columns.items()]
    rows = [tuple(columns), *zip(*columns.values(), strict=True)]
    return ["  ".join([row[0].ljust(widths[0]), *(map(str.rjust, row[1:], widths[1:]))]) for row in rows]


def by_weight(metrics: WeightsFromFile) -> dict[str, float]:
    """The weights, the largest first."""
    return dict(sorted(metrics.arms["mixmin"].weights.items(), key=lambda item: -item[1]))


def source_columns(metrics: WeightsFromFile) -> dict[str, list[str]]:
    """What is known of each source, by falling weight: a title, and a cell for every source."""
    weights, columns = by_weight(metrics), dict[str, list[str]]()
    columns["weight"] = [f"{weight:.4f}" for weight in weights.values()]
    if metrics.intervals:
        ends = [metrics.intervals.weights_of[name] for name in weights]
        columns[f"{md.percent(metrics.intervals.level)} interval"] = [f"{x.lower:.4f} to {x.upper:.4f}" for x in ends]
    if metrics.compared_with:
        columns[metrics.compared_with] = [
            f"{metrics.arms[metrics.compared_with].weights[name]:.4f}" for name in weights
        ]
    if metrics.worth:
        growths = [metrics.worth[name].growth for name in weights]
        columns["worth"] = ["needed" if growth is None else f"{growth:.3g}" for growth in growths]
    for t, target in enumerate(metrics.targets, 1):
        title = f"alone on {t}" if len(metrics.targets) > 1 else "loss alone"
        columns[title] = [_number(target.loss_alone[name], ".4f") for name in weights]
    return columns


def comparison_sentence(metrics: WeightsFromFile) -> str:
    """Whether the weights found are better than the reference; nothing without a comparison."""
    found, reference = metrics.comparison, metrics.compared_with
    if found is None:
        return ""
    if found.gain is None or found.lower is None:
        return f"Better than {reference}? {found.status[0].upper()}{found.status[1:]}."
    wins = found.verdict == "wins"
    what = f"The weights found are {'better than' if wins else 'not shown to be better than'} {reference}"
    where = "lower" if found.gain >= 0 else "higher"
    few = ""
    if not wins and found.lower > 0:  # the interval alone would say yes
        few = "; with so few groups, a rare source may be missing by chance"
        if found.gain < metrics.matters:
            few = f"; less than {metrics.matters:g} is called a tie"
    return (
        f"{what}: on groups of rows left out of the fit, their loss is {abs(found.gain):.3g} {metrics.unit} {where}"
        f" ({md.percent(found.level)} interval of the gain: {found.lower:.3g} to {found.upper:.3g}){few}."
    )


def intervals_sentence(metrics: WeightsFromFile) -> str:
    """What the intervals of the weights are; nothing without intervals."""
    found = metrics.intervals
    if found is None:
        return ""
    failed = f" {found.unconverged} of them were not solved to tolerance." if found.unconverged else ""
    return f"Intervals: {found.resamples} resamples of {found.groups:,} groups of rows.{failed}"


def needed(metrics: WeightsFromFile) -> list[str]:
    """Why sources cannot be left out."""
    return [found.reason for found in (metrics.worth or {}).values() if found.reason]


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
    if metrics.compared_with:
        columns[f"of {metrics.compared_with}"] = "loss_compared"
    if metrics.compared_to:
        columns |= {f"of {metrics.compared_to}": "reference", "excess": "excess"}  # uniform is there already
    columns["weight" if metrics.combine == "weighted" else "price"] = "price"
    rows = [[_number(getattr(target, field), ".4f") for field in columns.values()] for target in metrics.targets]
    return [list(columns), *rows]


def _number(value: float | None, form: str) -> str:
    """A loss, where None is infinite."""
    return "inf" if value is None else format(value, form)


def weights_report(metrics: WeightsFromFile) -> Report:
    """The same tables as Markdown."""
    columns = source_columns(metrics)
    losses = {arm: _number(found.loss, ".6f") for arm, found in metrics.arms.items()}
    shown = {arm: [metrics.arms[arm].weights] for arm in ("mixmin", metrics.compared_with) if arm is not None}
    return report(
        "weights_from_file",
        "Mixture weights from log-likelihoods",
        {"weights.png": weights_figure(shown)} if metrics.compared_with else {},
        metrics=metrics,
        objective=objective_name(metrics),
        columns=list(columns),
        sources=dict(zip(by_weight(metrics), zip(*columns.values(), strict=True), strict=True)),
        rows=target_rows(metrics),
        losses=losses,
        comparison=comparison_sentence(metrics),
        intervals=intervals_sentence(metrics),
        needed=needed(metrics),
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
