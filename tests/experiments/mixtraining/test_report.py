"""The report and the figures of the MixTraining experiments, from made-up metrics."""

import copy
import json
import random
import subprocess
import sys

import numpy as np
import pytest

from experiments.mixtraining import figures, report, runs
from experiments.reporting.figures import figure_png
from mixmin_jax.errors import InputError
from tests.experiments.mixtraining.made_up_metrics import LEVELS, made_up_reconstructions, mixtraining_metrics

OWN, MATCHED, BASELINE = ("mixtraining", "schedule"), ("mixtraining", "matched"), ("ssl_then_sl", "schedule")
SL_MATCHED = ("sl", "matched")


def with_levels(changed, **options):
    return mixtraining_metrics(levels=LEVELS | changed, **options)


def find(metrics, arm, budget, fraction, seed):
    (found,) = (
        run
        for run in metrics["runs"]
        if (run["arm"], run["budget"], run["fraction"], run["seed"]) == (arm, budget, fraction, seed)
    )
    return found


def row(text, name, part=0):
    """Cells of the table line that starts with `name`, in the part-th table of accuracies."""
    found = [line for line in text.splitlines() if line.startswith(f"| {name} ") and line.count("|") == 11]
    return [cell.strip() for cell in found[part].split("|")[1:-1]]


# ---------------------------------------------------------------- what the conclusion says


def test_a_win_at_the_papers_speed_has_nothing_bold_against_it():
    text = report.conclusion(mixtraining_metrics())
    assert text.startswith("The paper's trade-off")
    assert "holds at 10% and 25% of the training data." in text
    assert "more accurate than `ssl_then_sl` at 10% (50.2% against 49.0%: +1.20 ± 0.39 points)" in text
    assert "takes 0.74 of the FLOPs and is 1.33 times as fast" in text
    assert "self-supervision was worth its compute there." in text
    assert text.count("**") == 2 and "**Of the FLOPs that `ssl_then_sl` needs for its accuracy" in text
    assert "`mixtraining` needs for the same 69.5 ± 2.4% at 10%" in text
    assert not any(word in text for word in ("less accurate", "distinguishable", "missed", "seed", "money"))


def test_a_loss_comes_first_and_bold_and_names_its_fraction_only():
    metrics = mixtraining_metrics()
    for run in metrics["runs"]:
        if (run["arm"], run["fraction"]) == ("mixtraining", 0.25):
            run["accuracy"] -= 0.04
    text = report.conclusion(metrics)
    assert text.startswith("**The paper's trade-off")
    assert "is missed at 25% (less accurate) of the training data.**" in text
    assert (
        "**With its own schedule `mixtraining` is less accurate than `ssl_then_sl` at 25% (52.2% against 55.0%: "
        "-2.80 ± 0.24 points) of the training data.**" in text
    )
    assert "**At matched compute, the FLOPs of `ssl_then_sl`, `mixtraining` is less accurate" in text
    assert "does not reach the accuracy of `ssl_then_sl` at 25% in 3 of 3 seeds.**" in text
    assert "With its own schedule `mixtraining` is more accurate than `ssl_then_sl` at 10%" in text
    assert max(text.index("less accurate"), text.index("does not reach")) < text.index("holds at 10%")


def test_a_tie_is_called_so_with_the_loss_that_is_not_ruled_out():
    text = report.conclusion(with_levels({OWN: LEVELS[BASELINE] + 0.001}, fractions=(0.1,)))
    assert "With its own schedule `mixtraining` is not distinguishable from `ssl_then_sl` at 10%" in text
    assert "+0.10 ± 0.39 points" in text and "`mixtraining` may be up to 0.69 points worse." in text
    assert "holds at 10%" in text  # the target asks for no loss beyond noise


@pytest.mark.parametrize("stretch, words", [(1.1, "missed at 10% (1.21 times as fast)"), (1.5, "is not faster: its")])
def test_a_speed_up_below_the_papers_is_said_in_bold(stretch, words):
    text = report.conclusion(mixtraining_metrics(fractions=(0.1,), seconds=stretch))
    assert words in text and text.startswith("**") and text.index(words) < text.index("more accurate")


