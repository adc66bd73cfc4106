"""LLaMA-Factory, which draws rows by Hugging Face `interleave_datasets`."""

from mixmin_jax.errors import InputError
from mixmin_jax.export.request import Request, comment, decimal, quoted


def llama_factory(request: Request) -> str:
    """Entries for the YAML of a training.

    Raises:
        InputError: the name of a data set has a comma, at which LLaMA-Factory splits the list, or a space at an end.
    """
    drawn = request.probabilities()
    names = [request.place_of(name) for name in drawn]
    for name in names:
        if "," in name or name != name.strip():
            raise InputError(f"LLaMA-Factory separates data sets by commas, and cannot name one {name!r}: rename it")
    return comment(request, drawn) + (
        f"dataset: {quoted(','.join(names))}  # as dataset_info.json calls them\n"
        "mix_strategy: interleave_over  # a source that is exhausted starts again\n"
        f"interleave_probs: {quoted(','.join(map(decimal, drawn.values())))}\n"
    )
