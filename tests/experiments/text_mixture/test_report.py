"""The report of the text experiment: each rule of its verdict, its marks and tables, on made-up records."""

import dataclasses

import pytest

from experiments.reporting.json_files import to_builtins
from experiments.text_mixture.report import summary_table, text_mixture_report, verdict
from mixmin_jax.stats.comparison import fidelity
from tests.experiments.text_mixture.made_up import ARMS, LEVELS, changed, made_up


def test_a_win_names_the_mixture_its_gain_its_cost_and_every_arm_it_beats():
    text = verdict(made_up())
    assert "Use the weights of `mixmin`: they reach 3.030 ±" in text and "0.280 less than `natural`" in text
    assert "cost 3.0% of the FLOPs of one target run" in text
    assert all(f"`{arm}` (by 0." in text for arm in ARMS[1:])
    assert "loses" not in text and "ties with" not in text and "demonstration" not in text


@pytest.mark.parametrize("arm", ["natural", "regmix"])
def test_a_tie_keeps_mixmin_and_is_said(arm):
    text = verdict(made_up(levels=LEVELS | {arm: LEVELS["mixmin"]}, noise=0.02))
    assert "Use the weights of `mixmin`" in text and f"`mixmin` ties with `{arm}`." in text


@pytest.mark.parametrize(
    ("then", "said"),
    [
        ("left out", "**The proxies of `source_3` learned less than how often each byte occurs: these sources got no"),
        ("used", "weights found with them say little.**"),
        ("passed over", "Use the weights of `mixmin`"),
    ],
)
def test_proxies_that_learned_too_little_are_named(then, said):
    unlearned = {"proxies": "proxies-6400", "source": "source_3", "loss": 5.1, "frequencies": 4.5, "then": then}
    metrics = changed(made_up(), unlearned=[{"seed": seed} | unlearned for seed in (0, 1)])
    assert said in verdict(metrics) and ("learned less" in verdict(metrics)) == (then != "passed over")
    assert f"| proxies-6400 | `source_3` | 1 | 5.10 | 4.50 | {then} |" in text_mixture_report(metrics).markdown


def test_what_a_mixture_is_worth_stands_first():
    metrics = changed(
        made_up(),
        multiples=[{"times": 1.5, "test_bits_per_byte": 3.2}, {"times": 3.0, "test_bits_per_byte": 3.0}],
        compute_multiplier=2.6,
        config__price_per_hour=2.0,
    )
    table = text_mixture_report(metrics).markdown.split("## ")[0]
    for row in (
        "expected from the fit part, bits per byte | 0.250 (0.150 to 0.400 in 80% of the cases it was made from) |",
        "| gain that was reached | 0.280 |",
        "| tokens that `natural` needs for the same loss, over its own | 2.60 |",
        "| finding the weights, FLOPs (of n-grams: operations) | 3.0% of one target run |",
        "scoring their test parts, seconds | 39 (one target run: 120) |",
        "| finding the weights, money | 0.02167 |",
        "| one target run, money | 0.06667 |",
    ):
        assert row in table
    beyond = changed(metrics, compute_multiplier=None)
    assert "over its own | more than 3 |" in text_mixture_report(beyond).markdown
    raw = changed(metrics, search__gain={"predicted": 0.1, "expected": None, "low": None, "high": None, "level": 0.8})
    assert "that the proxies predict, bits per byte (not calibrated) | 0.100 |" in text_mixture_report(raw).markdown


def test_the_multiplier_is_where_the_curve_of_natural_crosses_the_loss_of_mixmin():
    metrics = made_up(1, levels=LEVELS | {"natural": 3.33}, noise=0)
    runs = [{"times": 2.0, "test_bits_per_byte": 3.13}, {"times": 3.0, "test_bits_per_byte": 2.93}]
    assert changed(metrics, multiples=runs).derived().compute_multiplier == pytest.approx(2.5)
    assert changed(metrics, multiples=runs[:1]).derived().compute_multiplier is None


def test_the_ladder_shows_what_every_rung_would_change():
    text = text_mixture_report(made_up()).markdown
    assert "| ngram (**kept**) | 32 | 0.100 |  | 0.50% | 9 |" in text
    assert "| transformer, 24 k tokens | token | 0.250 | 0.0004 (0.0021) | 2.5% | 30 |" in text
    metrics = made_up()
    assert "**3 resamples were not solved" in text_mixture_report(changed(metrics, search__unconverged=3)).markdown
    assert "resamples were not" not in text
    (first, _) = to_builtins(metrics.search.rungs)
    assert "The ladder" not in text_mixture_report(changed(metrics, search__rungs=[first])).markdown


