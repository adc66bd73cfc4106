"""OLMo-core, which counts tokens, and refuses a source that is too small."""

from mixmin_jax.errors import InputError
from mixmin_jax.export.request import Request, comment, decimal, quoted


def olmo_core(request: Request) -> str:
    """The YAML that `SourceMixtureList.from_yaml` reads.

    Raises:
        InputError: the training would read a source more often than `max_repetition_ratio` times, which OLMo-core
            refuses; a ratio below 1.
    """
    ratio = 1.0 if request.max_repetition_ratio is None else request.max_repetition_ratio
    if not 1 <= ratio < float("inf"):
        raise InputError(f"OLMo-core's max_repetition_ratio is at least 1; got {ratio}")
    if short := {name: epochs for name, epochs in request.mixture.epochs.items() if epochs > ratio}:
        name = max(short, key=lambda name: short[name])
        raise InputError(
            f"OLMo-core reads a source at most max_repetition_ratio = {ratio:g} times, and this training would read"
            f" {name!r} {short[name]:.4g} times: raise the ratio, train on fewer tokens, or cap the source's weight"
        )
    drawn = request.probabilities()
    sources = "".join(
        f"  - source_name: {quoted(name)}\n"
        f"    target_ratio: {decimal(share)}\n"
        f"    paths: [{quoted(request.place_of(name))}]\n"
        f"    max_repetition_ratio: {decimal(ratio)}\n"
        for name, share in drawn.items()
    )
    return comment(request, drawn) + "sources:\n" + sources
