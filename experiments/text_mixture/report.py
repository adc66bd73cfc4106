"""The reports of the text experiment, from its records alone: one for each target, and a summary."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from experiments.harness.question import Question, Results
from experiments.harness.result_files import write_index, write_report
from experiments.reporting import markdown as md
from experiments.reporting.figures import (
    ReportFigure,
    fidelity_figure,
    gap_figure,
    loss_figure,
    loss_panels_figure,
    weights_figure,
)
from experiments.reporting.over_targets import COLUMNS, over_targets, over_targets_note
from experiments.reporting.render import Report, report, sentences
from experiments.reporting.schema import Weights, visible_sizes, weights_file
from experiments.text_mixture.figures import source_loss_figure
from experiments.text_mixture.results import TextMetrics
from experiments.text_mixture.verification import from_stages, problems
from mixmin_jax.stats.comparison import chance_of_false_verdict

TEMPLATE = "text_mixture"
CHEAP_EPOCHS = 4  # up to about here a repeated token is worth almost a new one (Muennighoff et al., arXiv:2305.16264)
WEAK_CORRELATION = 0.5  # Spearman: below, predictions hardly rank
LEAKING_SHARE = 0.01  # of the target's documents with near-duplicates in a source, from which a win may be leakage
LEAST_MOVE = 0.0005  # share of the tokens: less looks like 0 in the tables
FEW_DOCUMENTS = 100  # target documents: fewer than these to fit weights on are called few
VERDICTS = {"wins": "MixMin wins", "ties": "tie", "loses": "**MixMin loses**"}


def text_mixture_report(metrics: TextMetrics) -> Report:
    """Verdicts, weights, certificates, fidelity, cost and data of one target."""
    return report(
        TEMPLATE,
        f"Which mixture of {len(metrics.sources)} sources for {md.code(metrics.target)}?",
        _figures(metrics),
        **_context(metrics),
        checks=_what_to_check(metrics),
        order=sorted(metrics.sources, key=lambda source: -_mixmin(metrics)[source]),
        price=metrics.config.get("price_per_hour"),
        cheap_epochs=CHEAP_EPOCHS,
        few_documents=FEW_DOCUMENTS,
        chance=chance_of_false_verdict(len(metrics.seeds)),
    )


def verdict(metrics: TextMetrics) -> str:
    """Which mixture to use, and how far that can be believed, in three sentences."""
    return sentences(TEMPLATE, **_context(metrics))


def _context(metrics: TextMetrics) -> dict[str, Any]:
    """What the verdict's sentences are about."""
    by_verdict = {
        word: [arm for arm, found in metrics.comparisons.items() if found.verdict == word]
        for word in ("wins", "ties", "loses")
    }
    best = metrics.recommended.arm
    leaks = _leaks(metrics, LEAKING_SHARE * metrics.data.target.documents)
    return {
        "metrics": metrics,
        "digits": md.decimals(visible_sizes(metrics.comparisons.values())),
        "by_verdict": by_verdict,
        "best": best,
        "leaking": sum(metrics.recommended.weights[source] for source in leaks),
        "leaking_share": LEAKING_SHARE,
        "unsolved": [md.code(arm) for arm, found in metrics.solved.items() if not found.converged],
        "diverged": [md.code(arm) for arm in dict.fromkeys(d.arm for d in metrics.monitors.divergences)]
        if metrics.monitors
        else [],
        "spent": _spent(metrics, best),
        "moved": _moved(metrics),
    }


