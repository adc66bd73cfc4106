"""The search for the weights of `mixmin`: the ladder of proxies, and weights alone."""

import dataclasses

import numpy as np
import pytest

from experiments.reporting.schema import Unlearned
from experiments.text_mixture import costs, search
from experiments.text_mixture import stages as text_mixture_stages
from experiments.text_mixture.__main__ import main
from tests.experiments.text_mixture.tiny_run import PROXY, UNTRIED, load, plan_of
from tests.experiments.verify.verified import assert_verified


@pytest.mark.slow
def test_only_weights_are_found_without_arms_and_a_ladder_ends_at_its_budget(config, tmp_path, monkeypatch, capsys):
    """n-grams, and one transformer, which learns too little to be kept; the second would exceed the budget."""
    out = tmp_path / "out"
    only = dataclasses.replace(config, out=out, proxy="auto", target=config.target[1:], **UNTRIED)
    plan = plan_of(only)
    flops = [costs.rung_flops(plan, rung, plan.targets[0].documents("fit")) for rung in plan.rungs]
    budget = (sum(flops[:2]) + 0.5 * flops[2]) / costs.training(plan, "target")
    monkeypatch.setattr(text_mixture_stages, "rung_result", always_changed)
    main(dataclasses.replace(only, search_budget=budget))
    metrics = load(out, "both")
    assert [rung["tokens"] for rung in metrics["search"]["rungs"]] == [None, PROXY.tokens // 16]
    assert metrics["search"]["kept"] == 0 and metrics["search"]["share"] == pytest.approx(
        sum(flops[:2]) / costs.training(plan, "target")
    )
    assert metrics["arms"] == {} and metrics["search"]["target_seconds"] is None
    weights = load(out, "both", "weights.json")
    assert list(weights) == ["mixmin", "recommended", "unit", "sources"]
    assert sum(weights["mixmin"].values()) == pytest.approx(1)
    assert {path.name for path in (out / "stages").iterdir() if path.name.startswith("train")} == {
        f"train-proxies-{PROXY.tokens // 16}-matched-seed0"
    }
    assert "found, and not tried" in capsys.readouterr().out
    assert_verified(out)


@pytest.mark.parametrize(("earlier", "changed"), [([0.48, 0.52, 0.0], False), ([0.05, 0.05, 0.9], True)])
def test_a_rung_changes_weights_that_are_worth_less_than_its_own_beyond_noise(config, earlier, changed):
    plan, rng = plan_of(config), np.random.default_rng(0)
    origin_N = np.repeat(rng.choice(3, size=60, p=[0.5, 0.5, 0.0]), 64)  # one source a document, two rows of it
    token_NxK = -5 + 0.2 * (origin_N[:, None] == np.arange(3)) + 0.1 * rng.normal(size=(60 * 64, 3))
    found = search.rung_result(plan, search.Scores(token_NxK, np.full(60, 64)), "ngram", np.array(earlier))
    assert found["changed"] == changed == (found["excess"] > found["noise"]) and found["noise"] > 0
    assert found["unconverged"] == 0 and found["weights"][2] < 0.1


def test_a_source_whose_proxy_collapsed_gets_no_weight(config):
    plan, rng = plan_of(config), np.random.default_rng(0)
    token_NxK = -15 + rng.normal(size=(60 * 64, 3)) + [0, 0, 5]  # the last would get all of it
    scores = search.Scores(token_NxK, np.full(60, 64))
    for found in (scores, dataclasses.replace(scores, left_out=(2,))):
        weights_K = search.rung_result(plan, found, "ngram", None)["weights"]
        assert weights_K[2] == (0 if found.left_out else pytest.approx(1))


class Computing:
    """Stages that keep nothing."""

    def run(self, name, inputs, compute, **_):
        return compute(None)


def test_proxies_that_were_all_trained_too_little_are_passed_over(config, monkeypatch):
    plan = plan_of(dataclasses.replace(config, proxy="auto", target=config.target[:1], search_budget=1, **UNTRIED))
    stage, rng = text_mixture_stages.SeedStages(plan, 0, Computing()), np.random.default_rng(0)
    monkeypatch.setattr(text_mixture_stages.costs, "rung_flops", lambda *_: 0.0)
    name, sizes = plan.targets[0].name, np.array([len(d) for d in plan.targets[0].documents("fit")] * 2)

    def rung_scores(rung):
        if rung == plan.rungs[1]:
            stage.unlearned = [Unlearned(0, rung.name, "web", 9.0, 4.0, "passed over")]
        best = np.arange(3) == plan.rungs.index(rung) % 3  # each rung finds another source best
        return {name: search.Scores(-5 + best + 0.1 * rng.normal(size=(sizes.sum(), 3)), sizes)}

    monkeypatch.setattr(stage, "rung_scores", rung_scores)
    rungs = stage.climb()[name].rungs
    assert [rung["changed"] for rung in rungs] == [True, False, True, True]


def always_changed(*arguments):
    return search.rung_result(*arguments) | {"changed": True}