def test_weights_that_were_not_tried_say_what_to_expect_of_them():
    tried = made_up(1)
    metrics = changed(tried, arms={}, comparisons={}, fidelity={"rows": {}, "points": []}, monitors=None, regmix=None)
    assert "noise of training" not in verdict(metrics)
    assert "were found, and not tried: expect 0.250 bits per byte less than with `natural` (0.150 to 0.400)" in verdict(
        metrics
    )
    report = text_mixture_report(metrics)
    assert set(report.figures) == {"weights.png", "gap.png"} and "test loss" not in report.markdown
    assert metrics.recommended.arm == "mixmin" and metrics.recommended.weights == tried.arms["mixmin"].weights


def reasons(metrics):
    """{what may have gone wrong: its row}."""
    lines = text_mixture_report(metrics).markdown.splitlines()
    return {line.split(" | ")[0][2:]: line for line in lines if "**possible**" in line or "| unlikely |" in line}


def test_a_loss_comes_first_with_everything_to_check():
    metrics = changed(
        made_up(levels=LEVELS | {"natural": 2.9, "regmix": 2.95}, demonstration=True),
        arms__mixmin__epochs__source_2=6.5,
        data__target__fit_documents=37,
        overlap__sources__source_1=12,
        fidelity__rows__mixmin__arms__spearman=0.31,
    )
    text = verdict(metrics)
    assert text.startswith("**`mixmin` loses to `natural` by 0.1") and "`regmix` by 0.0" in text
    assert "use `natural`, which reaches 2.900" in text and "of one target run to find.**" in text
    assert "to find" not in verdict(changed(metrics, flops__finding={"natural": 0.0}))
    assert "demonstration with 3 seeds and decides nothing" in text
    found = reasons(metrics)
    for name, number in {
        "proxies too weak, or rows of another length": "0.31 (n = 18)",
        "repeats": "6.5 epochs (`source_2`)",
        "few target documents": "fitted on 37",
        "leakage": "`source_1`: 12 documents",
    }.items():
        assert "**possible**" in found[name] and number in found[name]
    assert "unlikely" in found["solver"] and "3.0e-12" in found["solver"]


def test_an_arm_that_beats_mixmin_is_recommended_with_the_reason():
    metrics = made_up(levels=LEVELS | {"regmix": 2.95, "uniform": LEVELS["mixmin"]}, noise=0.02)
    assert "use `regmix`" in verdict(metrics) and "Use the weights" not in verdict(metrics)
    assert metrics.recommended.arm == "regmix" and "bits per byte less than mixmin" in metrics.recommended.reason


def test_a_loss_without_its_usual_reasons_says_that_they_are_unlikely():
    metrics = made_up(levels=LEVELS | {"natural": 2.9})
    same = metrics.arms["mixmin"].predicted_bits_per_byte["mixmin"].mean
    found = reasons(changed(metrics, arms__natural__predicted_bits_per_byte__mixmin__mean=same))
    assert len(found) == 5 and all("| unlikely |" in line for line in found.values())
    assert not reasons(made_up())


@pytest.mark.parametrize(
    ("shift", "reason"), [(-0.05, "proxies too weak, or rows of another length"), (0.05, "few target documents")]
)
def test_what_the_proxies_predict_on_held_out_documents_points_to_a_reason(shift, reason):
    metrics = made_up(levels=LEVELS | {"natural": 2.9})
    mean = metrics.arms["natural"].predicted_bits_per_byte["mixmin"].mean + shift
    found = reasons(changed(metrics, arms__mixmin__predicted_bits_per_byte__mixmin__mean=mean))
    assert [name for name, line in found.items() if "**possible**" in line] == [reason]


def test_one_seed_and_a_demonstration_do_not_pretend_to_measure_the_noise_of_training():
    assert verdict(made_up(1, demonstration=True)).startswith("**This is a demonstration with one seed and decides")
    assert "One seed: the noise of training is not measured." in verdict(made_up(1))
    text = text_mixture_report(made_up(1)).markdown
    assert "over test documents" in text and "One seed: how far another training" in text
    assert "3.030 ±" not in text and "| 3.030 |" in text  # one seed has no standard deviation
    assert "over test documents" not in text_mixture_report(made_up()).markdown


