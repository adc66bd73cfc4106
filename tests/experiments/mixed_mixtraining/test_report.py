"""What the report says of made-up results: sentences by rule, bad news first, and marks in tables."""

import dataclasses

import pytest

from experiments.mixed_mixtraining.config import ARMS
from experiments.mixed_mixtraining.report import mixed_report, verdict
from experiments.mixed_mixtraining.results import Overlap, Reference
from experiments.reporting.schema import Note, Unlearned
from mixmin_jax.stats.comparison import summary
from tests.experiments.mixed_mixtraining import made_up

OURS = (0.79, 0.81)
WON = {arm: (0.74, 0.75) for arm in ARMS} | {"mixmin": OURS}
LOST = {arm: (0.84, 0.87) for arm in ARMS} | {"mixmin": OURS}
TIED = WON | {"natural": (0.70, 0.88)}
REFERENCE = Reference(0, "n-grams", summary([0.81, 0.81]))


def unsolved(found):
    return dataclasses.replace(found, mixmin=dataclasses.replace(found.mixmin, converged=False))


@pytest.mark.parametrize(
    ("found", "first"),
    [
        (made_up.metrics(WON), "With the mixture that MixMin chose, MixTraining reaches 80.0 ± 1.4% accuracy."),
        (made_up.metrics(LOST), "**`mixmin` is less accurate than `sl` (-5.50 ± 0.50 points), `sl_matched`"),
        (made_up.metrics(LOST, complete=False), "**This run did not end: what follows is incomplete.** **`mixmin` is"),
        (unsolved(made_up.metrics(WON)), "**The weights of `mixmin` are not solved to tolerance.** With the"),
        (
            made_up.metrics(WON, references=(REFERENCE,)),
            "**`mixmin` is no better than n-grams on `odd` or `even` (81.0% against 80.0%).** With the",
        ),
        (made_up.metrics(WON, demonstration=True), "**This is a demonstration with 2 seeds and decides nothing.**"),
        (made_up.metrics({arm: (0.8,) for arm in ARMS}), "**One seed: nothing is known to differ.** With the mixture"),
    ],
)
def test_what_speaks_against_the_mixture_comes_first(found, first):
    assert verdict(found).startswith(first)
    assert verdict(found) in mixed_report(found).markdown


def test_proxies_that_learned_too_little_are_named():
    found = made_up.metrics(WON, unlearned=(Unlearned(1, "proxies", "web", 5.1, 4.5, "left out"),))
    assert verdict(found).startswith("**The proxies of `web` learned less than how often each byte occurs:")
    assert "| proxies | `web` | 1 | 5.10 | 4.50 | left out |" in mixed_report(found).markdown


def test_wins_and_ties_are_told_apart():
    assert "It is more accurate than `sl` (+5.50 ± 0.50 points), `sl_matched`" in verdict(made_up.metrics(WON))
    assert verdict(made_up.metrics(WON)).count("points") == len(ARMS) - 1
    assert verdict(made_up.metrics(TIED)).endswith("It ties with `natural` (+1.00 ± 8.00 points).")


def test_every_question_has_its_verdicts():
    text = mixed_report(made_up.metrics(TIED)).markdown
    assert "| Is choosing the mixture worth it? | `natural` | +1.00 ± 8.00 | ties |\n|  | `uniform` |" in text
    assert "| Are joint steps worth it? | `mixmin_ssl_then_sl` | +5.50 ± 0.50 | wins |" in text
    assert "With 2 seeds, two standard errors are crossed by chance in 30 %" in text
    one = mixed_report(made_up.metrics({arm: (0.8,) for arm in ARMS})).markdown
    assert one.count("| +0.00 | one seed |") == len(ARMS) - 1 and "One seed: how far another training" in one


def test_costs_repeats_and_few_labels_are_marked():
    text = mixed_report(made_up.metrics(WON)).markdown
    assert "| **proxies for MixMin's weights, in every seed** | 1 G | 2.5 times | 2 |" in text
    assert "| `code` | 0.750 | 0.750 | 0.750 | **5.00** |" in text and "| 0.50 |" in text
    assert "labeled windows to fit the weights on" not in text
    few = dataclasses.replace(made_up.metrics(WON).tasks[0], labels_per_class=20)
    text = mixed_report(made_up.metrics(WON, tasks=(few,))).markdown
    assert "**There were only 40 labeled windows to fit the weights on.**" in text


def test_what_the_sources_share_with_the_tasks_is_said():
    assert "may have read test text" not in mixed_report(made_up.metrics(WON)).markdown
    text = mixed_report(made_up.metrics(WON, overlap=Overlap(13, 0.5, 70, {"code": 0, "web": 3}))).markdown
    assert "| `web` | 20 | 2,000 | 200 | **3** |" in text
    assert "may have read test text, without its label" in text


def test_several_tasks_have_columns_and_notes_a_table():
    notes = {"web": Note(None, "crawled", False)}
    found = made_up.metrics(WON, num_tasks=2, source_notes=notes, references=(REFERENCE,))
    text = mixed_report(dataclasses.replace(found, skipped_steps={"sl-seed0": {"sl": 2}})).markdown
    assert "| steps SSL / joint / SL | `odd` or `even` | `odd` or `even` |" in text
    assert "| n-grams, `odd` or `even` | | 81.0 ± 0.0% | | | | |" in text
    assert "| `web` |  | crawled | **no**: left out |" in text and "2 of `sl`" in text
    shared = dataclasses.replace(found.tasks[0], shared_documents_left_out=1)
    text = mixed_report(dataclasses.replace(found, tasks=(shared,))).markdown
    assert "One document of several classes left out of the task `odd` or `even`." in text
