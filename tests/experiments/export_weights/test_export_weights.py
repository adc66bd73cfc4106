"""The command: which mixture it takes, how it counts rows, what it says, and what it refuses."""

import dataclasses
import io
import json
import shutil
import typing
from pathlib import Path

import pytest

from experiments.export_weights.__main__ import main
from experiments.export_weights.config import ExportWeights, FormatName
from experiments.reporting.json_files import dumps, read_json
from mixmin_jax import InputError
from mixmin_jax.export.formats import FORMATS
from tests.experiments.made_up_text import write_lines

RESULTS = Path(__file__).parents[3] / "experiments" / "results"
DEMO = RESULTS / "text_mixture_demo" / "scipy_docs" / "weights.json"


@pytest.fixture
def weights(tmp_path):
    """Weights of three sources, one of which gets nothing; no run lies beside them."""
    path = tmp_path / "weights.json"
    mixmin = {"web": 0.75, "code": 0.25, "old": 0.0}
    path.write_text(dumps({"mixmin": mixmin, "uniform": dict.fromkeys(mixmin, 1 / 3)}))
    return path


@pytest.fixture
def run_beside(tmp_path):
    """A run with two sources of text that lie in files: 4 documents of 3 words, 2 of 12."""
    metrics = read_json(DEMO.with_name("metrics.json"))
    texts = {"code": ["one two three"] * 4, "jax": ["four five six " * 4] * 2}
    source = next(record for record in metrics["data_sets"] if record["role"] == "source")
    metrics["data_sets"] = []
    for name, documents in texts.items():
        path = tmp_path / "sources" / f"{name}.jsonl"
        write_lines(path, documents)
        text = {"name": name, "place": str(path), "reader": "text", "options": {"field": "text"}}
        metrics["data_sets"].append(source | text)
        metrics["data"]["sources"][name] |= {"documents": len(documents), "bytes": sum(map(len, documents))}
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    path = tmp_path / "weights.json"
    path.write_text(dumps({"mixmin": {"code": 0.5, "jax": 0.5}}))
    return path


def exported(capsys, weights, to="huggingface", **options):
    """The text that is printed, and the remarks."""
    main(ExportWeights(weights=weights, to=to, **options))
    printed = capsys.readouterr()
    return printed.out, printed.err


def test_a_name_that_stdout_cannot_hold_is_not_written_as_another(weights, monkeypatch, tmp_path):
    weights.write_text(dumps({"mixmin": {"数学": 1.0}}), encoding="utf-8")
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding="latin-1", errors="backslashreplace"))
    with pytest.raises(
        InputError, match=r"^stdout is latin-1, which has no '\\u6570\\u5b66': write to a file with --out"
    ):
        main(ExportWeights(weights=weights, to="huggingface", draws="sequences"))
    main(ExportWeights(weights=weights, to="huggingface", draws="sequences", out=tmp_path / "out.py"))
    assert "数学" in (tmp_path / "out.py").read_text()


def probabilities(text):
    names = {}
    exec(text[text.index("probabilities = ") : text.index("sources = ")], names)
    return names["probabilities"]


def test_every_trainer_has_its_place_in_the_options():
    assert typing.get_args(FormatName) == tuple(FORMATS)


def test_a_run_says_where_its_weights_come_from_and_how_long_its_documents_are(capsys):
    text, remarks = exported(capsys, DEMO)
    metrics = read_json(DEMO.with_name("metrics.json"))
    assert text.startswith(f"# recommended (mixmin) of {DEMO}, by mixmin_jax\n# found by: python -m experiments.text_")
    assert metrics["made_by"]["git_commit"] in text and "not those that" not in text
    assert "rows are counted in bytes" in remarks
    per_row = {name: found["bytes"] / found["documents"] for name, found in metrics["data"]["sources"].items()}
    weights = read_json(DEMO)["mixmin"]
    rates = {name: weight / per_row[name] for name, weight in weights.items()}
    expected = {name: pytest.approx(rate / sum(rates.values()), abs=1e-6) for name, rate in rates.items()}
    assert probabilities(text) == expected
    assert exported(capsys, DEMO)[0] == text  # no date in it


