"""From predicted and reached losses to numbers: ranks, regret, size of gains, calibration, and the choice of defaults.

Axes: M mixtures (the last one is natural), G gains.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import scipy.stats

from benchmarks.fidelity.records import Calibration, Choice, Found, Quality, Way

CALIBRATED = 0.8  # share of mixtures that the interval of a predicted gain shall hold
LEAST_GAIN = 0.005  # bits per byte: smaller predicted gains say nothing about a ratio
MIDDLE_ROWS = ("16", "32", "64", "128")  # those that order and text are chosen at


def quality(predicted_M: np.ndarray, reached_M: np.ndarray) -> Quality:
    """How well predictions served."""
    predicted_gain_M, gain_M = predicted_M[-1] - predicted_M, reached_M[-1] - reached_M
    scale = float(predicted_gain_M @ predicted_gain_M)
    return Quality(
        spearman=float(scipy.stats.spearmanr(predicted_M, reached_M).statistic) if np.ptp(predicted_M) else 0.0,
        regret=float(reached_M[np.argmin(predicted_M)] - reached_M.min()),
        slope=float(predicted_gain_M @ gain_M) / scale if scale else None,
        error=float(np.sqrt(np.mean((gain_M - predicted_gain_M) ** 2))),
    )


def choose_text(ways: Sequence[Way], pairs: Sequence[str]) -> tuple[int, str]:
    """The order and text of n-grams with the best mean rank correlation over the tuning pairs and middling rows."""
    scores: dict[tuple[int, str], list[float]] = {}
    for way in ways:
        if way.order is not None and way.reading in MIDDLE_ROWS:
            scores.setdefault((way.order, way.proxies), []).extend(way.quality[pair].spearman for pair in pairs)
    return max(scores, key=lambda key: float(np.mean(scores[key])))


def choose_rows(found: Mapping[str, Sequence[Found]], pairs: Sequence[str], order: int, text: str) -> Choice:
    """The rows whose found mixtures reached the least mean loss over the tuning pairs."""
    reached: dict[str, list[float]] = {}
    for pair in pairs:
        for one in found[pair]:
            if one.proxies == text:
                reached.setdefault(one.rows, []).append(one.reached)
    means = {rows: float(np.mean(losses)) for rows, losses in reached.items()}
    best = min(means, key=lambda rows: means[rows])
    return Choice(
        order=order, text=text, rows=best, mean_loss={rows: loss - means[best] for rows, loss in means.items()}
    )


def ratios(predicted_M: np.ndarray, reached_M: np.ndarray) -> np.ndarray:
    """Reached over predicted gain, of the mixtures that are predicted better than natural."""
    return gain_ratios(predicted_M[-1] - predicted_M, reached_M[-1] - reached_M)


def gain_ratios(predicted_gain_G: np.ndarray, gain_G: np.ndarray) -> np.ndarray:
    """Reached over predicted gains, of those that are predicted to be worth anything."""
    counts_G = predicted_gain_G > LEAST_GAIN
    return gain_G[counts_G] / predicted_gain_G[counts_G]


def calibrate(tuning_G: np.ndarray, confirming_G: np.ndarray, found_G: np.ndarray) -> Calibration:
    """The interval that holds `CALIBRATED` of the tuning ratios, and how often it held on others and on found ones."""
    edge = (1 - CALIBRATED) / 2
    low, middle, high = np.quantile(tuning_G, [edge, 0.5, 1 - edge])
    held, held_found = (
        float(np.mean((some_G >= low) & (some_G <= high))) if len(some_G) else None
        for some_G in (confirming_G, found_G)
    )
    return Calibration(
        low=float(low),
        middle=float(middle),
        high=float(high),
        level=CALIBRATED,
        num_tuning=len(tuning_G),
        num_confirming=len(confirming_G),
        held=held,
        num_found=len(found_G),
        held_found=held_found,
    )
