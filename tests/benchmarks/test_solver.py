"""The benchmark of solvers: its judge, its clock, its rivals on tiny cases, and what it writes."""

import contextlib
import dataclasses
import importlib.util
import os
import sys
import time

import numpy as np
import pytest

from benchmarks import machine
from benchmarks.options import PUBLISHED
from benchmarks.solver import __main__ as solver
from benchmarks.solver import fresh, mixsqp
from benchmarks.solver.cases import CASES, Case, classifiers, documents
from benchmarks.solver.figure import gap_time_figure
from benchmarks.solver.gap import judge
from benchmarks.solver.measure import measure
from benchmarks.solver.methods import OURS, Answer, Method
from benchmarks.solver.records import Settings, SolverRecord
from benchmarks.solver.report import LARGE, case_table, markdown_table, summary, times_faster
from benchmarks.solver.rivals import RIVALS
from benchmarks.solver.streaming import File, Repeated, measure_streaming
from benchmarks.timing import Call, Stopped, memory_growth, side_by_side
from experiments.harness.command_line import parse
from experiments.harness.result_files import read_result
from experiments.reporting.figures import figure_png
from mixmin_jax.errors import InputError
from tests.benchmarks.made_up import ROOT, cells, quick_run, timing

N, K = 200, 5
TINY = Case("tiny", "classifiers", N, K, classifiers)
WEIGHTED = Case("weighted", "documents", N, K, documents)
REACHES = {  # relative gap
    "mixsqp (default)": 1e-4,
    "mixsqp (tightest)": 1e-11,
    "mixsqp (tightest, OpenBLAS)": 1e-11,
    "cvxpy": 1e-5,  # its dual is good to 1e-10, the weights of unused sources to less
    "reference": 1e-3,
    "reference (likelihoods)": 1e-3,
    "scipy": 1e-6,
    "em": 1e-9,
    "jaxopt": 1e-6,
}


def disjoint(counts=(5, 3, 2)):
    """Every row belongs to one source: with equal example weights the optimum is the shares of rows."""
    owner_N = np.repeat(np.arange(len(counts)), counts)
    return np.where(owner_N[:, None] == np.arange(len(counts)), -3.0, -np.inf), np.array(counts) / sum(counts)


def method(name, weights, seconds=1.0, **options):
    """A method that has its answer, or what stops it, ready."""

    def call():
        if isinstance(weights, Stopped):
            raise weights
        return Answer(np.asarray(weights), 3, seconds)

    return Method(
        name,
        "made up",
        lambda data, limit: contextlib.nullcontext(Call(call, lambda answer: answer.seconds)),
        **options,
    )


def test_judge_knows_the_gap_of_disjoint_rows():
    logp_NxK, shares_K = disjoint()
    assert judge(logp_NxK, None, shares_K).gap < 1e-15
    w_K = np.array([0.2, 0.3, 0.5])  # -grad_k = share_k / w_k
    assert judge(logp_NxK - 1e4, None, w_K).gap == pytest.approx(max(shares_K / w_K) - 1, rel=1e-12)
    v_N = np.repeat([0.2, 1.0, 4.5], (5, 3, 2))  # sum 13; shares 1, 3 and 9 of 13
    assert judge(logp_NxK, v_N, np.array([1, 3, 9]) / 13).gap < 1e-15
    assert judge(logp_NxK, v_N, w_K).gap == pytest.approx(9 / 13 / 0.5 - 1, rel=1e-12)


def test_judge_accepts_nothing_but_weights():
    logp_NxK, shares_K = disjoint()
    for weights in ([np.nan, 0.5, 0.5], [0, 0, 0], [0.5, 0.5], [0.5, 0.5, 0]):
        assert judge(logp_NxK, None, np.array(weights)).gap == np.inf
    repaired = judge(logp_NxK, None, np.append(2 * shares_K[:2], 2 * shares_K[2]))
    assert repaired.gap < 1e-15 and repaired.repaired == pytest.approx(1)
    negative = judge(disjoint((4, 4))[0], None, np.array([1.0, -0.25]))
    assert negative.gap == np.inf and negative.repaired == pytest.approx(0.25)


