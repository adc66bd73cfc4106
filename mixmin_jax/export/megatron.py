"""Megatron-LM, which draws sequences: `--data-path` with weights, or the JSON of `--per-split-data-args-path`."""

import json
import shlex

from mixmin_jax.export.request import Request, comment, comment_lines, decimal


def megatron(request: Request) -> str:
    """A Bash array with the option `--data-path` and its words."""
    drawn = request.probabilities()
    words = [f"    {decimal(share)} {shlex.quote(request.place_of(name))}\n" for name, share in drawn.items()]
    return comment(request, drawn) + "DATA_PATH=(\n    --data-path\n" + "".join(words) + ")\n"


def megatron_json(request: Request) -> str:
    """The blend of the training split; the splits for validation and testing are yours to fill."""
    drawn = request.probabilities()
    train = [word for name, share in drawn.items() for word in (decimal(share), request.place_of(name))]
    blend = {"comment": comment_lines(request, drawn), "train": train, "valid": None, "test": None}
    return json.dumps(blend, indent=1, ensure_ascii=False) + "\n"