@pytest.mark.parametrize(
    "level, words",
    [
        (0.53, ", and `ssl_then_sl` is a weak baseline.**"),
        (0.490, "that self-supervision is worth its compute is not shown there."),
    ],
)
def test_what_self_supervision_is_worth_follows_from_the_arm_without_it(level, words):
    text = report.conclusion(with_levels({SL_MATCHED: level}, fractions=(0.1,)))
    assert words in text
    assert ("**With these FLOPs `mixtraining` is less accurate than `sl`" in text) == (level > 0.52)


def test_one_seed_decides_nothing():
    text = report.mixtraining_report(mixtraining_metrics(num_seeds=1))
    first = text.split("\n\n")[1]
    assert first.startswith("One seed: the noise of training is not measured.")
    assert "is not known to differ from `ssl_then_sl`: one seed at 10% (50.2% against 49.0%: +1.20 points)" in first
    assert "**" not in first and "holds" not in first and "more accurate" not in first
    assert row(text, "`mixtraining`")[1:4] == ["50.2%", "+1.20", "one seed"]
    assert "- One seed: how far another training" in text and "standard deviation" not in text


def test_a_demonstration_and_an_unfinished_run_say_so_first():
    metrics = mixtraining_metrics(num_seeds=2)
    metrics |= {"complete": False, "demonstration": True}
    text = report.conclusion(metrics)
    assert text.startswith("**This run did not end: what follows is incomplete.** **This is a demonstration with 2")


def test_a_failed_run_is_named_counted_and_left_out():
    metrics = mixtraining_metrics()
    without = copy.deepcopy(metrics)
    failed = find(metrics, *OWN, 0.1, 1)
    failed |= {"failure": {"phase": "joint", "step": 1234}, "accuracy": 0.1}
    without["runs"].remove(find(without, *OWN, 0.1, 1))
    text = report.mixtraining_report(metrics)
    assert "**1 of 30 runs stopped at a loss or gradient that was not finite: `mixtraining` at 10%, seed 1" in text
    assert "(joint phase, step 1,234).** Means leave them out, which flatters their arm." in text
    assert row(text, "`mixtraining`")[0] == "`mixtraining` (2 of 3 seeds) **1 failed**"
    assert row(text, "`mixtraining`")[1:] == row(report.mixtraining_report(without), "`mixtraining`")[1:]
    for run in metrics["runs"]:
        run["failure"] = {"phase": "ssl", "step": 5}
    text = report.mixtraining_report(metrics)
    assert "There is no run of `mixtraining` and `ssl_then_sl`" in text
    assert row(text, "`mixtraining`")[1:] == [""] * 9
    assert len(figures.mixtraining_figures(metrics)) == 3


@pytest.mark.parametrize("absent", ["sl", "ssl_then_sl", "mixtraining"])
@pytest.mark.parametrize("still_listed", [True, False])
def test_a_missing_arm_leaves_a_report_about_the_others(absent, still_listed):
    metrics = mixtraining_metrics()
    metrics["runs"] = [run for run in metrics["runs"] if run["arm"] != absent]
    metrics["arms"] = [arm for arm in metrics["arms"] if arm != absent or still_listed]
    text = report.mixtraining_report(metrics)
    assert (f"There is no run of `{absent}`" in text) == (absent != "sl")
    assert len(figures.mixtraining_figures(metrics)) == 3
    assert "`cifar10`" in report.summary_table([metrics])


def test_without_matched_runs_the_comparison_is_called_weak():
    metrics = mixtraining_metrics()
    metrics["runs"] = [run for run in metrics["runs"] if run["budget"] == "schedule"]
    assert "**Nothing was run at matched compute" in report.conclusion(metrics)
    assert "Nothing was run" not in report.conclusion(mixtraining_metrics())


