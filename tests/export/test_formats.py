"""Every trainer's own parser or sampler reads what is written, and draws the shares of tokens that were asked for.

Trainers that rarely are installed are stood in for by the lines of their code that read the file, named in each test.
"""

import dataclasses
import json
import random
import subprocess
import sys
import types

import pytest

from mixmin_jax import InputError, export_mixture, token_mixture
from mixmin_jax.export.formats import FORMATS

SHARES = {"web": 0.5, "code": 0.3, "math": 0.2, "old": 0.0}
LENGTHS = {"web": (5, 15), "code": (60, 140), "math": (20, 40)}  # tokens of a document, uniform
MEANS = {name: sum(ends) / 2 for name, ends in LENGTHS.items()}
MIXTURE = token_mixture(SHARES, tokens_per_row=MEANS)
ORIGIN = ("mixmin of weights.json",)


def texts(name, count, seed=0):
    """Documents that begin with the name of their source, and have a mean length of exactly `MEANS`."""
    low, high = LENGTHS[name]
    lengths = [low + number % (high - low + 1) for number in range(count - count % (high - low + 1))]
    random.Random(seed).shuffle(lengths)
    return [" ".join([name] * length) for length in lengths]


def assert_asked(drawn):
    """The share of tokens of each source in drawn documents is within 1 % of what was asked."""
    tokens = dict.fromkeys(MEANS, 0)
    for text in drawn:
        words = text.split()
        tokens[words[0]] += len(words)
    total = sum(tokens.values())
    assert total > 60_000
    assert {name: count / total for name, count in tokens.items()} == pytest.approx(MIXTURE.shares, abs=0.01)


def run(text, **modules):
    """The names that Python text defines, with modules of trainers that are not installed."""
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update({name.replace("__", "."): module for name, module in modules.items()})
    try:
        names = {}
        exec(compile(text, "an export", "exec"), names)
        return names
    finally:
        for name in modules:
            sys.modules.pop(name.replace("__", "."))
        sys.modules.update({name: module for name, module in before.items() if module})


