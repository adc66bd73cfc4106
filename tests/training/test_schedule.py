import numpy as np
import pytest

from mixmin_jax.errors import InputError
from mixmin_jax.training.schedule import (
    JOINT,
    SL,
    SSL,
    Alpha,
    Schedule,
    StepPlan,
    check_plan,
    matched,
    phase_steps,
    plan_steps,
    total_flops,
)

SCHEDULES = {  # (ssl, sl, mix_ratio) -> epochs of each phase
    "conventional pipeline": ((3, 5, 0.0), [("ssl", 3), ("sl", 5)]),
    "half joint": ((4, 6, 0.5), [("ssl", 2), ("joint", 2), ("sl", 4)]),
    "as many epochs of each, all joint": ((4, 4, 1.0), [("joint", 4)]),
    "all joint, longer supervision": ((4, 6, 1.0), [("joint", 4), ("sl", 2)]),
    "all joint, longer self-supervision": ((6, 4, 1.0), [("ssl", 2), ("joint", 4)]),
    "a half is rounded up": ((5, 5, 0.5), [("ssl", 2), ("joint", 3), ("sl", 2)]),
    "a half is rounded up from even numbers too": ((1, 1, 0.5), [("joint", 1)]),
    "less than a half is rounded down": ((4, 4, 0.1), [("ssl", 4), ("sl", 4)]),
    "a half that binary fractions put lower": ((50, 50, 0.29), [("ssl", 35), ("joint", 15), ("sl", 35)]),
    "one epoch each": ((1, 1, 0.0), [("ssl", 1), ("sl", 1)]),
    "supervision only": ((0, 7, 0.0), [("sl", 7)]),
    "self-supervision only": ((7, 0, 0.0), [("ssl", 7)]),
    "fractional epochs are not rounded": ((2.5, 4, 0.5), [("ssl", 1.25), ("joint", 1.25), ("sl", 2.75)]),
    "fractional epochs, all joint": ((2.3, 2.3, 1.0), [("joint", 2.3)]),
}


@pytest.mark.parametrize(("settings", "expected"), SCHEDULES.values(), ids=SCHEDULES)
def test_epochs_become_phases(settings, expected):
    schedule = Schedule(*settings)
    assert [segment.phase for segment in schedule.segments()] == [phase for phase, _ in expected]
    np.testing.assert_allclose([segment.epochs for segment in schedule.segments()], [e for _, e in expected])
    plan = schedule.plan(steps_per_epoch=20)
    assert phase_steps(plan) == {"ssl": 0, "joint": 0, "sl": 0} | {phase: round(20 * e) for phase, e in expected}
    check_plan(plan)


@pytest.mark.parametrize("mix_ratio", [0.0, 0.2, 0.5, 1.0])
def test_each_objective_gets_its_epochs_whatever_the_mix(mix_ratio):
    steps = phase_steps(Schedule(8, 12, mix_ratio).plan(10))
    assert (steps["ssl"] + steps["joint"], steps["joint"] + steps["sl"]) == (80, 120)


def test_any_interleaving_of_phases_can_be_written():
    plan = plan_steps([("ssl", 2), ("joint", 1), ("ssl", 1.5), ("joint", 1), ("sl", 0.5)], 2, alpha=Alpha("linear"))
    assert plan.phase.tolist() == [SSL] * 4 + [JOINT] * 2 + [SSL] * 3 + [JOINT] * 2 + [SL]
    np.testing.assert_allclose(plan.alpha, [1, 1, 1, 1, 1, 2 / 3, 1, 1, 1, 1 / 3, 0, 0], rtol=1e-6)
    assert np.flatnonzero(plan.restart).tolist() == [4, 6, 9, 11]
    assert [values.dtype for values in plan] == [np.int32, np.float32, np.float32, bool]


@pytest.mark.parametrize(
    ("alpha", "num_steps", "expected"),
    [
        (Alpha("linear"), 5, [1, 0.75, 0.5, 0.25, 0]),
        (Alpha("linear", 0.2, 0.8), 3, [0.2, 0.5, 0.8]),
        (Alpha("cosine"), 5, [1, (2 + 2**0.5) / 4, 0.5, (2 - 2**0.5) / 4, 0]),
        (Alpha("cosine", 0.9, 0.3), 3, [0.9, 0.6, 0.3]),
        (Alpha.constant(0.3), 3, [0.3, 0.3, 0.3]),
        (Alpha("linear"), 1, [1]),
        (Alpha("linear"), 0, []),
    ],
)
def test_alpha_over_the_joint_steps(alpha, num_steps, expected):
    values = alpha.values(num_steps)
    np.testing.assert_allclose(values, expected, atol=1e-15)
    if num_steps > 1:
        assert (values[0], values[-1]) == (alpha.start, alpha.end)


def test_learning_rates_warm_up_and_follow_a_cosine():
    plan = plan_steps([("ssl", 1)], 10, learning_rate=2.0, warmup_fraction=0.2, final_fraction=0.1)
    cosine = [0.1 + 0.9 * (1 + np.cos(np.pi * i / 8)) / 2 for i in range(8)]
    np.testing.assert_allclose(plan.learning_rate, 2 * np.array([1 / 3, 2 / 3, *cosine]), rtol=1e-6)


