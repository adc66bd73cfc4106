"""Filtering and mixing at once, end to end and tiny: two sources with noise, one target, two seeds; and one pile."""

import dataclasses
import gzip
import json
import shutil

import numpy as np
import pyarrow.parquet
import pytest

from experiments.export_weights.__main__ import main as export_weights
from experiments.export_weights.config import ExportWeights
from experiments.filter_and_mix import search
from experiments.filter_and_mix.__main__ import main
from experiments.filter_and_mix.config import ALL_ARMS, FilterAndMix
from experiments.filter_and_mix.plan import make_plan
from experiments.harness import language_model_stages
from experiments.harness.result_files import file_name
from mixmin_jax.data.text.documents import read_corpus
from mixmin_jax.data.text.source_notes import read_source_notes, read_source_places
from mixmin_jax.errors import InputError
from mixmin_jax.models.transformer import TransformerConfig
from mixmin_jax.training.language_model import LanguageModelRun
from tests.experiments.made_up_text import WORDS, sentences, write_lines
from tests.experiments.verify.verified import assert_verified, failures

MODEL = LanguageModelRun(TransformerConfig(8, 1, 1), tokens=40 * 2 * 16, sequence_length=16, batch_size=2)


@pytest.fixture(scope="module", autouse=True)
def few_resamples():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "RESAMPLES", 20)
        patch.setattr(search, "FOLDS", 2)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Sources of whose documents a fifth is noise: 'lower' is what the target needs, 'digits' is not."""
    folder = tmp_path_factory.mktemp("text")
    noise = sentences(["###", "$$$$", "%%", "&&&"], 12, 5)
    for seed, name in enumerate(("digits", "lower")):
        texts = [*sentences(WORDS[name], 48, seed), *noise]
        write_lines(folder / "sources" / f"{name}.jsonl", texts)
        write_lines(folder / f"{name}.jsonl", texts)
    (folder / "sources" / "sources.toml").write_text('[lower]\nlicence = "CC0-1.0"\n')
    write_lines(folder / "target.jsonl", sentences(WORDS["lower"] + WORDS["digits"][:1], 40, 9))
    write_lines(folder / "pile.jsonl", [*sentences(WORDS["digits"], 40, 1), *sentences(WORDS["lower"], 40, 2)])
    return folder


@pytest.fixture(scope="module")
def config(folder, tmp_path_factory):
    return FilterAndMix(
        sources=(str(folder / "sources"),),
        target=(str(folder / "target.jsonl"),),
        out=tmp_path_factory.mktemp("run") / "out",
        buckets="quality:5",
        seeds=2,
        model=MODEL,
        write_buckets=True,
    )


@pytest.fixture(scope="module")
def finished(config):
    main(config)
    return config.out


def load(out, name="metrics.json"):
    return json.loads((out / "target" / name).read_text())


def test_noise_is_left_out_and_what_the_target_needs_is_taken(finished):
    metrics = load(finished)
    assert list(metrics["arms"]) == list(ALL_ARMS) and metrics["seeds"] == [0, 1]
    buckets = metrics["buckets"]
    weight = {name: sum(b["weight"] for b in buckets.values() if b["source"] == name) for name in metrics["sources"]}
    assert weight["lower"] > 0.8
    worst = {name: bucket for name, bucket in buckets.items() if name.endswith("quality1of5")}
    assert len(worst) == 2 and sum(bucket["weight"] for bucket in worst.values()) < 0.01
    for bucket in buckets.values():
        if bucket["weight"]:
            assert 0 < bucket["lower"] <= bucket["upper"] <= 1
        else:
            assert bucket["lower"] == bucket["upper"] == 0
    assert metrics["solved"]["converged"] and metrics["solved"]["gap"] <= metrics["solved"]["tolerance"]
    assert metrics["cost"] <= metrics["noise"]
    assert metrics["arms"]["filter"]["threshold"] > 0 and metrics["arms"]["mix"]["threshold"] is None
    assert all(len({*arm["test_bits_per_byte"]["per_seed"]}) == 2 for arm in metrics["arms"].values())
    assert set(metrics["comparisons"]) == {*ALL_ARMS} - {"filter_and_mix"}
    assert metrics["contents"]["licences"]["CC0-1.0"]["mixture"] == pytest.approx(weight["lower"])
    assert metrics["arms"]["natural"]["finding_flops"] == 0 < metrics["arms"]["mix"]["finding_flops"]
    report = (finished / "target" / "report.md").read_text()
    for part in ("quality1of5", "left out", "CC0-1.0", "Thresholds", "Documents near the border"):
        assert part in report
    assert_verified(finished)


def test_a_changed_weight_is_found(finished, tmp_path):
    copy = shutil.copytree(finished, tmp_path / "copy")
    metrics = load(copy)
    metrics["arms"]["mix"]["weights_per_seed"][0]["lower/quality3of5"] += 0.01
    (copy / "target" / "metrics.json").write_text(json.dumps(metrics))
    assert any("lower/quality3of5" in why for why in failures(copy).values())


def test_documents_have_the_weights_of_their_buckets(finished, folder):
    table = pyarrow.parquet.read_table(finished / "target" / "documents.parquet").to_pydict()
    buckets, weights = load(finished)["buckets"], load(finished, "weights.json")["recommended"]["weights"]
    assert sum(table["weight"]) == pytest.approx(1) and len(table["weight"]) == 120
    texts = [json.loads(line)["text"] for line in (folder / "sources" / "lower.jsonl").read_text().splitlines()]
    for name, bucket in buckets.items():
        mine = [i for i, owner in enumerate(table["bucket"]) if owner == name]
        assert sum(table["weight"][i] for i in mine) == pytest.approx(weights[name] if bucket["weight"] else 0)
        assert {round(table["rate"][i], 9) for i in mine} == {round(bucket["weight"] / bucket["natural"], 9)}
        if bucket["source"] != "lower":
            continue
        path = finished / "target" / "buckets" / f"{file_name(name)}.jsonl.gz"
        assert path.exists() == (bucket["weight"] > 0)
        if path.exists():
            written = [json.loads(line)["text"] for line in gzip.decompress(path.read_bytes()).decode().splitlines()]
            assert written == [texts[table["document"][i]] for i in mine]


def test_written_buckets_are_sources_with_their_licenses(finished):
    place, weights = finished / "target" / "buckets", load(finished, "weights.json")["filter_and_mix"]
    found = read_source_places(place / "sources.toml")
    assert set(found) == {name for name, weight in weights.items() if weight}
    notes = read_source_notes(place / "sources.toml", tuple(found))
    for name, where in found.items():
        assert read_corpus(where.path).num_documents == load(finished)["buckets"][name]["documents"]
        assert notes[name].licence == ("CC0-1.0" if name.startswith("lower") else None)


def test_resumed_and_uninterrupted_runs_are_the_same(finished, config, tmp_path, monkeypatch):
    """With the weights found by one process, and the models trained by another."""
    again = dataclasses.replace(config, out=tmp_path / "again")
    with monkeypatch.context() as patch:
        patch.setattr(
            language_model_stages, "train_on_mixtures", lambda *args, **options: (_ for _ in ()).throw(OSError)
        )
        with pytest.raises(OSError):
            main(again)
    main(dataclasses.replace(again, resume=True))
    first, second = load(finished), load(again.out)
    for key in ("arms", "buckets", "comparisons", "strengths", "filters", "contents"):
        assert first[key] == second[key]


def test_a_pile_is_cut_by_topics(folder, tmp_path):
    out = tmp_path / "pile"
    main(
        FilterAndMix(
            sources=(str(folder / "pile.jsonl"),),
            target=(str(folder / "target.jsonl"),),
            out=out,
            buckets="topics:2",
            arms=("none",),
            model=MODEL,
        )
    )
    metrics = load(out)
    weight, rest = sorted((bucket["weight"], bucket["words"]) for bucket in metrics["buckets"].values())[::-1]
    assert weight[0] > 0.8 and {"abba", "cede", "fig"} & set(" ".join(weight[1]).split()) and rest[0] < 0.2
    assert metrics["arms"]["filter_and_mix"]["test_bits_per_byte"] is None
    assert not metrics["notices"] and (out / "target" / "documents.parquet").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"buckets": "quality:0"}, "expected quality:Q"),
        ({"buckets": "quality:4xquality:2"}, "expected quality:Q"),
        ({"buckets": "best:4"}, "expected quality:Q"),
        ({"noise": 1.0}, "--noise must be"),
        ({"arms": ("mix", "natural")}, "--arms needs filter_and_mix"),
        ({"arms": ("none", "mix")}, "--arms none"),
        ({"pile": True, "sources": ("a", "b")}, "--pile is for one folder"),
        ({"quality_field": "score"}, "of --sources, which are not given"),
        ({"quality_field": "score", "noise": 0.1, "sources": ("a",), "target": ("b",)}, "leave out --quality-field"),
        ({"rows": "0"}, "rows are"),
    ],
)
def test_options_that_cannot_be(options, says):
    with pytest.raises(InputError, match=says):
        FilterAndMix(**options)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"max_share": ("source=lower:0.2", "source=digits:0.3")}, "at most 0.5"),
        ({"max_share": ("licence=MIT:0.2",)}, "no licence is called 'MIT'; there are CC0-1.0, unknown"),
        ({"max_share": ("source=lower:0.2", "licence=unknown:0.3")}, "give one kind"),
        ({"max_share": ("lower:0.2",)}, "expected source=NAME:SHARE or licence=NAME:SHARE"),
        ({"min_share": ("source=lower:2",)}, "with a share from 0 to 1"),
        (
            {"min_share": ("source=lower:0.7",), "max_share": ("source=lower:0.5",)},
            "cap of 0.5, but its floors need 0.7",
        ),
        ({"max_epochs": 0.1}, "allow at most"),
        ({"quality_field": "score"}, "'score' is missing .60 of its 60"),
    ],
)
def test_limits_that_no_mixture_meets_and_fields_that_are_not_there(config, options, says):
    with pytest.raises(InputError, match=says):
        make_plan(dataclasses.replace(config, **options))


@pytest.mark.slow
def test_limits_hold_in_every_arm(config, tmp_path):
    out = tmp_path / "limited"
    limits = {"max_share": ("source=lower:0.4",), "min_share": ("source=digits:0.5",)}
    main(dataclasses.replace(config, out=out, seeds=1, write_buckets=False, **limits))
    metrics = load(out)
    owner = {name: bucket["source"] for name, bucket in metrics["buckets"].items()}
    for arm, found in metrics["arms"].items():
        lower = sum(weight for name, weight in found["weights"].items() if owner[name] == "lower")
        assert lower <= 0.4 + 1e-9 and np.isclose(sum(found["weights"].values()), 1), arm


def test_weights_are_exported_as_any(finished, tmp_path):
    weights = finished / "target" / "weights.json"
    export_weights(ExportWeights(weights, to="megatron", path="data/{name}", out=tmp_path / "mix.txt"))
    assert "data/lower/quality" in (tmp_path / "mix.txt").read_text()
