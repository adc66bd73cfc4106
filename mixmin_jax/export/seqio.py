"""SeqIO mixtures, which draw examples of tasks."""

import re

from mixmin_jax.errors import InputError
from mixmin_jax.export.request import Request, comment, decimal, quoted

_TASK_NAME = re.compile(r"[\w.:]+")  # what SeqIO accepts


def seqio(request: Request) -> str:
    """Python that registers the mixture; the tasks must be registered before.

    Raises:
        InputError: a name that no task can have.
    """
    drawn = request.probabilities()
    for name in map(request.place_of, drawn):
        if not _TASK_NAME.fullmatch(name):
            raise InputError(f"SeqIO's names hold letters, digits, _ . and : only; no task can be called {name!r}")
    rates = "".join(f"        ({quoted(request.place_of(name))}, {decimal(share)}),\n" for name, share in drawn.items())
    return comment(request, drawn) + (
        f'import seqio\n\nseqio.MixtureRegistry.add(\n    "mixture",\n    [\n{rates}    ],\n)\n'
    )
