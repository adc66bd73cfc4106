"""The report and the figures of the MixTraining experiments, from made-up results."""

import dataclasses
import random
from pathlib import Path

import numpy as np
import pytest

from experiments.mixtraining import figures, runs
from experiments.mixtraining.report import QUESTION, mixtraining_report, recommendation, summary_table, verdict
from experiments.mixtraining.results import Checkpoints, Failure, Search, SearchTrial, Settings, StepCost
from mixmin_jax.errors import InputError
from tests.experiments.mixtraining.made_up import LEVELS, SETTINGS, changed, made_up, made_up_reconstructions

OWN, MATCHED, BASELINE = ("mixtraining", "schedule"), ("mixtraining", "matched"), ("ssl_then_sl", "schedule")
SL_MATCHED = ("sl", "matched")
WON = made_up()


def text_of(metrics):
    return mixtraining_report(metrics).markdown


def without(metrics, unwanted):
    return dataclasses.replace(metrics, runs=tuple(run for run in metrics.runs if not unwanted(run)))


def find(metrics, cell, fraction, seed):
    return {run.seed: run for run in runs.cell_runs(metrics, runs.Cell(*cell), fraction)}[seed]


def row(text, name, part=0):
    """Cells of the table line that starts with `name`, in the part-th table of accuracies."""
    found = [line for line in text.splitlines() if line.startswith(f"| {name} ") and line.count("|") == 11]
    return [cell.strip() for cell in found[part].split("|")[1:-1]]


def with_cheaper(metrics, level):
    """With runs that cost a third less than ssl_then_sl."""
    for f, fraction in enumerate(metrics.fractions):
        for seed in metrics.seeds:
            baseline = find(metrics, BASELINE, fraction, seed)
            cheap = {"budget": "cheaper", "flops": baseline.flops / 1.5, "seconds": baseline.seconds / 1.5}
            run = dataclasses.replace(find(metrics, OWN, fraction, seed), accuracy=level + 0.06 * f, **cheap)
            metrics = dataclasses.replace(metrics, runs=(*metrics.runs, run), times_cheaper=1.5)
    return metrics


# ---------------------------------------------------------------- what the verdict says


def test_a_win_at_the_papers_speed_has_nothing_bold_against_it():
    text = verdict(WON)
    assert text.startswith("The paper's trade-off") and "holds at 10% and 25% of the training data." in text
    assert "more accurate than `ssl_then_sl` at 10% (51.1% against 49.0%: +2.10" in text
    assert "with its own schedule needs for the same 69.5 ± 2.4% at 10%" in text
    assert "**" not in text and text in text_of(WON)
    assert "| Is its own schedule as accurate? | `mixtraining` | `ssl_then_sl` | 10% |" in text_of(WON)
    assert "takes 0.74 of the FLOPs and is 1.33 times as fast (1.28 to 1.38" in text_of(WON)


LOST = changed(WON, OWN, 0.25, change=lambda run: {"accuracy": run.accuracy - 0.04})
NO_MATCHED = without(WON, lambda run: run.budget == "matched")
BETTER = dataclasses.replace(WON.references[1], accuracy=0.6)


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        (dataclasses.replace(WON, complete=False), "**This run did not end: what follows is incomplete.** The paper's"),
        (NO_MATCHED, "**Nothing was run at matched compute"),
        (without(WON, lambda run: run.arm == "ssl_then_sl"), "**There is no run of `ssl_then_sl`: the two cannot be"),
        (made_up(2, demonstration=True), "**This is a demonstration with 2 seeds and decides nothing.** The"),
        (LOST, "is missed at 25% (less accurate) of the training data.**"),
        (LOST, "less accurate than `ssl_then_sl` at 25% (52.2% against 55.0%: -2.80 ± 0.22 points) of the training"),
        (LOST, "does not reach the accuracy of `ssl_then_sl` at 25% in 3 of 3 seeds.**"),
        (made_up(levels={MATCHED: 0.48}), "**At matched compute, the FLOPs of `ssl_then_sl`, `mixtraining` is less"),
        (made_up(levels={SL_MATCHED: 0.53}), "**With the same FLOPs `mixtraining` is less accurate than `sl`, which"),
        (made_up(levels={SL_MATCHED: 0.50}), "**Self-supervision was not worth its compute at 10%"),
        (made_up(levels={MATCHED: 0.4901}), "At matched compute `mixtraining` ties with"),
        (dataclasses.replace(made_up(levels={MATCHED: 0.494}), matters=0.005), "`mixtraining` ties with"),
        (dataclasses.replace(WON, matters=0.005), "(no accuracy lost beyond noise or 0.5 points, 1.29 times"),
        (made_up(slower=1.1), "missed at 10% (1.21 times as fast)"),
        (made_up(slower=1.5), "**`mixtraining` is not faster: its training takes 0.74 of the FLOPs and is 0.89 times"),
        (changed(WON, OWN, 0.1, change=lambda r: {"seconds": 2 * r.seconds}), "is not faster everywhere: its training"),
        (
            changed(WON, MATCHED, 0.25, change=lambda run: {"flops": 1.2 * run.flops}),
            "**Compute is not quite matched: `mixtraining` got 1.18 times the FLOPs at 25%.**",
        ),
        (
            dataclasses.replace(WON, references=(WON.references[0], BETTER)),
            "**`mixtraining` is no better than logistic regression on pixels at 25% (60.0% against 57.1%).**",
        ),
        (made_up(1), "**One seed: the noise of training is not measured.**"),
        (with_cheaper(made_up(levels={OWN: 0.502}), 0.42), "divided by 1.5 `mixtraining` is less accurate"),
        (
            with_cheaper(made_up(levels={OWN: 0.45}), 0.5),
            "holds at 10% (by `mixtraining, cheaper`, 1.50 times as fast; not by its own schedule) and 25% (by",
        ),
    ],
)
def test_rules_of_the_verdict(metrics, said):
    assert said in verdict(metrics) and said in text_of(metrics)
    assert said not in verdict(WON)


