"""Options and plans of the text experiment: what is refused before compute, mixtures without proxies, costs."""

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments.harness import command_line
from experiments.text_mixture import costs
from experiments.text_mixture.__main__ import main
from experiments.text_mixture.build import identity
from experiments.text_mixture.config import PRESETS, TextMixture
from mixmin_jax.errors import InputError
from tests.experiments.made_up_text import sentences, write_lines
from tests.experiments.text_mixture.tiny_run import CAPPED, NOTES, PROXY, UNTRIED, plan_of


def test_identity_follows_allowed_and_not_what_is_written_about_a_source(config, tmp_path):
    def with_notes(text):
        (tmp_path / "notes.toml").write_text(text)
        return plan_of(dataclasses.replace(without, sources_info=tmp_path / "notes.toml"))

    without = dataclasses.replace(config, compare=())  # a mixture names all sources
    same, other = with_notes("[web]\nallowed = false\n"), with_notes(NOTES + "[lower]\nallowed = true\n")
    assert identity(same) == identity(other) == identity(plan_of(without)) and same.inputs == other.inputs
    all_four, two = with_notes(""), with_notes(NOTES + "[lower]\nallowed = false\n")
    assert list(identity(all_four)["data"]) == ["digits", "lower", "upper", "web"]
    assert list(identity(two)["data"]) == ["digits", "upper"]
    assert "  lower                left out: allowed = false" in costs.describe_plan(two)


def test_a_dry_run_prints_the_plan_and_writes_nothing(config, tmp_path, capsys):
    main(dataclasses.replace(config, out=tmp_path / "out", dry_run=True, proxy="auto", search_budget=1))
    plan = capsys.readouterr().out
    # two seeds of three proxies, four random mixtures, eleven arms, seven of these once more for the second target
    assert " 6 proxies:" in plan and " 8 runs on random mixtures:" in plan and " 36 target runs (arms):" in plan
    assert "FLOPs" in plan and "1.6 k tokens" in plan and "1.28 k tokens" in plan and "960 tokens" in plan
    assert "Proxies for `mixmin`: n-grams, transformers of 80 tokens, transformers of 320 tokens" in plan
    assert not (tmp_path / "out").exists()


def test_the_plan_ends_with_tables_for_the_run_that_the_weights_are_for(config, tmp_path):
    notes = NOTES.replace("[digits]", "[digits]\ntokens = 2_000_000") + "".join(
        f"[{name}]\ntokens = 1_000_000\n" for name in ("lower", "upper")
    )
    (tmp_path / "notes.toml").write_text(notes)
    changes = {"sources_info": tmp_path / "notes.toml", "target_tokens": 8_000_000, "max_epochs": 4.0}
    text = costs.describe_plan(plan_of(dataclasses.replace(config, **CAPPED | changes)))
    _, sources, arms = text.split("\n\n")
    rows = {row.split()[0]: row.split()[1:] for row in sources.splitlines()[2:]}
    assert sources.startswith("Sources under natural weights, in a run of 8 M tokens:") and list(rows) == [
        "digits", "lower", "upper",
    ]  # fmt: skip
    assert " ".join(rows["digits"]).endswith("0.500 4 M 2 4 CC0-1.0")
    assert " ".join(rows["lower"]).endswith("0.250 2 M 2 4 -")
    assert "epochs under --max-epochs 4" in sources
    assert [row.split("  ")[1] for row in arms.splitlines()[2:]][:3] == ["finding mixmin", "mixmin", "mixmin_document"]
    assert all(row.endswith((" s", " min", " h")) for row in arms.splitlines()[2:])


def test_sizes_are_those_of_whole_sources_of_which_a_sample_is_kept(config, data, tmp_path):
    whole = plan_of(config)
    sampled = plan_of(dataclasses.replace(config, source_bytes=2000, drop_duplicates=False))
    assert [corpus.num_bytes <= 2000 for corpus in sampled.sources] == [True] * 3
    np.testing.assert_allclose(sampled.sizes_K, whole.sizes_K, rtol=0.05)  # which lost some duplicates
    text = costs.describe_plan(sampled)
    assert ", a sample of 120 with " in text and "Duplicates and overlap are looked for in what is kept." in text
    assert not sampled.is_real_run and whole.is_real_run  # text repeats as it would in the whole source
    assert "max_unreadable" not in identity(sampled) and identity(sampled) != identity(whole)


