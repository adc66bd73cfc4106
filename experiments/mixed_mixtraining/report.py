"""report.md and figures of the experiment that joins both papers, from its metrics.json alone.

    python -m experiments.mixed_mixtraining.report --results runs/mixed_mixtraining

writes them again for a finished run, without computing anything.  What speaks against `mixmin` comes first and in bold;
what is not distinguishable is called so.
"""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.harness.command_line import run
from experiments.harness.result_files import read_json, write_bytes, write_text
from experiments.reporting import markdown as md
from experiments.reporting.figures import figure_png, gap_figure, loss_figure, weights_figure
from mixmin_jax.errors import InputError
from mixmin_jax.stats.comparison import chance_of_false_verdict

Metrics = Mapping[str, Any]

SUBJECT, CONVENTIONAL = "mixmin", "mixmin_ssl_then_sl"
ARMS = {
    "sl": "labels alone",
    "sl_matched": "labels alone, with the FLOPs of the others by more steps",
    "target_text": "self-supervision on the labelled windows, no source",
    "natural": "sources by their size",
    "uniform": "all sources alike",
    "mixmin_ssl_then_sl": "sources by MixMin's weights, all SSL steps before the SL ones, with the FLOPs of `mixmin`",
    "mixmin": "sources by MixMin's weights",
}
QUESTIONS = {  # arms by what a verdict against them answers
    "Is choosing the mixture worth it?": ("natural", "uniform"),
    "Is text of other origin worth it?": ("target_text",),
    "Are joint steps worth it?": (CONVENTIONAL,),
    "Is self-supervision worth it?": ("sl_matched", "sl"),
}
HIDING = {"visible": "", "all_tokens": " behind mask tokens", "two_passes": " in the first of two passes"}
FEW_LABELS = 100  # fewer labelled windows in all than this are few to fit weights on
CHEAP_EPOCHS = 4  # up to about here a repeated token is worth almost a new one (Muennighoff et al., arXiv:2305.16264)


def mixed_report(metrics: Metrics) -> str:
    """The report as Markdown (schema version 1); accuracy.png, weights.png and gap.png are expected beside it."""
    sections = {
        "": conclusion(metrics),
        "Accuracy": _accuracy(metrics),
        "Weights": _weights(metrics),
        "Solver": _solver(metrics),
        "Cost": _cost(metrics),
        "What was compared": _compared(metrics),
        "Near-duplicates of the tasks' documents": _overlap(metrics),
        "Data": _data(metrics),
        "Caveats": _caveats(metrics),
        "How this was made": md.provenance(metrics["made_by"], f"{sum(metrics['seconds'].values()):.0f} s in all"),
    }
    title = f"# Does MixMin's mixture help MixTraining on {_tasks(metrics)}?\n"
    body = (f"\n## {name}\n\n{text}\n" if name else f"\n{text}\n" for name, text in sections.items())
    return title + "".join(body)


def conclusion(metrics: Metrics) -> str:
    """The report's first paragraph: what choosing the mixture gains, and how far that can be believed."""
    comparisons = metrics["comparisons"]
    seeds = md.plural(len(metrics["seeds"]), "seed")
    sentences = []
    if not metrics["complete"]:
        sentences.append("**This run did not end: what follows is incomplete.**")
    if losses := [arm for arm, found in comparisons.items() if found["verdict"] == "loses"]:
        sentences.append(f"**`mixmin` is less accurate than {_by(metrics, losses)}, more than two standard errors.**")
    if better := _better_references(metrics):
        sentences.append(f"**`mixmin` is no better than {md.listing(better)}.**")
    if not metrics["mixmin"]["converged"]:
        sentences.append("**The weights of `mixmin` are not solved to tolerance.**")
    if metrics["demonstration"]:
        sentences.append(f"**This is a demonstration with {seeds} and decides nothing.**")
    level = md.percent_spread(metrics["arms"][SUBJECT]["accuracy"])
    sentences.append(f"With the mixture that MixMin chose, MixTraining reaches {level} accuracy.")
    if len(metrics["seeds"]) == 1:
        sentences.append(f"One seed: nothing is known to differ. Against {_by(metrics, comparisons)}.")
        return " ".join(sentences)
    for question, arms in QUESTIONS.items():
        groups: dict[str, list[str]] = {}
        for arm in (arm for arm in arms if arm in comparisons):
            groups.setdefault(comparisons[arm]["verdict"], []).append(arm)
        if not groups:
            continue  # earlier versions had fewer arms
        words = {"wins": "more accurate than", "ties": "not distinguishable from", "loses": "less accurate than"}
        answers = [f"{words[word]} {_by(metrics, groups[word])}" for word in words if word in groups]
        answer = "yes" if set(groups) == {"wins"} else "no" if set(groups) == {"loses"} else "not shown"
        sentences.append(f"{question} {answer.capitalize()}: it is {md.listing(answers)}.")
    share = metrics["flops"]["proxies"] / metrics["flops"]["arms"][SUBJECT]
    sentences.append(
        f"Choosing cost {md.share_of(share, 'the FLOPs of one training')} for proxies, which no arm with another"
        " mixture or none got."
    )
    return " ".join(sentences)