@pytest.mark.parametrize(
    ("metrics", "lines"),
    [
        (
            made_up(fractions=(0.1,)),
            "- **At 10% of the training data (4,500 examples) train `mixtraining, matched`**: 51.1 ± 0.4% for 8.24"
            " TFLOP (134 s of steps). Against the next best arm, `ssl_then_sl`: +2.10 ± 0.38 points, more than two"
            " standard errors (3 seeds).",
        ),
        (made_up(levels={MATCHED: 0.5025}), "train `mixtraining`**: 50.2"),  # as good, and cheaper
        (made_up(levels={SL_MATCHED: 0.5105}), "`sl, matched`: +0.05 ± 0.24 points, which is not told from noise"),
        (made_up(1), "`ssl_then_sl`: +2.10 points, from one seed, so how sure that is was not measured."),
        (dataclasses.replace(WON, references=(BETTER,)), "- **At 25% of the training data (11,250 examples) use log"),
        (dataclasses.replace(WON, references=(BETTER,)), "- **At 10% of the training data (4,500 examples) train"),
        (without(WON, lambda run: run.arm != "sl"), "train `sl, matched`**"),
        (dataclasses.replace(WON, runs=()), "- **Nothing can be recommended: no run ended well.**"),
    ],
)
def test_what_to_train_comes_first(metrics, lines):
    found = recommendation(metrics)
    assert lines in found
    assert text_of(metrics).split("\n\n")[1].strip() == found


def test_a_tie_has_the_loss_that_is_not_ruled_out():
    text = text_of(made_up(levels={OWN: LEVELS[BASELINE] + 0.001}, fractions=(0.1,)))
    assert "| 49.1% against 49.0% | +0.10 ± 0.39 | -0.69 | ties |" in text
    assert "holds at 10%" in text  # the target asks for no loss beyond noise


def test_one_seed_decides_nothing():
    text = text_of(made_up(1))
    assert "trade-off" not in text and "standard deviation over 3" not in text and "wins |" not in text
    assert "| 50.2% against 49.0% | +1.20 |  | one seed |" in text
    assert row(text, "`mixtraining`")[1:4] == ["50.2%", "+1.20", "one seed"]
    assert "One seed: how far another training" in text


def test_a_failed_run_is_named_counted_and_left_out():
    failed = changed(WON, OWN, 0.1, 1, failure=Failure("joint", 1234), accuracy=0.1)
    rest = without(failed, lambda run: run.failure)
    text = text_of(failed)
    assert verdict(failed).startswith("**1 of 30 runs failed at a loss or gradient that was not finite")
    assert "which flatters their arm: `mixtraining` at 10%, seed 1 (joint phase, step 1,234).**" in text
    assert row(text, "`mixtraining`")[0] == "`mixtraining` (2 of 3 seeds) **1 failed**"
    assert row(text, "`mixtraining`")[1:] == row(text_of(rest), "`mixtraining`")[1:]
    none = dataclasses.replace(WON, runs=tuple(dataclasses.replace(run, failure=Failure("ssl", 5)) for run in WON.runs))
    assert "There is no run of `mixtraining` and `ssl_then_sl`" in verdict(none)
    assert row(text_of(none), "`mixtraining`")[1:] == [""] * 9


