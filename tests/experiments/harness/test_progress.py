import io

from rich.console import Console

from experiments.harness import progress
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


def test_what_an_earlier_run_did_counts_with_the_time_that_it_took(monkeypatch):
    clock = iter([0.0, 10.0, 20.0])
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(clock))
    run = RunProgress(100.0, Console(file=io.StringIO(), width=100))
    with run.stage("train", 50.0, earlier=lambda: 60.0) as advance:
        monkeypatch.setattr(progress.time, "perf_counter", lambda: 10.0)
        advance(7, 8)
        task = run._bar.tasks[0]
        assert task.completed == 7 / 8 and task.fields["left"] == "90 s left in all"
    assert lines(run) == ["train: 70 s; about 70 s left"]


def test_durations_are_readable():
    shown = [progress.duration(s) for s in (0.4, 119, 121, 7199, 7201)]
    assert shown == ["0 s", "119 s", "2 min", "120 min", "2.0 h"]