def _moved(metrics: TextMetrics) -> str:
    """How the weights moved since the results that this run extends, and whether that is more than noise."""
    extension = metrics.extension
    if extension is None or extension.before is None:
        return ""
    share, since = extension.moved(metrics.found), f"Since {md.code(extension.previous)}"
    if share < LEAST_MOVE:
        return f"{since}, the weights did not move."
    beside = ", beside those of sources that are gone" if extension.removed else ""
    moved = f"{since}, {md.percent(round(share, 3))} of the tokens moved to other sources{beside}"
    if extension.gain is None or extension.standard_error is None:
        return f"{moved}."
    gain = f"{extension.gain:.4f} ± {extension.standard_error:.4f} bits per byte"
    if extension.distinguishable:
        small = f", which is less than the {metrics.matters:g} that matter" * (extension.gain < metrics.matters)
        return f"{moved}: more than noise, as the new weights gain {gain} on documents left out{small}."
    share_out = ", with what the sources that are gone had shared among the rest" if extension.removed else ""
    return f"{moved}: **not shown to gain** ({gain} on documents left out), so the old weights would do{share_out}."


def _spent(metrics: TextMetrics, arm: str) -> float:
    """What finding the weights of an arm cost, as a share of a target run."""
    if arm in metrics.flops.finding:
        return metrics.flops.finding[arm] / metrics.flops.target
    return metrics.search.share if metrics.search else metrics.flops.proxies / metrics.flops.target


def _mixmin(metrics: TextMetrics) -> Weights:
    return metrics.arms["mixmin"].weights if metrics.arms else metrics.found


def _leaks(metrics: TextMetrics, least: float = 1) -> list[str]:
    """The sources in which at least so many of the target's documents were found."""
    return [source for source, count in metrics.overlap.sources.items() if count >= least]


def _what_to_check(metrics: TextMetrics) -> list[tuple[str, bool, str]]:
    """Where `mixmin` loses, the usual reasons: (what, whether the numbers speak for it, the numbers)."""
    losses = [arm for arm, found in metrics.comparisons.items() if found.verdict == "loses"]
    if not losses:
        return []
    better = min(losses, key=lambda arm: metrics.arms[arm].test_bits_per_byte.mean)
    ours, theirs = metrics.arms["mixmin"], metrics.arms[better]
    rows = next(iter(ours.predicted_bits_per_byte))  # those that `mixmin` was found with
    document = metrics.fidelity.rows[rows]
    predicted, predicted_better = (arm.predicted_bits_per_byte[rows].mean for arm in (ours, theirs))
    (epochs, source), (epochs_better, source_better) = (
        max((e, s) for s, e in a.epochs.items()) for a in (ours, theirs)
    )
    moved, mover = max(
        (max(values) - min(values), source)
        for source in metrics.sources
        for values in [[seed[source] for seed in ours.weights_per_seed]]
    )
    leaks = [
        f"{md.code(name)}: {metrics.overlap.sources[name]} documents, weight {ours.weights[name]:.3f} and "
        f"{theirs.weights[name]:.3f}"
        for name in _leaks(metrics)
    ]
    ranks = [found.spearman for found in (document.arms, document.random_mixtures) if found.enough]
    return [
        (
            "proxies too weak, or rows of another length",
            any(rho is None or rho < WEAK_CORRELATION for rho in ranks) or predicted < predicted_better,
            f"{rows} rows rank arms {md.correlation(document.arms)}, random mixtures "
            f"{md.correlation(document.random_mixtures)}; they predict {predicted:.3f} and {predicted_better:.3f}",
        ),
        (
            "repeats",
            epochs > CHEAP_EPOCHS,
            f"at most {epochs:.1f} epochs ({md.code(source)}) and {epochs_better:.1f} ({md.code(source_better)})",
        ),
        (
            "few target documents",
            # proxies that disown `mixmin` on other documents than it was fitted on: the fit did not carry over
            metrics.data.target.fit_documents < FEW_DOCUMENTS or predicted > predicted_better,
            f"fitted on {metrics.data.target.fit_documents}"
            + f"; between seeds a weight moves by {moved:.3f} at most ({md.code(mover)})" * (len(metrics.seeds) > 1),
        ),
        ("leakage", bool(leaks), "; ".join(leaks) or "no near-duplicates found"),
        ("solver", not metrics.mixmin.converged, f"gap {metrics.mixmin.gap:.1e} nats per byte"),
    ]


