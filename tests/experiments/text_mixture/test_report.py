"""The report and the figures, from made-up metrics."""

import copy
import io
import json
import struct
import subprocess
import sys

import matplotlib
import matplotlib.image
import numpy as np
import pytest

from experiments.reporting import figures, markdown
from experiments.text_mixture.report import text_mixture_report
from mixmin_jax.stats import comparison

ARMS = ["mixmin", "mixmin_token", "uniform", "natural", "random_search", "regmix"]
LEVELS = dict(zip(ARMS, [3.03, 3.07, 3.26, 3.31, 3.12, 3.10], strict=True))
DOCUMENTS = 240


def made_up_metrics(num_seeds=3, num_sources=8, levels=LEVELS, noise=0.004, demonstration=False):
    """metrics.json of a run in which arm a reaches `levels[a]`, with `noise` over seeds, in bits per byte."""
    rng = np.random.default_rng(0)
    sources = [f"source_{k}" for k in range(num_sources)]
    noise_AxS = noise * rng.standard_normal((len(ARMS), num_seeds))
    noise_AxS -= noise_AxS.mean(1, keepdims=True)  # means are the levels, so that no verdict is a matter of luck
    loss = {arm: (levels[arm] + noise_S).tolist() for arm, noise_S in zip(ARMS, noise_AxS, strict=True)}
    points, arms = [], {}
    for arm in ARMS:
        centre_K = np.ones(num_sources) if arm == "uniform" else rng.gamma(0.4, size=num_sources)
        w_SxK = rng.dirichlet(300 * centre_K / centre_K.sum() + 0.1, size=num_seeds)
        predicted = {
            row: [value + 0.4 + shift for value in loss[arm]] for row, shift in [("document", 0), ("token", 0.1)]
        }
        arms[arm] = {
            "test_bits_per_byte": comparison.summary(loss[arm]),
            "weights": dict(zip(sources, w_SxK.mean(0).tolist(), strict=True)),
            "weights_per_seed": [dict(zip(sources, w_K.tolist(), strict=True)) for w_K in w_SxK],
            "epochs": dict(zip(sources, (3 * w_SxK.mean(0)).tolist(), strict=True)),
            "predicted_bits_per_byte": {row: comparison.summary(values) for row, values in predicted.items()},
        }
        points += [
            {"seed": s, "label": arm, "size": "target", "reached": loss[arm][s]}
            | {f"predicted_{row}": predicted[row][s] + 0.03 * rng.standard_normal() for row in predicted}
            for s in range(num_seeds)
        ]
    for s in range(num_seeds):
        for reached in 3.6 + 0.2 * rng.standard_normal(num_sources):
            rows = {"predicted_document": reached + 0.1 * rng.random(), "predicted_token": reached + 0.3 * rng.random()}
            points.append({"seed": s, "label": "random_mixture", "size": "proxy", "reached": reached} | rows)
    comparisons = {}
    for arm in ARMS[1:]:
        if num_seeds > 1:
            difference = comparison.paired_difference(loss["mixmin"], loss[arm])
        else:
            bytes_N = rng.integers(500, 2000, DOCUMENTS)
            nats_b_N = loss[arm][0] * np.log(2) * bytes_N
            nats_a_N = nats_b_N + (loss["mixmin"][0] - loss[arm][0] + noise * rng.standard_normal(DOCUMENTS)) * bytes_N
            difference = comparison.paired_bootstrap_over_documents(nats_a_N, nats_b_N, bytes_N, num_samples=50)
        comparisons[arm] = vars(difference) | {"verdict": comparison.verdict(difference)}
    solved = {
        "gap": 3e-12,
        "iterations": 11,
        "converged": True,
        "method": "interior_point",
        "tolerance": 1e-9,
        "seed": 0,
    }
    history = [[10.0 ** (1 - 1.1 * i - 0.3 * s) for i in range(12)] for s in range(num_seeds)]
    counts = {"documents": 1000, "bytes": 2_000_000, "sha256": "0" * 64}
    split = {
        "fit_documents": 200,
        "fit_bytes": 250_000,
        "test_documents": DOCUMENTS,
        "test_bytes": 300_000,
        "split_seed": 0,
    }
    metrics = {
        "schema_version": 1,
        "experiment": "text_mixture",
        "demonstration": demonstration,
        "complete": True,
        "target": "science_news",
        "seeds": list(range(num_seeds)),
        "sources": sources,
        "arms": arms,
        "comparisons": comparisons,
        "mixmin": solved | {"loss": 2.31},
        "mixmin_token": solved | {"loss": 2.42},
        "gap_history": {"mixmin": history, "mixmin_token": [[3 * gap for gap in gaps] for gaps in history]},
        "fidelity": comparison.fidelity(points),
        "overlap": {"ngram": 13, "threshold": 0.5, "sources": dict.fromkeys(sources, 0), "worst": []},
        "flops": {"proxies": 2.0e13, "random_mixtures": 2.0e13, "target": 8.0e13, "total": 1.6e15},
        "tokens": {"proxy": 1_000_000, "target": 4_000_000},
        "regmix": {"model": "linear", "runs": num_sources, "more_compute_than_mixmin": False},
        "max_epochs": None,
        "data": {
            "sources": dict.fromkeys(sources, counts),
            "target": counts | split | {"name": "science_news", "documents": 440, "bytes": 550_000},
        },
        "monitors": {
            "steps": [50, 100, 150, 200],
            "windows": 10_000,
            "rise": 0.02,
            "errors": 3.0,
            "arms": {
                arm: [
                    {
                        "seed": s,
                        "asked": weights,
                        "sampled": {source: round(weight, 4) for source, weight in weights.items()},
                        "bits_per_byte": {
                            source: [7.5, 5.0 + 0.1 * k, 4.0 + 0.1 * k, None if k == 1 else 3.5 + 0.1 * k]
                            for k, source in enumerate(sources)
                        },
                    }
                    for s, weights in enumerate(arms[arm]["weights_per_seed"])
                ]
                for arm in ARMS
            },
            "divergences": [],
        },
        "config": {"seeds": num_seeds},
        "versions": {"python": "3.11.2", "jax": "0.10.2"},
        "device": "cpu",
        "git_commit": "0123abc",
        "command": "python -m experiments.text_mixture --seeds 3",
        "seconds": {"proxies": 12.5, "arms": 100.0},
    }
    return json.loads(json.dumps(metrics, allow_nan=False))  # as a reader of the file gets it