def test_an_unfinished_run_and_an_unsolved_mixture_say_so():
    metrics = changed(made_up(), complete=False, mixmin_token__converged=False)
    assert verdict(metrics).startswith("**This run did not end")
    assert "weights of `mixmin_token` are not solved" in verdict(metrics)
    assert "| **no** |" in text_mixture_report(metrics).markdown


def test_more_than_four_epochs_are_bold():
    assert "no cap" in text_mixture_report(made_up()).markdown
    text = text_mixture_report(changed(made_up(), arms__regmix__epochs__source_3=4.2, max_epochs=5.0)).markdown
    assert "**4.20**" in text and text.count("**4.") == 1 and "at most 5 epochs" in text


def test_near_duplicates_are_counted_and_their_text_is_harmless():
    assert "may be leakage" not in text_mixture_report(made_up()).markdown
    excerpt = "a | <script>\n# *bold* `code` [link](http://x)"
    case = {"document": 5, "source": "source_0", "share": 0.93, "source_documents": [1], "part": "test"}
    metrics = changed(
        made_up(),
        overlap__sources__source_0=7,
        arms__mixmin__weights__source_0=0.4,
        overlap__worst=[case | {"excerpt": excerpt}],
    )
    assert "**40 % of the weight of `mixmin` is on sources that hold near-duplicates" in verdict(metrics)
    text = text_mixture_report(metrics).markdown
    assert "| `source_0` | 1,000 | 2,000,000 | 12.5% | **7** |" in text and "**A win may be leakage" in text
    assert (
        r"document 5 (test part), 93% in `source_0`: “a \| &lt;script&gt; # \*bold\* \`code\` \[link\](http://x)”"
    ) in text


def test_dropped_near_duplicates_are_counted():
    metrics = made_up()
    dropped = dict.fromkeys(metrics.sources, 0) | {"source_3": 1200}
    metrics = changed(metrics, overlap__dropped=dropped, overlap__target_documents_repeated=31)
    text = text_mixture_report(metrics).markdown
    assert "of this target 31 documents had been repeated" in text and "| 0 | 1,200 |" in text
    assert "--drop-duplicates" not in text_mixture_report(made_up()).markdown


def test_what_diverged_comes_first_and_as_a_table():
    report = text_mixture_report(made_up())
    assert "sampled in the shares that were asked for" in report.markdown and "diverge" not in report.markdown
    found = {"seed": 2, "arm": "regmix", "source": "source_0", "kind": "share", "before": 0.25, "after": 0.2}
    rising = {"seed": 0, "arm": "natural", "source": "source_1", "kind": "loss", "before": 3.0, "after": 3.25}
    metrics = changed(made_up(), monitors__divergences=[found, rising])
    assert verdict(metrics).startswith("**In the training of `regmix` and `natural` something diverged")
    text = text_mixture_report(metrics).markdown
    assert "a defect, do not use the results** | `regmix` | `source_0` | 2 | 0.2500 | 0.2000 |" in text
    assert "| **training loss rises** | `natural` | `source_1` | 0 | 3.0000 | 3.2500 |" in text
    report = text_mixture_report(changed(made_up(), monitors=None))  # as runs left it that did not monitor yet
    assert "What training saw" not in report.markdown and "source_loss.png" not in report.figures


def test_notes_on_sources_are_shown_as_they_are_written():
    notes = {
        "source_0": {"licence": "CC-BY|4.0", "note": "see *there*\n# now", "allowed": True},
        "web": {"licence": None, "note": None, "allowed": False},
    }
    text = text_mixture_report(changed(made_up(), source_notes=notes)).markdown
    assert r"| `source_0` | CC-BY\|4.0 | see \*there\* # now | yes |" in text
    assert "| `web` |  |  | **no**: left out |" in text


def test_cost_is_a_share_of_one_target_run():
    regmix = {"model": "boosted_trees", "runs": 64, "more_compute_than_mixmin": True}
    text = text_mixture_report(changed(made_up(), regmix=regmix)).markdown
    assert "| 20 T | 25.0% |" in text and "20 times" in text
    assert "`regmix` (boosted trees) was fitted on 64 runs, with **more compute than `mixmin`**" in text


