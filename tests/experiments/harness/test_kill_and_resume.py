"""Real processes, killed at any moment and gone on with: the results are those of a run that nothing happened to."""

import random
import re
import signal
import subprocess

import pytest

from tests.experiments.harness import killed_runs
from tests.experiments.harness.killed_runs import Runs, Timeline, assert_same, checkpoint_of, told, with_neutral_times

ARMS = "train-arms-numbers-seed0"


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    runs = Runs(killed_runs.text_mixture(folder), folder / "cache")
    runs.finish(folder / "whole")
    return runs, folder / "whole"


@pytest.mark.slow
def test_a_killed_and_stopped_run_goes_on_to_the_same_results(text, tmp_path):
    """By SIGKILL in the proxies' training, by SIGTERM in that of the arms."""
    (runs, whole), out = text, tmp_path / "out"
    runs.end_after_checkpoint(out, "train-proxies-9600-matched-seed0", signal.SIGKILL)
    lines = runs.end_after_checkpoint(out, ARMS, signal.SIGTERM)
    assert re.search("train-proxies-9600-matched-seed0: goes on after step (50|100|150)\n", "\n".join(lines))
    assert lines[-1].startswith("stopped by SIGTERM: incomplete; what is finished is kept in")
    assert lines[-1].endswith(f"--out {out} --resume")
    saved = checkpoint_of(out, ARMS)
    assert f"{ARMS}: stopped after step {saved} of 300; the state is saved" in lines

    assert f"{ARMS}: goes on after step {saved}" in runs.finish(out, "--resume")
    assert_same(out, whole)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "times", "optimised"),
    [
        ("text_mixture", 4, False),
        ("molecule_mixture", 2, False),
        ("molecule_mixture", 1, True),  # the one that compiles fastest
        ("molecule_mixture_trees", 1, False),
        ("image_mixtraining", 2, False),
        ("image_mixtraining_tune", 2, False),
        ("image_mixtraining_variants", 2, False),
        ("text_mixtraining", 2, False),
        ("mixed_mixtraining", 2, False),
    ],
)
def test_kills_at_random_moments_change_no_number(name, times, optimised, tmp_path):
    """Each run is killed in every kind of stage; the stage of a kind and the moment in it are drawn."""
    experiment, rng = getattr(killed_runs, name)(tmp_path / "data"), random.Random(name)
    runs, whole = Runs(experiment, tmp_path / "cache", optimised), tmp_path / "whole"

    runs.finish(tmp_path / "compiles")
    runs.finish(whole)
    expected = with_neutral_times(whole)
    assert_same(with_neutral_times(tmp_path / "compiles"), expected)  # two undisturbed runs agree
    line = Timeline(whole, experiment.kinds)
    for number in range(times):
        out = tmp_path / f"killed-{number}"
        for kind in line.kinds():
            stage = rng.choice([name for name in line.left(out) if line.kind(name) == kind])
            runs.end_in(out, line, stage, rng.random())
            assert line.kind(line.left(out)[0]) == kind
        runs.finish(out, "--resume")
        assert "Traceback" not in "\n".join(told(out))
        assert_same(with_neutral_times(out), expected)


@pytest.mark.slow
def test_ctrl_c_ends_a_run_with_130_wherever_it_is(text, tmp_path):
    (runs, whole), out = text, tmp_path / "out"
    line = Timeline(whole, runs.experiment.kinds)
    for stage in ("train-proxies-9600-matched-seed0/lower", "weights-numbers-seed0", "report"):
        lines = runs.end_in(out, line, stage, 0.3, signal.SIGINT)
        assert lines[-1].startswith("stopped by SIGINT: incomplete") and "--resume" in lines[-1]
        assert "Traceback" not in "\n".join(lines)
    runs.finish(out, "--resume")
    assert_same(out, whole)


