"""The mixture of --reference: from a file, or in proportion to the sizes of the sources."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from experiments.reporting.json_files import read_json
from experiments.reporting.schema import Weights
from mixmin_jax.data.text.source_notes import SourceNote
from mixmin_jax.errors import InputError
from mixmin_jax.mixture.baselines.rules import natural_weights
from mixmin_jax.mixture.constraints import distribution

NATURAL: Literal["natural"] = "natural"
REFERENCE: Literal["reference"] = "reference"
_NO_ARMS = ("sources", "recommended", "unit")  # entries of a weights.json that are no arms


def read_reference(
    spec: str, arm: str | None, sources: Sequence[str], left_out: Sequence[str], notes: Mapping[str, SourceNote]
) -> tuple[Literal["natural", "reference"], Weights]:
    """The name of the arm, and the weight of each source.

    Args:
        spec: `natural`, or the path of a JSON file: {source: weight}, or {arm: {source: weight}} as in weights.json.
        arm: which arm of such a file; None if it has only one.
        sources: those in use, of which each must have a weight; those that are `left_out` may have none.
        notes: with the sizes of sources.

    Raises:
        InputError: sizes or weights that are missing, unknown sources or arms, weights that do not sum to 1.
    """
    if spec == NATURAL:
        if arm is not None:
            raise InputError("--reference-arm names an arm of a file, and --reference natural is none")
        sizes = {name: notes[name].tokens or 0 for name in sources if name in notes}  # `tokens` is at least 1
        if unknown := [name for name in sources if not sizes.get(name)]:
            raise InputError(
                f"--reference natural needs the size of every source: give {unknown[0]!r} `tokens = ...` in a file, and"
                " name that with --sources-info"
            )
        weights_K = natural_weights([sizes[name] for name in sources])
        return NATURAL, dict(zip(sources, weights_K.tolist(), strict=True))
    try:
        weights = _arm(read_json(Path(spec)), arm)
        if unknown := [name for name in weights if name not in (*sources, *left_out)]:
            raise InputError(f"no source is called {unknown[0]!r}; there are {', '.join(sources)}")
        if forbidden := [name for name in left_out if weights.get(name, 0)]:
            raise InputError(
                f"{forbidden[0]!r} has a weight there, but is left out (allowed = false in --sources-info)"
            )
        if missing := [name for name in sources if name not in weights]:
            raise InputError(f"{missing[0]!r} has no weight there; give 0 if it is left out")
        weights_K = distribution([weights[name] for name in sources], "the weights", len(sources), tuple(sources))
    except InputError as error:
        raise InputError(f"--reference {spec}: {error}") from None
    return REFERENCE, dict(zip(sources, weights_K.tolist(), strict=True))


def _arm(content: Any, arm: str | None) -> dict[str, float]:
    if _is_mixture(content):
        if arm is not None:
            raise InputError("the file holds one mixture and no arms; leave out --reference-arm")
        return content
    arms = {name: found for name, found in content.items() if name not in _NO_ARMS} if isinstance(content, dict) else {}
    if not arms or not all(map(_is_mixture, arms.values())):
        raise InputError("the file must hold {source: weight}, or {arm: {source: weight}} as weights.json does")
    if arm is None and len(arms) > 1:
        raise InputError(f"the file holds several mixtures: choose one of {', '.join(arms)} with --reference-arm")
    if arm is not None and arm not in arms:
        raise InputError(f"no arm is called {arm!r}; there are {', '.join(arms)}")
    return next(iter(arms.values())) if arm is None else arms[arm]


def _is_mixture(content: Any) -> bool:
    return (
        isinstance(content, dict) and bool(content) and all(type(value) in (int, float) for value in content.values())
    )
