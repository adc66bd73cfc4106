"""report.md and summary.md of the molecule experiment, written from metrics.json alone.

The words follow from the numbers by the rules in this file: a difference counts where its interval leaves 0 out.
"""

import math
from collections.abc import Sequence

import numpy as np

from experiments.molecule_mixture.runs import METRIC_NAMES, Metrics, comparison
from experiments.reporting import markdown as md

BASELINES = ("own", "natural", "uniform", "random_search")
DESCRIPTIONS = {
    "mixmin": "the other assays, weights by MixMin",
    "mixmin_own": "the target's own data as one more source, weights by MixMin",
    "own": "the target's own data only",
    "natural": "the other assays, weights in proportion to their molecules",
    "uniform": "the other assays, equal weights",
    "random_search": "the other assays, the best of the random mixtures",
    "natural_own": "half the target's own data, half `natural`",
}
TOP_SOURCES = 12
PUBLISHED_GAIN = (0.03, 0.15)  # in average precision, with XGBoost: abstract of arXiv:2502.10510


def molecule_report(metrics: Metrics) -> str:
    """The report on one target as Markdown (schema version 1); `molecule_figures` are expected beside it."""
    sections = {
        "": conclusion(metrics),
        "Scores": _scores(metrics),
        "Weights": _weights(metrics),
        "How many sources?": _growth(metrics),
        "Solver": _solver(metrics),
        "Do the proxies predict what training reaches?": _fidelity(metrics),
        "Cost": _cost(metrics),
        "Data": _data(metrics),
        "Caveats": _caveats(metrics),
        "How this was made": md.provenance(
            metrics, ", ".join(f"{stage} {value:.0f} s" for stage, value in metrics["seconds"].items())
        ),
    }
    title = f"# How to mix {len(metrics['sources'])} assays for {md.code(metrics['target'])}\n"
    body = (f"\n## {name}\n\n{text}\n" if name else f"\n{text}\n" for name, text in sections.items() if text)
    return title + "".join(body)


def conclusion(metrics: Metrics) -> str:
    """The report's first paragraph: does mixing help this target, and how far that can be believed."""
    metric = metrics["metrics"][0]
    name = METRIC_NAMES[metric]
    sentences = []
    if not metrics["complete"]:
        sentences.append("**This run did not end: what follows is incomplete.**")
    if metrics["demonstration"]:
        sentences.append("**This is a demonstration on computed properties and decides nothing.**")
    found = {other: comparison(metrics, "mixmin", other, metric) for other in BASELINES}
    for verdict, words in (("loses", "**`mixmin` loses against {}.**"), ("wins", "`mixmin` wins against {}.")):
        arms = [other for other, result in found.items() if result["verdict"] == verdict]
        if arms:
            listed = md.listing(f"{md.code(arm)} ({_interval(found[arm])})" for arm in arms)
            sentences.append(words.format(listed))
    ties = [other for other, result in found.items() if result["verdict"] == "ties"]
    if ties:
        sentences.append(f"`mixmin` is not distinguishable from {md.listing(map(md.code, ties))}.")
    together = comparison(metrics, "mixmin_own", "own", metric)
    does = {"wins": "**helps**", "loses": "**harms**", "ties": "changes nothing that can be told"}
    control = comparison(metrics, "mixmin_own", "natural_own", metric)
    weights = {"wins": "are better", "loses": "are **worse**", "ties": "do no better that can be told"}
    sentences.append(
        f"Adding the other assays to the target's own data (`mixmin_own`) {does[together['verdict']]}: "
        f"{_interval(together)} against `own`. MixMin's weights {weights[control['verdict']]} than half own, half "
        f"natural (`natural_own`): {_interval(control)}."
    )
    unsolved = [arm for arm, solved in metrics["solved"].items() if not solved["converged"]]
    if unsolved:
        sentences.append(f"**The weights of {md.listing(map(md.code, unsolved))} are not solved to tolerance.**")
    best, level = max(
        ((arm, result[metric]) for arm, result in metrics["arms"].items()), key=lambda item: item[1]["mean"]
    )
    sentences.append(f"The highest mean {name} on the test molecules has {md.code(best)}: {md.spread(level)}.")
    return " ".join(sentences)


