"""Another source or target later, in the same folder: what is trained, counted and scored, and what is said of it."""

import dataclasses
import json
from pathlib import Path

import pytest

from experiments.harness import language_model_stages
from experiments.text_mixture import __main__ as text_mixture
from experiments.text_mixture import overlap as text_mixture_overlap
from experiments.text_mixture import stages as text_mixture_stages
from experiments.text_mixture.__main__ import main
from experiments.text_mixture.build import identity
from experiments.text_mixture.config import TextMixture
from experiments.text_mixture.extension import EXTENDS, carry_over
from experiments.text_mixture.report import text_mixture_report, verdict
from mixmin_jax.errors import InputError
from tests.experiments.made_up_text import WORDS, sentences, write_lines
from tests.experiments.text_mixture.made_up import changed, made_up
from tests.experiments.text_mixture.tiny_run import MODEL, PROXY, UNTRIED, load, plan_of
from tests.experiments.verify.verified import assert_verified, failures


@pytest.fixture
def folder(tmp_path):
    """Three sources, one of them also in two parts, and two targets."""
    for seed, (name, words) in enumerate(WORDS.items()):
        texts = sentences(words, 120, seed)
        write_lines(tmp_path / f"{name}.jsonl", texts)
        if name == "digits":
            write_lines(tmp_path / "even.jsonl", texts[::2])
            write_lines(tmp_path / "odd.jsonl", texts[1::2])
    write_lines(tmp_path / "numbers.jsonl", sentences(WORDS["digits"] + WORDS["lower"], 40, 10))
    write_lines(tmp_path / "both.jsonl", sentences(WORDS["lower"] + WORDS["upper"], 40, 11))
    return tmp_path


@pytest.fixture
def work(monkeypatch):
    """What is trained, counted and scored, as it happens; reports, which take seconds, are not written."""
    done = []

    def watch(module, name, told):
        original = getattr(module, name)

        def watched(*arguments, **options):
            done.extend(told(*arguments, **options))
            return original(*arguments, **options)

        monkeypatch.setattr(module, name, watched)

    watch(language_model_stages, "train_on_mixtures", lambda *_, names, **__: [f"train {name}" for name in names])
    watch(
        language_model_stages,
        "score_documents",
        lambda model, params, *_, **__: ["score"] * len(params["params"]["embed"]["embedding"]),
    )
    watch(text_mixture_stages, "count_ngrams", lambda *_: ["train"])
    watch(text_mixture_stages, "ngram_score", lambda *_: ["score"])
    watch(text_mixture_overlap, "find_overlap", lambda target, sources, **_: ["overlap"] * len(sources))
    without_reports = dataclasses.replace(text_mixture.QUESTION, write=lambda folder, results: None)
    monkeypatch.setattr(text_mixture, "QUESTION", without_reports)

    def run(config):
        done.clear()
        main(config)
        trained = sorted(line.removeprefix("train").strip() for line in done if line.startswith("train"))
        return trained, done.count("score"), done.count("overlap")

    return run


def config_of(folder, proxy, sources, targets=("numbers",), **options):
    return TextMixture(
        sources=tuple(str(folder / f"{name}.jsonl") for name in sources),
        target=tuple(str(folder / f"{name}.jsonl") for name in targets),
        proxy=proxy,
        rows="document",
        proxy_model=PROXY,
        model=MODEL,
        mesh_source=1,
        **UNTRIED | {"out": folder / "out"} | options,
    )