# ---------------------------------------------------------------- what the report says


def conclusion(metrics):
    """The text above the first section."""
    return text_mixture_report(metrics).split("\n## ")[0]


def test_a_win_names_the_mixture_and_every_arm_it_beats():
    text = conclusion(made_up_metrics())
    assert "Use the weights of `mixmin`" in text
    assert all(f"`{arm}` (by 0." in text for arm in ARMS[1:])
    assert "loses" not in text and "not distinguishable" not in text and "demonstration" not in text


@pytest.mark.parametrize("free_arm", ["natural", "uniform"])
def test_a_tie_with_a_free_mixture_recommends_that_mixture(free_arm):
    text = conclusion(made_up_metrics(levels=LEVELS | {free_arm: LEVELS["mixmin"]}, noise=0.02))
    assert f"Use the weights of `{free_arm}`" in text
    assert f"`mixmin` is not distinguishable from `{free_arm}`." in text


def test_a_tie_with_a_mixture_that_costs_as_much_keeps_mixmin():
    text = conclusion(made_up_metrics(levels=LEVELS | {"regmix": LEVELS["mixmin"]}, noise=0.01))
    assert "Use the weights of `mixmin`" in text
    assert "not distinguishable from `regmix`" in text


def test_of_two_free_mixtures_that_tie_the_better_one_is_recommended():
    metrics = made_up_metrics(levels=LEVELS | {"natural": 3.035, "uniform": 3.03}, noise=0.02)
    assert "Use the weights of `uniform`" in conclusion(metrics)


def test_a_loss_comes_first_with_everything_to_check():
    metrics = made_up_metrics(levels=LEVELS | {"natural": 2.9, "regmix": 2.95}, demonstration=True)
    metrics["arms"]["mixmin"]["epochs"]["source_2"] = 6.5
    metrics["data"]["target"]["fit_documents"] = 37
    metrics["overlap"]["sources"]["source_1"] = 12
    metrics["fidelity"]["document"]["arms"]["spearman"] = 0.31
    text = conclusion(metrics)
    first = text.split("\n\n")[1]
    assert first.startswith("**`mixmin` loses to `natural` by 0.1")
    assert "`regmix` by 0.0" in first and "`natural` is the better mixture here" in first
    assert "demonstration with 3 seeds and decides nothing" in first
    checks = {line.split("?")[0][2:]: line for line in text.splitlines() if line.startswith("- ")}
    for name, number in {
        "Proxies too weak": "0.31 (n = 18)",
        "Repeats": "6.5 epochs of a source (`source_2`)",
        "Few target documents": "37 documents",
        "Leakage": "`source_1` (12 documents",
    }.items():
        assert "**Possible.**" in checks[name] and number in checks[name]
    assert "**Unlikely.**" in checks["Solver"] and "3.0e-12" in checks["Solver"]