def _interval(result: Metrics) -> str:
    return f"{result['mean']:+.3f}, {result['lower']:+.3f} to {result['upper']:+.3f}"


def _scores(metrics: Metrics) -> str:
    names = [METRIC_NAMES[metric] for metric in metrics["metrics"]]
    header = ["arm", "trained on", *names, f"test loss, {metrics['loss']}", "predicted by proxies"]
    rows = [
        [
            md.code(arm),
            DESCRIPTIONS[arm],
            *(md.spread(result[metric]) for metric in metrics["metrics"]),
            md.spread(result["test_loss"]),
            md.spread(result["predicted_loss"]),
        ]
        for arm, result in metrics["arms"].items()
    ]
    compared = [
        [f"{md.code(c['arm'])} less {md.code(c['other'])}", METRIC_NAMES[c["metric"]], _interval(c), c["verdict"]]
        for c in metrics["comparisons"]
    ]
    target, seeds = metrics["data"]["target"], len(metrics["seeds"])
    chance = ""
    if metrics["task"] == "classification":
        positives, negatives = target["test_positives"], target["test_negatives"]
        chance = (
            f" {positives} of the target's {positives + negatives} test molecules are positive, so that a random order "
            f"has an average precision of about {positives / (positives + negatives):.3f}."
        )
    spread = f" After ± stands the standard deviation over {seeds} seeds." if seeds > 1 else ""
    return (
        f"On test molecules that no model and no weight saw, for any assay; higher is better, but for losses.{chance}"
        f"{spread} Test losses are of the trained models' scores as they are, those predicted of "
        f"{'calibrated ' * metrics['calibrated']}proxies.\n\n"
        + md.table(header, rows)
        + "\n\nDifferences of the means over seeds, with intervals of 95 % over "
        f"{metrics['resamples']} draws of the test molecules, whole scaffolds at a time, and of the seeds (paired): "
        "*wins* and *loses* where the interval leaves 0 out.\n\n"
        + md.table(["difference", "in", "mean, interval", "verdict"], compared)
        + "\n\n![scores per arm](scores.png)"
    )


def _weights(metrics: Metrics) -> str:
    arms, overlap = metrics["arms"], metrics["overlap"]
    weights = {arm: arms[arm]["weights"] for arm in ("mixmin", "mixmin_own", "random_search", "natural")}
    everything = {name for found in weights.values() for name in found} | set(metrics["sources"])
    largest = {name: max(weights[arm].get(name, 0) for arm in ("mixmin", "mixmin_own")) for name in everything}
    order = sorted(everything, key=lambda name: (-largest[name], name))
    top = [name for name in order if largest[name] > 0][:TOP_SOURCES]
    rows = [
        [
            md.code(name) + " (the target)" * (name == metrics["target"]),
            *(f"{found.get(name, 0):.3f}" for found in weights.values()),
            *(f"{overlap[kind][name]:.0%}" if name in overlap[kind] else "" for kind in ("of_target", "of_source")),
            f"{metrics['data']['train_molecules_per_source'].get(name, math.nan):,.0f}".replace("nan", ""),
        ]
        for name in top
    ]
    rest = [sum(found.get(name, 0) for name in order if name not in top) for found in weights.values()]
    if len(order) > len(top):
        rows.append([f"{len(order) - len(top)} others", *(f"{share:.3f}" for share in rest), "", "", ""])
    header = ["source", *map(md.code, weights), "target's molecules in it", "its molecules in the target", "molecules"]
    used = np.mean([sum(weight > 1e-3 for weight in seed.values()) for seed in arms["mixmin"]["weights_per_seed"]])
    return (
        f"Mean over seeds; `mixmin` gives {used:.0f} of {len(metrics['sources'])} sources more than 0.001. "
        f"`weights.json` holds all. {_assumptions(metrics)}\n\n"
        + md.table(header, rows)
        + "\n\n![weights per arm](weights.png)"
    )