def test_compute_that_is_not_matched_is_said():
    metrics = mixtraining_metrics()
    assert "not quite matched" not in report.conclusion(metrics)
    for run in metrics["runs"]:
        if (run["arm"], run["budget"], run["fraction"]) == (*MATCHED, 0.25):
            run["flops"] *= 1.2
    text = report.conclusion(metrics)
    assert "**Compute is not quite matched: `mixtraining` got 1.18 times the FLOPs at 25%.**" in text


def with_cheaper(levels, **options):
    """Own schedules that lose at 10%, and runs of the cheaper budget that cost a third less than ssl_then_sl."""
    metrics = with_levels({OWN: LEVELS[BASELINE] - 0.03}, **options) | {"times_cheaper": 1.5}
    for level, fraction in zip(levels, metrics["fractions"], strict=True):
        for seed in metrics["seeds"]:
            baseline = find(metrics, *BASELINE, fraction, seed)
            run = find(metrics, *OWN, fraction, seed) | {"budget": "cheaper", "accuracy": baseline["accuracy"] + level}
            run |= {key: baseline[key] / 1.5 for key in ("flops", "seconds")}
            metrics["runs"].append(run | {"accuracy": run["accuracy"] + 1e-3 * seed})
    return metrics


def test_the_target_may_be_met_by_the_cheaper_budget_where_the_own_schedule_misses_it():
    metrics = with_cheaper([0.01, -0.02])
    text = report.conclusion(metrics)
    assert (
        "The paper's trade-off (no accuracy lost beyond noise, 1.29 times as fast as `ssl_then_sl`) holds at 10% (by "
        "`mixtraining, cheaper`, 1.50 times as fast; not by its own schedule) of the training data." in text
    )
    assert "is missed at 25% (less accurate) of the training data.**" in text
    setting = "With the FLOPs of `ssl_then_sl` divided by 1.5 `mixtraining` is"
    assert f"{setting} more accurate than `ssl_then_sl` at 10%" in text
    assert f"**{setting} less accurate than `ssl_then_sl` at 25%" in text
    whole = report.mixtraining_report(metrics)
    assert "*cheaper* ones these FLOPs divided by 1.5." in whole
    assert row(whole, "`mixtraining, cheaper`")[3] == "wins" and row(whole, "`mixtraining, cheaper`", 1)[3] == "loses"
    table = report.summary_table([metrics])
    assert "`mixtraining`, cheaper" in table and "cheaper" not in report.summary_table([mixtraining_metrics()])
    figures.accuracy_compute_figure(metrics)


def test_a_reference_that_does_better_is_said_in_bold():
    metrics = mixtraining_metrics()
    metrics["references"][1]["accuracy"] = 0.6
    text = report.conclusion(metrics)
    assert text.startswith(
        "**`mixtraining` is no better than logistic regression on pixels at 25% (60.0% against 57.1%).**"
    )


# ---------------------------------------------------------------- cost


def test_the_same_accuracy_at_what_cost_is_read_off_the_checkpoints():
    metrics = mixtraining_metrics(fractions=(0.1,))
    for seed, level in enumerate([0.40, 0.45, 0.60]):  # of ssl_then_sl: two seeds are reached, one is not
        find(metrics, *BASELINE, 0.1, seed).update(
            accuracy=level, flops=100.0, checkpoints={"step": [1, 2], "flops": [40.0, 80.0], "accuracy": [0.2, 0.4]}
        )
        find(metrics, *OWN, 0.1, seed).update(
            accuracy=0.5, flops=80.0, checkpoints={"step": [1, 2], "flops": [20.0, 60.0], "accuracy": [0.2, 0.4]}
        )
    text = report.mixtraining_report(metrics)
    # 0.40 at 60, where ssl_then_sl has it at 80; 0.45 half way from (60, 0.4) to the end (80, 0.5), of 100
    assert "needs for the same 72.5 ± 3.5% at 10% (2 of 3 seeds) of the training data.\n" in text
    assert "does not reach the accuracy of `ssl_then_sl` at 10% in 1 of 3 seeds.**" in text
    assert "| `mixtraining` | 10% | 65.0 ± 7.1% | 72.5 ± 3.5% | 2 of 3 |" in text
    assert "| `ssl_then_sl` | 10% | 93.3 ± 11.5% | 100.0 ± 0.0% | 3 of 3 |" in text
    assert "Checkpoints are scored on 2,000 of the 10,000 test images, ends on all." in text
    assert "72.5 ± 3.5% of the FLOPs (2 of 3 seeds)" in report.summary_table([metrics])
    metrics["dataset"]["test"] = 500
    assert "scored on the same 500 test images." in report.mixtraining_report(metrics)