def test_what_is_skipped_is_in_the_plan(config, data, tmp_path):
    shutil.copytree(data / "sources", tmp_path / "sources")
    with (tmp_path / "sources" / "digits.jsonl").open("a") as file:
        file.write('{"text": null}\n')
    (tmp_path / "sources" / "README.md").write_text("about")
    lines = costs.describe_plan(plan_of(dataclasses.replace(config, sources=(str(tmp_path / "sources"),)))).splitlines()
    assert lines[2].startswith("    left out, as no data: ") and lines[2].endswith("README.md")
    assert "(1 unusable ones skipped)" in lines[1] and "digits.jsonl, line 121: field 'text' is not a str" in lines[3]
    with pytest.raises(InputError, match=r"line 121: .*--max-unreadable allows 0\.001"):
        plan_of(dataclasses.replace(config, sources=(str(tmp_path / "sources"),), max_unreadable=0.001))


def test_what_is_kept_of_a_source_suffices_for_the_longest_training(config):
    long = dataclasses.replace(config.model, tokens=20_000_000)
    assert dataclasses.replace(config, model=long).limits.max_bytes == 30_000_000  # --multiples 1.5
    assert config.limits.max_bytes == 2**24 and PRESETS["small"].limits.max_bytes == 2**24


def test_boosted_trees_are_chosen_from_64_runs_on(config):
    more = dataclasses.replace(PROXY, tokens=64_000)  # so that mixtures of 64 runs are distinct
    models = [plan_of(dataclasses.replace(config, proxy_model=more, regmix_runs=n)).regmix_model for n in (63, 64)]
    assert models == ["linear", "boosted_trees"]


def test_the_cost_of_several_targets_counts_what_they_share_once(config):
    both, numbers = plan_of(config), plan_of(dataclasses.replace(config, target=config.target[:1]))
    proxy, model = costs.training(both, "proxy"), costs.training(both, "target")
    random = costs.training(both, "random")
    # two seeds of three proxies, four random mixtures and four arms, and one run of 1.5 times the tokens
    shared = 2 * (3 * proxy + 4 * random + 4 * model) + 1.5 * model
    assert costs.in_all(both) == pytest.approx(sum(costs.of_target(both, t)["total"] for t in both.targets) - shared)
    assert costs.in_all(numbers) == pytest.approx(costs.of_target(numbers, numbers.targets[0])["total"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": ()}, "--sources is given without --target"),
        ({"combine": "weighted", "target": ("one",)}, "--combine weighted needs several targets"),
        ({"combine": "worst_case", "method": "mirror_descent"}, "needs --method auto or interior_point"),
        (CAPPED | {"max_epochs": 4.0, "method": "active_set"}, "no caps, but --max-epochs is given: use --method auto"),
        ({"sources": ()}, "--target is given without --sources"),
        ({"sources": ("nowhere",)}, "nowhere: no such folder"),
        ({"target": ("{data}/sources/digits.jsonl",)}, "'digits' is the name of a source and of a target"),
        ({"target": ("{data}/copy.jsonl",)}, "hold the same documents"),
        ({"target": ("{data}/few.jsonl",)}, "'few' .* too small to split"),
        ({"target": ("{data}/both.jsonl", "{data}/./both.jsonl")}, "two targets are named 'both'"),
        ({"fit_bytes": 100}, "raise --fit-bytes"),
        ({"mesh_source": 100}, "100 .* devices"),
        ({"proxy_model": dataclasses.replace(PROXY, tokens=32)}, r"random mixtures: .*raise .* --proxy-model\.tokens"),
        ({"target": ("{data}/stages.jsonl",)}, "cannot be named 'stages'"),
        (
            {"sources_info": "{data}/wrong.toml"},
            r"wrong\.toml: no source is called 'digit'; the closest name is 'digits'",
        ),
        ({"sources_info": "{data}/strict.toml"}, "at least two sources, but of 4 only 1 may be used"),
        ({"target": ("{data}/copies.jsonl",)}, "every document of the source lower .* repeats the target"),
    ],
)
def test_bad_input_is_one_error_before_compute(config, data, tmp_path, change, message):
    write_lines(data / "few.jsonl", ["one document", "another document", "a third"])
    shutil.copy(data / "sources" / "digits.jsonl", data / "copy.jsonl")
    shutil.copy(data / "both.jsonl", data / "stages.jsonl")
    (data / "wrong.toml").write_text("[digit]")
    (data / "strict.toml").write_text("".join(f"[{name}]\nallowed = false\n" for name in ("digits", "lower", "web")))
    write_lines(data / "copies.jsonl", sentences(["abba", "cede", "fig"], 120, 1) + sentences(["more"], 1, 0))
    change = {
        key: tuple(str(v).format(data=data) for v in value) if isinstance(value, tuple) else value
        for key, value in change.items()
    }
    if "sources_info" in change:
        change["sources_info"] = Path(change["sources_info"].format(data=data))
    with pytest.raises(InputError, match=message):
        main(dataclasses.replace(config, out=tmp_path / "out", **change))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("spec", "content", "message"),
    [
        ("today", None, "expected NAME=FILE"),
        ("today={file}", None, "--compare today=.*mixture.json: .* cannot be read"),
        ("uniform={file}", "{}", "the name 'uniform' is taken"),
        ("today={file}", "[1, 2]", "must hold an object of numbers"),
        ("today={file}", '{"digits": "all"}', "must hold an object of numbers"),
        ("today={file}", '{"digits": 1, "web": 1}', "no source is called 'web'; there are digits, lower, upper"),
        ("today={file}", '{"digits": 1, "lower": 0}', "'upper' has no weight there"),
        ("today={file}", '{"digits": 1, "lower": -1, "upper": 1}', "sizes must be"),
        ("today={file}", '{"digits": 0, "lower": 0, "upper": 0}', "sizes must be"),
    ],
)
def test_a_mixture_to_compare_with_must_be_one(config, tmp_path, spec, content, message):
    file = tmp_path / "mixture.json"
    if content:
        file.write_text(content)
    with pytest.raises(InputError, match=message):
        plan_of(dataclasses.replace(config, compare=(spec.format(file=file),)))