@pytest.mark.parametrize(
    "path", ["mixed_mixtraining_demo/weights.json", "molecule_mixture_logistic/TOX21_ERa_BLA_Agonist_ch1/weights.json"]
)
def test_weights_of_other_experiments(capsys, path):
    text, _ = exported(capsys, RESULTS / path)
    asked = {name: weight for name, weight in read_json(RESULTS / path)["mixmin"].items() if weight > 1e-6}
    found = probabilities(text)
    assert found.keys() == asked.keys() and sum(found.values()) == pytest.approx(1, abs=1e-9)
    if "molecule" in path:  # each row is a molecule
        assert found == pytest.approx(asked, abs=1e-5)


def test_weights_alone_with_lengths_as_given(capsys, weights):
    text, remarks = exported(capsys, weights, tokens_per_row=("web=1000", "code=100"))
    assert probabilities(text) == {"web": pytest.approx(3 / 13, abs=1e-6), "code": pytest.approx(10 / 13, abs=1e-6)}
    assert "tokens per row: tokens as given" in text and "left out, as they get no tokens: old" in remarks
    assert "weights = " in exported(capsys, weights, "grain", tokens_per_row=("web=1000", "code=100"))[0]
    assert "proportion: 0.75" in exported(capsys, weights, "mosaicml", draws="sequences")[0]


def test_epochs_at_the_real_budget(capsys, weights, run_beside):
    weights.write_text(dumps(read_json(weights) | {"sources": {"jax": {
        "licence": None, "note": None, "allowed": True, "tokens": 10_000}}}))  # fmt: skip
    text, remarks = exported(capsys, run_beside, "levanter", tokens=1e5, tokens_per_row=("code=25", "jax=40"))
    assert "epochs of code: 500\nepochs of jax: 5" in remarks and "epochs in 100000 tokens" in text
    assert "epochs of code: unknown" in exported(capsys, run_beside, "levanter", tokens=1e5)[1]
    with pytest.raises(InputError, match="would read 'code' 500 times"):
        exported(capsys, run_beside, "olmo_core", tokens=1e5, tokens_per_row=("code=25", "jax=40"))
    arguments = {"tokens_per_row": ("code=25", "jax=40"), "max_repetition_ratio": 500}
    assert "max_repetition_ratio: 500.0" in exported(capsys, run_beside, "olmo_core", tokens=1e5, **arguments)[0]


@pytest.fixture
def tokenizer(tmp_path):
    """Every word is a token, and every document has one more at its beginning."""
    tokenizers = pytest.importorskip("tokenizers")
    words = ["[start]", "one", "two", "three", "four", "five", "six"]
    model = tokenizers.models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="one")
    made = tokenizers.Tokenizer(model)
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.post_processor = tokenizers.processors.TemplateProcessing(single="[start] $A", special_tokens=[("[start]", 0)])
    made.enable_truncation(5)
    made.save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