def _figures(metrics: TextMetrics) -> dict[str, ReportFigure]:
    gaps = {  # each in units of its own tolerance, which depends on the number of rows
        arm: [[gap and gap / found.tolerance for gap in history] for history in found.gap_history]
        for arm, found in metrics.solved.items()
    }
    found = {arm: found.weights_per_seed for arm, found in metrics.arms.items()} or {"mixmin": (metrics.found,)}
    figures = {"weights.png": weights_figure(found), "gap.png": gap_figure(gaps, 1.0, "gap / tolerance")}
    if metrics.arms:
        levels = {arm: found.test_bits_per_byte.per_seed for arm, found in metrics.arms.items()}
        figures |= {"loss.png": loss_figure(levels), "fidelity.png": fidelity_figure(metrics.fidelity)}
    return figures | ({"source_loss.png": source_loss_figure(metrics.monitors)} if metrics.monitors else {})


def summary_table(runs: Mapping[str, TextMetrics]) -> str:
    """Test bits per byte of each arm on every target, what MixMin does against it, and that on all targets together."""
    first = next(iter(runs.values()))
    together = len(runs) > 1 and len(first.arms) > 1
    digits = md.decimals(visible_sizes(found for metrics in runs.values() for found in metrics.comparisons.values()))

    def row(name: str, cell: Callable[[TextMetrics], str], last: Iterable[str] = ("", "")) -> list[str]:
        return [name, *(cell(metrics) for metrics in runs.values()), *(last if together else ())]

    def level(arm: str) -> Callable[[TextMetrics], str]:
        def cell(metrics: TextMetrics) -> str:
            found = md.mean_std(metrics.arms[arm].test_bits_per_byte, digits)
            return found if arm == "mixmin" else f"{found} ({VERDICTS[metrics.comparisons[arm].verdict or 'ties']})"

        return cell

    def of_all(arm: str) -> tuple[str, str]:
        if arm == "mixmin":
            return "", ""
        found = [metrics.comparisons[arm] for metrics in runs.values()]
        return over_targets(found, first.matters, higher_is_better=False).cells

    table = md.table(
        row("test bits per byte", lambda metrics: md.code(metrics.target), COLUMNS),
        [
            *(row(md.code(arm), level(arm), of_all(arm) if together else ()) for arm in first.arms),
            *(
                row(f"rank correlation, {kind} rows", lambda m, kind=kind: md.correlation(m.fidelity.rows[kind].all))  # type: ignore[misc]
                for kind in first.fidelity.rows
            ),
        ],
    )
    note = over_targets_note(len(runs), first.matters, "bits per byte", md.code("mixmin"))
    return f"{table}\n\n{note}" if together else table


def write(folder: Path, results: Results) -> None:
    """The report of every target, and the summary and index of the run."""
    runs: dict[str, TextMetrics] = {name: results[name] for name in sorted(results)}
    for name, metrics in runs.items():
        write_report(folder / name, text_mixture_report(metrics))
    levels = {
        metrics.target: {arm: found.test_bits_per_byte.per_seed for arm, found in metrics.arms.items()}
        for metrics in runs.values()
    }
    tried = all(levels.values())
    write_index(
        folder,
        "Which mixture for each target?",
        {name: verdict(metrics) for name, metrics in runs.items()},
        summary_table(runs),
        {"summary.png": loss_panels_figure(levels)} if tried else {},
    )


def _files(metrics: TextMetrics) -> dict[str, Any]:
    weights: dict[str, Any] = {arm: found.weights for arm, found in metrics.arms.items()} or {"mixmin": metrics.found}
    weights |= {"recommended": metrics.recommended} if metrics.search else {}
    return {"weights.json": weights_file(weights, metrics.weights_unit, metrics.source_notes)}


QUESTION = Question(
    "text_mixture", TextMetrics, write, by_target=True, files=_files, from_stages=from_stages, problems=problems
)