def _by(metrics: Metrics, arms: Any) -> str:
    return md.listing(f"{md.code(arm)} ({md.points(metrics['comparisons'][arm])} points)" for arm in arms)


def _better_references(metrics: Metrics) -> list[str]:
    found = []
    for reference in metrics["references"]:
        ours = metrics["arms"][SUBJECT]["accuracy_per_task"][reference["task"]]["mean"]
        if reference["accuracy"]["mean"] >= ours:
            levels = f"{100 * reference['accuracy']['mean']:.1f}% against {100 * ours:.1f}%"
            found.append(f"{md.plain(reference['name'])} on {_task(metrics, reference['task'])} ({levels})")
    return found


def _accuracy(metrics: Metrics) -> str:
    several = len(metrics["tasks"]) > 1
    header = ["arm", "accuracy", "`mixmin` less arm, points", "`mixmin`", "test loss, nats", "steps SSL / joint / SL"]
    header += [_task(metrics, number) for number in range(len(metrics["tasks"]))] if several else []
    rows = []
    for arm, found in metrics["arms"].items():
        compared = metrics["comparisons"].get(arm)
        row = [
            md.code(arm),
            md.percent_spread(found["accuracy"]),
            md.points(compared) if compared else "",
            (compared["verdict"] or "one seed") if compared else "",
            md.spread(found["test_loss"]),
            " / ".join(str(found["steps"][phase]) for phase in ("ssl", "joint", "sl")),
        ]
        rows.append(row + [md.percent_spread(level) for level in found["accuracy_per_task"]] * several)
    for reference in metrics["references"]:
        on = f", {_task(metrics, reference['task'])}" * several
        blank = [""] * (len(header) - 2)
        rows.append([md.plain(reference["name"]) + on, md.percent_spread(reference["accuracy"]), *blank])
    mean = "the mean over tasks of the share" if several else "the share"
    return (
        f"Accuracy is {mean} of the test windows that are right at the end of training. Differences are paired by seed;"
        " after ± stands the standard deviation over seeds, for differences the standard error. *wins* and *loses*"
        " mean more than two standard errors, *ties* that the two are not distinguishable.\n\n"
        + md.table(header, rows)
        + "\n\n![test accuracy per arm](accuracy.png)"
    )


def _weights(metrics: Metrics) -> str:
    arms = {arm: found for arm, found in metrics["arms"].items() if "weights" in found}
    order = sorted(metrics["sources"], key=lambda source: -arms[SUBJECT]["weights"][source])
    rows = [
        [
            md.code(source),
            *(f"{found['weights'][source]:.3f}" for found in arms.values()),
            f"{arms[SUBJECT]['epochs'][source]:.2f}",
        ]
        for source in order
    ]
    rows.append(["proxy loss, nats per byte", *(md.spread(found["proxy_loss"]) for found in arms.values()), ""])
    high = {source: epochs for source, epochs in arms[SUBJECT]["epochs"].items() if epochs > CHEAP_EPOCHS}
    repeats = md.listing(f"{md.code(source)} {epochs:.1f} times" for source, epochs in high.items())
    return (
        "Share of the windows of self-supervision, mean over seeds; the last column says how often `mixmin` reads the"
        " source. The last row is the loss of the mixture of proxies on the labelled windows, which MixMin minimises:"
        " it is not an accuracy.\n\n"
        + md.table(["source", *map(md.code, arms), "epochs, `mixmin`"], rows)
        + (f"\n\n**`mixmin` reads {repeats}**: beyond about {CHEAP_EPOCHS} times a repeat is worth less." * bool(high))
        + "\n\n![weights per arm](weights.png)"
    )