def test_calls_take_turns_and_stop_at_their_budget():
    order = []

    def call(name, seconds, fails_at=99):
        def run():
            order.append(name)
            if order.count(name) > fails_at:
                raise Stopped("enough")
            return seconds

        return Call(run, own_seconds=lambda seconds: seconds)

    calls = {"a": call("a", 1.0), "b": call("b", 2.0), "c": call("c", 40.0), "d": call("d", 1.0, fails_at=2)}
    timings = side_by_side(calls, repeats=3, budget=30.0)
    assert "".join(order) == "abcd" + "abcd" + "bda" + "ab" + "ab"  # first calls, three rounds, memory
    assert timings["b"].seconds == (2.0, 2.0, 2.0) and timings["c"].seconds == (40.0,)
    assert timings["c"].memory_of_first and not timings["a"].memory_of_first
    assert isinstance(timings["d"], Stopped) and str(timings["d"]) == "enough"


def test_quick_calls_fill_a_turn_and_its_median_counts_without_the_first():
    times = [1.0, 0.02, 0.001, 0.002, 0.009, 0.02, 1.0]  # the first call of all; a turn; for memory

    def run():
        return times.pop(0)

    timing = side_by_side({"quick": Call(run, own_seconds=lambda seconds: seconds)}, repeats=1, budget=1.0)["quick"]
    assert timing.first == 1 and timing.seconds == (0.0055,) and not times
    times += [1.0, 0.02, 0.001]  # the clock outside runs out in the first of a turn, and the second counts all the same

    def slow():
        time.sleep(0.06)
        return times.pop(0)

    timing = side_by_side({"slow": Call(slow, lambda seconds: seconds, pid=os.getpid())}, repeats=1, budget=1.0)["slow"]
    assert timing.seconds == (0.001,) and not times


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
def test_memory_is_that_of_the_peak():
    def passing():
        return sum(bytearray(64 << 20)[:: 1 << 20])

    for _ in range(2):  # also when an allocator could have kept it
        result, grown = memory_growth(passing)
        assert result == 0 and 63 << 20 <= grown < 80 << 20  # the kernel counts pages in batches


def test_clock_is_the_outer_one_by_default():
    timings = side_by_side({"sleep": Call(lambda: time.sleep(0.02))}, 2, 1.0)
    assert all(0.02 <= seconds < 1 for seconds in timings["sleep"].seconds)


def test_floor_is_product_and_pass_per_step():
    rates = machine.Rates(multiply_adds=90.0, bytes_read=480.0)
    assert machine.newton_floor(2, 10, 3, rates) == pytest.approx(2 * (10 * 9 / 90 + 10 * 3 * 8 / 480))
    times = {"product, JAX": 2.0, "product, NumPy": 1.0, "read, JAX": 0.5, "read, NumPy": 4.0}
    timings = {name: timing(seconds) for name, seconds in times.items()}
    assert machine.rates(timings, 10, 3) == machine.Rates(90.0, machine.READ_BYTES / 0.5)


@pytest.mark.parametrize("name", CASES)
def test_cases_repeat_themselves(name):
    case = dataclasses.replace(CASES[name], n=60)
    one, other = case.data(), case.data()
    np.testing.assert_array_equal(one.logp_NxK, other.logp_NxK)
    assert one.logp_NxK.shape == (60, case.k) and np.isfinite(one.logp_NxK.max(axis=1)).all()
    assert one.normalized_N.sum() == pytest.approx(1)


@pytest.mark.parametrize("name", [method.name for method in RIVALS])
def test_rivals_reach_their_accuracy(name):
    rival = next(method for method in RIVALS if method.name == name)
    if reason := rival.absent():
        pytest.skip(reason)
    data = WEIGHTED.data()
    with rival.open(data, 60.0) as call:
        answer = call.run()
    judged = judge(*data, answer.weights)
    assert judged.gap <= REACHES[name] and judged.repaired < 1e-6
    assert answer.iterations > 0 and (answer.seconds is None) == ("mixsqp" not in name and name != "cvxpy")
    assert ("mixsqp 0" in answer.software) == ("mixsqp" in name)