def test_a_speed_up_has_the_range_that_the_times_of_steps_leave_it():
    metrics = mixtraining_metrics(fractions=(0.1,))
    metrics["steps"] = {
        kind: {"ms": ms, "ms_low": low, "ms_high": high}
        for kind, ms, low, high in (("ssl", 1, 1, 2), ("joint_visible", 2, 1, 3), ("sl", 3, 3, 3))
    }
    for arm, steps in (("mixtraining", (1, 1, 1)), ("ssl_then_sl", (2, 0, 2))):
        for seed in range(3):
            find(metrics, arm, "schedule", 0.1, seed)["steps"] = dict(zip(("ssl", "joint", "sl"), steps, strict=True))
    pair = runs.paired_runs(metrics, runs.Cell("mixtraining"), runs.Cell("ssl_then_sl"))[0.1]
    # the time of SSL is one for both: 8 / (1 + 3 + 3) at the least, and 10 / (2 + 1 + 3) at the most
    assert runs.speed_range(metrics, *pair) == pytest.approx((8 / 7, 10 / 6))
    metrics["steps"]["ssl_of_ssl_then_sl"] = {"ms": 1, "ms_low": 0.5, "ms_high": 4}
    assert runs.speed_range(metrics, *pair) == pytest.approx((7 / 8, 14 / 5))


def test_money_is_seconds_times_price():
    metrics = mixtraining_metrics(fractions=(0.1,))
    metrics["price_per_hour"] = 36.0
    for seed in range(3):
        find(metrics, *BASELINE, 0.1, seed).update(accuracy=0.4, flops=100.0, seconds=1000.0)
        find(metrics, *OWN, 0.1, seed).update(
            accuracy=0.5, flops=80.0, seconds=500.0, checkpoints={"step": [1], "flops": [40.0], "accuracy": [0.4]}
        )
    text = report.conclusion(metrics)
    assert (
        "at 36 per hour, a training costs 5.00 instead of 10.00 at 10% (2.50 instead of 10.00 up to the same accuracy)."
        in text
    )


def test_the_search_and_its_cost_are_shown():
    metrics = mixtraining_metrics()
    trials = [
        {"settings": {"mix_ratio": ratio}, "rung": rung, "epochs": 4 * (rung + 1), "accuracy": 0.3 + 0.1 * ratio}
        for ratio in (0.25, 0.5)
        for rung in range(2 if ratio == 0.5 else 1)
    ]
    metrics["tuning"] = {"trials": trials, "chosen": {"mix_ratio": 0.5}, "flops": 3.3e14, "share_of_run": 3.5}
    text = report.mixtraining_report(metrics)
    assert "Choosing the settings cost 3.5 times the FLOPs of one run of `ssl_then_sl`" in text.split("\n## ")[0]
    assert "3 trials in 2 rungs of successive halving chose `mix_ratio` 0.5" in text
    assert "| `mix_ratio` 0.5 | 8 | 35.0 |" in text and "| `mix_ratio` 0.25" not in text
    metrics["tuning"] |= {"trials": [trial | {"flops": 2e12} for trial in trials], "rule": "accuracy and FLOPs"}
    text = report.mixtraining_report(metrics)
    assert "| `mix_ratio` 0.5 | 8 | 2 T | 35.0 |" in text and "`mix_ratio` 0.5 by accuracy and FLOPs." in text


# ---------------------------------------------------------------- the whole report


