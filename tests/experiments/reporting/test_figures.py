"""Figures: something is on them, the same bytes for the same data, and nobody's settings change."""

import dataclasses
import io
import struct
import subprocess
import sys

import matplotlib
import matplotlib.image
import numpy as np
import pytest

from experiments.reporting import figures
from experiments.text_mixture.figures import source_loss_figure
from experiments.text_mixture.report import text_mixture_report
from mixmin_jax.stats.comparison import fidelity
from tests.experiments.text_mixture.made_up import ARMS, made_up


@pytest.mark.slow
@pytest.mark.parametrize("num_seeds, num_sources", [(1, 2), (3, 30)])
def test_figures_are_png_files_with_something_on_them(num_seeds, num_sources):
    for figure in text_mixture_report(made_up(num_seeds, num_sources)).figures.values():
        png = figures.figure_png(figure)
        assert png.startswith(b"\x89PNG\r\n\x1a\n")
        width, height = struct.unpack(">II", png[16:24])
        assert 400 < width < 1600 and 150 < height < 1600
        assert b"matplotlib" not in png.lower()  # no version in the metadata
        colors = np.unique(matplotlib.image.imread(io.BytesIO(png), format="png").reshape(-1, 4).round(1), axis=0)
        assert len(colors) > 10
        assert figure._repr_png_() == png  # what a notebook shows, and the same bytes the second time


def test_every_source_and_seed_is_drawn():
    weights = {"mixmin": [{"a": 0.75, "b": 0.25}, {"a": 0.65, "b": 0.35}], "uniform": [{"a": 0.5, "b": 0.5}] * 2}
    figure = figures.weights_figure(weights)
    first, second = figure.axes
    assert [bar.get_width() for bar in first.patches] == pytest.approx([0.7, 0.3])
    assert [bar.get_width() for bar in second.patches] == pytest.approx([0.5, 0.5])
    assert [label.get_text() for label in first.get_yticklabels()] == ["a", "b"]
    assert sorted(line.get_xdata()[0] for line in first.lines) == [0.65, 0.75]


def test_many_sources_are_summed_in_one_bar():
    w_K = np.random.default_rng(0).dirichlet(np.ones(300))
    names = [f"assay_{k}" for k in range(300)]
    figure = figures.weights_figure({"mixmin": [dict(zip(names, w_K.tolist(), strict=True))]}, max_sources=30)
    widths = [bar.get_width() for bar in figure.axes[0].patches]
    assert len(widths) == 30 and sum(widths) == pytest.approx(1)
    assert widths[0] == w_K.max() and widths[-1] == pytest.approx(np.sort(w_K)[:-29].sum())
    assert figure.axes[0].get_yticklabels()[-1].get_text() == "271 others"


def test_rows_of_the_loss_figure_keep_the_callers_order_and_name_the_better_direction():
    figure = figures.loss_figure({"b": [2.0, 3.0], "a": [1.0, 1.5]}, "test accuracy, %", better="higher")
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["b", "a"]
    assert axes.yaxis_inverted()
    assert axes.get_xlabel() == "test accuracy, % (higher is better)"
    assert {"2.500 ± 0.707", "1.250 ± 0.354"} <= {text.get_text() for text in axes.texts}


def test_gaps_of_zero_and_unknown_gaps_do_not_break_the_log_scale():
    figure = figures.gap_figure({"interior_point": [[1.0, 1e-6, 0.0], [1.0, None, -1e-17]]}, tolerance=1e-9)
    axes = figure.axes[0]
    assert axes.get_yscale() == "log"
    assert axes.lines[0].get_ydata()[-1] == axes.get_ylim()[0] < 1e-9
    assert len(axes.get_legend().get_texts()) == 2  # a method once, and the tolerance
    figures.figure_png(figure)


def test_sources_have_one_line_each_with_the_mean_over_seeds():
    arms = dict(made_up(num_seeds=2, num_sources=3).monitors.arms)

    def with_losses(run, source, *losses):
        return dataclasses.replace(run, bits_per_byte=run.bits_per_byte | {source: losses})

    first, second = arms["mixmin"]
    arms["mixmin"] = (
        with_losses(first, "source_0", 8.0, 6.0, None, None),
        with_losses(second, "source_0", 7.0, 4.0, 3.0, None),
    )
    arms["uniform"] = tuple(with_losses(run, "source_2", *[None] * 4) for run in arms["uniform"])
    monitors = dataclasses.replace(made_up().monitors, arms=arms)
    figure = source_loss_figure(monitors, max_sources=3)
    lines = {axes.get_title(): axes.lines for axes in figure.axes}
    assert list(lines) == ARMS and [len(lines[arm]) for arm in ("mixmin", "uniform")] == [3, 2]
    heights = [np.asarray(line.get_ydata(), float).tolist() for line in lines["mixmin"]]
    assert any(height[:3] == [7.5, 5.0, 3.0] and np.isnan(height[3]) for height in heights)
    assert len(source_loss_figure(monitors, max_sources=2).axes[0].lines) == 2


def test_fidelity_separates_arms_from_random_mixtures():
    found = made_up().fidelity
    figure = figures.fidelity_figure(found)
    assert [len(axes.lines) for axes in figure.axes] == [18, 18, 18, 24, 24, 24]
    rho = found.rows["token"].random_mixtures.spearman
    assert figure.axes[5].get_title() == f"random mixtures, token rows\nSpearman {rho:.2f}, n = 24"
    assert "n = 42" in figure.get_suptitle()


def test_a_correlation_of_few_points_says_so_and_nothing_else():
    figure = figures.fidelity_figure(fidelity(made_up(1).fidelity.points[:5]))
    assert figure.axes[0].get_title() == "arms, mixmin rows\ntoo few points, n = 5"
    assert "Spearman" not in figure.get_suptitle()


def test_an_arm_has_one_color_in_every_figure():
    assert figures.arm_colors(["regmix", "sl"])["regmix"] == figures.arm_colors(["mixmin", "regmix"])["regmix"]
    colors = figures.arm_colors([*ARMS, "sl", "ssl_then_sl", "mixtraining"])
    assert len(set(colors.values())) == len(colors)


def test_the_users_matplotlib_is_left_alone():
    before = dict(matplotlib.rcParams)
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "savefig.dpi": 20}):
        changed = dict(matplotlib.rcParams)
        png = figures.figure_png(figures.loss_figure({"mixmin": [1.0, 2.0]}))
        assert dict(matplotlib.rcParams) == changed
    assert png == figures.figure_png(figures.loss_figure({"mixmin": [1.0, 2.0]}))  # nor do the user's settings matter
    assert dict(matplotlib.rcParams) == before
    modules = "experiments.mixtraining.figures, experiments.reporting.figures as f"
    code = f"import sys, {modules}; f.figure_png(f.loss_figure({{'a': [1.0]}}))"
    subprocess.run([sys.executable, "-c", f"{code}; assert 'matplotlib.pyplot' not in sys.modules"], check=True)
