"""Reading the metrics.json of the molecule experiment."""

from collections.abc import Mapping
from typing import Any

Metrics = Mapping[str, Any]

METRIC_NAMES = {
    "average_precision": "average precision",
    "roc_auc": "ROC AUC",
    "spearman": "Spearman's rank correlation",
    "r_squared": "R²",
}


def comparison(metrics: Metrics, arm: str, other: str, metric: str) -> Metrics:
    """The comparison of two arms in `metric`."""
    return next(c for c in metrics["comparisons"] if (c["arm"], c["other"], c["metric"]) == (arm, other, metric))


def target_size(metrics: Metrics) -> int:
    """Positives among the target's training molecules; of measured values, the molecules."""
    data = metrics["data"]["target"]
    return data["train_positives"] if metrics["task"] == "classification" else data["train_molecules"]
