import errno
import functools
import json
import os
import re
import signal
import sys
from pathlib import Path

import pytest

from experiments.harness import run_folder as run_folder_module
from experiments.harness.interruption import Interrupted, Interruption
from experiments.harness.options import ManyModelsOptions, RunOptions
from experiments.harness.result_files import write_json
from experiments.harness.run_folder import identity_of, last_previous, run_folder
from mixmin_jax.errors import InputError
from mixmin_jax.training.checkpoint import Stopped
from mixmin_jax.training.nonfinite import Diverged
from tests.experiments.harness.held_folder import held_elsewhere

CONFIG = {"seeds": 1, "model": {"width": 8}}
RESULTS = ("*/metrics.json", "*/*.png", "summary.md", "model")


def run(out, config=CONFIG, fail=None, **options):
    """A run that ends, or fails."""
    with run_folder(RunOptions(out, **options), config, RESULTS):
        if fail:
            raise fail


def refused(match, out, config=CONFIG, **options):
    """A run is refused in one line of readable length."""
    with pytest.raises(InputError, match=match) as no:
        run(out, config, **options)
    assert len(str(no.value)) < 400 and len(str(no.value).splitlines()) == 1


def held(out, name):
    return json.loads((out / name).read_text())


def test_a_finished_run_finds_its_own_folder_again(tmp_path):
    for resume in (True, False):  # in an empty folder it begins
        run(tmp_path / "out", resume=resume)
    assert identity_of(tmp_path / "out") == CONFIG and held(tmp_path / "out", "status.json") == {"complete": True}


def test_an_unfinished_run_goes_on_only_if_told_to(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["x", "--out", "a b", "--overwrite"])
    with pytest.raises(ZeroDivisionError):
        run(tmp_path, fail=ZeroDivisionError())
    status = held(tmp_path, "status.json")
    assert not status["complete"] and status["how_to_go_on"].endswith("--out 'a b' --resume")
    assert status["how_to_go_on"] in capsys.readouterr().err
    refused("unfinished: add --resume", tmp_path)
    run(tmp_path, resume=True)
    run(tmp_path)


def test_another_run_is_refused_with_what_differs(tmp_path):
    run(tmp_path)
    other = CONFIG | {"model": {"width": 16}}
    for resume in (False, True):
        refused(r"differs in: model\.width \(8 there, 16 now\)\. .*--overwrite", tmp_path, other, resume=resume)
    refused(r"differs in: model\.width \(8 there, None now\)\.", tmp_path, CONFIG | {"model": {}}, resume=True)
    assert identity_of(tmp_path) == CONFIG and held(tmp_path, "status.json")["complete"]
    run(tmp_path, other, overwrite=True)
    assert identity_of(tmp_path) == other


@pytest.mark.parametrize("complete", [True, False])
def test_a_run_that_an_earlier_version_began_is_refused_in_one_line(tmp_path, complete):
    write_json(tmp_path / "config.json", CONFIG)  # which said nothing of its format
    write_json(tmp_path / "status.json", {"complete": complete})
    (tmp_path / "metrics.json").touch()
    for resume in (False, True):
        refused(r"config\.json is of a run that another version began, .*--overwrite", tmp_path, resume=resume)
    assert held(tmp_path, "config.json") == CONFIG and (tmp_path / "metrics.json").exists()
    run(tmp_path, overwrite=True)
    assert identity_of(tmp_path) == CONFIG


def results_of(out, config, fail=None, **options):
    """A run that writes results, and ends or fails after its first."""
    with run_folder(RunOptions(out, **options), config, RESULTS) as folder:
        (folder.place / "news").mkdir(exist_ok=True)
        (folder.place / "news" / "metrics.json").write_text(str(config["seeds"]))
        if fail:
            raise fail
        (folder.place / "summary.md").write_text(str(config["seeds"]))