def test_hugging_face_draws_the_tokens(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    pytest.importorskip("datasets")
    for name in MEANS:
        (tmp_path / name).mkdir()
        lines = "".join(json.dumps({"text": text}) + "\n" for text in texts(name, 1100))
        (tmp_path / name / "train.jsonl").write_text(lines)
    train = run(export_mixture(MIXTURE, "huggingface", place=f"{tmp_path}/{{name}}", origin=ORIGIN))["train"]
    assert_asked(row["text"] for row in train)


def test_trl_trains_on_what_hugging_face_draws():
    text = export_mixture(MIXTURE, "trl")
    assert text.startswith(export_mixture(MIXTURE, "huggingface")) and "packing=True" in text


def write_array_records(folder, count):
    """A folder with so many documents for each source."""
    array_record = pytest.importorskip("array_record.python.array_record_module")
    for name in MEANS:
        (folder / name).mkdir()
        writer = array_record.ArrayRecordWriter(str(folder / name / "0.array_record"), "group_size:1")
        for text in texts(name, count):
            writer.write(text.encode())
        writer.close()


def test_grain_draws_the_tokens(tmp_path):
    write_array_records(tmp_path, 100)
    text = export_mixture(MIXTURE, "grain", draws="documents", place=f"{tmp_path}/{{name}}/*.array_record")
    train = run(text)["train"]
    assert_asked(train[number].decode() for number in range(4000))


def test_maxtext_draws_the_tokens():
    grain = pytest.importorskip("grain")
    held = json.loads(export_mixture(MIXTURE, "maxtext", origin=ORIGIN))
    # maxtext/input_pipeline/grain_data_processing.py, get_datasets
    assert [source["path"] for source in held.values()] == [f"data/{name}/*.array_record" for name in MIXTURE.shares]
    weights = [float(source["weight"]) for source in held.values()]
    sources = {name: grain.MapDataset.source(texts(name, 100)).repeat().to_iter_dataset() for name in held}
    train = iter(
        grain.IterDataset.mix(sources, {name: w / sum(weights) for name, w in zip(held, weights, strict=True)})
    )
    assert_asked(next(train) for _ in range(4000))
    comment = next(iter(held.values()))["comment"]
    assert ORIGIN[0] in comment and "num_epoch must be as large as the most epochs" in comment[-1]
    sized = dataclasses.replace(MIXTURE, source_tokens={"web": 100.0}, budget=1000)
    assert (
        "num_epoch must be at least 5:"
        in next(iter(json.loads(export_mixture(sized, "maxtext")).values()))["comment"][-1]
    )


@pytest.mark.filterwarnings("ignore")
def test_mosaicml_draws_the_tokens(tmp_path):
    streaming = pytest.importorskip("streaming")
    yaml = pytest.importorskip("yaml")
    for name in MEANS:
        with streaming.MDSWriter(out=str(tmp_path / name), columns={"text": "str"}) as writer:
            for text in texts(name, 4000):
                writer.write({"text": text})
    text = export_mixture(MIXTURE, "mosaicml", draws="documents", place=f"{tmp_path}/{{name}}")
    streams = yaml.safe_load(text)["streams"]
    assert list(streams) == list(MIXTURE.shares)
    made = [streaming.Stream(**stream, local=str(tmp_path / f"local-{name}")) for name, stream in streams.items()]
    assert_asked(sample["text"] for sample in streaming.StreamingDataset(streams=made, batch_size=1))


@pytest.mark.filterwarnings("ignore")
def test_litdata_draws_the_tokens(tmp_path):
    litdata = pytest.importorskip("litdata")
    for name, count in {"web": 30_000, "code": 3000, "math": 6000}.items():
        options = {"inputs": texts(name, count), "output_dir": str(tmp_path / name), "chunk_bytes": 10**8}
        litdata.optimize(fn=str, num_workers=1, **options)
    train = run(export_mixture(MIXTURE, "litdata", draws="documents", place=f"{tmp_path}/{{name}}"))["train"]
    assert_asked(iter(train))


def test_llama_factory_hands_the_same_probabilities_to_hugging_face():
    yaml = pytest.importorskip("yaml")
    held = yaml.safe_load(export_mixture(MIXTURE, "llama_factory", origin=ORIGIN))
    assert held.keys() == {"dataset", "mix_strategy", "interleave_probs"}
    # llamafactory/hparams/data_args.py, __post_init__, and data/data_utils.py, merge_dataset
    names, shares = ([item.strip() for item in held[key].split(",")] for key in ("dataset", "interleave_probs"))
    assert held["mix_strategy"] in ("interleave_under", "interleave_over")
    python = run(export_mixture(MIXTURE, "huggingface"), datasets=_recorder("interleave_datasets", "load_dataset"))
    assert dict(zip(names, map(float, shares), strict=True)) == python["probabilities"]


class _Called(tuple):
    """How a function was called; what is then shuffled stays as it is."""

    def shuffle(self, seed):
        return self


def _recorder(*names):
    """A module of functions that return how they were called."""
    module = types.ModuleType("recorder")
    for name in names:
        setattr(module, name, lambda *words, **options: _Called((words, options)))
    return module


def test_levanter_draws_the_tokens():
    yaml = pytest.importorskip("yaml")
    data = yaml.safe_load(export_mixture(MIXTURE, "levanter", origin=ORIGIN))["data"]
    # levanter/data/text, LmDataConfig, DatasetComponent, UrlDatasetSourceConfig
    assert data.keys() == {"components", "train_weights", "mixture_block_size", "stop_strategy"}
    assert data["components"].keys() == data["train_weights"].keys() == MIXTURE.shares.keys()
    source = {"type": "url", "train_urls": ["data/web.jsonl.gz"]}
    assert data["components"]["web"] == {"source": source} and data["stop_strategy"] == "restart"
    # levanter/data/mixture.py, _normalize_weights and _compute_expected_counts_per_block
    total = sum(data["train_weights"].values())
    counts = {name: int(weight / total * 2048) for name, weight in data["train_weights"].items()}
    assert data["mixture_block_size"] == sum(counts.values()) == 2048
    assert {name: count / 2048 for name, count in counts.items()} == pytest.approx(MIXTURE.shares, abs=0.01)


def test_megatron_blends_the_tokens(tmp_path):
    (tmp_path / "blend.sh").write_text(export_mixture(MIXTURE, "megatron", place="my data/{name}", origin=ORIGIN))
    shell = ["bash", "-c", f'source {tmp_path}/blend.sh; printf "%s\\n" "${{DATA_PATH[@]}}"']
    option, *words = subprocess.run(shell, capture_output=True, text=True, check=True).stdout.splitlines()
    held = json.loads(export_mixture(MIXTURE, "megatron_json", place="my data/{name}", origin=ORIGIN))
    # megatron/training/utils.py, get_blend_and_blend_per_split, and core/datasets/utils.py, get_blend_from_list
    assert option == "--data-path" and held["train"] == words and held["valid"] is held["test"] is None
    blend = dict(zip(words[1::2], map(float, words[0::2]), strict=True))
    assert blend == {f"my data/{name}": pytest.approx(share) for name, share in MIXTURE.shares.items()}
    assert ORIGIN[0] in held["comment"]


def test_olmo_core_counts_the_tokens():
    yaml = pytest.importorskip("yaml")
    mixture = dataclasses.replace(MIXTURE, source_tokens={"code": 100.0}, budget=1000)
    sources = yaml.safe_load(export_mixture(mixture, "olmo_core", max_repetition_ratio=3))["sources"]
    # olmo_core/data/source_mixture.py, SourceMixtureConfig and SourceMixtureList
    known = {"source_name", "target_ratio", "paths", "max_repetition_ratio"}
    assert all(source.keys() == known and type(source["max_repetition_ratio"]) is float for source in sources)
    assert sum(source["target_ratio"] for source in sources) == pytest.approx(1, abs=1e-8)
    assert {source["source_name"]: source["target_ratio"] for source in sources} == pytest.approx(MIXTURE.shares)


def test_torchtitan_draws_packed_sequences():
    made = types.SimpleNamespace
    loader = types.SimpleNamespace(Config=made)
    module = types.ModuleType("torchtitan")
    vars(module).update(DATASETS={}, DatasetConfig=made, HFDataSource=made, InterleavedHuggingFaceTextDataLoader=loader)
    train = run(
        export_mixture(MIXTURE, "torchtitan"), datasets=_recorder("load_dataset"), torchtitan=module,
        torchtitan__hf_datasets=module, torchtitan__hf_datasets__text_datasets=module,
    )["train"]  # fmt: skip
    # torchtitan/hf_datasets/text_datasets.py: each source is packed, then they are interleaved
    assert {source.dataset_path: source.weight for source in train.sources} == {
        f"data/{name}/*.jsonl": pytest.approx(share) for name, share in MIXTURE.shares.items()
    }
    assert {source.dataset for source in train.sources} == set(module.DATASETS)


def test_torchtitan_with_grain_packs_before_it_mixes():
    text = export_mixture(MIXTURE, "torchtitan_grain")

    class Recorder:
        """Its attributes are classes that record their options, and have a Config."""

        __path__ = ()

        def __getattr__(self, name):
            if name.startswith("__"):
                raise AttributeError(name)
            made = type(name, (), {"__init__": lambda self, **options: self.__dict__.update(options)})
            made.Config = type(f"{name}Config", (), {"__init__": made.__init__})
            return made

    module = Recorder()
    train = run(
        text, torchtitan=module, torchtitan__components=module, torchtitan__components__data=module,
        torchtitan__hf_datasets=module, torchtitan__hf_datasets__text_datasets=module,
    )["train"]  # fmt: skip
    # torchtitan/components/data: each child is packed, so that weights count rows of one length
    assert [type(item.dataset).__name__ for item in train.datasets] == ["ConcatThenSplitPackingConfig"] * 3
    assert [item.weight for item in train.datasets] == pytest.approx(list(MIXTURE.shares.values()))
    patterns = [item.dataset.dataset.source.patterns for item in train.datasets]
    assert patterns == [(f"data/{name}/*.jsonl",) for name in MIXTURE.shares]


def test_seqio_registers_the_rates():
    recorded = []
    registry = types.SimpleNamespace(add=lambda name, tasks: recorded.append(dict(tasks)))
    module = types.ModuleType("seqio")
    module.MixtureRegistry = registry
    run(export_mixture(MIXTURE, "seqio", draws="documents", place="lm.{name}"), seqio=module)
    assert recorded == [{f"lm.{name}": pytest.approx(p, abs=1e-6) for name, p in MIXTURE.row_probabilities().items()}]


@pytest.mark.parametrize("to", FORMATS)
def test_files_say_where_they_come_from_and_what_was_left_out(to):
    draws = FORMATS[to].usually or "sequences"
    text = export_mixture(MIXTURE, to, draws=draws, origin=("from\nhere",))
    assert "from here" in text and "left out: old" in text


@pytest.mark.parametrize("name", ["a b", "no", "a: b", 'quo"te', "ümlaut", "1", "#x", "{y}", "tab\t"])
@pytest.mark.parametrize("to", ["levanter", "mosaicml", "olmo_core", "llama_factory", "huggingface", "maxtext"])
def test_any_name_of_a_source_survives(to, name):
    yaml = pytest.importorskip("yaml")
    mixture = token_mixture({name: 0.75, "other": 0.25}, tokens_per_row={name: 5, "other": 5})
    if to == "llama_factory" and name != name.strip():
        return
    text = export_mixture(mixture, to, draws="sequences" if to in ("levanter", "mosaicml", "olmo_core") else None)
    if to == "huggingface":
        found = run(text, datasets=_recorder("interleave_datasets", "load_dataset"))["probabilities"]
    else:
        held = yaml.safe_load(text) if to != "maxtext" else json.loads(text)
        found = {
            "levanter": lambda: held["data"]["train_weights"],
            "mosaicml": lambda: {key: stream["proportion"] for key, stream in held["streams"].items()},
            "olmo_core": lambda: {source["source_name"]: source["target_ratio"] for source in held["sources"]},
            "llama_factory": lambda: dict(zip(held["dataset"].split(","), (0.75, 0.25), strict=True)),
            "maxtext": lambda: {key: source["weight"] for key, source in held.items()},
        }[to]()
    assert found == {name: 0.75, "other": 0.25}


@pytest.mark.parametrize(
    "to, mixture, options, message",
    [
        ("megatorn", {}, {}, "no trainer is called 'megatorn'; the closest names are 'megatron'"),
        ("grain", {}, {}, "grain draws what its files hold: say"),
        ("megatron", {}, {"draws": "documents"}, "megatron draws sequences, not documents"),
        ("huggingface", {"tokens_per_row": {"web": 3.0}}, {}, "not known for 'code', 'math'"),
        ("huggingface", {}, {"place": "data/all"}, "'data/all' would be the place of all sources"),
        ("huggingface", {}, {"block_size": 64}, "block_size is an option of levanter"),
        ("levanter", {}, {"max_repetition_ratio": 2}, "max_repetition_ratio is an option of olmo_core"),
        ("levanter", {}, {"block_size": 4}, "blocks of 4, and 'math' with a share of 0.2 .* blocks of 8 sequences"),
        ("levanter", {}, {"block_size": 2**16}, "a power of two of sequences, up to 32768"),
        ("levanter", {}, {"block_size": 49}, "a power of two of sequences"),  # int(1 / 49 * 49) is 0
        (
            "levanter",
            {"shares": {"web": 1 - 4e-4, "code": 4e-4}},
            {},
            "'code' with a share of 0.0004 .* blocks of 4096",
        ),
        ("levanter", {"shares": {"web": 1 - 4e-6, "code": 4e-6}}, {}, "no block would; or leave the source out"),
        (
            "olmo_core",
            {"source_tokens": {"web": 100.0}, "budget": 1e3},
            {},
            "would read 'web' 5 times: raise the ratio",
        ),
        ("olmo_core", {}, {"max_repetition_ratio": 0.5}, "at least 1; got 0.5"),
        ("llama_factory", {}, {"place": "a,{name}"}, "separates data sets by commas"),
        ("seqio", {}, {"draws": "documents", "place": "my-{name}"}, "no task can be called 'my-web'"),
    ],
)
def test_what_a_trainer_cannot_express_is_refused(to, mixture, options, message):
    with pytest.raises(InputError, match=message):
        export_mixture(dataclasses.replace(MIXTURE, **mixture), to, **options)