def test_a_rival_in_another_process_can_be_stopped():
    if reason := mixsqp.absent(False):
        pytest.skip(reason)
    with mixsqp.session("default", False, TINY.data(), 0.0) as call:
        assert call.pid
        for _ in range(2):
            with pytest.raises(Stopped, match=r"over the limit of 0 s|R has ended|R ended"):
                call.run()


def test_a_case_is_judged_by_weights_alone(monkeypatch):
    monkeypatch.setattr(machine, "READ_BYTES", 2**16)
    logp_NxK, shares_K = disjoint()
    case = Case("disjoint", "known", *logp_NxK.shape, lambda rng, n, k: logp_NxK)
    methods = [
        method("solve", shares_K, 2.0, newton=True),
        method("equal", shares_K, 6.0),
        method("short", [0.4, 0.3, 0.3], 1.0),
        method("lost", [0.5, 0.5, 0.0], 1.0),
        method("large", shares_K, most_cells=29),
        method("slow", Stopped("over the limit of 9 s")),
    ]
    record, software = measure(case, methods, Settings(repeats=2, budget=60.0, limit=9.0))
    results, faster = record.results, times_faster(record)
    assert not software and [name for name, result in results.items() if result.reached] == ["solve", "equal"]
    assert results["short"].relative_gap == pytest.approx(0.25) and results["lost"].relative_gap is None
    assert record.unmeasured == {
        "large": "not run: over the limit: N K = 30, run up to 29",
        "slow": "stopped: over the limit of 9 s",
    }
    assert faster == {"equal": (3.0, True, False), "short": (0.5, False, False), "lost": (0.5, False, True)}
    floor = machine.newton_floor(3, *logp_NxK.shape, record.rates["cpu"])
    assert results["solve"].time_over_floor == pytest.approx(2 / floor)
    (_, _, row) = cells(markdown_table([record]))
    assert row[:2] == ["`disjoint`", "2000 ms"] and row[4:] == ["3", "[0.5]", "diverged"]
    assert case_table(record).splitlines()[-2:] == [f"{name}: {why}" for name, why in record.unmeasured.items()]
    without = dataclasses.replace(record, results={"equal": results["equal"]})
    assert times_faster(without) == {} and cells(markdown_table([without]))[2] == ["`disjoint`", "-", "-", "-"]


def test_summary_judges_the_floor_where_products_are_large():
    def ends(case, reached, over):
        own = dataclasses.replace(case.results["solve"], reached=reached, time_over_floor=over)
        return dataclasses.replace(case, results={"solve": own})

    published = read_result(ROOT / PUBLISHED / "solver-cpu-2-cores.json", SolverRecord)
    small, large = (next(case for case in published.cases if (case.work >= LARGE) == big) for big in (False, True))
    record = dataclasses.replace(published, cases=(ends(small, True, 20.0), ends(large, False, 4.0)), streaming=())
    assert summary(record) == (
        "solver: solve reaches gap 1e-09 in 1 of 2; time over floor where N K^2 >= 1e+09: 4, not within 3"
    )