def contents(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


TWO = CONFIG | {"seeds": 2}


def test_results_that_are_overwritten_stay_whole_until_the_new_are(tmp_path, capsys):
    """Stopped, killed, resumed, and given up."""
    results_of(tmp_path, CONFIG)
    before = contents(tmp_path)
    capsys.readouterr()
    for options in ({"overwrite": True}, {"resume": True}, {"overwrite": True}):
        with pytest.raises(Interrupted):
            results_of(tmp_path, TWO, Interrupted(signal.SIGINT), **options)
        started, stopped = capsys.readouterr().err.splitlines()
        assert f"what is in {tmp_path} stays until" in started and f"{tmp_path} are still there. Go on" in stopped
        assert {name: text for name, text in contents(tmp_path).items() if "unfinished/" not in name} == before
        assert held(tmp_path / "unfinished", "news/metrics.json") == 2 and identity_of(tmp_path / "unfinished") == TWO
    refused("unfinished: add --resume", tmp_path, TWO)
    results_of(tmp_path, TWO, resume=True)
    assert contents(tmp_path).keys() == before.keys() and held(tmp_path, "status.json") == {"complete": True}
    assert held(tmp_path, "summary.md") == held(tmp_path, "news/metrics.json") == 2 and identity_of(tmp_path) == TWO
    with pytest.raises(ZeroDivisionError):
        results_of(tmp_path, CONFIG, ZeroDivisionError(), overwrite=True)
    results_of(tmp_path, TWO)
    assert contents(tmp_path).keys() == before.keys()  # what waited was of a run that nobody goes on with


def test_a_complete_run_that_is_made_again_stays_complete(tmp_path):
    results_of(tmp_path, TWO)
    before = contents(tmp_path)
    with pytest.raises(ZeroDivisionError):
        results_of(tmp_path, TWO, ZeroDivisionError())
    assert {name: text for name, text in contents(tmp_path).items() if "unfinished/" not in name} == before
    results_of(tmp_path, TWO)
    assert contents(tmp_path) == before


def test_a_run_that_was_killed_while_it_replaced_results_goes_on(tmp_path, monkeypatch):
    results_of(tmp_path, CONFIG)
    with monkeypatch.context() as patched, pytest.raises(ZeroDivisionError):
        patched.setattr(run_folder_module, "put_in_place", lambda *_, **__: 1 / 0)
        results_of(tmp_path, TWO, overwrite=True)
    assert not held(tmp_path, "status.json")["complete"] and not (tmp_path / "summary.md").exists()
    results_of(tmp_path, TWO, resume=True)
    assert held(tmp_path, "status.json")["complete"] and held(tmp_path, "summary.md") == 2


def test_files_of_others_stay_when_a_run_overwrites(tmp_path):
    for name in ("mine/a.png", "summary.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    with pytest.raises(ZeroDivisionError):
        results_of(tmp_path, TWO, ZeroDivisionError(), overwrite=True)
    assert (tmp_path / "summary.md").read_text() == "mine"
    results_of(tmp_path, TWO, resume=True)
    assert held(tmp_path, "summary.md") == 2 and (tmp_path / "mine" / "a.png").read_text() == "mine"


def test_overwriting_removes_the_other_runs_results_and_keeps_its_stages(tmp_path):
    run(tmp_path)
    for name in (
        "news/metrics.json",
        "news/loss.png",
        "stages/a.npz",
        "notes/mine.txt",
        "summary.md",
        "model/params/d",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    run(tmp_path, overwrite=True)
    assert (tmp_path / "news" / "metrics.json").exists()  # the same run: nothing to replace
    run(tmp_path, CONFIG | {"seeds": 2}, overwrite=True)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert (
        left == {"config.json", "status.json", "stages/a.npz", "notes/mine.txt"} and not (tmp_path / "model").exists()
    )


EXTEND = {"extends": ("seeds",), "extend": True}


def extend(out, config=CONFIG, fail=None, **options):
    with run_folder(RunOptions(out, **options), config, RESULTS, **EXTEND):
        if fail:
            raise fail
        (out / "news").mkdir(exist_ok=True)
        (out / "news" / "metrics.json").write_text(str(config["seeds"]))
        (out / "summary.md").touch()


def files_in(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_extending_sets_results_aside_and_keeps_stages(tmp_path):
    run(tmp_path)
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "a.npz").touch()
    for seeds in (1, 2, 2, 3):
        extend(tmp_path, CONFIG | {"seeds": seeds})
    whole = {"config.json", "status.json", "news/metrics.json", "summary.md"}
    assert files_in(tmp_path) == whole | {"stages/a.npz"} | {f"previous/{n}/{name}" for n in (1, 2) for name in whole}
    for n in (1, 2):
        place = last_previous(tmp_path) if n == 2 else tmp_path / "previous" / "1"
        assert identity_of(place)["seeds"] == n == held(place, "news/metrics.json")
    assert identity_of(tmp_path)["seeds"] == 3 and held(place, "status.json") == {"complete": True}


def test_an_extension_that_did_not_end_goes_on_and_sets_nothing_aside_twice(tmp_path):
    run(tmp_path)
    extend(tmp_path)
    two = CONFIG | {"seeds": 2}
    with pytest.raises(ZeroDivisionError):
        extend(tmp_path, two, fail=ZeroDivisionError())
    with pytest.raises(InputError, match="unfinished: add --resume"):
        extend(tmp_path, two)
    extend(tmp_path, two, resume=True)
    assert files_in(tmp_path / "previous") == {
        f"1/{name}" for name in ("config.json", "status.json", "news/metrics.json", "summary.md")
    }


def test_results_that_were_half_set_aside_stay_together(tmp_path):
    run(tmp_path)
    extend(tmp_path)
    (tmp_path / "previous" / "1").mkdir(parents=True)
    (tmp_path / "summary.md").rename(tmp_path / "previous" / "1" / "summary.md")  # and then it was killed
    extend(tmp_path, CONFIG | {"seeds": 2})
    assert files_in(tmp_path / "previous") == {
        f"1/{name}" for name in ("config.json", "status.json", "news/metrics.json", "summary.md")
    }


def test_what_cannot_be_extended_is_refused_untouched(tmp_path):
    with pytest.raises(InputError, match=r"--extend: --out .* holds no run yet; leave out --extend"):
        extend(tmp_path)
    run(tmp_path)
    with pytest.raises(InputError, match=r"goes on with the settings .*differs in: model\.width \(8 there, 16 now\)"):
        extend(tmp_path, {"seeds": 2, "model": {"width": 16}})
    assert identity_of(tmp_path) == CONFIG
    with (
        pytest.raises(InputError, match=r"--overwrite to replace them, or --extend to go on with that run$"),
        run_folder(RunOptions(tmp_path), CONFIG | {"seeds": 2}, RESULTS, extends=("seeds",)),
    ):
        pass


def test_folders_of_others_and_files_are_refused_untouched(tmp_path):
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "x").touch()
    refused("not empty", tmp_path / "foreign")
    assert list((tmp_path / "foreign").iterdir()) == [tmp_path / "foreign" / "x"]
    refused("is a file", tmp_path / "foreign" / "x")


@pytest.mark.parametrize("content", ["{", "[]", "[" * 100_000, '{"model": ' * 100_000, b"\xff"], ids=range(5))
def test_a_configuration_that_cannot_be_read_is_one_line(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(r"config\.json cannot be read \(.+\): name another", tmp_path, resume=True)
    run(tmp_path, overwrite=True)
    assert identity_of(tmp_path) == CONFIG


@pytest.mark.parametrize("status", ["[]", "null", "{}", '{"complete": "no"}', "[" * 100_000, ""], ids=range(6))
def test_a_status_that_does_not_say_complete_is_unfinished(tmp_path, status):
    run(tmp_path)
    (tmp_path / "status.json").write_text(status)
    refused("unfinished: add --resume", tmp_path)
    run(tmp_path, resume=True)
    assert held(tmp_path, "status.json") == {"complete": True}


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSYS, "lies on a file system without locks (Function not implemented), where"),
        (errno.ENOLCK, "lies on a file system without locks (No locks available), where"),
        (errno.ENOTSUP, "lies on a file system without locks (Operation not supported), where"),
        (errno.EIO, "cannot be written to (Input/output error): name another"),
    ],
)
def test_a_lock_that_cannot_be_had_is_one_error_that_names_the_folder(tmp_path, monkeypatch, number, message):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", flock)
    refused(re.escape(f"--out {tmp_path} {message}"), tmp_path)
    if number == errno.EIO:
        refused("cannot be written to", tmp_path, no_locks=True)
    else:
        refused("which mixes their results: name another, or add --no-locks and see to that$", tmp_path)
        run(tmp_path, no_locks=True)
        assert files_in(tmp_path) == {"config.json", "status.json"}


