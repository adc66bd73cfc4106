"""What a MixTraining experiment says, in a few sentences that follow from its metrics.json by the rules in this file.

What goes against MixTraining comes first and in bold: an accuracy lower by more than two standard errors, a target that
is missed, a simpler arm or a reference that does better.  What is not distinguishable is called so, with the loss that
is not ruled out.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from experiments.mixtraining.runs import (
    BASELINE,
    MIXED,
    STANDARD_ERRORS,
    SUPERVISED,
    Cell,
    Metrics,
    Runs,
    accuracy,
    accuracy_difference,
    accuracy_verdict,
    cell_runs,
    failed_runs,
    flops_to_accuracy,
    paired_runs,
    same_accuracy,
    speed_range,
    times_cheaper,
    unmatched,
    values,
)
from experiments.reporting import markdown as md
from mixmin_jax.stats.comparison import Difference

PAPER_SPEED_UP = 1.29  # over SSL then SL, at no less accuracy: the most that the paper reports (arXiv:2502.19513)

SCHEDULE, CHEAPER, MATCHED = Cell(MIXED), Cell(MIXED, "cheaper"), Cell(MIXED, "matched")
CONVENTIONAL, LABELS_ONLY = Cell(BASELINE), Cell(SUPERVISED, "matched")


class Sentences(NamedTuple):
    """What is said of one question: what speaks against MixTraining, and the rest."""

    against: list[str]
    rest: list[str]


def conclusion(metrics: Metrics) -> str:
    """The report's first paragraphs: what MixTraining gains, at which cost, and how far that can be believed.

    The first has the state of the run, all that speaks against MixTraining, and what it does with its own schedule
    against SSL then SL; the second matched compute and what self-supervision is worth.
    """
    target, cost, same = _target(metrics), _speed_up(metrics), _same_accuracy(metrics)
    own = _against_arm(metrics, SCHEDULE, CONVENTIONAL, "With its own schedule")
    cheaper = _against_arm(metrics, CHEAPER, CONVENTIONAL, _cheaper(metrics))
    matched = _against_arm(metrics, MATCHED, CONVENTIONAL, "At matched compute, the FLOPs of `ssl_then_sl`,")
    simple = _against_arm(metrics, MATCHED, LABELS_ONLY, "With these FLOPs")
    meaning = {
        "wins": "self-supervision was worth its compute there",
        "ties": "that self-supervision is worth its compute is not shown there",
        "loses": "self-supervision was not worth its compute there, and `ssl_then_sl` is a weak baseline",
    }
    worth = _against_arm(metrics, CONVENTIONAL, LABELS_ONLY, "With the same FLOPs", meaning)
    references = _references(metrics)
    parts = (target, own, cost, same, cheaper, matched, simple, worth, references)
    first = _status(metrics) + [sentence for part in parts for sentence in part.against]
    first += [*target.rest, *own.rest, *cost.rest, *same.rest, *cheaper.rest, *_money(metrics), *_search(metrics)]
    second = [*_unmatched(metrics), *matched.rest, *simple.rest, *worth.rest]
    return "\n\n".join(" ".join(sentences) for sentences in (first, second) if sentences)


def _status(metrics: Metrics) -> list[str]:
    sentences = []
    if not metrics["complete"]:
        sentences.append("**This run did not end: what follows is incomplete.**")
    if failed := failed_runs(metrics):
        named = md.listing(
            f"{md.code(Cell(run['arm'], run['budget']).name)} at {md.percent(run['fraction'])}, seed {run['seed']} "
            f"({run['failure']['phase']} phase, step {run['failure']['step']:,})"
            for run in failed
        )
        sentences.append(
            f"**{len(failed)} of {md.plural(len(metrics['runs']), 'run')} stopped at a loss or gradient that was not "
            f"finite: {named}.** Means leave them out, which flatters their arm."
        )
    ended = {run["arm"] for run in metrics["runs"] if not run["failure"]}
    if absent := [arm for arm in (MIXED, BASELINE) if arm not in ended]:
        sentences.append(f"**There is no run of {md.listing(map(md.code, absent))}: the two cannot be compared.**")
    elif not paired_runs(metrics, MATCHED, CONVENTIONAL):
        sentences.append("**Nothing was run at matched compute: what a shorter schedule does proves little.**")
    seeds = md.plural(len(metrics["seeds"]), "seed")
    if metrics["demonstration"]:
        sentences.append(f"**This is a demonstration with {seeds} and decides nothing.**")
    elif len(metrics["seeds"]) == 1:
        sentences.append("One seed: the noise of training is not measured.")
    return sentences


def _target(metrics: Metrics) -> Sentences:
    """Where MixTraining is no less accurate than SSL then SL beyond noise, and as much faster as the paper says.

    With its own schedule, or where that misses, with the cheaper one.
    """
    met, missed = [], []
    for fraction, pair in paired_runs(metrics, SCHEDULE, CONVENTIONAL).items():
        short, known = _short_of_target(*pair)
        cheaper = paired_runs(metrics, CHEAPER, CONVENTIONAL).get(fraction)
        if short and cheaper and _short_of_target(*cheaper) == ([], True):
            faster = f"{times_cheaper(*cheaper, 'seconds'):.2f} times as fast"
            met.append(f"{md.percent(fraction)} (by {md.code(CHEAPER.name)}, {faster}; not by its own schedule)")
        elif short:
            missed.append(f"{md.percent(fraction)} ({', '.join(short)})")
        elif known:  # one seed meets nothing
            met.append(md.percent(fraction))
    target = f"The paper's trade-off (no accuracy lost beyond noise, {PAPER_SPEED_UP} times as fast as `ssl_then_sl`)"
    against = [f"**{target} is missed at {md.listing(missed)} of the training data.**"] if missed else []
    return Sentences(against, [f"{target} holds at {md.listing(met)} of the training data."] if met else [])


def _short_of_target(a: Runs, b: Runs) -> tuple[list[str], bool]:
    """In what a falls short of the target against b, and whether there are seeds enough to tell a loss."""
    word, faster = accuracy_verdict(accuracy_difference(a, b)), times_cheaper(a, b, "seconds")
    short = ["less accurate"] * (word == "loses") + [f"{faster:.2f} times as fast"] * (faster < PAPER_SPEED_UP)
    return short, word is not None


def _cheaper(metrics: Metrics) -> str:
    return f"With the FLOPs of `ssl_then_sl` divided by {metrics.get('times_cheaper') or 1:g}"


def _against_arm(
    metrics: Metrics, a: Cell, b: Cell, setting: str, meaning: Mapping[str, str] | None = None
) -> Sentences:
    """Accuracy of a against b, the fractions grouped by verdict; `meaning` says what each verdict amounts to."""
    groups: dict[str | None, dict[float, Difference]] = {}
    levels = {}
    for fraction, (runs_a, runs_b) in paired_runs(metrics, a, b).items():
        difference = accuracy_difference(runs_a, runs_b)
        groups.setdefault(accuracy_verdict(difference), {})[fraction] = difference
        levels[fraction] = " against ".join(f"{100 * accuracy(runs)['mean']:.1f}%" for runs in (runs_a, runs_b))

    def at(word: str | None) -> str:
        found = groups[word].items()
        places = md.listing(f"{md.percent(f)} ({levels[f]}: {md.points(vars(d))} points)" for f, d in found)
        return f"at {places} of the training data"

    def so(word: str) -> str:
        return f": {meaning[word]}" if meaning else ""

    subject, other = md.code(a.arm), md.code(b.arm)
    against, rest = [], []
    if "loses" in groups:
        against.append(f"**{setting} {subject} is less accurate than {other} {at('loses')}{so('loses')}.**")
    if "wins" in groups:
        rest.append(f"{setting} {subject} is more accurate than {other} {at('wins')}{so('wins')}.")
    if "ties" in groups:
        worst = max(STANDARD_ERRORS * (d.standard_error or 0) - d.mean for d in groups["ties"].values())
        doubt = so("ties") or f"; {subject} may be up to {100 * worst:.2f} points worse"
        rest.append(f"{setting} {subject} is not distinguishable from {other} {at('ties')}{doubt}.")
    if None in groups:
        rest.append(f"{setting} {subject} is not known to differ from {other}: one seed {at(None)}.")
    return Sentences(against, rest)


def _speed_up(metrics: Metrics) -> Sentences:
    """What MixTraining with its own schedule costs, against SSL then SL."""
    pairs = paired_runs(metrics, SCHEDULE, CONVENTIONAL).values()
    if not pairs:
        return Sentences([], [])
    faster = [times_cheaper(a, b, "seconds") for a, b in pairs]
    flops = [1 / times_cheaper(a, b, "flops") for a, b in pairs]
    spread = md.number_range(end for a, b in pairs for end in speed_range(metrics, a, b))
    costs = (
        f"its training takes {md.number_range(flops)} of the FLOPs and is {md.number_range(faster)} times as fast "
        f"({spread} from the fastest to the slowest rounds of each step; seconds of steps, measured side by side)"
    )
    if min(faster) <= 1:
        return Sentences([f"**`mixtraining` is not faster{' everywhere' * (max(faster) > 1)}: {costs}.**"], [])
    return Sentences([], [f"{costs[0].upper()}{costs[1:]}."])


def _same_accuracy(metrics: Metrics) -> Sentences:
    """Which share MixTraining, with its own schedule, needs of the FLOPs that SSL then SL needs for its accuracy."""
    reached, missed, saves = [], [], True
    for fraction, (a, b) in paired_runs(metrics, SCHEDULE, CONVENTIONAL).items():
        found, place = same_accuracy(a, b), md.percent(fraction)
        short = len(found.per_seed) - found.num_reached
        if found.num_reached:
            some = f" ({found.num_reached} of {len(found.per_seed)} seeds)" if short else ""
            reached.append(f"{md.percent_spread(vars(found))} at {place}{some}")
            saves = saves and (found.mean or 0) < 1
        if short:
            missed.append(f"{place} in {short} of {len(found.per_seed)} seeds" if len(found.per_seed) > 1 else place)
    against, rest = [], []
    if missed:
        against.append(
            "**With its own schedule `mixtraining` does not reach the accuracy of `ssl_then_sl` at "
            f"{md.listing(missed)}.**"
        )
    if reached:
        bold = "" if missed or not saves or len(metrics["seeds"]) == 1 else "**"
        same = (
            "Of the FLOPs that `ssl_then_sl` needs for its accuracy, `mixtraining` needs for the same "
            f"{md.listing(reached)} of the training data."
        )
        rest.append(f"{bold}{same}{bold}")
    return Sentences(against, rest)


def _unmatched(metrics: Metrics) -> list[str]:
    found = [
        f"{md.code(c.arm)} got {share:.2f} times the FLOPs at {md.percent(f)}" for c, f, share in unmatched(metrics)
    ]
    return [f"**Compute is not quite matched: {md.listing(found)}.**"] if found else []


def _money(metrics: Metrics) -> list[str]:
    price = metrics["price_per_hour"]
    if price is None:
        return []
    found = []
    for fraction, (a, b) in paired_runs(metrics, SCHEDULE, CONVENTIONAL).items():
        line = f"{_cost(values(a, 'seconds'), price)} instead of {_cost(values(b, 'seconds'), price)}"
        # checkpoints are counted in FLOPs, so their seconds are those of a FLOP of that run, on average
        reached = {
            seed: (flops * run["seconds"] / run["flops"], own * b[seed]["seconds"] / b[seed]["flops"])
            for seed, run in a.items()
            if (flops := flops_to_accuracy(run, b[seed]["accuracy"])) is not None
            and (own := flops_to_accuracy(b[seed], b[seed]["accuracy"])) is not None
        }
        to_same = ""
        if reached:
            cost, own_cost = (_cost(seconds, price) for seconds in zip(*reached.values(), strict=True))
            to_same = f" ({cost} instead of {own_cost} up to the same accuracy)"
        found.append(f"{line} at {md.percent(fraction)}{to_same}")
    return [f"In money, at {price:g} per hour, a training costs {md.listing(found)}."] if found else []


def _cost(seconds: Sequence[float], price_per_hour: float) -> str:
    money = sum(seconds) / len(seconds) / 3600 * price_per_hour
    return f"{money:,.2f}" if money >= 1 else f"{money:#.2g}"


def _search(metrics: Metrics) -> list[str]:
    if metrics["tuning"] is None:
        return []
    share = md.share_of(metrics["tuning"]["share_of_run"], "the FLOPs of one run of `ssl_then_sl`")
    return [f"Choosing the settings cost {share}, which is not in these costs."]


def _references(metrics: Metrics) -> Sentences:
    """References that do no worse than MixTraining with the most compute it got."""
    better = []
    for reference in metrics["references"]:
        cells = (cell_runs(metrics, cell, reference["fraction"]) for cell in (MATCHED, SCHEDULE))
        runs: Runs = next(filter(None, cells), {})
        if runs and reference["accuracy"] >= (reached := accuracy(runs)["mean"]):
            better.append(
                f"{md.plain(reference['name'])} at {md.percent(reference['fraction'])} "
                f"({100 * reference['accuracy']:.1f}% against {100 * reached:.1f}%)"
            )
    return Sentences([f"**`mixtraining` is no better than {md.listing(better)}.**"] if better else [], [])