@pytest.mark.slow
def test_quick_run_writes_its_results(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(machine, "READ_BYTES", 2**20)
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
    config = solver.Config(quick=True, against="scipy,cvxpy", out=tmp_path / "results")
    bank = {"tiny": TINY, "large": CASES["classifiers-20000x100"], "streaming": File()}
    record, printed = quick_run(solver, config, SolverRecord, capsys, bank)
    assert printed[-1].startswith("solver: solve reaches gap 1e-09 in 1 of 1; times faster at equal gap")
    assert "cvxpy: absent: the Python package cvxpy is not installed" in printed
    (case,) = record.cases
    assert (case.name, case.n, case.k, case.seed) == ("tiny", N, K, 0)
    assert set(case.results) == {
        "solve",
        "solve (NumPy)",
        "interior_point",
        "projected_gradient",
        "mirror_descent",
        "scipy",
    }
    for result in case.results.values():
        assert 1 <= result.rounds <= 3 and (result.memory_bytes is None or result.memory_bytes >= 0)
    own = case.results["solve"]
    assert own.reached and own.compile_seconds > 0 and own.time_over_floor > 0
    assert record.methods["cvxpy"].absent


@pytest.mark.slow
def test_fresh_processes_tell_what_a_person_waits_for(monkeypatch):
    monkeypatch.setattr(fresh, "_REPEATS", 1)
    monkeypatch.setitem(fresh.PACKAGES, "broken", "no_such_package")
    found = fresh.fresh_times(*WEIGHTED.data(), ["solve (NumPy)", "scipy", "broken", "jaxopt"], 60.0)
    assert list(found) == ["solve (NumPy)", "scipy"]
    assert all(min(times) > 0 for times in found.values())
    case = dataclasses.replace(
        read_result(ROOT / PUBLISHED / "solver-cpu-2-cores.json", SolverRecord).cases[0], fresh=found
    )
    assert cells(markdown_table([case]))[-1][:2] == [f"`{case.name}`", "scipy"]


@pytest.mark.slow
@pytest.mark.parametrize("case", [File(n=3000, k=4), Repeated(n=3000, k=4, distinct=3)], ids=["file", "blocks"])
def test_streamed_rows_are_compared_with_rows_in_memory(case):
    record = measure_streaming(case, Settings(repeats=1, budget=5.0, limit=1.0))
    assert record.relative_gap <= 1e-9 and record.weights_differ_from_memory < 1e-6
    assert record.row_bytes == 3000 * 4 * 8 and record.passes > 1
    assert f"{record.passes} passes of {record.solve.median_seconds / record.passes:.2g} s" in str(record)


def test_repeated_blocks_have_as_many_rows_as_they_say():
    case = Repeated(n=3000, k=4, distinct=3)
    rows = case.rows(None)
    assert sum(map(len, rows())) == sum(map(len, case.blocks(rows))) == 3000
    blocks = list(case.blocks(rows))
    np.testing.assert_array_equal(blocks, [*rows()])
    assert len({block.tobytes() for block in blocks}) == case.distinct


def test_command_line():
    config = parse(solver.Config, arguments=["--quick", "--against", "mixsqp,em", "--cases", "streaming"])
    assert config.quick and config.settings() == Settings(repeats=3, budget=0.5, limit=10.0)
    with pytest.raises(InputError, match="--quick leaves out streaming"):
        solver.main(config)
    assert solver.Config(repeats=2).settings() == Settings(2, 10.0, 120.0)


def test_figure_has_a_panel_per_case_and_names_every_method():
    points = {
        "one": {"ours": ([1e-3, 2e-3], 1e-13), "rival": ([0.1], 1e-6)},
        "two": {"ours": ([1e-3], 0.0), "diverges": ([1e-2], None)},
        "three": {"ours": ([1e-3], 1e-12)},
    }
    figure = gap_time_figure(points, 1e-9, columns=2)
    shown = [axes.get_title() for axes in figure.axes if axes.get_visible()]
    assert shown == ["one", "two", "three"] and len(figure.axes) == 4
    assert [text.get_text() for text in figure.legends[0].get_texts()][:3] == ["ours", "rival", "diverges"]
    low, high = figure.axes[0].get_ylim()
    heights = [line.get_ydata()[0] for axes in figure.axes[:3] for line in axes.get_lines()]
    assert all(low < height < high for height in heights) and low < 1e-13
    crosses = [line for line in figure.axes[1].get_lines() if line.get_marker() == "x"]
    assert len(crosses) == 1 and crosses[0].get_ydata()[0] > 1
    assert figure_png(figure) == figure_png(gap_time_figure(points, 1e-9, columns=2))


def test_every_method_has_a_name_and_a_look_of_its_own():
    names = [method.name for method in (*OURS, *RIVALS)]
    assert len(names) == len(set(names)) and OURS[0].name == "solve"
    figure = gap_time_figure({"case": {name: ([1e-3], 1e-12) for name in names}}, 1e-9)
    handles = figure.legends[0].legend_handles[:-1]
    assert len({(handle.get_color(), handle.get_marker()) for handle in handles}) == len(names)