def test_sizes_of_a_real_run_decide_natural_unimax_and_caps(config, tmp_path):
    def with_tokens(text, **changes):
        (tmp_path / "notes.toml").write_text(text + "[web]\nallowed = false\n")
        return plan_of(dataclasses.replace(config, sources_info=tmp_path / "notes.toml", **changes))

    text = "[digits]\ntokens = 100\n[lower]\ntokens = 300\n[upper]\ntokens = 600\n"
    plan = with_tokens(text, target_tokens=1000, max_epochs=2, **CAPPED)
    np.testing.assert_allclose(plan.rule_K("natural"), [0.1, 0.3, 0.6])
    np.testing.assert_allclose(plan.upper_bounds_K, [0.2, 0.6, 1.0])
    np.testing.assert_allclose(plan.rule_K("uniform"), [0.2, 0.4, 0.4])
    np.testing.assert_allclose(with_tokens(text, target_tokens=3000).rule_K("unimax"), [0.4 / 3, 0.4, 1.4 / 3])
    assert not plan.is_real_run and plan_of(config).is_real_run
    large = with_tokens(text.replace("00\n", "00_000\n"), target_tokens=2000)  # as much as was read does not repeat
    np.testing.assert_array_equal(large.proxy_store(PROXY).windows_K, large.store.windows_K)
    with pytest.raises(InputError, match="tokens for some sources only: add those of 'lower'"):
        with_tokens("[digits]\ntokens = 100\n")
    with pytest.raises(InputError, match="tokens must be a whole number above 0, not True"):
        with_tokens("[digits]\ntokens = true\n")


def test_caps_below_one_in_all_are_refused(config):
    with pytest.raises(InputError, match=r"--max-epochs 0.01 allows at most 0\.10"):
        plan_of(dataclasses.replace(config, max_epochs=0.01, **CAPPED))


def test_a_mixture_to_compare_with_obeys_the_caps(config):
    with pytest.raises(
        InputError, match=r"--compare today: the weight of 'digits' is 0.500, but --max-epochs 0.2 allows"
    ):
        plan_of(dataclasses.replace(config, max_epochs=0.2, multiples=()))