def _solver(metrics: Metrics) -> str:
    row = md.certificate_cells(metrics["mixmin"])
    return (
        "The gap is a certificate: no weights have a loss on the labelled windows lower than this by more than the gap."
        " The seed with the largest gap is shown.\n\n"
        + md.table(md.certificate_header("nats per byte"), [row])
        + "\n\n![the gap](gap.png)"
    )


def _cost(metrics: Metrics) -> str:
    flops, training = metrics["flops"], metrics["flops"]["arms"][SUBJECT]
    wall = {arm: metrics["arms"][arm]["wall_seconds"]["mean"] for arm in flops["arms"]}
    costs = [(md.code(arm), count, wall[arm]) for arm, count in flops["arms"].items()]
    costs.append(("proxies for MixMin's weights, per seed", flops["proxies"], _proxy_seconds(metrics)))
    rows = [[name, md.si_count(count), md.share(count / training), f"{seconds:.0f}"] for name, count, seconds in costs]
    return (
        "FLOPs are the steps of each phase times the cost of one such step. Seconds are those of this run, with"
        " compilation in the first training and evaluation in all: they were not measured side by side.\n\n"
        + md.table(["training", "FLOPs", "share of `mixmin`'s", "seconds"], rows)
    )


def _proxy_seconds(metrics: Metrics) -> float:
    stages = [value for name, value in metrics["seconds"].items() if name.startswith(("proxies-", "scores-"))]
    return sum(stages) / len(metrics["seeds"])


def _compared(metrics: Metrics) -> str:
    config, steps = metrics["config"], metrics["arms"][SUBJECT]["steps"]
    rows = [[md.code(arm), what] for arm, what in ARMS.items() if arm in metrics["arms"]]
    conventional = ""
    if CONVENTIONAL in metrics["arms"]:  # earlier versions had no such arm
        conventional = (
            f" {md.code(CONVENTIONAL)} makes no joint step: it spends their FLOPs on SSL and then SL steps,"
            f" {config['ssl_steps']} of the former to {config['sl_steps']} of the latter, as before some are joined."
        )
    return (
        f"All arms have the same {md.plural(_num_labels(metrics), 'labelled window')} in a seed, and the same model,"
        f" optimiser and initial parameters. Those with joint steps have one schedule: {steps['ssl']} SSL steps,"
        f" {steps['joint']} joint and {steps['sl']} SL ones, {config['ssl_batch_size']} windows of sources and"
        f" {config['batch_size']} labelled ones of each task in a joint step, which the encoder reads together."
        f"{conventional} SSL hides {config['ssl_mask']:.0%} of the bytes{HIDING[config.get('ssl_sees', 'visible')]}, a"
        f" joint step {config['joint_mask']:.0%}{HIDING[config['joint']]}."
        f" Peak learning rates: {config['learning_rate']:g} in SSL and joint steps, {config['sl_learning_rate']:g} in"
        " SL steps, in all arms. Nothing was searched for, and no document that is tested on is read in training or in"
        " choosing weights.\n\n" + md.table(["arm", "what self-supervision reads"], rows)
    )


def _overlap(metrics: Metrics) -> str:
    overlap = metrics["overlap"]
    what = f"at least {overlap['threshold']:.0%} of their {overlap['ngram']}-grams with a source"
    found = {source: count for source, count in overlap["sources"].items() if count}
    if not found:
        return f"None of the {overlap['documents']:,} documents of the classes shares {what}."
    weights = metrics["arms"][SUBJECT]["weights"]
    rows = [[md.code(source), f"{count:,}", f"{weights[source]:.3f}"] for source, count in found.items()]
    return (
        f"Of the {overlap['documents']:,} documents of the classes some share {what}. Self-supervision on that source"
        " may have read test text, without its label: what is gained with these sources may rest on that.\n\n"
        + md.table(["source", "documents found in it", "weight in `mixmin`"], rows)
    )