def test_a_loss_outranks_a_tie_with_a_free_mixture():
    text = conclusion(made_up_metrics(levels=LEVELS | {"regmix": 2.95, "uniform": LEVELS["mixmin"]}))
    assert "`regmix` is the better mixture here" in text and "Use the weights" not in text
    assert "`mixmin` is not distinguishable from `uniform`." in text


def test_a_loss_without_its_usual_reasons_says_that_they_are_unlikely():
    metrics = made_up_metrics(levels=LEVELS | {"natural": 2.9})
    metrics["arms"]["natural"]["predicted_bits_per_byte"] = metrics["arms"]["mixmin"]["predicted_bits_per_byte"]
    lines = [line for line in conclusion(metrics).splitlines() if line.startswith("- ")]
    assert len(lines) == 5 and all("**Unlikely.**" in line for line in lines)


@pytest.mark.parametrize("shift, reason", [(-0.05, "Proxies too weak?"), (0.05, "Few target documents?")])
def test_what_the_proxies_predict_on_held_out_documents_points_to_a_reason(shift, reason):
    metrics = made_up_metrics(levels=LEVELS | {"natural": 2.9})
    predicted = {arm: metrics["arms"][arm]["predicted_bits_per_byte"]["document"] for arm in ("mixmin", "natural")}
    predicted["mixmin"]["mean"] = predicted["natural"]["mean"] + shift
    possible = [line for line in conclusion(metrics).splitlines() if "**Possible.**" in line]
    assert len(possible) == 1 and possible[0].startswith(f"- {reason}")


def test_a_demonstration_says_that_it_decides_nothing():
    metrics = made_up_metrics(num_seeds=1, demonstration=True)
    text = conclusion(metrics)
    assert text.split("\n\n")[1].startswith("**This is a demonstration with one seed and decides nothing.**")
    assert "As far as it goes, use the weights of `mixmin`" in text


def test_one_seed_does_not_pretend_to_measure_the_noise_of_training():
    report = text_mixture_report(made_up_metrics(num_seeds=1))
    assert "One seed: the noise of training is not measured." in report.split("\n## ")[0]
    assert "over test documents, drawn again" in report
    assert "One seed: how far another training" in report
    assert "3.030 ±" not in report and "| 3.030 |" in report  # one seed has no spread
    assert "over test documents" not in text_mixture_report(made_up_metrics())


def test_an_unfinished_run_and_an_unsolved_mixture_say_so():
    metrics = made_up_metrics()
    metrics["complete"] = False
    metrics["mixmin_token"]["converged"] = False
    text = conclusion(metrics)
    assert text.split("\n\n")[1].startswith("**This run did not end")
    assert "weights of `mixmin_token` are not solved" in text
    assert "| **no** |" in text_mixture_report(metrics)


def test_more_than_four_epochs_are_flagged_and_fewer_are_not():
    metrics = made_up_metrics()
    assert "No mixture asks for more than that." in text_mixture_report(metrics)
    metrics["arms"]["regmix"]["epochs"]["source_3"] = 4.2
    metrics["max_epochs"] = 5
    report = text_mixture_report(metrics)
    assert "`regmix` asks for 4.2 epochs of `source_3`" in report and "**4.20**" in report
    assert "arXiv:2305.16264" in report and "capped at 5 epochs" in report


def test_near_duplicates_are_counted_and_their_text_is_harmless():
    metrics = made_up_metrics()
    assert "None of the 440 target documents" in text_mixture_report(metrics)
    metrics["overlap"]["sources"]["source_0"] = 7
    metrics["arms"]["mixmin"]["weights"]["source_0"] = 0.4
    excerpt = "a | <script>\n# *bold* `code` [link](http://x)"
    metrics["overlap"]["worst"] = [
        {"document": 5, "source": "source_0", "share": 0.93, "part": "test", "excerpt": excerpt}
    ]
    report = text_mixture_report(metrics)
    assert "40% of the weight of `mixmin` is on sources that hold near-duplicates" in report.split("\n## ")[0]
    assert "| `source_0` | 7 | 0.400 |" in report
    assert (
        r"document 5 (test part), 93% in `source_0`: “a \| &lt;script&gt; # \*bold\* \`code\` \[link\](http://x)”"
        in report
    )


