"""A tiny run: three sources, two targets, two seeds."""

import json

import pytest

from experiments.text_mixture.__main__ import main
from experiments.text_mixture.config import ALL_ARMS, TextMixture
from tests.experiments.made_up_text import WORDS, sentences, write_lines
from tests.experiments.text_mixture.tiny_run import MODEL, NOTES, PROXY


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Three sources, of which `upper` holds copies of five target documents, and one that may not be used."""
    folder = tmp_path_factory.mktemp("text")
    (folder / "sources").mkdir()
    (folder / "sources" / "sources.toml").write_text(NOTES)
    numbers = sentences(WORDS["digits"], 40, 10)
    both = sentences(WORDS["lower"] + WORDS["upper"], 40, 11)
    copies = {"upper": [*both[:3], *(text.replace(" ", "\n") for text in numbers[:2])]}
    for seed, (name, words) in enumerate(WORDS.items()):
        write_lines(folder / "sources" / f"{name}.jsonl", copies.get(name, []) + sentences(words, 120, seed))
    write_lines(folder / "sources" / "web.jsonl", sentences(WORDS["digits"], 400, 12))
    write_lines(folder / "numbers.jsonl", numbers)
    write_lines(folder / "both.jsonl", both)
    (folder / "today.json").write_text(json.dumps({"digits": 2, "lower": 1, "upper": 1}))
    return folder


@pytest.fixture(scope="session")
def config(data, tmp_path_factory):
    return TextMixture(
        sources=(str(data / "sources"),),
        target=(str(data / "numbers.jsonl"), str(data / "both.jsonl")),
        out=tmp_path_factory.mktemp("run") / "out",
        seeds=2,
        drop_duplicates=True,
        regmix_runs=4,  # not a multiple of the three sources
        arms=ALL_ARMS,
        compare=(f"today={data / 'today.json'}",),
        multiples=(1.5,),
        proxy_model=PROXY,
        model=MODEL,
        mesh_source=1,
    )


@pytest.fixture(scope="session")
def finished(config):
    main(config)
    return config.out