def _data(metrics: Metrics) -> str:
    rows = [
        [md.code(name), f"{found['documents']:,}", f"{found['bytes']:,}", f"{found['windows']:,}"]
        for name, found in metrics["data"].items()
    ]
    tasks = []
    for number, task in enumerate(metrics["tasks"]):
        classes = md.listing(f"{md.code(name)} ({count:,} documents)" for name, count in task["documents"].items())
        shared = task["shared_documents_left_out"]
        tasks.append(
            f"- {_task(metrics, number)}: {classes}; {task['labels_per_class']} labelled windows of each class,"
            f" {task['test']:,} windows of other documents to test on"
            + (f"; {md.plural(shared, 'document')} of several classes left out" if shared else "")
            + "."
        )
    config, model = metrics["config"], metrics["model"]
    return (
        f"Windows have {config['proxy']['sequence_length']} bytes. Documents are split with seed"
        f" {config['split_seed']}; which windows are labelled differs between seeds.\n\n"
        + "\n".join(tasks)
        + "\n\n"
        + md.table(["source", "documents", "bytes", "windows"], rows)
        + (f"\n\n{md.source_notes(metrics['source_notes'])}" if metrics.get("source_notes") else "")
        + f"\n\nThe encoder {md.code(model['name'])} has {md.si_count(model['encoder_parameters'])} parameters, with"
        f" decoder and heads {md.si_count(model['parameters'])}."
    )


def _caveats(metrics: Metrics) -> str:
    seeds = len(metrics["seeds"])
    chance = chance_of_false_verdict(seeds)
    noise = md.seed_noise(seeds, chance)
    if seeds > 1:
        noise += f" {len(metrics['comparisons'])} are made above."
    tests = min(task["test"] for task in metrics["tasks"])
    error = 100 * math.sqrt(0.25 / tests)
    caveats = [
        noise,
        f"All seeds share one set of test windows: another one would move an accuracy by up to {error:.1f} points (one"
        " standard error, more where windows of one document are alike), which is in no error above and cancels in"
        " differences in part.",
        "MixMin's weights minimise the loss of language models on the labelled windows. That such a mixture is also"
        " the best for predicting hidden bytes before a classification is an assumption, which this experiment tests.",
        "Text of the target beyond the labelled windows was used by no arm; where there is more of it, `target_text`"
        " would be stronger.",
        "Learning rates, masks and steps were not searched for: others may rank the arms differently.",
    ]
    if _num_labels(metrics) < FEW_LABELS:
        caveats.append("Few windows were there to fit the weights on.")
    caveats += md.skipped_steps(metrics)
    return "\n".join(f"- {caveat}" for caveat in caveats)


def _num_labels(metrics: Metrics) -> int:
    return sum(task["labels_per_class"] * len(task["classes"]) for task in metrics["tasks"])


def _task(metrics: Metrics, number: int) -> str:
    return " or ".join(map(md.code, metrics["tasks"][number]["classes"]))


def _tasks(metrics: Metrics) -> str:
    return md.listing(_task(metrics, number) for number in range(len(metrics["tasks"])))


def write_report(folder: Path, metrics: Metrics) -> None:
    """report.md and the figures."""
    arms = metrics["arms"]
    gaps = [
        [None if gap is None else gap / metrics["mixmin"]["tolerance"] for gap in history]
        for history in metrics["gap_history"][SUBJECT]
    ]
    figures = {
        "accuracy.png": loss_figure(
            {arm: found["accuracy"]["per_seed"] for arm, found in arms.items()}, "test accuracy", "higher"
        ),
        "weights.png": weights_figure({arm: arms[arm]["weights_per_seed"] for arm in ("mixmin", "natural", "uniform")}),
        "gap.png": gap_figure({SUBJECT: gaps}, 1.0, "gap / tolerance"),
    }
    for name, figure in figures.items():
        write_bytes(folder / name, figure_png(figure))
    write_text(folder / "report.md", mixed_report(metrics))


@dataclasses.dataclass(frozen=True)
class MixedMixTrainingReport:
    """Write the report and figures of a run of experiments.mixed_mixtraining again, from its metrics.json."""

    results: Path
    """The run's --out folder."""


def main(config: MixedMixTrainingReport) -> None:
    path = config.results / "metrics.json"
    if not path.is_file():
        raise InputError(f"{config.results}: no metrics.json in it")
    write_report(config.results, read_json(path))


if __name__ == "__main__":
    run(MixedMixTrainingReport, main)