def test_dropped_near_duplicates_are_counted():
    metrics = made_up_metrics()
    dropped = dict.fromkeys(metrics["sources"], 0)
    metrics["overlap"] |= {"dropped": dropped, "target_documents_repeated": 0, "worst_dropped": []}
    assert "`--drop-duplicates` found nothing to drop" in text_mixture_report(metrics)
    dropped["source_3"] = 1200
    case = {"document": 5, "source": "source_3", "share": 0.93, "part": "fit", "excerpt": "a|b"}
    metrics["overlap"] |= {"target_documents_repeated": 31, "worst_dropped": [case]}
    report = text_mixture_report(metrics)
    assert "took 1,200 documents out" in report and "Of the 440 documents of this target 31 had shared" in report
    assert "| `source_3` | 1,200 |" in report and r"document 5 (fit part), 93% in `source_3`: “a\|b”" in report


def test_what_training_saw_is_said_and_what_diverged_comes_first():
    metrics = made_up_metrics()
    report = text_mixture_report(metrics)
    assert "in the shares that were asked for, to within 0.5 of 10,000 windows" in report
    assert "No source's training loss rises" in report and "diverged" not in report
    metrics["monitors"]["divergences"] = [
        {"seed": 2, "arm": "regmix", "source": "source_0", "kind": "share", "before": 0.25, "after": 0.2},
        {"seed": 0, "arm": "natural", "source": "source_1", "kind": "loss", "before": 3.0, "after": 3.25},
    ]
    report = text_mixture_report(metrics)
    assert "**In the training of `regmix` and `natural` something diverged" in report.split("\n## ")[0]
    assert "**Sources were not sampled in the shares that were asked for**" in report
    assert "seed 2: 20.0000% of the windows were sampled, 25.0000% asked for" in report
    assert "seed 0: the training loss rises from 3.000 to 3.250 bits per byte" in report
    del metrics["monitors"]  # as runs left it that did not monitor yet
    assert "What training saw" not in text_mixture_report(metrics)
    assert "source_loss.png" not in figures.text_mixture_figures(metrics)


def test_notes_on_sources_are_shown_as_they_are_written():
    metrics = made_up_metrics()
    notes = {"licence": "CC-BY|4.0", "note": "see *there*\n# now", "allowed": True}
    metrics["source_notes"] = {"source_0": notes, "web": {"licence": None, "note": None, "allowed": False}}
    report = text_mixture_report(metrics)
    assert r"| `source_0` | CC-BY\|4.0 | see \*there\* # now | yes |" in report
    assert "| `web` |  |  | **no**: left out |" in report


@pytest.mark.parametrize(
    "spearman, words",
    [(0.9, "**well**: Spearman 0.90"), (0.6, "**roughly**"), (0.2, "**poorly**"), (None, "undefined")],
)
def test_fidelity_is_put_into_words(spearman, words):
    metrics = made_up_metrics()
    metrics["fidelity"]["spearman"] = metrics["fidelity"]["document"]["all"]["spearman"] = spearman
    metrics["fidelity"]["token"]["all"]["spearman"] = 0.7
    report = text_mixture_report(metrics)
    assert words in report
    said = {0.9: "Document rows predict better", 0.6: "Token rows predict better", 0.2: "Token rows", None: "Too few"}
    assert said[spearman] in report


def test_cost_is_a_share_of_one_target_run():
    metrics = made_up_metrics()
    metrics["regmix"] = {"model": "boosted_trees", "runs": 64, "more_compute_than_mixmin": True}
    report = text_mixture_report(metrics)
    assert "**25.0% of the FLOPs of one target run**" in report and "20 times" in report
    assert "fitted on 64 runs and had **more compute than `mixmin`**" in report and "boosted trees" in report


