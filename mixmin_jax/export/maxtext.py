"""MaxText with Grain and ArrayRecord files, which draws rows."""

import json
import math

from mixmin_jax.export.request import Request, comment_lines


def maxtext(request: Request) -> str:
    """The JSON of `grain_train_mixture_config_path`; the weights in `grain_train_files` are cut to four decimals.

    Every entry is a source for MaxText, so the comment stands in the first one.
    """
    drawn = request.probabilities()
    sources: dict[str, dict[str, object]] = {
        name: {"path": request.place_of(name), "weight": share} for name, share in drawn.items()
    }
    most = max(request.mixture.epochs.values(), default=None)
    least = "as large as the most epochs of a source" if most is None else f"at least {math.ceil(most)}"
    ends = f"num_epoch must be {least}: the mix ends with the first source that was read so often"
    next(iter(sources.values()))["comment"] = [*comment_lines(request, drawn), ends]
    return json.dumps(sources, indent=1, ensure_ascii=False) + "\n"