def _assumptions(metrics: Metrics) -> str:
    """Where the weights come from, what that takes for granted, and how far it holds."""
    is_classification = metrics["task"] == "classification"
    what = "log-likelihoods p(y | x)" if is_classification else "predictions"
    calibrated = " Each proxy's scores are rescaled to fit left-out molecules of its own assay best."
    balance = (
        " Positives and negatives have half of the weight each, in every source and in the target's loss "
        "(`--no-balance` switches that off), so that weights follow what the assays separate and not how often they "
        "are positive; it also moves each source's molecules towards its rarer class."
        if metrics["balance"]
        else " Classes are weighted as they occur." * is_classification
    )
    of_target, of_source = (sorted(metrics["overlap"][kind].values()) for kind in ("of_target", "of_source"))
    return (
        f"Weights come from the {what} of the target's training {'labels' if is_classification else 'values'} under "
        f"each assay's proxy, trained without the molecule.{calibrated * metrics['calibrated']} Mixing them assumes "
        "that all assays draw their molecules alike. How far that can hold: of the target's training molecules the "
        f"sources have measured {of_target[0]:.0%} to {of_target[-1]:.0%}, in the median {np.median(of_target):.0%}; "
        f"of a source's molecules the target has {of_source[0]:.0%} to {of_source[-1]:.0%}, in the median "
        f"{np.median(of_source):.0%}."
        f"{balance}"
    )


def _growth(metrics: Metrics) -> str:
    numbers = list(dict.fromkeys(point["sources"] for point in metrics["growth"]))
    if len(numbers) < 2:
        return ""
    arms = list(dict.fromkeys(point["arm"] for point in metrics["growth"]))
    metric = metrics["metrics"][0]
    cells = {(point["sources"], point["arm"]): md.spread(point[metric]) for point in metrics["growth"]}
    rows = [[str(number), *(cells[number, arm] for arm in arms)] for number in numbers]
    return (
        f"{METRIC_NAMES[metric].capitalize()} with random sets of the sources, one inside the next, another order in "
        "every seed. The proxies are the same; weights are solved and models trained anew.\n\n"
        + md.table(["sources", *map(md.code, arms)], rows)
        + f"\n\n`own` has {md.spread(metrics['arms']['own'][metric])}.\n\n"
        "![score against the number of sources](growth.png)"
    )


def _solver(metrics: Metrics) -> str:
    rows = [[md.code(arm), *md.certificate_cells(solved)] for arm, solved in metrics["solved"].items()]
    return (
        "The gap is a certificate: no other weights have a fitted loss lower than this by more than the gap. "
        "The seed with the largest gap is shown.\n\n"
        + md.table(["weights", *md.certificate_header(metrics["loss"])], rows)
        + "\n\n![the gap after each iteration](gap.png)"
    )


def _fidelity(metrics: Metrics) -> str:
    groups = {"all": "all", "arms": "arms", "random_mixtures": "random mixtures"}
    kinds = {what: METRIC_NAMES.get(what, what) for what in metrics["fidelity"]}
    rows = [
        [words, *(md.correlation(found["molecule"][group]) for found in metrics["fidelity"].values())]
        for group, words in groups.items()
    ]
    return (
        "What the mixture of proxies reaches on the test molecules against what the model trained on the same mixture "
        "reaches. Ranks are taken inside each seed, and apart for models that saw all training molecules and those "
        "that saw all but a fold.\n\n"
        + md.table(["Spearman, models", *kinds.values()], rows)
        + "\n\n![predicted against reached](fidelity.png)"
    )


def _cost(metrics: Metrics) -> str:
    models, flops = metrics["models"], metrics["flops_per_model"]
    targets = md.plural(models["targets"], "target")
    each = f" of {md.si_count(flops)}FLOPs" if flops else ""
    rows = [
        [f"proxies (`mixmin`), for {targets} together", f"{models['proxies']:g}"],
        [
            f"{metrics['random_mixtures']} random mixtures (`random_search`) for each target",
            f"{models['random_mixtures']:g}",
        ],
        ["models of the arms", f"{models['arms']:g}"],
    ]
    return (
        f"In trainings on all training molecules{each}, per seed; a model that leaves a fold of {models['folds']} out "
        "counts as the part that it sees. The proxies serve all targets, random mixtures only their own.\n\n"
        + md.table(["stage", "trainings"], rows)
    )


