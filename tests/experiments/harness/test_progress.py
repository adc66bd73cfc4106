import io

import jax
import pytest
from rich.console import Console

from experiments.harness import progress
from experiments.harness.compilation import compile_seconds
from experiments.harness.progress import RunProgress


def lines(run):
    return run._console.file.getvalue().splitlines()


def test_the_time_left_is_what_the_rest_costs_at_the_speed_so_far(monkeypatch):
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(clock))
    run = RunProgress(100.0, Console(file=io.StringIO(), width=100))
    with run.stage("read", 0.0):  # nobody knows how long the rest takes
        pass
    run = RunProgress(100.0, run._console)
    with run.stage("train", 20.0):
        pass
    run.skip("score", 40.0)
    assert lines(run) == ["read: 10 s", "train: 10 s; about 40 s left", "score: found, not computed again"]
    with run.stage("report", 40.0) as advance:
        advance(1, 2)
    assert lines(run)[-1].endswith("about 0 s left")


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress.time, "perf_counter", clock)
    return clock


@pytest.fixture
def compiling(monkeypatch):
    """So many seconds of compiling so far."""
    compiling = Clock()
    monkeypatch.setattr(progress, "compile_seconds", compiling)
    return compiling


def left(run):
    (task,) = run._bar.tasks
    return task.fields["left"]


def test_compiling_is_no_speed(clock):
    """Three trainings of 100 steps, 2 s a step; the first compiles for 300 s, and ten steps are a part."""
    run = RunProgress(300.0, Console(file=io.StringIO(), width=100))
    with run.stage("read", 0.0) as advance:
        for part in (1, 2):
            clock.now += 50
            advance(part, 2)
    with run.stage("first", 100.0) as advance:
        clock.now += 300 + 20
        advance(10, 100)
        assert left(run) == ""  # and not 640 min
        clock.now += 20
        advance(20, 100)
        assert left(run) == "9 min left in all"
        clock.now += 160
        advance(100, 100)
    assert lines(run)[2:] == ["first: 10%", "first: 100%; about 7 min left", "first: 8 min; about 7 min left"]
    with run.stage("second", 100.0) as advance:
        clock.now += 20
        advance(10, 100)
        assert left(run) == "6 min left in all"  # at the speed of the first
        clock.now += 180
    assert lines(run)[-1] == "second: 3 min; about 3 min left"


def test_a_training_of_one_part_counts_whole(clock):
    run = RunProgress(30.0, Console(file=io.StringIO(), width=100))
    for seconds in (90.0, 30.0):
        with run.stage("train", 10.0) as advance:
            clock.now += seconds
            advance(1, 1)
    assert lines(run) == ["train: 100%", "train: 90 s; about 3 min left", "train: 30 s; about 60 s left"]


def test_the_time_left_after_the_first_training_leaves_out_that_of_compiling(clock, compiling):
    """Trainings of 20 s; the first compiles for 300 s more, and again, for its evaluation, for 40 s."""
    run = RunProgress(30.0, Console(file=io.StringIO(), width=100))
    with run.stage("train", 10.0) as advance:
        clock.now, compiling.now = 320.0, 300.0
        advance(1, 1)
        clock.now, compiling.now = 360.0, 340.0
    assert lines(run)[-1] == "train: 6 min; about 40 s left"
    with run.stage("train", 10.0) as advance:
        clock.now += 10.0
        advance(1, 2)
        clock.now, compiling.now = clock.now + 50.0, 380.0  # in its second part
        advance(2, 2)
        assert left(run) == "20 s left in all"


def test_what_jax_compiles_is_counted():
    before = compile_seconds()
    jax.jit(lambda x: x + 1)(1.0)
    assert compile_seconds() > before


def test_what_an_earlier_run_did_counts_with_the_time_that_it_took(clock):
    run = RunProgress(100.0, Console(file=io.StringIO(), width=100))
    with run.stage("train", 50.0, earlier=lambda: 60.0) as advance:
        clock.now = 10.0
        advance(7, 8)
        task = run._bar.tasks[0]
        assert task.completed == 7 / 8 and task.fields["left"] == "90 s left in all"
        clock.now = 20.0
    assert lines(run) == ["train: 80 s; about 80 s left"]


def test_durations_are_readable():
    shown = [progress.duration(s) for s in (0.4, 119, 121, 7199, 7201)]
    assert shown == ["0 s", "119 s", "2 min", "120 min", "2.0 h"]
