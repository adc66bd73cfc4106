"""LitData's `CombinedStreamingDataset`, which draws items."""

from mixmin_jax.export.request import Request, comment, decimal, python_dict, quoted

# `iterate_over_all` would draw in proportion to the sources' sizes.
_CODE = """\
from litdata import CombinedStreamingDataset, StreamingDataset

weights = {weights}
sources = {sources}
# An epoch ends at the first source that is exhausted; the next one has another order.
train = CombinedStreamingDataset(
    [StreamingDataset(sources[name], shuffle=True) for name in weights],
    weights=list(weights.values()),
    iterate_over_all=False,
    seed=0,
)
"""


def litdata(request: Request) -> str:
    """Python that makes the data set `train`."""
    drawn = request.probabilities()
    return comment(request, drawn) + _CODE.format(
        weights=python_dict((name, decimal(share)) for name, share in drawn.items()),
        sources=python_dict((name, quoted(request.place_of(name))) for name in drawn),
    )