def test_a_budget_below_the_first_rung_is_refused(config):
    with pytest.raises(InputError, match=r"n-grams alone cost .* more than --search-budget 1e-06"):
        costs.check_search(plan_of(dataclasses.replace(config, proxy="auto", search_budget=1e-6)))


def test_ngrams_that_do_not_fit_in_memory_are_refused_with_what_would(config):
    plan = plan_of(config)
    with pytest.raises(InputError, match=r"counting the n-grams of lower, upper .* 2500 bytes fit"):
        costs.check_search(plan, memory=100_000)
    costs.check_search(plan, memory=1_000_000)
    costs.check_search(plan_of(dataclasses.replace(config, proxy="transformer")), memory=100_000)


def test_proxies_read_the_share_of_a_source_that_they_train_for(config):
    plan = plan_of(config)  # 1280 of 1600 tokens
    whole, store = plan.store, plan.proxy_store(plan.run("proxy"))
    sizes, all_sizes = (np.diff(some.starts_K, append=len(some.tokens)) for some in (store, whole))
    np.testing.assert_allclose(sizes / all_sizes, 0.8, atol=0.03)
    everything = plan.proxy_store(dataclasses.replace(PROXY, tokens=1600))
    np.testing.assert_array_equal(everything.windows_K, whole.windows_K)


def test_a_source_shorter_than_a_window_is_named(config, data, tmp_path):
    folder = tmp_path / "sources"
    shutil.copytree(data / "sources", folder)
    write_lines(folder / "tiny.jsonl", ["short"])
    with pytest.raises(InputError, match="source 'tiny' holds 7 tokens"):
        main(dataclasses.replace(config, sources=(str(folder),), out=tmp_path / "out"))


@pytest.mark.parametrize(
    "change",
    [
        {"seeds": 0}, {"max_epochs": 0.0}, {"regmix_runs": 1}, {"fit_bytes": 0}, {"mesh_data": 0}, {"mesh_data": 3},
        {"proxy_model": dataclasses.replace(PROXY, sequence_length=8)}, {"ngram_order": 8}, {"rows": "chunk"},
        {"search_budget": 0.0}, {"arms": ("none", "mixmin")}, {"arms": ("mixmin", "uniform")}, {"target_tokens": 31},
        {"multiples": (1.5,), "max_epochs": 2.0}, UNTRIED | {"combine": "weighted"},
        {"multiples": (0.5,)}, {"multiples": (3.0, 2.0)}, {"price_per_hour": 0.0}, {"source_bytes": 0},
        {"max_unreadable": 1.0},
    ],
)  # fmt: skip
def test_bad_combinations_of_options_are_refused(config, change):
    with pytest.raises(InputError):
        dataclasses.replace(config, **change)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_chosen_by_name_and_overridden_by_options(name):
    parsed = command_line.parse(
        TextMixture, PRESETS, ["--preset", name, "--proxy-model.tokens", "123456", "--seeds", "2"]
    )
    assert parsed.model == PRESETS[name].model and parsed.fit_bytes == PRESETS[name].fit_bytes
    assert parsed.proxy_model == dataclasses.replace(PRESETS[name].proxy_model, tokens=123456) and parsed.seeds == 2


def test_unknown_options_and_presets_are_refused(capsys):
    for arguments in (["--nonsense", "1"], ["--preset", "huge"]):
        with pytest.raises(SystemExit) as stopped:
            command_line.parse(TextMixture, PRESETS, arguments)
        assert stopped.value.code == 2


@pytest.mark.slow
def test_the_command_prints_a_line_for_everything_that_is_wrong_and_explains_itself():
    def call(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "experiments.text_mixture", *arguments], capture_output=True, text=True
        )

    bad = call("--sources", "nowhere", "--target", "nothing.txt")
    wrong = ["2 things are wrong:", "nowhere: no such folder of sources", "nothing.txt: no such file or folder"]
    assert bad.returncode == 2 and bad.stderr.strip() == "error: " + "\n  ".join(wrong)
    shown = call("--help").stdout
    assert "--max-epochs" in shown and "TFDS" in shown and "demonstration" in shown and "--preset" in shown