def _data(metrics: Metrics) -> str:
    data = metrics["data"]
    unparsable = data["unparsable"]
    merged = "dropped" if metrics["task"] == "classification" else "averaged"
    rows = [
        ["rows", f"{data['rows']:,}"],
        ["not readable by RDKit, skipped", f"{len(unparsable):,}"],
        ["salts and mixtures, of which the largest part is kept", f"{data['salts']:,}"],
        ["duplicates merged", f"{data['duplicates']:,}"],
        [f"contradicting values of duplicates, {merged}", f"{data['conflicts']:,}"],
        ["molecules", f"{data['molecules']:,}"],
        ["to train on", f"{data['train_molecules']:,}"],
        ["to test", f"{data['test_molecules']:,}"],
        ["assays", f"{data['assays']:,}"],
        ["with too little data to be used", f"{len(data['unusable_assays']):,}"],
        *([name.replace("_", " ") + " of the target", f"{count:,}"] for name, count in data["target"].items()),
    ]
    shown = "".join(f" Row {row}: `{md.plain(str(text))[:60]}`." for row, text, *_ in unparsable[:3])
    skipped = ""
    if data["unusable_assays"]:
        first = list(data["unusable_assays"].items())[:3]
        more = len(data["unusable_assays"]) - len(first)
        named = "; ".join(f"{md.code(name)}: {why}" for name, why in first)
        skipped = f"\n\nNot used: {named}" + (f"; and {more} others, listed in `metrics.json`." if more else ".")
    ignored = "".join(f" {md.code(name)} is no assay ({why})." for name, why in data["ignored_columns"].items())
    return md.table([f"`{md.plain(data['table'])}`", ""], rows) + f"\n\n{shown.strip()}{ignored}".rstrip() + skipped


def _caveats(metrics: Metrics) -> str:
    config, seeds = metrics["config"], len(metrics["seeds"])
    scaffold = (
        " A scaffold of more than half of the test part (benzene, often) is never tested, and molecules without a ring "
        "are parted one by one, so that homologues can lie on both sides."
        if config["split"] == "scaffold"
        else " Molecules of one scaffold, stereoisomers with the same fingerprint among them, lie on both sides."
    )
    noise = (
        "One seed: how far another training would differ is not in the intervals."
        if seeds == 1
        else f"With {seeds} seeds the noise of training is measured roughly, and somewhat too small."
    )
    caveats = [
        f"The test molecules ({config['split']} split, seed {config['split_seed']}) are the same for every seed: "
        f"another split is not in the spread.{scaffold}",
        f"{noise} Intervals are not corrected for the number of comparisons.",
        "Assays of one family (two read-outs of one experiment, the same receptor in another cell line) are all "
        "sources: the gain may rest on siblings of the target, as the weights show.",
        "Proxies and target models have the same settings, which were chosen for single assays and not for mixtures.",
        *md.skipped_steps(metrics),
    ]
    return "\n".join(f"- {caveat}" for caveat in caveats)


# All targets together ---------------------------------------------------------------------------------------------


def molecule_summary(runs: Sequence[Metrics], has_growth: bool) -> str:
    """summary.md: every target, and what mixing does on average, with the figures that stand beside it."""
    flags = []
    if not all(metrics["complete"] for metrics in runs):
        flags.append("**This run did not end: what follows is incomplete.**")
    if any(metrics["demonstration"] for metrics in runs):
        flags.append("**A demonstration on computed properties, which decides nothing.**")
    unsolved = [m["target"] for m in runs if not all(solved["converged"] for solved in m["solved"].values())]
    if unsolved:
        flags.append(f"**Weights of {md.listing(map(md.code, unsolved))} are not solved to tolerance.**")
    growth = f"\n\n{_growth_table(runs)}\n\n![score against the number of sources](growth.png)" if has_growth else ""
    return (
        f"# Mixing assays: {md.plural(len(runs), 'target')}\n\n"
        + "".join(f"{flag}\n\n" for flag in flags)
        + f"{molecule_gains(runs)}\n\n![differences with their intervals](gains.png){growth}\n\n"
        + md.provenance(runs[0], f"{sum(_seconds(runs).values()):.0f} s in all")
        + "\n"
    )


def _seconds(runs: Sequence[Metrics]) -> dict[str, float]:
    return {stage: seconds for metrics in runs for stage, seconds in metrics["seconds"].items()}