@pytest.mark.parametrize("domain", ["images", "text"])
def test_the_report_is_complete_and_the_same_in_any_order_of_runs(domain):
    metrics = mixtraining_metrics(domain=domain)
    before = copy.deepcopy(metrics)
    has_images = domain == "images"
    text = report.mixtraining_report(metrics, has_images)
    assert metrics == before
    random.Random(0).shuffle(metrics["runs"])
    assert metrics["runs"] != before["runs"]
    assert report.mixtraining_report(json.loads(json.dumps(metrics)), has_images) == text
    assert report.summary_table([metrics]) == report.summary_table([before])
    for table in text.split("\n\n"):
        lines = [line for line in table.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) <= 1
    drawn = figures.mixtraining_figures(metrics, made_up_reconstructions() if has_images else None)
    assert all(f"]({name})" in text for name in drawn) and text.count("](") == len(drawn)
    assert "python -m experiments.image_mixtraining --seeds 3" in text and "0123abc" in text
    assert "| joint, visible tokens only | 105 (101 to 113) | 6.2 | 0.68 | 0.64 |" in text
    assert row(text, "`mixtraining`", part=1) == [
        "`mixtraining`",
        "56.2 ± 0.2%",
        "+1.20 ± 0.24",
        "wins",
        "1.314",
        "15.4 T",
        "1.36",
        "251",
        "1.33 (1.28 to 1.38)",
        "8 / 8 / 8",
    ]
    assert "None" not in text and "nan" not in text


def test_caveats_follow_from_the_numbers():
    metrics = mixtraining_metrics()
    text = report.mixtraining_report(metrics)
    assert "by chance in 18% of the comparisons of equal arms. 8 are made above" in text and "1.5 of them" in text
    assert "another choice may" not in text and "could not be read" not in text
    metrics["settings"]["chosen_on"] = "built-in digits"
    metrics["dataset"]["skipped"] = 3
    metrics["steps"]["joint_visible"]["ms"] = 154.0
    text = report.mixtraining_report(metrics)
    assert "Settings were chosen on built-in digits, not on a validation split" in text
    assert "**3 images could not be read and left out.**" in text
    assert "**a step that takes no less time than a supervised one**" in text


def test_every_arm_is_shown_with_its_own_settings():
    metrics = mixtraining_metrics()
    metrics["config"]["arms"]["sl"]["learning_rate"] = 5e-4
    metrics["config"]["arms"]["ssl_then_sl"] |= {"learning_rate": 2e-3, "sl_learning_rate": 4e-3, "ssl_mask": 0.6}
    metrics["config"]["arms"]["mixtraining"]["joint_mask"] = 0.25
    shown = report.mixtraining_report(metrics).split("## What it was compared with")[1]
    assert "| `sl` |  | 0.0005 |  |  |" in shown
    assert "| `ssl_then_sl` | 0.002 | 0.004 | 60% |  |" in shown
    assert "| `mixtraining` | 0.001 | 0.001 | 75% | 25% |" in shown


def test_the_summary_has_a_line_per_experiment_and_fraction():
    unmet = with_levels({OWN: 0.4, SL_MATCHED: 0.6}, fractions=(1.0,))
    lines = report.summary_table([mixtraining_metrics(), unmet]).splitlines()
    assert len(lines) == 2 + 3
    assert lines[2].startswith("| `cifar10`, micro, 10% | 49.0 ± 0.4% | 50.2 ± 0.3% (wins) | 1.33 | 69.5 ± 2.4% of the")
    assert "| 40.0 ± 0.3% (**loses**) | 1.33 | **not reached** |" in lines[4] and lines[4].endswith("% (wins) |")


def test_a_seed_that_is_there_twice_is_refused():
    metrics = mixtraining_metrics()
    metrics["runs"].append(metrics["runs"][0])
    with pytest.raises(InputError, match="seed twice"):
        report.mixtraining_report(metrics)


def test_an_end_that_is_a_checkpoint_is_not_doubled():
    run = mixtraining_metrics()["runs"][0]
    flops, reached = runs.accuracy_curve(run)
    assert (flops, reached) == (run["checkpoints"]["flops"], run["checkpoints"]["accuracy"])
    run["checkpoints"] = {"step": [], "flops": [], "accuracy": []}
    assert runs.accuracy_curve(run) == ([run["flops"]], [run["accuracy"]])