@pytest.mark.parametrize("absent", ["sl", "ssl_then_sl", "mixtraining"])
def test_a_missing_arm_leaves_a_report_about_the_others(absent):
    metrics = without(WON, lambda run: run.arm == absent)
    found = mixtraining_report(metrics)
    assert (f"There is no run of `{absent}`" in found.markdown) == (absent != "sl")
    assert len(found.figures) == 3 and "`cifar10`" in summary_table(metrics)


def test_a_cheaper_budget_has_its_rows_and_column():
    metrics = with_cheaper(made_up(levels={OWN: 0.45}), 0.5)
    text = text_of(metrics)
    assert "*cheaper* ones these FLOPs divided by 1.5." in text
    assert row(text, "`mixtraining, cheaper`")[3] == "wins"
    assert "`mixtraining`, cheaper" in summary_table(metrics) and "cheaper" not in summary_table(WON)


# ---------------------------------------------------------------- cost


def test_the_same_accuracy_at_what_cost_is_read_off_the_checkpoints():
    there = Checkpoints((1, 2), (20.0, 60.0), (0.2, 0.4))
    metrics = changed(made_up(fractions=(0.1,)), OWN, accuracy=0.5, flops=80.0, checkpoints=there)
    for seed, level in enumerate([0.40, 0.45, 0.60]):  # of ssl_then_sl: two seeds are reached, one is not
        there = Checkpoints((1, 2), (40.0, 80.0), (0.2, 0.4))
        metrics = changed(metrics, BASELINE, seed=seed, accuracy=level, flops=100.0, checkpoints=there)
    text = text_of(metrics)
    # 0.40 at 60, where ssl_then_sl has it at 80; 0.45 half way from (60, 0.4) to the end (80, 0.5), of 100
    assert "does not reach the accuracy of `ssl_then_sl` at 10% in 1 of 3 seeds.**" in text
    assert "| `mixtraining` | 10% | 65.0 ± 7.1% | 72.5 ± 3.5% | 2 of 3 |" in text
    assert "| `ssl_then_sl` | 10% | 93.3 ± 11.5% | 100.0 ± 0.0% | 3 of 3 |" in text
    assert "Checkpoints are scored on 2,000 of the 10,000 test images, ends on all" in text
    assert "72.5 ± 3.5% of the FLOPs (2 of 3 seeds)" in summary_table(metrics)
    few = dataclasses.replace(metrics, dataset=dataclasses.replace(metrics.dataset, test=500))
    assert "scored on the same 500 test images." in text_of(few)
    none = tuple(dataclasses.replace(run, checkpoints=Checkpoints((), (), ())) for run in metrics.runs)
    assert "No run was scored before its end" in text_of(dataclasses.replace(metrics, runs=none))


def test_a_speed_up_has_the_range_that_the_times_of_steps_leave_it():
    steps = {"ssl": StepCost(1, 1, 1, 2), "joint_visible": StepCost(1, 2, 1, 3), "sl": StepCost(1, 3, 3, 3)}
    metrics = dataclasses.replace(made_up(fractions=(0.1,)), steps=steps)
    metrics = changed(metrics, OWN, steps={"ssl": 1, "joint": 1, "sl": 1})
    metrics = changed(metrics, BASELINE, steps={"ssl": 2, "joint": 0, "sl": 2})
    pair = runs.pairs(metrics, runs.Cell("mixtraining"))[0.1]
    # the time of SSL is one for both: 8 / (1 + 3 + 3) at the least, and 10 / (2 + 1 + 3) at the most
    assert pair.speed_range == pytest.approx((8 / 7, 10 / 6))
    other = dataclasses.replace(metrics, steps=steps | {"ssl_of_ssl_then_sl": StepCost(1, 1, 0.5, 4)})
    assert runs.pairs(other, runs.Cell("mixtraining"))[0.1].speed_range == pytest.approx((7 / 8, 14 / 5))