def molecule_gains(runs: Sequence[Metrics]) -> str:
    """The tables of all targets: scores per arm, differences, and what the paper reports beside them."""
    metric = runs[0]["metrics"][0]
    arms = list(runs[0]["arms"])
    rows = [
        [
            md.code(metrics["target"]),
            _size(metrics),
            *(f"{metrics['arms'][arm][metric]['mean']:.3f}" for arm in arms),
        ]
        for metrics in runs
    ]
    rows.append(["mean", "", *(f"{np.mean([m['arms'][arm][metric]['mean'] for m in runs]):.3f}" for arm in arms)])
    size = f"{'positives' if runs[0]['task'] == 'classification' else 'molecules'}, train / test"
    pairs = list(dict.fromkeys((c["arm"], c["other"]) for c in runs[0]["comparisons"]))
    return (
        md.table([METRIC_NAMES[metric], size, *map(md.code, arms)], rows)
        + "\n\n"
        + md.table(
            ["difference", "mean over targets", "smallest", "largest", "wins", "ties", "loses"],
            [_gain_row(runs, arm, other, metric) for arm, other in pairs],
        )
        + "\n\nAfter ± stands the standard error over targets; wins and losses are those of each target's interval "
        "over its test molecules and seeds." + _beside_the_paper(runs, metric)
    )


def _growth_table(runs: Sequence[Metrics]) -> str:
    """What `mixmin` gains with each number of sources, mean over targets; the last number is all of them."""
    metric, table = runs[0]["metrics"][0], []
    numbers = sorted({point["sources"] for point in runs[0]["growth"]})
    for place, number in enumerate(numbers):
        gains: dict[str, list[float]] = {"natural": [], "own": []}
        for metrics in runs:
            its = sorted({point["sources"] for point in metrics["growth"]})[place]
            level = {p["arm"]: p[metric]["mean"] for p in metrics["growth"] if p["sources"] == its}
            gains["natural"].append(level["mixmin"] - level["natural"])
            gains["own"].append(level["mixmin"] - metrics["arms"]["own"][metric]["mean"])
        table.append([f"{number}", *(_mean_and_error(np.array(values)) for values in gains.values())])
    return md.table([f"sources, {METRIC_NAMES[metric]}", "`mixmin` less `natural`", "`mixmin` less `own`"], table)


def _size(metrics: Metrics) -> str:
    target = metrics["data"]["target"]
    kind = "positives" if metrics["task"] == "classification" else "molecules"
    return f"{target[f'train_{kind}']} / {target[f'test_{kind}']}"


def _gain_row(runs: Sequence[Metrics], arm: str, other: str, metric: str) -> list[str]:
    found = [comparison(metrics, arm, other, metric) for metrics in runs]
    gains = np.array([result["mean"] for result in found])
    verdicts = [result["verdict"] for result in found]
    return [
        f"{md.code(arm)} less {md.code(other)}",
        _mean_and_error(gains),
        f"{gains.min():+.3f}",
        f"{gains.max():+.3f}",
        *(str(verdicts.count(verdict)) for verdict in ("wins", "ties", "loses")),
    ]


def _mean_and_error(values: np.ndarray) -> str:
    error = f" ± {values.std(ddof=1) / math.sqrt(len(values)):.3f}" if len(values) > 1 else ""
    return f"{values.mean():+.3f}{error}"


def _beside_the_paper(runs: Sequence[Metrics], metric: str) -> str:
    if metric != "average_precision":
        return ""
    low, high = PUBLISHED_GAIN
    gains = [comparison(metrics, "mixmin", "natural", metric)["mean"] for metrics in runs]
    config = runs[0]["config"]
    how = (
        f"{runs[0]['learner']}, {config['split']} split, {'classes balanced' if runs[0]['balance'] else 'not balanced'}"
    )
    here = f"{min(gains):+.3f} to {max(gains):+.3f}"
    rows = [
        ["paper's abstract: PCBA, XGBoost", f"{low:+.2f} to {high:+.2f}"],
        [f"here, over `natural`: `{md.plain(runs[0]['data']['table'])}`, {how}", here],
    ]
    return (
        "\n\n"
        + md.table(["gain of MixMin in average precision", "over targets"], rows)
        + "\n\nThe abstract does not name the mixture that it compares with; data, split and learner differ."
    )
