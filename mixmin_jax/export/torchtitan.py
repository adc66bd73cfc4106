"""torchtitan, which draws packed sequences where each source is packed before they are mixed."""

from mixmin_jax.export.request import Request, comment, decimal, quoted

_CODE = """\
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
    """Python that makes the configuration `train` of a data set."""
    drawn = request.probabilities()
    datasets = "".join(
        f"        WeightedDataset(dataset=packed({quoted(request.place_of(name))}), weight={decimal(share)}),\n"
        for name, share in drawn.items()
    )
    return comment(request, drawn) + _CODE.format(datasets=datasets)
