"""MosaicML Streaming (MDS), which draws samples; LLM Foundry reads its streams from YAML."""

from mixmin_jax.export.request import Request, comment, decimal, quoted, yaml_name


def mosaicml(request: Request) -> str:
    """The entry `streams` of a data set; each holds the keyword arguments of a `Stream`."""
    drawn = request.probabilities()
    streams = "".join(
        f"  {yaml_name(name)}:\n    remote: {quoted(request.place_of(name))}\n    proportion: {decimal(share)}\n"
        for name, share in drawn.items()
    )
    return comment(request, drawn) + "streams:\n" + streams