def test_a_tokenizer_counts_the_text_of_the_run_again(capsys, run_beside, tokenizer):
    text, remarks = exported(capsys, run_beside, tokenizer=tokenizer, tokens=84)
    assert probabilities(text) == {"code": pytest.approx(13 / 17, abs=1e-6), "jax": pytest.approx(4 / 17, abs=1e-6)}
    assert f"tokens per row: tokens of {tokenizer}" in text and "not those that the run wrote" in text
    assert "not those that the run beside them" in remarks
    assert "epochs of code: 2.625" in remarks  # 42 of 4 documents of 4 tokens
    mixed, _ = exported(capsys, run_beside, tokenizer=tokenizer, tokens_per_row=("jax=4",))
    assert probabilities(mixed) == {"code": 0.5, "jax": 0.5}
    Path(read_json(run_beside.with_name("metrics.json"))["data_sets"][0]["place"]).unlink()
    with pytest.raises(InputError, match=r"cannot read 'code' again \(.*code.jsonl: no such file.*\): start where"):
        exported(capsys, run_beside, tokenizer=tokenizer)
    tokenizer.write_text("{}")
    with pytest.raises(InputError, match=r"tokenizer\.json: not a tokenizer.json"):
        exported(capsys, run_beside, tokenizer=tokenizer)
    with pytest.raises(InputError, match=r"no such file; it takes a tokenizer\.json"):
        exported(capsys, run_beside, tokenizer=tokenizer.with_name("no.json"))
    shutil.move(run_beside.with_name("metrics.json"), run_beside.with_name("elsewhere.json"))
    with pytest.raises(InputError, match=r"no metrics.json beside the weights"):
        exported(capsys, run_beside, tokenizer=tokenizer)


def test_a_file_is_written_and_not_replaced_by_accident(capsys, weights, tmp_path):
    out = tmp_path / "mixture.yaml"
    printed, _ = exported(capsys, weights, "levanter", out=out, path="gs://corpus/{name}/*.parquet")
    assert "gs://corpus/web/*.parquet" in out.read_text() and printed == f"{out}: mixmin of {weights} for levanter\n"
    config = ExportWeights(weights=weights, to="megatron", out=out)
    with pytest.raises(InputError, match=r"mixture.yaml is there already: choose another --out, or give --overwrite"):
        main(config)
    main(dataclasses.replace(config, overwrite=True))
    assert "DATA_PATH" in out.read_text()
    with pytest.raises(InputError, match="blocks of 2"):
        main(ExportWeights(weights=weights, to="levanter", block_size=2, out=out, overwrite=True))
    assert "DATA_PATH" in out.read_text()


@pytest.mark.parametrize(
    "content, message",
    [
        ("[1]", "holds no weights: expected {arm: {source: weight}}"),
        ("{}", "holds no weights"),
        ('{"web": 0.5, "code": 0.5}', "one mixture without a name"),
        ('{"mixmin": {"web": 1}, "unit": "share of documents"}', "unit 'share of documents', and trainers need"),
        ('{"mixmin": {"web": "much"}}', "weights.json, mixmin holds no dict: Expected `float`"),
        ('{"mixmin": {"web": 0.5}}', "weights.json, mixmin: the weights have a sum of 0.5"),
        ('{"mixmim": {"web": 1.0}}', "no arm is recommended or called mixmin: choose one with --arm; the closest name"),
        ('{"recommended": {"web": 1.0}}', "recommended must hold arm and weights"),
        ("{", "cannot be read"),
    ],
)
def test_files_that_hold_no_weights_are_refused(weights, content, message):
    weights.write_text(content)
    with pytest.raises(InputError, match=message):
        main(ExportWeights(weights=weights, to="levanter"))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"arm": "unifrom"}, "no arm is called 'unifrom'; the closest names are 'uniform'"),
        ({"to": "huggingface"}, "not known for 'web', 'code': give it for every source"),
        ({"to": "huggingface", "tokens_per_row": ("web=3",)}, "not known for 'code'"),
        ({"to": "grain"}, "grain draws what its files hold"),
        ({"tokens_per_row": ("wob=3",)}, "no source is called 'wob'; the closest name is 'web'"),
        ({"tokens_per_row": ("web",)}, "--tokens-per-row web: expected NAME=VALUE"),
        ({"tokens_per_row": ("web=0", "code=3")}, "tokens per row of 'web' is 0.0"),
        ({"tokens": 0.0}, "--tokens must be a number of tokens, such as 100e9, not 0.0"),
        ({"tokens": float("nan")}, "--tokens must be"),
    ],
)
def test_options_that_make_no_sense_are_refused(weights, options, message):
    with pytest.raises(InputError, match=message):
        main(ExportWeights(**{"weights": weights, "to": "levanter"} | options))
