"""Figures for notebooks: what is drawn, on which axes, and that nothing else happens."""

import dataclasses
import io
import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

import mixmin_jax
from mixmin_jax import Bootstrap, InputError, Solution, plot

NAMES = ("<script>alert(1)</script>", "$a$ and $b", r"Größe \alpha_1 Ж")
SOLUTION = Solution(
    weights=np.array([0.2, 0.7, 0.1]),
    loss=2.5,
    penalty=0.0,
    gap=1e-12,
    goal=1e-9,
    converged=True,
    iterations=2,
    method="interior_point",
    status="converged",
    gap_history=np.array([np.inf, 1e-3, 1e-12]),
    sources=NAMES,
)


def resampled(solution, num_samples=40, level=0.9):
    w_SxK = np.random.default_rng(0).dirichlet(1 + 50 * solution.weights, num_samples)
    lower_K, upper_K = np.quantile(w_SxK, [(1 - level) / 2, (1 + level) / 2], axis=0)
    none_S = np.zeros(num_samples)
    return Bootstrap(
        solution, w_SxK, lower_K, upper_K, w_SxK.mean(0), w_SxK.std(0), level, None, none_S, none_S == 0,
        none_S.astype(int), 30, "all resamples converged", solution.sources,
    )  # fmt: skip


def many(k):
    weights_K = np.random.default_rng(k).dirichlet(np.full(k, 0.3))
    return dataclasses.replace(SOLUTION, weights=weights_K, sources=None)


@pytest.fixture(autouse=True)
def no_figures():
    plt.switch_backend("Agg")
    plt.close("all")
    yield
    plt.close("all")


@pytest.fixture
def ax():
    return Figure().subplots()


def drawn(ax):
    """Names and widths of the bars, after everything was drawn."""
    ax.figure.savefig(io.BytesIO(), format="png")
    return [label.get_text() for label in ax.get_yticklabels()], [bar.get_width() for bar in ax.patches]


def test_weights_are_sorted_bars_with_names_as_they_are(ax):
    assert plot.weights(SOLUTION, ax=ax) is ax
    names, widths = drawn(ax)
    assert names == [NAMES[1], NAMES[0], NAMES[2]] and widths == [0.7, 0.2, 0.1]
    assert not any(label.get_parse_math() for label in ax.get_yticklabels())
    assert ax.yaxis_inverted() and not ax.collections and ax.get_title() == "" and not plt.get_fignums()


def test_intervals_go_from_end_to_end(ax):
    found = resampled(SOLUTION)
    plot.weights(found, ax=ax)
    drawn(ax)
    ends = [path.vertices[:, 0] for path in ax.collections[0].get_paths()]
    np.testing.assert_allclose(ends, np.stack([found.lower, found.upper], 1)[[1, 0, 2]])
    assert ax.get_xlabel() == "weight, with 90 % interval"


def test_the_smallest_of_many_weights_are_summed(ax):
    found = resampled(many(500))
    plot.weights(found, max_sources=12, ax=ax)
    names, widths = drawn(ax)
    order = np.argsort(-found.solution.weights)
    assert names[0] == f"column {order[0]}" and names[-1] == "489 others" and len(names) == 12
    np.testing.assert_allclose(widths[-1], found.solution.weights[order[11:]].sum())
    last = ax.collections[0].get_paths()[-1].vertices[:, 0]
    np.testing.assert_allclose(last, np.quantile(found.weights[:, order[11:]].sum(1), [0.05, 0.95]))


@pytest.mark.parametrize("k, bars", [(1, 1), (30, 30), (31, 30)])
def test_every_number_of_sources_has_a_new_figure(k, bars):
    ax = plot.weights(many(k))
    assert len(drawn(ax)[1]) == bars and sum(drawn(ax)[1]) == pytest.approx(1)
    assert plt.get_fignums() == [1]


def test_the_gap_is_drawn_as_it_is(ax):
    plot.gap(SOLUTION, ax=ax)
    plot.gap(dataclasses.replace(SOLUTION, gap_history=np.array([1.0, 0.0])), ax=ax)
    drawn(ax)
    first, goal, second, _ = ax.lines
    np.testing.assert_array_equal(first.get_ydata(), SOLUTION.gap_history)
    np.testing.assert_array_equal(second.get_ydata(), [1.0, 0.0])
    assert set(goal.get_ydata()) == {SOLUTION.goal} and ax.get_yscale() == "log"
    assert ax.get_legend().get_texts()[0].get_text() == "interior_point, at the end 1e-12"


@pytest.mark.parametrize("gap_history, goal", [([0.0], 1e-9), ([0.0], 0.0), ([np.nan], 1e-9)])
def test_gaps_that_no_log_scale_has_are_no_error(gap_history, goal, ax):
    drawn(plot.gap(dataclasses.replace(SOLUTION, gap_history=np.array(gap_history), goal=goal), ax=ax))


def test_a_missed_goal_stands_above():
    status = "not converged: certifies 1 $, not within $ 1e-09; " + "raise max_iterations or tolerance " * 4
    missed = dataclasses.replace(SOLUTION, converged=False, status=status)
    few = dataclasses.replace(resampled(SOLUTION), converged=np.arange(40) > 0, status=status)
    for ax in (plot.gap(missed), plot.weights(missed), plot.weights(few)):
        drawn(ax)
        assert ax.get_title().replace("\n", " ") == status.strip() and "\n" in ax.get_title()


def test_predictions_lie_beside_the_diagonal(ax):
    assert plot.prediction([1.0, 2, 3], [2.5, 2, 4], labels=["a", "$b$", ""], ax=ax) is ax
    drawn(ax)
    np.testing.assert_array_equal(ax.collections[0].get_offsets(), [[1, 2.5], [2, 2], [3, 4]])
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), [[1, 1], [4, 4]])
    assert [text.get_text() for text in ax.texts] == ["a", "$b$"] and not ax.texts[1].get_parse_math()
    assert ax.get_title() == "n = 3: too few to rank" and not plt.get_fignums()
    assert plot.prediction([1.0] * 6, [1.0] * 6).get_title() == "Spearman not defined, n = 6"
    assert plot.prediction([1, 2, 3, 4, 5, 6], [2, 1, 3, 4, 5, 6]).get_title() == "Spearman 0.94, n = 6"


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: plot.weights(np.ones(3)), "a Solution or a Bootstrap; got ndarray"),
        (lambda: plot.weights(SOLUTION, max_sources=1), "max_sources must be a whole number of at least 2"),
        (lambda: plot.gap(resampled(SOLUTION)), "draws a Solution; got Bootstrap"),
        (lambda: plot.prediction([1.0, 2.0], [1.0]), r"got \(2,\), \(1,\)"),
        (lambda: plot.prediction([1.0], [1.0], labels=["a", "b"]), "and 2 labels"),
        (lambda: plot.prediction([], []), "at least one point"),
        (lambda: plot.prediction([1.0, np.nan], [1.0, 2.0]), "finite numbers"),
    ],
)
def test_bad_input_opens_no_figure(call, message):
    with pytest.raises(InputError, match=message):
        call()
    assert not plt.get_fignums()


def test_matplotlib_is_imported_on_first_use():
    assert mixmin_jax.plot is plot
    code = "import sys, mixmin_jax; assert 'matplotlib' not in sys.modules; mixmin_jax.plot.weights"
    subprocess.run([sys.executable, "-c", code], check=True)
