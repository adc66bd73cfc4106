"""What all benchmarks share: options, result files, and reports that follow from these."""

import dataclasses
from pathlib import Path

import pytest

from benchmarks import machine
from benchmarks.fidelity import __main__ as fidelity
from benchmarks.fidelity.records import FidelityRecord
from benchmarks.many_sources import __main__ as many_sources
from benchmarks.many_sources.records import ManySourcesRecord
from benchmarks.mixtraining import __main__ as mixtraining
from benchmarks.mixtraining.records import MixTrainingRecord
from benchmarks.options import PUBLISHED, Options
from benchmarks.proxies import __main__ as proxies
from benchmarks.proxies.records import ProxiesRecord
from benchmarks.reading import __main__ as reading
from benchmarks.reading.records import ReadingRecord
from benchmarks.records import CallTimes, Times, call_times, times
from benchmarks.solver import __main__ as solver
from benchmarks.solver.records import SolverRecord
from experiments.harness.command_line import parse
from experiments.harness.result_files import read_result
from mixmin_jax.errors import InputError
from tests.benchmarks.made_up import ROOT, timing

BENCHMARKS = {
    "solver": (solver, SolverRecord),
    "proxies": (proxies, ProxiesRecord),
    "mixtraining": (mixtraining, MixTrainingRecord),
    "fidelity": (fidelity, FidelityRecord),
    "reading": (reading, ReadingRecord),
    "many_sources": (many_sources, ManySourcesRecord),
}
OTHERS = {
    "solver": "proxies",
    "proxies": "mixtraining",
    "mixtraining": "fidelity",
    "fidelity": "reading",
    "reading": "many_sources",
    "many_sources": "solver",
}


SUMMARIES = {  # parts of what the published results come to
    "solver": [
        "solver: solve reaches gap 1e-09 in 12 of 12; times faster at equal gap [than a rival that stops short of it]:"
        " mixsqp (default) [8.4 to 36] 44, mixsqp (tightest) 7.9 to 19, ",
        "time over floor where N K^2 >= 1e+09: 1.8 to 3.5, not within 3; streaming 1e+07 x 8 (640 MB): 5 passes of",
    ],
    "proxies": [
        "proxies on 2 x cpu on 2 cores: molecules, 32 models by one_program 23.4 s, times as long: one_device 1.47",
        "; ngrams, 8 models by ngrams 0.278 s, times as long: counting_alone 0.72 (0.58 to 0.83), transformers 96.22",
    ],
    "fidelity": ["fidelity on 2 x cpu on 2 cores: 3-grams, rows of 16 bytes, rank 0.92", "0.06% of a target run"],
    "reading": [
        "reading 10 GB: time over plain decompression: jsonl.gz 1.32",
        "dry run 33.8 s and 612 MB, again 2.0 s",
    ],
    "many_sources": ["many_sources, 200 kB each: 10 buckets 21 s and 0.81 GB", "1000 buckets 1687 s and 2.6 GB"],
    "mixtraining": [
        "mixtraining: speed-up in time over ssl_then_sl (the paper: up to 1.29): ssl_then_sl 1.00 (0.86 to 1.16), mixt",
        "sl 1.51 (1.29 to 1.79); time in the switch over alone: ssl 1.07 (0.83 to 1.42), joint 0.97 (0.78 to 1.34), sl",
    ],
}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_published_reports_follow_from_their_result_files(name, tmp_path, capsys):
    benchmark, kind = BENCHMARKS[name]
    published = ROOT / PUBLISHED / f"{name}-cpu-2-cores.json"
    copied = tmp_path / "copied.json"
    copied.write_bytes(published.read_bytes())
    benchmark.main(parse(benchmark.Config, arguments=["--report", str(copied)]))
    assert copied.with_suffix(".md").read_bytes() == published.with_suffix(".md").read_bytes()
    assert capsys.readouterr().out.startswith(f"{copied}, .")
    assert copied.with_suffix(".png").exists() == published.with_suffix(".png").exists()
    line = benchmark.summary(read_result(published, kind))
    assert line.startswith(SUMMARIES[name][0]) and SUMMARIES[name][1] in line


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_result_file_of_something_else_is_refused(name, tmp_path):
    benchmark, _ = BENCHMARKS[name]
    other = ROOT / PUBLISHED / f"{OTHERS[name]}-cpu-2-cores.json"
    for path, message in ((other, f"{other.name} holds no"), (tmp_path / "gone.json", r"gone\.json")):
        with pytest.raises(InputError, match=message):
            benchmark.main(benchmark.Config(report=path))


def test_published_json_is_compact():
    assert sum(len(path.read_text().splitlines()) for path in (ROOT / PUBLISHED).glob("*.json")) < 4000


@pytest.mark.parametrize(
    ("name", "option", "value", "message"),
    [
        ("solver", "against", "mixsqp,cvxpi", r"--against 'cvxpi' is not known; choose among mixsqp, .*, or none"),
        ("solver", "cases", "text", r"--cases 'text' is not known; choose among text-2000x7, .*, or all"),
        ("proxies", "labelled", 2, "--labelled is a share, at most 1; got 2"),
        ("proxies", "cases", (), "--cases names nothing to train"),
        *(
            (name, field.name, 0, f"--{field.name.replace('_', '-')} must be above 0; got 0")
            for name, (benchmark, _) in BENCHMARKS.items()
            for field in dataclasses.fields(benchmark.Config)
            if field.type in (int | None, float | None)
        ),
    ],
)
def test_settings_that_make_no_sense_are_named(name, option, value, message):
    with pytest.raises(InputError, match=message):
        BENCHMARKS[name][0].Config(**{option: value})


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