# ---------------------------------------------------------------- figures


def test_accuracy_against_compute_has_every_run_every_mean_and_every_reference():
    figure = figures.accuracy_compute_figure(mixtraining_metrics())
    for axes in figure.axes:
        curves = [line for line in axes.lines if len(line.get_xdata()) == 8]
        assert len(curves) == 5 * 3 and len(axes.containers) == 5
        assert [line.get_ydata()[0] > 30 for line in axes.lines if line.get_linestyle() == ":"] == [True]
    assert [axes.get_title() for axes in figure.axes] == ["10% of the training data", "25% of the training data"]
    assert len(figure.legends[0].get_texts()) == 5 + 1 + 1
    end = figure.axes[0].containers[3].lines[0]  # mixtraining
    assert end.get_ydata() == pytest.approx([50.2])
    assert end.get_xdata() == pytest.approx([find(mixtraining_metrics(), *OWN, 0.1, 0)["flops"]])


def test_accuracy_against_fraction_goes_from_left_to_right():
    metrics = mixtraining_metrics(fractions=(1.0, 0.1, 0.25))
    (axes,) = figures.accuracy_fraction_figure(metrics).axes
    assert len(axes.containers) == 5
    assert all(container.lines[0].get_xdata().tolist() == [0.1, 0.25, 1.0] for container in axes.containers)
    assert "accuracy_fraction.png" not in figures.mixtraining_figures(mixtraining_metrics(fractions=(0.1,)))


def test_learning_curves_shade_each_phase_once():
    metrics = mixtraining_metrics()
    figure = figures.learning_curves_figure(metrics)
    assert [axes.get_title() for axes in figure.axes[:3]] == metrics["arms"]
    assert [len(axes.patches) for axes in figure.axes] == [1, 2, 3] * 2
    spans = [(patch.get_x(), patch.get_x() + patch.get_width()) for patch in figure.axes[2].patches]
    assert spans == [(0, 800), (800, 1600), (1600, 2400)]  # the steps of each phase, to the last
    assert max(find(metrics, *OWN, 0.25, 0)["curve"]["step"]) < 2400
    assert [len(axes.texts) for axes in figure.axes] == [1, 0, 0, 0, 0, 0]  # sl has no SSL loss
    (line,) = figure.axes[1].lines
    curve = find(metrics, *BASELINE, 0.25, 0)["curve"]
    assert np.isfinite(line.get_ydata()).sum() == curve["phase"].count(0)


def test_reconstructions_are_shown_as_they_are():
    arrays = made_up_reconstructions(num_images=4)
    drawn = figures.mixtraining_figures(mixtraining_metrics(), arrays)["reconstructions.png"]
    assert len(drawn.axes) == 12
    np.testing.assert_array_equal(drawn.axes[5].images[0].get_array(), arrays["masked_ExHxWxC"][1])
    assert drawn.axes[4].get_ylabel() == "75% hidden" and drawn.get_suptitle() == "mixtraining"
    grey = figures.mixtraining_figures(mixtraining_metrics(), made_up_reconstructions(2, channels=1))
    assert grey["reconstructions.png"].axes[0].images[0].get_array().shape == (32, 32)
    with pytest.raises(InputError, match="uint8 of one shape"):
        figures.mixtraining_figures(mixtraining_metrics(), arrays | {"masked_ExHxWxC": np.zeros((4, 32, 32, 3))})


def test_figures_are_the_same_bytes_for_the_same_data_and_leave_pyplot_alone():
    metrics, images = mixtraining_metrics(num_seeds=1, fractions=(0.1,)), made_up_reconstructions(2)
    first, again = (
        {name: figure_png(figure) for name, figure in figures.mixtraining_figures(same, images).items()}
        for same in (metrics, copy.deepcopy(metrics))
    )
    assert first == again and set(first) == {"accuracy_compute.png", "curves.png", "reconstructions.png"}
    code = "import sys, experiments.mixtraining.figures; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "matplotlib.pyplot" not in loaded
