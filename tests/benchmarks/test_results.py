"""What all benchmarks share: options, result files, and reports that follow from these."""

from pathlib import Path

import pytest

from benchmarks import machine
from benchmarks.mixtraining import __main__ as mixtraining
from benchmarks.options import PUBLISHED, Options, Rounds
from benchmarks.proxies import __main__ as proxies
from benchmarks.records import CallTimes, Times, call_times, times
from benchmarks.solver import __main__ as solver
from experiments.harness.command_line import parse
from mixmin_jax.errors import InputError
from tests.benchmarks.made_up import timing

ROOT = Path(__file__).parent.parent.parent
BENCHMARKS = {"solver": solver, "proxies": proxies, "mixtraining": mixtraining}
OTHERS = {"solver": "proxies", "proxies": "mixtraining", "mixtraining": "solver"}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_published_reports_follow_from_their_result_files(name, tmp_path, capsys):
    published = ROOT / PUBLISHED / f"{name}-cpu-2-cores.json"
    copied = tmp_path / "copied.json"
    copied.write_bytes(published.read_bytes())
    BENCHMARKS[name].main(parse(BENCHMARKS[name].Config, arguments=["--report", str(copied)]))
    assert copied.with_suffix(".md").read_bytes() == published.with_suffix(".md").read_bytes()
    assert capsys.readouterr().out.startswith(f"{copied}, .")
    assert copied.with_suffix(".png").exists() == published.with_suffix(".png").exists()


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_result_file_of_something_else_is_refused(name, tmp_path):
    other = ROOT / PUBLISHED / f"{OTHERS[name]}-cpu-2-cores.json"
    with pytest.raises(InputError, match=f"{other.name} holds no"):
        BENCHMARKS[name].main(BENCHMARKS[name].Config(report=other))
    with pytest.raises(InputError, match=r"gone\.json"):
        BENCHMARKS[name].main(BENCHMARKS[name].Config(report=tmp_path / "gone.json"))


def test_published_json_is_compact():
    assert sum(len(path.read_text().splitlines()) for path in (ROOT / PUBLISHED).glob("*.json")) < 700


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("solver", ("repeats", "budget", "limit")),
        ("proxies", ("molecules", "bits", "assays", "labelled", "epochs", "sources", "tokens", "repeats", "budget")),
        ("mixtraining", ("batch_size", "steps", "repeats", "budget")),
    ],
)
def test_settings_must_be_positive(name, options):
    for option in options:
        with pytest.raises(InputError, match=f"--{option.replace('_', '-')} must be above 0; got 0"):
            BENCHMARKS[name].Config(**{option: 0})


def test_options_take_the_place_of_defaults():
    assert Options(repeats=2).fill(Rounds(7, 1.5)) == Rounds(2, 1.5)


def test_files_are_named_after_what_was_measured():
    slug = f"toy-cpu-{machine.cpu_cores()}-cores"
    assert Options().stem("toy", whole=True) == Path("benchmarks/results", slug)
    assert Options().stem("toy", whole=False) == Path("benchmarks/results", f"{slug}-part")
    assert Options(quick=True).stem("toy", whole=True) == Path("runs/benchmarks", f"{slug}-quick")
    assert Options(quick=True, out=Path("o")).stem("toy", whole=False) == Path("o", f"{slug}-quick")


def test_ratios_keep_the_spread():
    slow, fast = timing(4.0, 6.0, 8.0), timing(1.0, 2.0, 3.0, first=1.0)
    found = Times(**times(slow)).over(Times(**times(fast)))
    assert found == (3.0, 4 / 3, 8.0)
    assert str(found) == "3.00 (1.33 to 8.00)"
    assert CallTimes(**call_times(slow, True)).compile_seconds == 3
    assert CallTimes(**call_times(fast, True)).compile_seconds == 0
    assert CallTimes(**call_times(slow, False)).compile_seconds is None
    assert times(slow, parts=2) == {"median_seconds": 3, "min_seconds": 2, "max_seconds": 4, "rounds": 3}
