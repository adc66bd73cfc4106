"""Grain's `MapDataset.mix`, which draws rows."""

from mixmin_jax.export.request import Request, comment, decimal, python_dict, quoted

# Without `repeat()` a mix ends at the first source that is exhausted.
_CODE = """\
import glob

import grain

weights = {weights}
sources = {sources}


def source(pattern):
    records = grain.sources.ArrayRecordDataSource(sorted(glob.glob(pattern)))
    return grain.MapDataset.source(records).shuffle(seed=0).repeat()


train = grain.MapDataset.mix([source(sources[name]) for name in weights], list(weights.values()))
"""


def grain(request: Request) -> str:
    """Python that makes the data set `train`, without end."""
    drawn = request.probabilities()
    return comment(request, drawn) + _CODE.format(
        weights=python_dict((name, decimal(share)) for name, share in drawn.items()),
        sources=python_dict((name, quoted(request.place_of(name))) for name in drawn),
    )