def test_a_folder_that_cannot_be_written_to_is_one_error(tmp_path):
    (tmp_path / "file").touch()
    for out in (tmp_path / "file" / "below", Path("/proc/runs")):
        refused(rf"--out {out} cannot be written to \(.+\): name another", out)


def test_what_a_killed_run_was_writing_is_in_nobodys_way(tmp_path):
    for name in (".config.json.123.partial", ".lock"):  # killed before it had claimed the folder
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    run(tmp_path)
    for name in ("stages/.a.npz.124.partial", "news/.report.md.124.partial", ".model.124.partial/params/d"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    run(tmp_path)
    assert not list(tmp_path.rglob("*.partial"))


def test_a_run_whose_other_process_was_stopped_says_how_to_go_on(tmp_path, capsys):
    with pytest.raises(Stopped):
        run(tmp_path, fail=Stopped("stopped after step 5 of 9; the state is saved"))
    assert "the state is saved: incomplete" in capsys.readouterr().err


@pytest.mark.parametrize("on_nonfinite", ["stop", "skip"])
def test_a_run_that_diverged_is_not_told_to_do_the_same_again(tmp_path, capsys, on_nonfinite):
    def config(on_nonfinite):
        return CONFIG | ({"on_nonfinite": "skip"} if on_nonfinite == "skip" else {})

    with pytest.raises(Diverged):
        run(tmp_path, config(on_nonfinite), Diverged("nan at step 7"), on_nonfinite=on_nonfinite)
    error = capsys.readouterr().err
    assert "The same command fails at the same step again, with --resume as well. Go on with: another learn" in error
    assert ("--on-nonfinite skip" in error) == (on_nonfinite == "stop") and len(error.splitlines()) == 1
    status = held(tmp_path, "status.json")
    assert not status["complete"] and error.endswith(f"{status['how_to_go_on']}\n")
    changed = config("skip") | {"learning_rate": 0.1}
    for advised in ({"overwrite": True}, {"out": tmp_path / "another"}):  # and nothing less
        refused("another run, which differs in", tmp_path, changed, resume=True, on_nonfinite="skip")
        run(**{"out": tmp_path, "config": changed, "on_nonfinite": "skip"} | advised)
        run(tmp_path, config(on_nonfinite), overwrite=True)


@pytest.mark.parametrize("how_it_ends", [signal.SIGKILL, None])
@pytest.mark.slow
def test_a_second_run_is_refused_while_the_first_lives(tmp_path, how_it_ends):
    claim = functools.partial(run_folder, RunOptions(tmp_path), CONFIG, RESULTS)
    with held_elsewhere(claim, how_it_ends) as (first, end):
        for config, options in ((CONFIG, {"resume": True}), (CONFIG, {}), (CONFIG | {"seeds": 2}, {})):
            refused(rf"written to by another run \(process {first} on ", tmp_path, config, **options)
        end()
        assert held(tmp_path, "status.json")["complete"] == (how_it_ends is None)
        run(tmp_path, resume=True)  # a dead process holds no lock


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_ends_a_run_at_once_with_how_to_go_on(tmp_path, capsys, number):
    before = signal.getsignal(number)
    with pytest.raises(Interrupted) as stopped, run_folder(RunOptions(tmp_path), CONFIG, RESULTS):
        os.kill(os.getpid(), number)
        pytest.fail("the signal came later")
    assert stopped.value.number == number and signal.getsignal(number) == before
    error = capsys.readouterr().err
    assert f"stopped by {number.name}: incomplete" in error and "--resume" in error


def test_a_terminal_that_hangs_up_twice_leaves_time_to_save():
    """And a second Ctrl-C does not; what nohup ignores ends nothing."""
    with Interruption() as interruption:
        with interruption.deferred():
            for number in (signal.SIGHUP, signal.SIGHUP, signal.SIGUSR1):
                os.kill(os.getpid(), number)
            assert interruption.requested()
            with pytest.raises(Interrupted):
                os.kill(os.getpid(), signal.SIGINT)
                pytest.fail("the second Ctrl-C came later")
        os.kill(os.getpid(), signal.SIGHUP)  # while the run tells how to go on
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interruption() as interruption:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not interruption.requested()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_processes_compare_all_that_must_be_the_same(tmp_path, monkeypatch):
    """Where devices or tokens differ they would compile different programs, and wait for each other."""
    compared = []
    monkeypatch.setattr(run_folder_module, "check_same", lambda described: compared.append(json.dumps(described)))
    given = [{}, {"mesh_source": 2}, {"mesh_data": 2}, {"checkpoint_every": 7}, {"resume": True}]
    for options in given:
        with run_folder(ManyModelsOptions(tmp_path, **options), CONFIG, RESULTS):
            pass
    run(tmp_path / "other")
    assert len({*compared}) == len(given) + 1
    with run_folder(ManyModelsOptions(tmp_path, coordinator="a:1", num_processes=1, process_id=0), CONFIG, RESULTS):
        assert compared[-1] == compared[0]
