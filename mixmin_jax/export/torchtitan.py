"""torchtitan, which draws packed sequences: each source is packed before they are mixed.

Version 0.3.0 interleaves streams of Hugging Face `datasets`. After it, torchtitan reads with Grain instead.
"""

from mixmin_jax.export.request import Request, comment, decimal, quoted

# torchtitan writes the names of data sets in lower case, so the sources share one, and differ in their path.
_CODE = """\
from datasets import load_dataset
from torchtitan.hf_datasets import DatasetConfig
from torchtitan.hf_datasets.text_datasets import DATASETS, HFDataSource, InterleavedHuggingFaceTextDataLoader


def load(path):
    return load_dataset("json", data_files=path, split="train", streaming=True).shuffle(seed=0)


def text(row):
    return row["text"]


DATASETS["jsonl"] = DatasetConfig(path="", loader=load, sample_processor=text)
train = InterleavedHuggingFaceTextDataLoader.Config(
    sources=[
{sources}    ],
)
# config.dataloader = train
"""

_GRAIN_CODE = """\
from torchtitan.components.data import (
    ConcatThenSplitPackingConfig,
    DatasetMixConfig,
    IndexedJsonlSource,
    SingleDatasetConfig,
    WeightedDataset,
)
from torchtitan.hf_datasets.text_datasets import TextProcessor


def text(row):
    return row["text"]


def is_there(sample):
    return sample is not None


def packed(pattern):
    documents = SingleDatasetConfig(
        source=IndexedJsonlSource.Config(patterns=(pattern,)),
        processor=TextProcessor.Config(text_fn=text),
        post_filters=(is_there,),
    )
    return ConcatThenSplitPackingConfig(dataset=documents)


train = DatasetMixConfig(
    datasets=(
{datasets}    ),
)
# config.dataloader = GrainDataLoader.Config(dataset=train, shuffle=True, repeat=True)
"""


def torchtitan(request: Request) -> str:
    """Python for version 0.3.0 that makes the configuration `train` of a data loader, without end."""
    drawn = request.probabilities()
    sources = "".join(
        f'        HFDataSource(dataset="jsonl", dataset_path={place}, weight={weight}),\n'
        for place, weight in ((quoted(request.place_of(name)), decimal(share)) for name, share in drawn.items())
    )
    return comment(request, drawn) + _CODE.format(sources=sources)


def torchtitan_grain(request: Request) -> str:
    """Python for later versions that makes the configuration `train` of a data set."""
    drawn = request.probabilities()
    datasets = "".join(
        f"        WeightedDataset(dataset=packed({quoted(request.place_of(name))}), weight={decimal(share)}),\n"
        for name, share in drawn.items()
    )
    return comment(request, drawn) + _GRAIN_CODE.format(datasets=datasets)