@pytest.mark.parametrize("fraction", [0.0, 0.05, 0.5, 0.99])
@pytest.mark.parametrize("num_steps", [1, 2, 3, 100])
def test_no_step_has_rate_zero_and_one_has_the_peak(num_steps, fraction):
    rate_T = plan_steps([("sl", num_steps)], 1, learning_rate=0.5, warmup_fraction=fraction).learning_rate
    assert (rate_T > 0).all() and rate_T.max() == 0.5
    peak = int(rate_T.argmax())
    assert (np.diff(rate_T[: peak + 1]) > 0).all() and (np.diff(rate_T[peak:]) < 0).all()


def test_learning_rates_restart_with_each_segment_or_run_on():
    segments = [("ssl", 3), ("joint", 1), ("sl", 2)]
    restarted = plan_steps(segments, 10, restart_learning_rate=True)
    alone = [plan_steps([segment], 10) for segment in segments]
    np.testing.assert_array_equal(restarted.learning_rate, np.concatenate([p.learning_rate for p in alone]))
    carried_on = plan_steps(segments, 10, restart_learning_rate=False)
    np.testing.assert_array_equal(carried_on.learning_rate, plan_steps([("sl", 6)], 10).learning_rate)


def test_each_phase_may_have_its_own_peak():
    schedule = Schedule(4, 4, 0.5, learning_rate=1.0, sl_learning_rate=0.25)
    plan = schedule.plan(10)
    assert [plan.learning_rate[plan.phase == phase].max() for phase in (SSL, JOINT, SL)] == [1, 1, 0.25]
    with pytest.raises(InputError, match="no peak for the phase 'sl'"):
        plan_steps([("sl", 1)], 10, learning_rate={"ssl": 1.0})


def test_moments_carry_on_by_option():
    assert not Schedule(2, 2, 0.5, restart_moments=False).plan(5).restart.any()
    assert np.flatnonzero(Schedule(2, 2, 0.5).plan(5).restart).tolist() == [5, 10]
    assert not Schedule(0, 2).plan(5).restart.any()


COST = {"ssl": 2.0, "joint": 3.1, "sl": 5.7}


@pytest.mark.parametrize("budget", [9_000.0, 15_432.1, 200_000.0])
@pytest.mark.parametrize("settings", [(0, 8, 0.0), (8, 8, 0.0), (8, 8, 0.5), (8, 8, 1.0), (3, 9, 0.4)])
def test_matched_compute_is_within_half_a_step_of_the_budget(settings, budget):
    schedule = Schedule(*settings)
    segments = matched(schedule.segments(), 39, COST, budget)
    plan = schedule.plan(39, segments)
    costliest = max(schedule.segments(), key=lambda s: s.epochs * COST[s.phase]).phase
    assert abs(total_flops(plan, COST) - budget) <= COST[costliest] / 2 + 1e-6
    grown = [new.epochs / old.epochs for new, old in zip(segments, schedule.segments(), strict=True)]
    np.testing.assert_allclose(grown, np.mean(grown), rtol=0.05)  # one factor, but for whole steps


def test_a_schedule_matches_its_own_cost():
    schedule = Schedule(8, 8, 0.5)
    assert matched(schedule.segments(), 39, COST, total_flops(schedule.plan(39), COST)) == schedule.segments()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mix_ratio": 1.1}, "mix_ratio must lie in"),
        ({"mix_ratio": -0.1}, "mix_ratio must lie in"),
        ({"mix_ratio": float("nan")}, "mix_ratio must lie in"),
        ({"ssl_epochs": -1.0}, "epochs must not be negative"),
        ({"sl_epochs": float("inf")}, "epochs must not be negative"),
        ({"ssl_epochs": 0, "sl_epochs": 0}, "both 0"),
        ({"ssl_epochs": 0, "mix_ratio": 0.5}, "leave none to join"),
        ({"learning_rate": 0.0}, "learning rate must be positive"),
        ({"sl_learning_rate": -1.0}, "learning rate must be positive"),
        ({"warmup_fraction": 1.0}, "warmup_fraction"),
        ({"final_fraction": 1.5}, "final_fraction"),
    ],
)
def test_impossible_schedules_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        Schedule(**{"ssl_epochs": 2, "sl_epochs": 2} | settings)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Alpha("constant"), "has one value"),
        (lambda: Alpha("cosine", 1.5), "alpha must lie in"),
        (lambda: plan_steps([], 10), "at least one segment"),
        (lambda: plan_steps([("SSL", 1)], 10), "must be one of ssl, joint, sl, not 'SSL'"),
        (lambda: plan_steps([("ssl", 0)], 10), "leave it out"),
        (lambda: plan_steps([("ssl", 1), ("sl", 0.04)], 10), "0.04 epochs of 'sl' are less than half a step"),
        (lambda: plan_steps([("sl", 1)], 0), "less than a batch"),
        (lambda: matched([("ssl", 100), ("sl", 1)], 1, COST, 20.0), "no step for the phase 'sl'"),
        (lambda: matched([("ssl", 1)], 1, COST, 0.0), "a budget"),
    ],
)
def test_what_makes_no_run_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("phase", [0, 3], "a phase must be"),
        ("alpha", [0.0, 2.0], "alpha must lie in"),
        ("learning_rate", [0.1, np.nan], "learning rate"),
        ("restart", [True], "one entry a step"),
    ],
)
def test_plans_written_by_hand_are_checked(field, value, message):
    plan = plan_steps([("joint", 2)], 1)
    check_plan(plan)
    with pytest.raises(InputError, match=message):
        check_plan(StepPlan(**plan._asdict() | {field: np.array(value)}))