def test_money_is_seconds_times_price():
    metrics = made_up(fractions=(0.1,), price_per_hour=36.0)
    metrics = changed(metrics, BASELINE, accuracy=0.4, flops=100.0, seconds=1000.0)
    there = Checkpoints((1,), (40.0,), (0.4,))
    metrics = changed(metrics, OWN, accuracy=0.5, flops=80.0, seconds=500.0, checkpoints=there)
    assert (
        "at 36 per hour, a training costs 5.00 instead of 10.00 at 10% (2.50 instead of 10.00 up to the same accuracy)."
        in text_of(metrics)
    )


def test_the_search_and_its_cost_are_shown():
    half = SETTINGS["mixtraining"]
    tried = [(dataclasses.replace(half, mix_ratio=0.25), 0, 4), (half, 0, 4), (half, 1, 8)]
    trials = tuple(SearchTrial("mixtraining", *trial, 0.35, 2e12, None) for trial in tried)
    text = text_of(dataclasses.replace(WON, tuning=Search(trials, 3.5).derived()))
    assert "Choosing the settings cost 3.5 times the FLOPs of one run of `ssl_then_sl`" in text
    assert "3 trials took 6 T FLOPs." in text
    assert "`mix_ratio` 0.5, `joint_mask` 0.5, `alpha` linear 1.0 to 0.0 | 8 | 2 T | 35.0 | yes |" in text
    assert "`mix_ratio` 0.25" not in text and "those of the command" not in text


# ---------------------------------------------------------------- the whole report


@pytest.mark.parametrize("domain", ["images", "text", "series"])
def test_the_report_is_complete_and_the_same_in_any_order_of_runs(domain):
    metrics = made_up(domain=domain)
    pictures = made_up_reconstructions() if domain == "images" else None
    found = mixtraining_report(metrics, pictures)
    mixed = list(metrics.runs)
    random.Random(0).shuffle(mixed)
    other = dataclasses.replace(metrics, runs=tuple(mixed))
    assert mixtraining_report(other, pictures).markdown == found.markdown
    assert summary_table(other) == summary_table(metrics)
    text = found.markdown
    for table in text.split("\n\n"):
        lines = [line for line in table.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) <= 1
    assert all(f"]({name})" in text for name in found.figures) and text.count("](") == len(found.figures)
    assert "python -m experiments.image_mixtraining --seeds 3" in text and "0123abc" in text
    assert "| joint, visible tokens only (of this run) | 105 (101 to 113) | 6.2 | 0.68 | 0.64 |" in text
    assert row(text, "`mixtraining`", part=1) == [
        "`mixtraining`", "56.2 ± 0.3%", "+1.20 ± 0.22", "wins", "1.314", "15.4 T", "1.36", "251",
        "1.33 (1.28 to 1.38)", "8 / 8 / 8",
    ]  # fmt: skip
    assert "None" not in text and "nan" not in text


def test_warnings_follow_from_the_numbers():
    text = text_of(WON)
    assert "by chance in 18 % of the comparisons of equal arms." in text and "8 comparisons with `ssl_then_sl`" in text
    assert "by up to 0.5 points" in text and "could not be read" not in text
    assert "**Settings are those of the command: nothing was chosen on these data" in text
    slow = WON.steps | {"joint_visible": StepCost(6e9, 154.0, 150.0, 160.0)}
    unhidden = WON.config | {"ssl_sees": "all_tokens"}
    skipped = dataclasses.replace(WON.dataset, skipped=3)
    warned = text_of(dataclasses.replace(WON, dataset=skipped, steps=slow, config=unhidden))
    assert "**3 images could not be read and left out.**" in warned
    assert "**The joint step takes no less time than a supervised one.**" in warned and "no less time" not in text
    assert "| SSL, all tokens, hidden ones as mask tokens | " in warned and "| SSL | " in text


def test_every_arm_is_shown_with_its_own_settings():
    arms = {"sl": Settings(5e-4), "ssl_then_sl": Settings(2e-3, 4e-3, 0.6)}
    text = text_of(dataclasses.replace(WON, arms=arms | {"mixtraining": SETTINGS["mixtraining"]}))
    assert "| `sl` |  | 0.0005 |  |  |" in text
    assert "| `ssl_then_sl` | 0.002 | 0.004 | 60% |  |" in text
    assert "| `mixtraining` | 0.001 | 0.001 | 75% | 50% |" in text


def test_the_summary_has_a_line_per_fraction():
    lines = summary_table(WON).splitlines()
    assert len(lines) == 2 + 2
    assert lines[2].startswith("| `cifar10`, micro, 10% | 49.0 ± 0.4% | 50.2 ± 0.3% (wins) | 1.33 | 69.5 ± 2.4% of the")
    unmet = summary_table(made_up(levels={OWN: 0.4, SL_MATCHED: 0.6}, fractions=(1.0,))).splitlines()[2]
    assert "| 40.0 ± 0.3% (**loses**) | 1.33 | **not reached** |" in unmet and unmet.endswith("% (wins) |")


