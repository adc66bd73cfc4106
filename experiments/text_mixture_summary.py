"""All targets of one run of the text experiment in one table and one figure."""

from collections.abc import Sequence
from typing import Any

from mixmin_jax import markdown as md
from mixmin_jax.figures import ReportFigure, loss_panels_figure

VERDICTS = {"wins": "MixMin wins", "ties": "tie", "loses": "**MixMin loses**"}


def summary_table(runs: Sequence[dict[str, Any]]) -> str:
    """Markdown from every target's metrics: test bits per byte of each arm, and what MixMin does against it."""
    arms = list(runs[0]["arms"])

    def cell(metrics: dict[str, Any], arm: str) -> str:
        level = md.spread(metrics["arms"][arm]["test_bits_per_byte"])
        return level if arm == "mixmin" else f"{level} ({VERDICTS[metrics['comparisons'][arm]['verdict']]})"

    header = ["test bits per byte", *(md.code(metrics["target"]) for metrics in runs)]
    rows = [[md.code(arm), *(cell(metrics, arm) for metrics in runs)] for arm in arms]
    rows.append(["rank correlation, document rows", *(md.correlation(m["fidelity"]["document"]["all"]) for m in runs)])
    rows.append(["rank correlation, token rows", *(md.correlation(m["fidelity"]["token"]["all"]) for m in runs)])
    return md.table(header, rows)


def summary_figure(runs: Sequence[dict[str, Any]]) -> ReportFigure:
    """Test loss of every arm, a panel per target."""
    return loss_panels_figure(
        {
            metrics["target"]: {arm: r["test_bits_per_byte"]["per_seed"] for arm, r in metrics["arms"].items()}
            for metrics in runs
        }
    )