def test_tables_are_complete_and_the_report_is_the_same_each_time():
    metrics = made_up_metrics(num_sources=22)
    before = copy.deepcopy(metrics)
    report = text_mixture_report(metrics)
    assert report == text_mixture_report(json.loads(json.dumps(metrics)))
    assert metrics == before
    for table in report.split("\n\n"):
        lines = [line for line in table.splitlines() if line.startswith("|")]
        assert len({line.replace("\\|", "").count("|") for line in lines}) <= 1
    assert sum(line.startswith("| `source_") for line in report.splitlines()) == 3 * 22  # weights, epochs, data
    assert "python -m experiments.text_mixture --seeds 3" in report and "0123abc" in report
    assert all(f"]({name})" in report for name in figures.text_mixture_figures(metrics))


@pytest.mark.parametrize(
    "value, text",
    [(0, "0"), (999, "999"), (999.7, "1 k"), (250_000, "250 k"), (1_234_567, "1.23 M"), (1.6e15, "1.6 P")],
)
def test_counts_keep_three_digits(value, text):
    assert markdown.si_count(value) == text


# ---------------------------------------------------------------- figures


def pixels(png):
    return matplotlib.image.imread(io.BytesIO(png), format="png")


@pytest.mark.parametrize("num_seeds, num_sources", [(1, 2), pytest.param(3, 30, marks=pytest.mark.slow)])
def test_figures_are_png_files_with_something_on_them(tmp_path, num_seeds, num_sources):
    for name, figure in figures.text_mixture_figures(made_up_metrics(num_seeds, num_sources)).items():
        (tmp_path / name).write_bytes(figures.figure_png(figure))
        png = (tmp_path / name).read_bytes()
        assert png.startswith(b"\x89PNG\r\n\x1a\n")
        width, height = struct.unpack(">II", png[16:24])
        assert 400 < width < 1600 and 150 < height < 1600
        assert b"matplotlib" not in png.lower()  # no version in the metadata
        colours = np.unique(pixels(png).reshape(-1, 4).round(1), axis=0)
        assert len(colours) > 10
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
    monitors = made_up_metrics(num_seeds=2, num_sources=3)["monitors"]
    first, second = monitors["arms"]["mixmin"]
    first["bits_per_byte"]["source_0"] = [8.0, 6.0, None, None]
    second["bits_per_byte"]["source_0"] = [7.0, 4.0, 3.0, None]
    for run in monitors["arms"]["uniform"]:
        run["bits_per_byte"]["source_2"] = [None] * 4
    figure = figures.source_loss_figure(monitors, max_sources=3)
    lines = {axes.get_title(): axes.lines for axes in figure.axes}
    assert list(lines) == ARMS and [len(lines[arm]) for arm in ("mixmin", "uniform")] == [3, 2]
    heights = [np.asarray(line.get_ydata(), float).tolist() for line in lines["mixmin"]]
    assert any(height[:3] == [7.5, 5.0, 3.0] and np.isnan(height[3]) for height in heights)
    assert len(figures.source_loss_figure(monitors, max_sources=2).axes[0].lines) == 2


def test_fidelity_separates_arms_from_random_mixtures():
    metrics = made_up_metrics()
    figure = figures.fidelity_figure(metrics["fidelity"])
    assert [len(axes.lines) for axes in figure.axes] == [18, 18, 24, 24]
    rho = metrics["fidelity"]["token"]["random_mixtures"]["spearman"]
    assert figure.axes[3].get_title() == f"random mixtures, token rows\nSpearman {rho:.2f}, n = 24"
    assert "n = 42" in figure.get_suptitle()


def test_an_arm_has_one_colour_in_every_figure():
    assert figures.arm_colours(["regmix", "sl"])["regmix"] == figures.arm_colours(["mixmin", "regmix"])["regmix"]
    colours = figures.arm_colours([*ARMS, "sl", "ssl_then_sl", "mixtraining"])
    assert len(set(colours.values())) == len(colours)


def test_the_users_matplotlib_is_left_alone():
    before = dict(matplotlib.rcParams)
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "savefig.dpi": 20}):
        changed = dict(matplotlib.rcParams)
        png = figures.figure_png(figures.loss_figure({"mixmin": [1.0, 2.0]}))
        assert dict(matplotlib.rcParams) == changed
    assert png == figures.figure_png(figures.loss_figure({"mixmin": [1.0, 2.0]}))  # nor do the user's settings matter
    assert dict(matplotlib.rcParams) == before
    code = (
        "import sys, experiments.reporting.figures as f; f.figure_png(f.loss_figure({'a': [1.0]})); print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "experiments.reporting.figures" in loaded and "matplotlib.pyplot" not in loaded