def test_a_seed_that_is_there_twice_is_refused():
    with pytest.raises(InputError, match="seed twice"):
        mixtraining_report(dataclasses.replace(WON, runs=(*WON.runs, WON.runs[0])))


def test_a_record_needs_one_run_of_each_seed_for_every_arm_budget_and_fraction():
    first, *rest = WON.runs
    for kept, said in (
        (WON.runs, []),
        (rest, ["sl, schedule, 0.1 has the seeds [1, 2]"]),
        ((first, *WON.runs), ["sl, schedule, 0.1 has the seeds [0, 0, 1, 2]"]),
        ((dataclasses.replace(first, accuracy=1.5), *rest), ["sl, schedule, 0.1, seed 0: accuracy 1.5"]),
    ):
        assert QUESTION.problems(dataclasses.replace(WON, runs=tuple(kept)), Path("anywhere")) == said


def test_an_end_that_is_a_checkpoint_is_not_doubled():
    run = WON.runs[0]
    assert runs.accuracy_curve(run) == (list(run.checkpoints.flops), list(run.checkpoints.accuracy))


# ---------------------------------------------------------------- figures


def test_accuracy_against_compute_has_every_run_every_mean_and_every_reference():
    figure = figures.accuracy_compute_figure(WON)
    for axes in figure.axes:
        curves = [line for line in axes.lines if len(line.get_xdata()) == 8]
        assert len(curves) == 5 * 3 and len(axes.containers) == 5
        assert [line.get_ydata()[0] > 30 for line in axes.lines if line.get_linestyle() == ":"] == [True]
    assert [axes.get_title() for axes in figure.axes] == ["10% of the training data", "25% of the training data"]
    assert len(figure.legends[0].get_texts()) == 5 + 1 + 1
    end = figure.axes[0].containers[3].lines[0]  # mixtraining
    assert end.get_ydata() == pytest.approx([50.2])
    assert end.get_xdata() == pytest.approx([find(WON, OWN, 0.1, 0).flops])


def test_accuracy_against_fraction_goes_from_left_to_right():
    (axes,) = figures.accuracy_fraction_figure(made_up(fractions=(1.0, 0.1, 0.25))).axes
    assert len(axes.containers) == 5
    assert all(container.lines[0].get_xdata().tolist() == [0.1, 0.25, 1.0] for container in axes.containers)
    assert "accuracy_fraction.png" not in figures.mixtraining_figures(made_up(fractions=(0.1,)))


def test_learning_curves_shade_each_phase_once():
    figure = figures.learning_curves_figure(WON)
    assert [axes.get_title() for axes in figure.axes[:3]] == list(WON.arms)
    assert [len(axes.patches) for axes in figure.axes] == [1, 2, 3] * 2
    spans = [(patch.get_x(), patch.get_x() + patch.get_width()) for patch in figure.axes[2].patches]
    assert spans == [(0, 800), (800, 1600), (1600, 2400)]  # the steps of each phase, to the last
    assert max(find(WON, OWN, 0.25, 0).curve.step) < 2400
    assert [len(axes.texts) for axes in figure.axes] == [1, 0, 0, 0, 0, 0]  # sl has no SSL loss
    (line,) = figure.axes[1].lines
    assert np.isfinite(line.get_ydata()).sum() == find(WON, BASELINE, 0.25, 0).curve.phase.count(0)


def test_reconstructions_are_shown_as_they_are():
    arrays = made_up_reconstructions(num_images=4)
    drawn = figures.mixtraining_figures(WON, arrays)["reconstructions.png"]
    assert len(drawn.axes) == 12
    np.testing.assert_array_equal(drawn.axes[5].images[0].get_array(), arrays["masked_ExHxWxC"][1])
    assert drawn.axes[4].get_ylabel() == "75% hidden" and drawn.get_suptitle() == "mixtraining"
    grey = figures.mixtraining_figures(WON, made_up_reconstructions(2, channels=1))
    assert grey["reconstructions.png"].axes[0].images[0].get_array().shape == (32, 32)
    with pytest.raises(InputError, match="uint8 of one shape"):
        figures.mixtraining_figures(WON, arrays | {"masked_ExHxWxC": np.zeros((4, 32, 32, 3))})
