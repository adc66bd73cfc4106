"""The objective of each step of a run: phases in epochs become arrays with one entry per step.

Axes: T steps of a run, n steps of a part of it.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Float

from mixmin_jax.errors import InputError

Phase = Literal["ssl", "joint", "sl"]
PHASES: tuple[Phase, ...] = get_args(Phase)  # the index of a phase is its number in `StepPlan.phase`
SSL, JOINT, SL = range(3)
Number = int | float


class Segment(NamedTuple):
    """A part of a run with one objective. A pair such as ("ssl", 2) can be used instead."""

    phase: Phase
    epochs: Number  # may be a fraction; `plan_steps` rounds to whole steps


class StepPlan(NamedTuple):
    """What each step of a run does: NumPy arrays with a leading axis of T steps. A scan reads one row per step."""

    phase: np.ndarray  # int32: SSL, JOINT or SL
    alpha: np.ndarray  # float32: weight of the self-supervised loss; 1 in SSL steps, 0 in SL steps
    learning_rate: np.ndarray  # float32
    restart: np.ndarray  # bool: reset the optimizer's moments before this step


@dataclasses.dataclass(frozen=True)
class Alpha:
    """Weight of the self-supervised loss over the joint steps of a run; the supervised loss has weight 1 - alpha.

    With t from 0 at the first joint step to 1 at the last:

        linear    start + (end - start) t
        cosine    start + (end - start) (1 - cos(pi t)) / 2
        constant  start, which `end` must equal (`Alpha.constant(0.5)`)
    """

    kind: Literal["constant", "linear", "cosine"] = "linear"
    start: float = 1.0
    end: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in ("constant", "linear", "cosine"):
            raise InputError(f"alpha's kind must be constant, linear or cosine, not {self.kind!r}")
        if not (0 <= self.start <= 1 and 0 <= self.end <= 1):
            raise InputError(f"alpha must lie in [0, 1], but goes from {self.start} to {self.end}")
        if self.kind == "constant" and self.start != self.end:
            raise InputError(
                f"a constant alpha has one value, not {self.start} and {self.end}: give both the same, as"
                " Alpha.constant(0.5) does"
            )

    @classmethod
    def constant(cls, value: float) -> "Alpha":
        return cls("constant", value, value)

    def values(self, num_steps: int) -> Float[np.ndarray, " n"]:
        """Alpha of each of the n joint steps; a single step has `start`."""
        t_n = np.linspace(0, 1, num_steps)
        if self.kind == "cosine":
            t_n = (1 - np.cos(np.pi * t_n)) / 2
        return (1 - t_n) * self.start + t_n * self.end  # exact at both ends


@dataclasses.dataclass(frozen=True)
class Schedule:
    """MixTraining's schedule (Li et al., arXiv:2502.19513): SSL only, then both at once, then SL only.

    With E = min(ssl_epochs, sl_epochs) the joint phase lasts J = mix_ratio E epochs and stands for J epochs of each
    objective:

        SSL for ssl_epochs - J, joint for J, SL for sl_epochs - J epochs

    J is rounded to whole epochs (a half goes up) if both objectives have whole epochs; otherwise it is exact.
    mix_ratio = 0 is "pretrain, then fine-tune". Without SSL epochs it is supervised training.

    Raises:
        InputError: invalid settings.
    """

    ssl_epochs: Number
    sl_epochs: Number
    mix_ratio: float = 0.0
    alpha: Alpha = Alpha()
    learning_rate: float = 1e-3  # peak
    sl_learning_rate: float | None = None  # peak in SL steps; None: that of the others
    warmup_fraction: float = 0.05  # of the steps of each cosine
    final_fraction: float = 0.0  # end of the cosine, as a share of its peak
    restart_learning_rate: bool = True  # one warm-up and cosine per segment; False: one for the whole run
    restart_moments: bool = True  # reset the optimizer's moments at the start of each segment

    def __post_init__(self) -> None:
        if not (0 <= self.ssl_epochs < math.inf and 0 <= self.sl_epochs < math.inf):
            raise InputError(f"epochs must not be negative: ssl_epochs {self.ssl_epochs}, sl_epochs {self.sl_epochs}")
        if self.ssl_epochs == self.sl_epochs == 0:
            raise InputError("ssl_epochs and sl_epochs are both 0: there is nothing to train")
        if not 0 <= self.mix_ratio <= 1:
            raise InputError(f"mix_ratio must lie in [0, 1], not {self.mix_ratio}")
        if self.mix_ratio > 0 and min(self.ssl_epochs, self.sl_epochs) == 0:
            raise InputError(
                f"mix_ratio {self.mix_ratio} asks for joint epochs, but ssl_epochs {self.ssl_epochs} and sl_epochs"
                f" {self.sl_epochs} leave none to join: use mix_ratio 0 or give both objectives epochs"
            )
        _check_rates((self.learning_rate, self.peaks["sl"]), self.warmup_fraction, self.final_fraction)

    @property
    def joint_epochs(self) -> Number:
        joint = self.mix_ratio * min(self.ssl_epochs, self.sl_epochs)
        whole = float(self.ssl_epochs).is_integer() and float(self.sl_epochs).is_integer()
        return _nearest(joint) if whole else joint

    @property
    def peaks(self) -> dict[Phase, float]:
        """The peak learning rate of each phase."""
        sl = self.learning_rate if self.sl_learning_rate is None else self.sl_learning_rate
        return {"ssl": self.learning_rate, "joint": self.learning_rate, "sl": sl}

    def segments(self) -> tuple[Segment, ...]:
        """The phases with epochs, in order."""
        joint = self.joint_epochs
        all_three = (
            Segment("ssl", self.ssl_epochs - joint),
            Segment("joint", joint),
            Segment("sl", self.sl_epochs - joint),
        )
        return tuple(segment for segment in all_three if segment.epochs > 0)

    def plan(self, steps_per_epoch: int, segments: Iterable[tuple[str, Number]] | None = None) -> StepPlan:
        """The arrays of this schedule, or of other `segments` (such as those of `matched`) with its alpha and rates."""
        return plan_steps(
            self.segments() if segments is None else segments,
            steps_per_epoch,
            alpha=self.alpha,
            learning_rate=self.peaks,
            warmup_fraction=self.warmup_fraction,
            final_fraction=self.final_fraction,
            restart_learning_rate=self.restart_learning_rate,
            restart_moments=self.restart_moments,
        )


def plan_steps(
    segments: Iterable[tuple[str, Number]],
    steps_per_epoch: int,
    *,
    alpha: Alpha = Alpha(),
    learning_rate: float | Mapping[Phase, float] = 1e-3,
    warmup_fraction: float = 0.05,
    final_fraction: float = 0.0,
    restart_learning_rate: bool = True,
    restart_moments: bool = True,
) -> StepPlan:
    """The arrays of any interleaving of (phase, epochs), such as [("ssl", 2), ("joint", 1), ("ssl", 1), ("sl", 2)].

    A segment has epochs * steps_per_epoch steps, rounded (a half goes up). Alpha runs over the joint steps of all
    segments in order. A segment (or the whole run) of n steps with w = warmup_fraction n (rounded, at most n - 1) has
    the learning rates

        peak (i + 1) / (w + 1)                                                   for step i < w
        peak (final + (1 - final) (1 + cos(pi (i - w) / (n - w))) / 2)           from step w on

    No step has rate 0.

    Args:
        segments: phases and epochs.
        steps_per_epoch: of the data.
        alpha: weight of the self-supervised loss.
        learning_rate: the peak, or one peak per phase.
        warmup_fraction, final_fraction: as in the formula.
        restart_learning_rate: whether each segment has its own warm-up and cosine.
        restart_moments: whether to reset moments at the start of each segment but the first.

    Raises:
        InputError: invalid segments or rates.
    """
    parts = _checked(segments, steps_per_epoch)
    steps = [_nearest(part.epochs * steps_per_epoch) for part in parts]
    if 0 in steps:
        phase, epochs = parts[steps.index(0)]
        raise InputError(
            f"{epochs:g} epochs of {phase!r} are less than half a step ({steps_per_epoch} an epoch): give it more or"
            " leave it out"
        )
    peaks = dict(learning_rate) if isinstance(learning_rate, Mapping) else dict.fromkeys(PHASES, learning_rate)
    if missing := [part.phase for part in parts if part.phase not in peaks]:
        raise InputError(f"learning_rate has no peak for the phase {missing[0]!r}")
    _check_rates(peaks.values(), warmup_fraction, final_fraction)

    phase_T = np.repeat([PHASES.index(part.phase) for part in parts], steps).astype(np.int32)
    alpha_T = (phase_T == SSL).astype(np.float32)
    alpha_T[phase_T == JOINT] = alpha.values(int((phase_T == JOINT).sum()))

    cosines = steps if restart_learning_rate else [sum(steps)]
    shape_T = np.concatenate([_warmup_cosine(n, warmup_fraction, final_fraction) for n in cosines])
    peak_T = np.repeat([peaks[part.phase] for part in parts], steps)

    restart_T = np.zeros(len(phase_T), bool)
    restart_T[np.cumsum(steps)[:-1]] = restart_moments
    return StepPlan(phase_T, alpha_T, (peak_T * shape_T).astype(np.float32), restart_T)


def matched(
    segments: Iterable[tuple[str, Number]], steps_per_epoch: int, flops: Mapping[Phase, float], budget: float
) -> tuple[Segment, ...]:
    """Scale the epochs of all segments by one factor, so the run costs `budget` FLOPs.

    With c_i FLOPs per step and n_i steps (not rounded) in segment i, the factor is budget / sum_i c_i n_i. Segments are
    then rounded to whole steps. The dearest segment gets the number of steps that brings the total nearest to the
    budget, so the two differ by at most half of one of its steps.

    Args:
        segments: phases and epochs.
        steps_per_epoch: of the data.
        flops: FLOPs of one step of each phase.
        budget: FLOPs of the run.

    Raises:
        InputError: a segment is left without a step, or a cost is not positive.
    """
    parts = _checked(segments, steps_per_epoch)
    n = np.array([part.epochs * steps_per_epoch for part in parts])
    cost = np.array([flops.get(part.phase, 0) for part in parts], np.float64)
    if not ((cost > 0).all() and 0 < budget < math.inf):
        raise InputError(
            f"matched compute needs a cost above 0 for each phase, not {flops}, and a budget, not {budget}"
        )
    exact = n * budget / (cost @ n)
    whole = np.array([_nearest(x) for x in exact])
    longest = int(np.argmax(cost * n))
    whole[longest] += _nearest((budget - cost @ whole) / cost[longest])
    if (whole < 1).any():
        short = parts[int(np.argmin(whole))].phase
        raise InputError(f"a budget of {budget:g} FLOPs leaves no step for the phase {short!r}: allow more")
    return tuple(Segment(part.phase, int(n) / steps_per_epoch) for part, n in zip(parts, whole, strict=True))


def phase_steps(plan: StepPlan) -> dict[Phase, int]:
    """The number of steps of each phase."""
    return {phase: int((plan.phase == number).sum()) for number, phase in enumerate(PHASES)}


def total_flops(plan: StepPlan, flops: Mapping[Phase, float]) -> float:
    """FLOPs of a run: the steps of each phase times the cost of one (`mixtraining.step_flops`)."""
    return float(sum(steps * flops[phase] for phase, steps in phase_steps(plan).items() if steps))


def check_plan(plan: StepPlan) -> None:
    """Raise InputError for arrays that are not a valid plan."""
    lengths = {name: np.shape(values) for name, values in plan._asdict().items()}
    if len(set(lengths.values())) != 1 or np.ndim(plan.phase) != 1 or not len(plan.phase):
        raise InputError(f"a plan needs four arrays of one entry a step, but their shapes are {lengths}")
    if not np.isin(plan.phase, (SSL, JOINT, SL)).all():
        raise InputError(f"a phase must be {SSL} (SSL), {JOINT} (joint) or {SL} (SL)")
    if not ((plan.alpha >= 0) & (plan.alpha <= 1)).all():
        raise InputError("alpha must lie in [0, 1] at every step")
    if not ((plan.learning_rate >= 0) & np.isfinite(plan.learning_rate)).all():
        raise InputError("the learning rate must be finite and not negative at every step")


def _warmup_cosine(num_steps: int, warmup_fraction: float, final_fraction: float) -> Float[np.ndarray, " n"]:
    """The learning rate of each step as a share of its peak."""
    warmup = min(_nearest(warmup_fraction * num_steps), num_steps - 1)
    i_n = np.arange(num_steps)
    cosine_n = (1 + np.cos(np.pi * (i_n - warmup) / (num_steps - warmup))) / 2
    return np.where(i_n < warmup, (i_n + 1) / (warmup + 1), final_fraction + (1 - final_fraction) * cosine_n)


def _checked(segments: Iterable[tuple[str, Number]], steps_per_epoch: int) -> list[Segment]:
    parts = []
    for phase, epochs in segments:
        if phase not in PHASES:
            raise InputError(f"a phase must be one of {', '.join(PHASES)}, not {phase!r}")
        if not 0 < epochs < math.inf:
            raise InputError(f"a segment needs epochs, but {phase!r} has {epochs}: leave it out")
        parts.append(Segment(phase, epochs))
    if not parts:
        raise InputError("a schedule needs at least one segment, such as ('sl', 10)")
    if steps_per_epoch < 1:
        raise InputError(f"steps_per_epoch must be at least 1, not {steps_per_epoch}: is the data less than a batch?")
    return parts


def _check_rates(peaks: Iterable[float], warmup_fraction: float, final_fraction: float) -> None:
    for peak in peaks:
        if not 0 < peak < math.inf:
            raise InputError(f"a learning rate must be positive, not {peak}")
    if not (0 <= warmup_fraction < 1 and 0 <= final_fraction <= 1):
        raise InputError(
            "warmup_fraction must lie in [0, 1) and final_fraction in [0, 1], not"
            f" {warmup_fraction} and {final_fraction}"
        )


def _nearest(x: Number) -> int:
    """The nearest whole number. A half goes up, also if rounding in binary put it just below."""
    return math.floor(x + 0.5 + 1e-9)