@pytest.fixture
def stopped(text, tmp_path):
    """A run that stopped in the arms' training: its folder, and the step of its newest checkpoint."""
    out = tmp_path / "out"
    text[0].end_after_checkpoint(out, ARMS, signal.SIGTERM)
    return out, checkpoint_of(out, ARMS)


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_a_damaged_checkpoint_is_told_of_and_changes_no_number(text, stopped, damage):
    (runs, whole), (out, saved) = text, stopped
    newest = out / "stages" / f"{ARMS}.checkpoints" / str(saved)
    for path in newest.rglob("d/*"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content if damage == "flipped" else content[: len(content) // 2])
    lines = runs.finish(out, "--resume")
    told_of = [line for line in lines if f"checkpoint of step {saved}" in line]
    assert len(told_of) == 1 and "cannot be used" in told_of[0] and "trying the one before" in told_of[0]
    assert f"{ARMS}: goes on after step {saved - 50}" in lines
    assert "Traceback" not in "\n".join(lines) and "Exception ignored" not in "\n".join(lines)
    assert_same(out, whole)


def mounted(folder, *options):
    """A file system mounted there, or a skip where that is not permitted."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(["mount", *options, str(folder)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"needs permission to mount a file system: {' '.join(done.stderr.split())}")


@pytest.mark.slow
def test_a_full_disk_is_one_error_and_the_run_goes_on_when_there_is_room(text, tmp_path):
    """What cannot be written is the run's status, then a checkpoint, then, without checkpoints, what stages made."""
    runs, whole = text
    disk, causes = tmp_path / "disk", []
    mounted(disk, "-t", "tmpfs", "-o", "size=4m", "tmpfs")
    try:
        out = disk / "out"
        (disk / "out.log").symlink_to(tmp_path / "out.log")
        for room, every in [(8, 50), (60, 50), (120, 50), (40, 10**6), (120, 10**6), (200, 10**6), (420, 10**6)]:  # kB
            used = sum(path.lstat().st_blocks * 512 for path in disk.rglob("*") if path.name != "filler")
            (disk / "filler").write_bytes(bytes(max(0, (4 << 20) - used - room * 1024)))
            process = runs.start(out, "--resume", "--checkpoint-every", str(every))
            status, lines = process.wait(600), told(out)
            if status == 0:
                break
            assert status == 2 and lines[-1].startswith("error: ") and "No space left on device" in lines[-1]
            assert str(out) in lines[-1]
            assert "Traceback" not in "\n".join(lines)
            assert not list(disk.rglob("*.partial"))
            causes.append("checkpoint" if "checkpoint" in lines[-1] else lines[-1].rpartition(".")[2].strip("'"))
            (disk / "filler").unlink()
        (disk / "filler").unlink(missing_ok=True)
        runs.finish(out, "--resume")
        print(causes)
        assert {"json", "checkpoint", "npz"} <= set(causes)
        assert_same(out, whole)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.slow
def test_a_file_that_may_not_grow_is_one_error(text, stopped):
    """As under a quota; no file may be larger than 20 kB, which the arms' product is."""
    (runs, whole), (out, _) = text, stopped
    lines = runs.finish(out, "--resume", status=2, limits="ulimit -f 40")  # blocks of 512 bytes
    assert re.match(rf"error: .*{out}/stages/.*File too large", lines[-1]) and "Traceback" not in "\n".join(lines)
    runs.finish(out, "--resume")
    assert_same(out, whole)


@pytest.mark.slow
def test_a_read_only_folder_is_one_error_before_compute(text, stopped):
    (runs, whole), (out, _) = text, stopped
    mounted(out, "--bind", str(out))
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(out)], check=True)
        lines = runs.finish(out, "--resume", status=2)
        assert lines == [f"error: --out {out} cannot be written to (Read-only file system): name another"]
    finally:
        subprocess.run(["umount", str(out)], check=True)
    runs.finish(out, "--resume")
    assert_same(out, whole)


@pytest.mark.slow
def test_sources_that_changed_since_the_start_are_named_before_compute(text, stopped):
    (runs, whole), (out, _) = text, stopped
    source, target = whole.parent / "lower.jsonl", whole.parent / "numbers.jsonl"
    content = source.read_text()
    try:
        source.write_text(content.replace("fig", "fog", 1))
        lines = runs.finish(out, "--resume", status=2)
        assert len(lines) == 1 and re.match(
            r"error: --out .* differs in: data\.lower \('\w+ there, '\w+ now\)\.", lines[0]
        )
    finally:
        source.write_text(content)
    for path in (source, target):
        path.rename(whole.parent / "away")
        try:
            lines = runs.finish(out, "--resume", status=2)
            assert len(lines) == 1 and re.match(rf"error: {path}: no such file", lines[0]), lines
        finally:
            (whole.parent / "away").rename(path)
    runs.finish(out, "--resume")
    assert_same(out, whole)
