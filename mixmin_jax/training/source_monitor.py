"""Monitor a training on a mixture: windows and loss of each source over the run.

Axes: S stretches of a run (nearly equal parts of its steps), M models, K sources, T steps, B batch.
"""

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int

STRETCHES = 12  # parts of a run (fewer for fewer steps); a multiple of 4, as `divergences` compares quarters
RISE = 0.02  # least relative rise of a source's loss to report: smaller ones do not matter
ERRORS = 3.0  # least rise in standard errors: chance exceeds it once in 700
MIN_WINDOWS = 20  # least windows of a source in each compared quarter, for a usable standard error


class SourceMonitor(NamedTuple):
    """Sums over the windows drawn from each source in each stretch of a run."""

    ends_S: Int[np.ndarray, " S"]  # steps done at the end of each stretch
    windows_SxMxK: Int[np.ndarray, "S M K"]
    nats_SxMxK: Float[np.ndarray, "S M K"]  # of the windows' losses before the update, nats per token
    squares_SxMxK: Float[np.ndarray, "S M K"]  # of the same, squared

    @property
    def loss_SxMxK(self) -> Float[np.ndarray, "S M K"]:
        """Mean loss of a source's windows, nats per token; NaN without windows."""
        with np.errstate(invalid="ignore"):
            return self.nats_SxMxK / self.windows_SxMxK

    @property
    def sampled_MxK(self) -> Float[np.ndarray, "M K"]:
        """The share of each source in the windows that were trained on."""
        windows_MxK = self.windows_SxMxK.sum(0)
        return windows_MxK / windows_MxK.sum(1, keepdims=True)

    def of_model(self, model: int) -> "SourceMonitor":
        """The monitor of one model."""
        return SourceMonitor(self.ends_S, *(sums[:, model : model + 1] for sums in self[1:]))


class Divergence(NamedTuple):
    """A source of a model with a wrong share, or with a rising loss."""

    model: int
    source: int
    kind: Literal["share", "loss"]
    before: float  # share: the one asked for; loss: in the third quarter of the run, nats per token
    after: float  # share: the one sampled; loss: in the last quarter


def empty_monitor(num_steps: int, num_models: int, num_sources: int) -> SourceMonitor:
    """The monitor of a run before its first step."""
    stretches = min(STRETCHES, num_steps)
    shape = stretches, num_models, num_sources
    ends_S = np.arange(1, stretches + 1) * num_steps // stretches
    return SourceMonitor(ends_S, np.zeros(shape, np.int64), np.zeros(shape), np.zeros(shape))


def observe(
    monitor: SourceMonitor,
    first_step: int,
    loss_TxMxB: Float[np.ndarray, "T M B"],
    source_TxMxB: Int[np.ndarray, "T M B"],
) -> SourceMonitor:
    """The monitor after T more steps from `first_step` on; each window's loss is added to its source.

    Windows of skipped steps, whose loss is NaN, are left out.
    """
    shape = monitor.windows_SxMxK.shape
    stretch_T = np.searchsorted(monitor.ends_S, first_step + np.arange(len(loss_TxMxB)), side="right")
    models_M = np.arange(shape[1])
    cell_N = np.ravel_multi_index((stretch_T[:, None, None], models_M[:, None], source_TxMxB), shape).ravel()
    loss_N = loss_TxMxB.astype(np.float64).ravel()
    cell_N, loss_N = cell_N[~np.isnan(loss_N)], loss_N[~np.isnan(loss_N)]

    def summed(values_N: np.ndarray | None) -> np.ndarray:
        return np.bincount(cell_N, values_N, np.prod(shape)).reshape(shape)

    return SourceMonitor(
        monitor.ends_S,
        monitor.windows_SxMxK + summed(None),
        monitor.nats_SxMxK + summed(loss_N),
        monitor.squares_SxMxK + summed(loss_N**2),
    )


def divergences(monitor: SourceMonitor, weights_MxK: Float[np.ndarray, "M K"]) -> list[Divergence]:
    """Find sources with a wrong share or a rising loss in a training on the mixtures `weights_MxK`.

    share: a source's windows differ from its weight by two or more. Draws are apportioned to the weights and rounded to
    whole windows, so more than one window is a defect of the sampling, or comes from skipped steps.

    loss: a source's mean loss rises from the third to the last quarter of the run,

        after - before > max(RISE * before, ERRORS * sqrt(s_before^2 / n_before + s_after^2 / n_after))

    with n >= MIN_WINDOWS windows in both quarters and s^2 the variance over windows. The learning rate decays there, so
    the loss of every source should fall. A rising loss means that the source is forgotten in favor of others, that its
    text changes, or that the training is unstable.
    """
    found = []
    num_windows_M = monitor.windows_SxMxK.sum((0, 2))
    asked_MxK = weights_MxK / weights_MxK.sum(1, keepdims=True)
    off_MxK = np.abs(monitor.sampled_MxK - asked_MxK) * num_windows_M[:, None]
    for m, k in np.argwhere(off_MxK >= 2).tolist():
        found.append(Divergence(m, k, "share", float(asked_MxK[m, k]), float(monitor.sampled_MxK[m, k])))
    (n_before, before, error_before), (n_after, after, error_after) = (_quarter(monitor, q) for q in (2, 3))
    least_MxK = np.maximum(RISE * before, ERRORS * np.sqrt(error_before + error_after))
    rises_MxK = (np.minimum(n_before, n_after) >= MIN_WINDOWS) & (after - before > least_MxK)
    for m, k in np.argwhere(rises_MxK).tolist():
        found.append(Divergence(m, k, "loss", float(before[m, k]), float(after[m, k])))
    return found


def _quarter(monitor: SourceMonitor, quarter: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Windows, their mean loss, and its squared standard error in one quarter of the run, each M x K."""
    stretches = len(monitor.ends_S)
    part = slice(stretches * quarter // 4, stretches * (quarter + 1) // 4)
    windows, nats, squares = (
        sums[part].sum(0) for sums in (monitor.windows_SxMxK, monitor.nats_SxMxK, monitor.squares_SxMxK)
    )
    n = np.maximum(windows, 2)  # avoids a division by 0; fewer than MIN_WINDOWS are not compared
    mean = nats / n
    return windows, mean, np.maximum(squares / n - mean**2, 0) / (n - 1)