@pytest.mark.parametrize("proxy", ["transformer", "ngram"])
@pytest.mark.slow
def test_only_what_is_new_is_trained_and_scored(folder, work, proxy, capsys):
    def names(*expected):  # counting does not tell whose text it is
        return [*expected] if proxy == "transformer" else [""] * len(expected)

    def extended(sources, targets=("numbers", "both")):
        return config_of(folder, proxy, sources, targets, extend=True)

    assert work(config_of(folder, proxy, ("digits", "upper"))) == (names("digits", "upper"), 2, 2)
    before = load(folder / "out")
    three = ("digits", "lower", "upper")  # the new one takes the place that another had
    assert work(extended(three, ("numbers",))) == (names("lower"), 1, 1)
    text = capsys.readouterr().out
    assert "proxies of 2 sources are used again" in text and "for new sources: lower" in text
    numbers = load(folder / "out")
    assert work(extended(three)) == ([], 3, 3)  # another target
    assert load(folder / "out")["search"]["rungs"][0]["weights"] == numbers["search"]["rungs"][0]["weights"]
    assert work(extended(("lower", "upper"))) == ([], 0, 0)  # a source removed
    assert work(extended(("even", "odd", "lower", "upper"))) == (names("even", "odd"), 4, 4)  # back in two parts

    first, last = numbers["extension"], load(folder / "out")["extension"]
    assert (first["previous"], first["kept"], first["added"]) == ("previous/1", ["digits", "upper"], ["lower"])
    assert first["before"] == before["search"]["rungs"][0]["weights"] and first["before"]["digits"] > 0.9
    assert numbers["search"]["rungs"][0]["weights"]["lower"] > 0.2
    assert first["distinguishable"] and first["gain"] > 2 * first["standard_error"] > 0
    assert 0 < first["flops"] < 0.6 * first["flops_again"]
    assert (last["previous"], last["added"], last["removed"]) == ("previous/4", ["even", "odd"], [])
    second_target, without_digits = (load(folder / "out" / "previous" / n, "both")["extension"] for n in ("3", "4"))
    assert second_target["is_new_target"] and second_target["before"] is None and second_target["kept"] == [*three]
    assert 0 < second_target["flops"] < second_target["flops_again"]
    assert without_digits["removed"] == ["digits"] and without_digits["flops"] == 0


@pytest.mark.slow
def test_an_extended_run_ends_with_the_weights_of_a_new_one(folder, work):
    work(config_of(folder, "ngram", ("digits", "upper")))
    work(config_of(folder, "ngram", ("digits", "lower", "upper"), ("numbers", "both"), extend=True))
    fresh = config_of(folder, "ngram", ("digits", "lower", "upper"), ("numbers", "both"))
    work(dataclasses.replace(fresh, out=folder / "fresh"))
    for target in ("numbers", "both"):
        for name in ("weights.json", "overlap.json"):
            assert load(folder / "out", target, name) == load(folder / "fresh", target, name)


def test_results_so_far_are_kept_as_they_were_and_all_are_verified(folder):
    main(config_of(folder, "ngram", ("digits", "upper")))
    names = ("config.json", "status.json", "index.html", "numbers/weights.json", "numbers/report.html")
    held = {name: (folder / "out" / name).read_bytes() for name in names}
    more = config_of(folder, "ngram", ("digits", "lower", "upper"), extend=True)
    main(more)
    assert {name: (folder / "out" / "previous" / "1" / name).read_bytes() for name in names} == held
    assert_verified(folder / "out")
    assert_verified(folder / "out" / "previous" / "1")
    report = (folder / "out" / "numbers" / "report.md").read_text()
    assert "| `lower` | new |  | 0." in report and "Proxies of `lower` were made." in report
    main(dataclasses.replace(more, extend=False))  # nothing is moved again, and the report is the same
    main(more)
    assert (folder / "out" / "numbers" / "report.md").read_text() == report
    assert [path.name for path in (folder / "out" / "previous").iterdir()] == ["1"]
    path = folder / "out" / "numbers" / "metrics.json"
    path.write_text(json.dumps(load(folder / "out") | {"extension": load(folder / "out")["extension"] | {"gain": 1.0}}))
    assert "extension.gain is 1.0" in failures(folder / "out")["numbers: the record follows from its stages"]


@pytest.mark.slow
def test_an_extension_of_a_run_that_replaced_another_is_compared_with_that_run(folder, work):
    work(config_of(folder, "ngram", ("digits", "upper")))
    work(config_of(folder, "ngram", ("digits", "lower", "upper"), extend=True))
    work(config_of(folder, "ngram", ("lower", "upper"), overwrite=True))
    assert not (folder / "out" / "previous").exists()
    work(config_of(folder, "ngram", ("even", "lower", "upper"), extend=True))
    assert load(folder / "out")["extension"]["added"] == ["even"]


def test_a_sample_of_another_size_is_another_run(folder, work):
    small = config_of(folder, "ngram", ("digits", "upper"), source_bytes=2000)
    work(small)
    with pytest.raises(InputError, match=r"differs in.*source_bytes"):
        work(dataclasses.replace(small, source_bytes=None, extend=True))


