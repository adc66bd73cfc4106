"""Hugging Face `datasets.interleave_datasets`, which draws rows, and TRL, which trains on what it gives."""

from mixmin_jax.export.request import Request, comment, decimal, python_dict, quoted

# The default strategy stops at the first source that is exhausted; `all_exhausted` starts such a source again.
_CODE = """\
from datasets import interleave_datasets, load_dataset

probabilities = {probabilities}
sources = {sources}
train = interleave_datasets(
    [load_dataset(sources[name], split="train", streaming=True).shuffle(seed=0) for name in probabilities],
    probabilities=list(probabilities.values()),
    seed=0,
    stopping_strategy="all_exhausted",
)
"""


def huggingface(request: Request) -> str:
    """Python that makes the data set `train`."""
    drawn = request.probabilities()
    return comment(request, drawn) + _CODE.format(
        probabilities=python_dict((name, decimal(share)) for name, share in drawn.items()),
        sources=python_dict((name, quoted(request.place_of(name))) for name in drawn),
    )


def trl(request: Request) -> str:
    """The same for a script with TRL's trainers; the `datasets:` of its own configurations have no weights."""
    return huggingface(request) + (
        "# trainer = SFTTrainer(model, train_dataset=train, args=SFTConfig(packing=True, max_steps=...))\n"
    )