def test_tables_are_complete_and_the_report_is_the_same_each_time():
    metrics = made_up(num_sources=22)
    report = text_mixture_report(metrics)
    assert report.markdown == text_mixture_report(changed(metrics)).markdown
    for block in report.markdown.split("\n\n"):
        lines = [line for line in block.splitlines() if line.startswith("|")]
        assert len({line.replace("\\|", "").count("|") for line in lines}) <= 1
    lines = report.markdown.splitlines()
    assert sum(line.startswith("| `source_") for line in lines) == 3 * 22  # weights, epochs, data
    assert "python -m experiments.text_mixture --seeds 3" in report.markdown and "0123abc" in report.markdown
    assert all(f"]({name})" in report.markdown for name in report.figures)


def test_the_summary_has_a_column_for_each_target_and_says_what_loses():
    table = summary_table({"a": made_up(), "b": changed(made_up(levels=LEVELS | {"natural": 2.9}), target="other")})
    lines = table.splitlines()
    assert lines[0] == "| test bits per byte | `science_news` | `other` | left after Holm | sign test over targets |"
    assert len(lines) == 2 + len(ARMS) + 3 + 2
    (natural,) = [line for line in lines if "`natural`" in line]
    assert "(MixMin wins)" in natural and "(**MixMin loses**)" in natural
    assert natural.endswith("| 1 win, 1 loss | 1 better, 1 worse: p = 1 |")
    assert lines[-3].startswith("| rank correlation, token rows | 0.") and lines[-1].startswith("*Left after Holm*")
    assert "Holm" not in summary_table({"a": made_up()})  # one target


def test_small_differences_tie_and_are_told_from_noise():
    levels = LEVELS | {"natural": 3.034}
    metrics = made_up(levels=levels, noise=0.0005)
    assert metrics.derived() == metrics and metrics.comparisons["natural"].verdict == "wins"
    judged = dataclasses.replace(metrics, matters=0.005).derived()
    assert judged.comparisons["natural"].verdict == "ties" and judged.comparisons["uniform"].verdict == "wins"
    assert "Differences below 0.005 bits per byte are called ties." in text_mixture_report(judged).markdown
    assert "are called ties" not in text_mixture_report(metrics).markdown
    _, signs = summary_table({"a": judged, "b": judged}).split("`natural`")[1].splitlines()[0].split(" | ")[-2:]
    assert signs == "0 better, 0 worse, 2 small: p = 1 |"


def test_what_is_compared_shows_as_many_decimals_as_it_needs():
    text = text_mixture_report(made_up(levels=LEVELS | {"natural": 3.0302}, noise=0.00002)).markdown
    assert "| `mixmin` | 3.03000 ± 0.0000" in text and "| `natural` | 3.03020 ± 0.0000" in text
    assert "| -0.000200 ± 0.0000" in text and "| 3.030 ± 0.002 |" in text_mixture_report(made_up()).markdown


def test_few_points_have_no_rank_correlation():
    one = made_up(1)
    few = dataclasses.replace(one, fidelity=fidelity(one.fidelity.points[:5]))
    assert "| mixmin rows | too few points (n = 5) | too few points (n = 5) |" in text_mixture_report(few).markdown
    enough = dataclasses.replace(one, fidelity=fidelity(one.fidelity.points[:6]))
    assert "too few points (n = 6)" not in text_mixture_report(enough).markdown


def test_a_source_of_which_a_sample_is_kept_is_said_with_its_size():
    metrics = made_up()
    assert "A random sample" not in text_mixture_report(metrics).markdown
    name, found = next(iter(metrics.data.sources.items()))
    sampled = dataclasses.replace(found, documents_in_all=10**6, bytes_in_all=18_000_000)
    data = dataclasses.replace(metrics.data, sources=metrics.data.sources | {name: sampled})
    text = text_mixture_report(dataclasses.replace(metrics, data=data)).markdown
    assert f"A random sample is kept of `{name}` (18,000,000 bytes), and near-duplicates" in text
    share = 100 * 18 / (18 + 2 * (len(metrics.sources) - 1))
    assert f"| `{name}` | 1,000 | 2,000,000 | {share:.1f}% |" in text