def test_a_plan_says_what_is_used_again_and_changes_nothing(folder, work, capsys):
    work(config_of(folder, "ngram", ("digits", "upper")))
    config = (folder / "out" / "config.json").read_bytes()
    write_lines(folder / "upper.jsonl", sentences(WORDS["upper"], 100, 7))
    dry = config_of(folder, "ngram", ("lower", "upper"), ("both",), extend=True, dry_run=True)
    capsys.readouterr()
    assert work(dry) == ([], 0, 0)
    said = capsys.readouterr().out.split("Extends the run in")[1]
    for line in ("new sources: lower", "text changed: upper", "no longer there: digits", "scored on: both"):
        assert line in said
    assert (folder / "out" / "config.json").read_bytes() == config and not (folder / "out" / "previous").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ngram_order": 2}, r"differs in: ngram_order \(3 there, 2 now\)\. Give the settings of that run"),
        ({"fit_bytes": 900}, r"differs in: fit_bytes"),
        ({"out": Path("nowhere")}, "nowhere holds no run yet; leave out --extend"),
        ({"overwrite": True}, "--extend keeps the results in --out, --overwrite replaces them"),
        ({"extend": False}, r"differs in: data\.lower .*or --extend to go on with that run"),
    ],
)
def test_what_cannot_be_extended_is_refused_before_anything_is_touched(folder, work, options, message):
    work(config_of(folder, "ngram", ("digits", "upper")))
    files = {path: path.read_bytes() for path in (folder / "out").rglob("*") if path.is_file()}
    with pytest.raises(InputError, match=message):
        work(config_of(folder, "ngram", ("digits", "lower", "upper"), **{"extend": True} | options))
    assert {path: path.read_bytes() for path in (folder / "out").rglob("*") if path.is_file()} == files


def test_arms_of_the_run_so_far_may_be_left_out(config):
    tried = identity(plan_of(dataclasses.replace(config, combine="weighted")))
    untried = identity(plan_of(dataclasses.replace(config, **UNTRIED)))
    assert {key for key in tried if tried[key] != untried[key]} == {"arms", "combine", "compared", "multiples", "seeds"}
    assert {*EXTENDS} == {"arms", "combine", "compared", "multiples", "seeds", "data", "sizes", "targets"}


def test_weights_are_carried_over_to_other_sources():
    assert carry_over({"a": 0.2, "b": 0.3, "c": 0.5}, ("b", "c", "d")) == pytest.approx([0.375, 0.625, 0])
    assert carry_over({"a": 1.0}, ("b", "c")) is None


EXTENSION = {
    "previous": "previous/2",
    "kept": ["source_1"],
    "added": ["source_0"],
    "changed": [],
    "removed": ["old"],
    "is_new_target": False,
    "before": {"source_1": 0.75, "old": 0.25},
    "carried": {"source_0": 0.0, "source_1": 1.0},
    "gain": 0.0123,
    "standard_error": 0.004,
    "distinguishable": True,
    "flops": 1e9,
    "flops_again": 4e9,
}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "sources that are gone: more than noise, as the new weights gain 0.0123 ± 0.0040 bits per byte on"),
        ({"distinguishable": False}, "**not shown to gain** (0.0123 ± 0.0040 bits per byte on documents"),
        (
            {"gain": None, "standard_error": None, "distinguishable": None},
            "sources, beside those of sources that are gone.",
        ),
        ({"removed": [], "before": {"source_1": 1.0}}, "of the tokens moved to other sources: more than noise"),
        ({"before": "same"}, "Since `previous/2`, the weights did not move."),
    ],
)
def test_the_report_says_how_the_weights_moved_and_whether_that_is_noise(changes, said):
    metrics = changed(made_up(num_sources=2), arms={}, comparisons={})
    if changes.get("before") == "same":
        changes = {"before": metrics.found, "removed": []}
    metrics = changed(metrics, extension=EXTENSION | changes)
    assert said in verdict(metrics)
    text = text_mixture_report(metrics).markdown
    assert said in text and "| what was still to be made | 1 G | 25.0% |" in text
    assert "| `old` | no longer there | " in text or "before" in changes


def test_a_new_target_has_no_weights_before():
    metrics = changed(
        made_up(), extension=EXTENSION | {"is_new_target": True, "before": None, "carried": None, "removed": []}
    )
    assert "The target is new, or has" in text_mixture_report(metrics).markdown and "previous/2" not in verdict(metrics)
