"""The options of `experiments.weights_from_file`."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from experiments.harness.options import MATTERS
from experiments.harness.paths import Place


@dataclasses.dataclass(frozen=True)
class Config:
    """Find the mixture of data sources that explains a target best, from log-likelihoods in files.

    Minimizes the cross-entropy - sum_n v_n log sum_k w_k p_nk over the weights w, where p_nk is the likelihood of
    example n under the model trained on source k alone (MixMin, arXiv:2502.10510). Prints the weights and a bound on
    their error; writes weights.json ({"mixmin": {source: weight}}, with --sources-info also {"sources": {source:
    {"licence", "note", "allowed"}}}) and metrics.json, and a report of them. --bootstrap says how certain the weights
    are, --reference whether they are better than a mixture that you have, and --worth what every source adds.

    Without lengths every example has v_n = 1/N, and the loss is in nats per example. With lengths (tokens per
    example) every example has v_n = 1 / (sum of all lengths), and the loss is in nats per token of the whole file:
    total nats / total tokens, not the mean over examples of each one's nats per token. Both give the same weights,
    as all examples count alike, except with a prior, whose strength is in the unit of the loss.

    Several files are several targets, each with its loss f_t: --combine weighted minimizes sum_t lambda_t f_t, and
    --combine worst_case minimizes max_t (f_t - r_t), so that no target is left behind.
    """

    log_likelihoods: Annotated[tuple[Place, ...], tyro.conf.arg(metavar="FILE|NAME=LOG ...")]
    """The file: .npz (log_likelihoods N x K, sources, optional lengths), .csv or .parquet (a column per source and,
    optionally, `length`); spaces around names are dropped. Natural logarithms; -inf where a model excludes an example.
    Errors count rows from 0. Or a log of `lm_eval --log_samples` for each source, web=samples_T.jsonl code=...: an
    example is then a document, and counts with the log-likelihood of its right answer. Several files (of every source
    several logs) are several targets, in order, and need --combine; columns are matched by name."""

    out: Path
    """Folder for weights.json, metrics.json and the report; one that holds results already is refused."""

    rows: str | None = None
    """For files of tokens, with the document of each (.npz: documents; else a column `document`): what one row of the
    mixture is. `document`, `token`, or a number of consecutive tokens of a document, such as 64."""

    groups: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """The column (array; in logs the field of `doc`) of the labels of rows that belong together, such as those of one
    document. --bootstrap and --reference draw groups, not rows. Rows that --rows makes are grouped by document."""

    length_column: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """The column (array) of the tokens of each example, if it is not called `length` (in .npz `lengths`)."""

    ignore: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")] = ()
    """Columns (arrays) that are no sources, such as ids and counts. Columns that look like one are refused. An index
    that pandas declares in a .parquet is left out anyway."""

    densities: bool = False
    """The values are log densities of continuous data, which may be above 0. Otherwise a column without a value below
    0 is refused: it holds negative log-likelihoods, or probabilities."""

    bootstrap: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Resamples of the rows, at least 2 and better 200, for 95 % intervals of the weights of one target. By default
    there are none; with --reference there are 200."""

    reference: Annotated[Place | None, tyro.conf.arg(metavar="FILE|natural")] = None
    """A mixture to compare with. The report says whether the loss of the weights found is lower by more than noise. A
    JSON file of {source: weight}, or a weights.json of ours; natural: in proportion to `tokens` in --sources-info.
    Several targets get its losses, without a verdict."""

    reference_arm: Annotated[str | None, tyro.conf.arg(metavar="ARM")] = None
    """The arm in the weights.json that --reference names, if it holds several."""

    matters: float = MATTERS
    """The smallest gain over --reference that matters, in the unit of the loss: with a smaller one, the weights found
    are not called better."""

    worth: bool = False
    """Solve again without each source: how much the loss grows. For one target or --combine weighted."""

    combine: Literal["weighted", "worst_case"] | None = None
    """What to minimize over several files: the weighted sum of their losses, or the worst of them."""

    target_weights: tuple[float, ...] = ()
    """With --combine weighted: lambda_t, one per file in their order; by default 1 / their number each."""

    relative_to: Literal["best", "uniform", "none"] | None = None
    """With --combine worst_case, what each loss is compared to (r_t): the least that the allowed weights can reach for
    that target alone, that of uniform weights, or nothing (the default)."""

    method: Literal["auto", "interior_point", "active_set", "projected_gradient", "mirror_descent"] = "auto"
    """Solver; every one returns a certified gap. auto takes the fastest; a worst case needs it or interior_point."""

    sources_info: Path | None = None
    """A TOML file with a table per source: licence, note, and allowed = false for a source that may not be used. Such
    a source is left out of everything, as if it had no column; the notes go into weights.json."""

    upper_bounds: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE ...")] = ()
    """Largest weight that a source may have, for as many sources as you like: code=0.2 news=0.5."""

    lower_bounds: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE ...")] = ()
    """Smallest weight that a source may have, likewise."""

    prior: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE ...")] = ()
    """Weights to stay close to, one per source, summing to 1: adds strength * KL(w || prior) to the loss."""

    prior_strength: float | None = None
    """Strength of the prior, in the unit of the loss (nats per example; with lengths, total nats / total tokens)."""

    tolerance: float = 1e-9
    """Largest gap accepted, relative to the sum of v_n (of several targets: their weighted sum, or the largest)."""

    overwrite: bool = False
    """Replace the results that --out holds."""

    no_locks: bool = False
    """Go on where the file system of --out has no locks. Nothing then keeps two runs from writing there at once, which
    mixes their results."""
