"""Trainers' own parsers and samplers, where the trainer is installed: they draw the shares of tokens asked for.

`test_formats` has stand-ins for those that rarely are.
"""

import asyncio
import json
import types

import numpy as np
import pytest

from mixmin_jax import export_mixture
from tests.export.test_formats import MEANS, MIXTURE, assert_asked, run, texts, write_array_records

pytestmark = pytest.mark.filterwarnings("ignore")
yaml = pytest.importorskip("yaml")


def assert_shares(found):
    """Of sequences, all of one length."""
    total = sum(found.values())
    assert {name: count / total for name, count in found.items()} == pytest.approx(MIXTURE.shares, abs=0.01)


def imported(name):
    """A module of a trainer, or a skipped test; some fail to import with other errors than ImportError."""
    return pytest.importorskip(name, exc_type=ImportError)


def test_levanter():
    text = imported("levanter.data.text")
    draccus, mixture, dataset = map(imported, ("draccus", "levanter.data.mixture", "levanter.data.dataset"))
    place = "gs://corpus/{name}.jsonl.gz"
    data = yaml.safe_load(export_mixture(MIXTURE, "levanter", place=place))["data"]
    config = draccus.decode(text.LmDataConfig, data)
    assert config.components["web"].source.train_urls == ["gs://corpus/web.jsonl.gz"]
    sources = {name: dataset.ListAsyncDataset([name] * 100) for name in config.components}
    options = {"block_size": config.mixture_block_size, "stop_strategy": config.stop_strategy, "key": 0}
    drawn = asyncio.run(mixture.MixtureDataset(sources, config.train_weights, **options).get_batch(range(4096)))
    assert_shares({name: drawn.count(name) for name in MIXTURE.shares})


def test_llama_factory(monkeypatch):
    monkeypatch.setenv("DISABLE_VERSION_CHECK", "1")
    arguments, merging = imported("llamafactory.hparams.data_args"), imported("llamafactory.data.data_utils")
    transformers, datasets = imported("transformers"), imported("datasets")
    held = yaml.safe_load(export_mixture(MIXTURE, "llama_factory"))
    (parsed,) = transformers.HfArgumentParser(arguments.DataArguments).parse_dict(held)
    sources = [datasets.Dataset.from_dict({"text": texts(name, 1100)}) for name in parsed.dataset]
    assert_asked(row["text"] for row in merging.merge_dataset(sources, parsed, seed=0))


def test_maxtext(tmp_path):
    pipeline = imported("maxtext.input_pipeline.grain_data_processing")
    write_array_records(tmp_path, 100)
    text = export_mixture(MIXTURE, "maxtext", place=f"{tmp_path}/{{name}}/*.array_record")
    (tmp_path / "mixture.json").write_text(text)
    names = [
        *("data_file_pattern", "data_file_type", "shuffle", "shuffle_seed", "shuffle_buffer_size", "num_epoch"),
        *("dataloading_host_index", "dataloading_host_count", "grain_worker_count", "grain_num_threads"),
        *("grain_prefetch_buffer_size", "grain_data_source_max_workers", "mixture_config_path"),
    ]
    values = ["", "arrayrecord", True, 0, 100, 100, 0, 1, 0, 2, 8, 2, str(tmp_path / "mixture.json")]
    drawn = iter(pipeline.get_datasets(**dict(zip(names, values, strict=True))))
    assert_asked(next(drawn).decode() for _ in range(4000))


@pytest.mark.parametrize("to", ["megatron", "megatron_json"])
def test_megatron(to):
    utils, blended = imported("megatron.core.datasets.utils"), imported("megatron.core.datasets.blended_dataset")
    text = export_mixture(MIXTURE, to)
    words = text.split("--data-path\n")[1].strip(" )\n").split() if to == "megatron" else json.loads(text)["train"]
    prefixes, weights = utils.get_blend_from_list(words)
    assert prefixes == [f"data/{name}_text_document" for name in MIXTURE.shares]

    class Sequences(list):
        index_split, unique_identifiers = utils.Split.train, {}

    config = types.SimpleNamespace(path_to_cache=None, defer_npy_index_mmap=False)
    made = blended.BlendedDataset([Sequences([{}] * 5000) for _ in prefixes], weights, 5000, config)
    assert_shares(dict(zip(MIXTURE.shares, np.bincount(made.dataset_index).tolist(), strict=True)))


def test_olmo_core(tmp_path):
    mixing = imported("olmo_core.data.source_mixture")
    for name in MEANS:
        (tmp_path / name).mkdir()
        for shard in range(2):
            np.zeros(30_000, np.uint16).tofile(tmp_path / name / f"{shard}.npy")
    text = export_mixture(MIXTURE, "olmo_core", place=f"{tmp_path}/{{name}}/*.npy", max_repetition_ratio=2)
    (tmp_path / "mixture.yaml").write_text(text)
    sources = mixing.SourceMixtureList.from_yaml(tmp_path / "mixture.yaml")
    sources.validate()
    options = {"source_list": sources, "global_batch_size": 1000, "render_tables": False}
    built = mixing.SourceMixtureDatasetConfig(requested_tokens=200_000, **options).build(
        npdtype=np.uint16, sequence_length=100
    )
    assert_shares({source.name: sum(path.tokens for path in source.path_tokens) for source in built.sources})
    with pytest.raises(Exception, match="Insufficient tokens for source: web"):  # half of 300 000 are over 120 000
        mixing.SourceMixtureDatasetConfig(requested_tokens=300_000, **options).build(
            npdtype=np.uint16, sequence_length=100
        )


def test_torchtitan(tmp_path):
    loaders = imported("torchtitan.hf_datasets.text_datasets")
    for name in MEANS:
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts(name, 500)))
    train = run(export_mixture(MIXTURE, "torchtitan", place=f"{tmp_path}/{{name}}/*.jsonl"))["train"]
    number = {name: index for index, name in enumerate(MIXTURE.shares, start=1)}

    class Words:
        eos_id = 0

        def encode(self, text, add_bos, add_eos):
            return [number[word] for word in text.split()]

    sizes = {"dp_world_size": 1, "dp_rank": 0, "seq_len": 16, "local_batch_size": 8}
    batches = iter(loaders.InterleavedHuggingFaceTextDataLoader(train, tokenizer=Words(), **sizes))
    inputs = np.concatenate([next(batches)[0]["input"].numpy().ravel() for _ in range(600)])
    assert_shares({name: int((inputs == index).sum()) for name, index in number.items()})


def test_seqio():
    seqio = imported("seqio")
    for name in MEANS:
        made = seqio.FunctionDataSource(
            dataset_fn=lambda split, shuffle_files, seed=None, name=name: _strings(texts(name, 500)), splits=["train"]
        )
        features = {"text": seqio.Feature(seqio.PassThroughVocabulary(size=1), rank=0, dtype=_tf().string)}
        seqio.TaskRegistry.add(f"exported.{name}", source=made, preprocessors=[], output_features=features)
    run(export_mixture(MIXTURE, "seqio", draws="documents", place="exported.{name}"))
    drawn = seqio.get_mixture_or_task("mixture").get_dataset({}, "train", use_cached=False, shuffle=False, seed=0)
    assert_asked(row["text"].decode() for row in drawn.take(100_000).as_numpy_iterator())


def _tf():
    return imported("tensorflow")


def _strings(values):
    return _tf().data.Dataset.from_tensor_slices({"text": values})
