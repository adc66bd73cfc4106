"""report.md of the MixTraining experiments, images and text alike, written from their metrics.json alone."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.mixtraining.conclusion import conclusion as conclusion
from experiments.mixtraining.runs import (
    BASELINE,
    MIXED,
    SUPERVISED,
    Cell,
    Metrics,
    Runs,
    accuracy,
    accuracy_difference,
    accuracy_verdict,
    cell_runs,
    cells,
    failed_runs,
    paired_runs,
    same_accuracy,
    share_of_all_flops,
    speed_range,
    times_cheaper,
    values,
)
from experiments.reporting import markdown as md
from mixmin_jax.stats.comparison import CostShare, chance_of_false_verdict

MASK_TOKENS = "all tokens, hidden ones as mask tokens"
NOUNS = {"images": "image", "text": "text"}
STEP_KINDS = {
    "ssl": "SSL",
    "ssl_of_ssl_then_sl": "SSL of `ssl_then_sl`, at its own mask",
    "sl": "SL",
    "joint_visible": "joint, visible tokens only",
    "joint_all_tokens": f"joint, {MASK_TOKENS}",
    "joint_two_passes": "joint, two passes",
}
JOINT_VARIANTS = {
    "visible": "one pass over the visible tokens",
    "all_tokens": f"one pass over {MASK_TOKENS}",
    "two_passes": "two passes, one over the visible and one over all tokens",
}


def mixtraining_report(metrics: Metrics, has_reconstructions: bool = False) -> str:
    """The report as Markdown, from what stands in metrics.json (schema version 1).

    The figures of `mixtraining_figures.mixtraining_figures` are expected beside it, `reconstructions.png` only where
    `has_reconstructions` says so.
    """
    sections = {
        "": conclusion(metrics),
        "Accuracy and cost": _accuracy(metrics),
        "The same accuracy for less?": _same_accuracy(metrics),
        "What a step costs": _steps(metrics),
        "Learning curves": _curves(metrics),
        "Reconstructions": _reconstructions() if has_reconstructions else "",
        "What it was compared with": _compared_with(metrics),
        "Data and model": _data(metrics),
        "Caveats": _caveats(metrics),
        "How this was made": md.provenance(metrics["made_by"], f"{metrics['seconds_in_all']:.0f} s in all"),
    }
    title = f"# SSL and SL in one phase, or one after the other? MixTraining on {md.code(metrics['dataset']['name'])}\n"
    body = (f"\n## {name}\n\n{text}\n" if name else f"\n{text}\n" for name, text in sections.items() if text)
    return title + "".join(body)


def _accuracy(metrics: Metrics) -> str:
    seeds = len(metrics["seeds"])
    header = [
        "arm",
        "accuracy",
        "less `ssl_then_sl`, points",
        "verdict",
        "test loss, nats",
        "FLOPs",
        "times less FLOPs",
    ]
    header += ["seconds", "times as fast", "epochs SSL / joint / SL"]
    measured = [
        f"Accuracy is the share of the {metrics['dataset']['test']:,} test {NOUNS[metrics['domain']]}s that are right "
        "at the end of training. Differences are paired by seed. *wins* and *loses* mean more than two standard "
        "errors, *ties* that the two are not distinguishable.",
        "FLOPs and seconds are the steps of each phase times the cost of such a step: compilation and evaluation are "
        "not in them. Behind *times as fast* is its range while each kind of step takes what it took in its fastest to "
        "its slowest round. `ssl_then_sl` is what they are compared with; *matched* arms got its FLOPs by more epochs"
        + (f", *cheaper* ones these FLOPs divided by {less:g}" if (less := metrics.get("times_cheaper")) else "")
        + ".",
    ]
    if seeds > 1:
        measured.insert(
            1, f"After ± stands the standard deviation over {seeds} seeds, for differences the standard error."
        )
    parts = []
    for fraction in metrics["fractions"]:
        rows = [row for cell in cells(metrics) if (row := _accuracy_row(metrics, cell, fraction))]
        parts.append(f"### {_fraction_name(metrics, fraction)}\n\n{md.table(header, rows)}")
    figures = [
        "![Test accuracy against the FLOPs of training, a panel per fraction: every arm with its spread over seeds, "
        "its checkpoints as thin lines](accuracy_compute.png)"
    ]
    if len(metrics["fractions"]) > 1:
        figures.append("![Test accuracy of every arm against the share of the training data](accuracy_fraction.png)")
    return "\n\n".join([" ".join(measured), *parts, *figures])


def _accuracy_row(metrics: Metrics, cell: Cell, fraction: float) -> list[str]:
    """One line of the table; empty where the cell has no run of this fraction."""
    runs = cell_runs(metrics, cell, fraction)
    failed = [r for r in failed_runs(metrics) if (r["arm"], r["budget"], r["fraction"]) == (*cell, fraction)]
    if not runs and not failed:
        return []
    seeds = len(metrics["seeds"])
    few = f" ({len(runs)} of {md.plural(seeds, 'seed')})" * (len(runs) < seeds)
    name = md.code(cell.name) + few + f" **{len(failed)} failed**" * bool(failed)
    if not runs:
        return [name, *[""] * 9]
    flops, seconds, loss = (sum(values(runs, key)) / len(runs) for key in ("flops", "seconds", "test_loss"))
    against = ["", "", "1", "1"]
    if cell.arm != BASELINE:
        against = _against_baseline(metrics, *paired_runs(metrics, cell, Cell(BASELINE)).get(fraction, ({}, {})))
    epochs = next(iter(runs.values()))["epochs"]
    return [
        name,
        md.percent_spread(accuracy(runs)),
        *against[:2],
        f"{loss:.3f}",
        md.si_count(flops),
        against[2],
        f"{seconds:.0f}" if seconds >= 10 else f"{seconds:.2g}",
        against[3],
        " / ".join(f"{epochs[phase]:g}" for phase in ("ssl", "joint", "sl")),
    ]


def _against_baseline(metrics: Metrics, runs: Runs, baseline: Runs) -> list[str]:
    """Difference in accuracy, its verdict, and the speed-up in FLOPs and in seconds."""
    if not runs:
        return [""] * 4
    difference = accuracy_difference(runs, baseline)
    cheaper = [f"{times_cheaper(runs, baseline, key):.2f}" for key in ("flops", "seconds")]
    low, high = speed_range(metrics, runs, baseline)
    cheaper[1] += f" ({low:.2f} to {high:.2f})"
    return [md.points(vars(difference)), accuracy_verdict(difference) or "one seed", *cheaper]


def _same_accuracy(metrics: Metrics) -> str:
    baseline = Cell(BASELINE)
    others = [cell for cell in cells(metrics) if cell.arm != BASELINE]
    rows = []
    for fraction in metrics["fractions"]:
        pairs = {cell: pair for cell in others if (pair := paired_runs(metrics, cell, baseline).get(fraction))}
        if own := pairs and cell_runs(metrics, baseline, fraction):  # the yardstick: read off as the others are
            pairs = {baseline: (own, own)} | pairs
        for cell, pair in pairs.items():
            found = share_of_all_flops(*pair), same_accuracy(*pair)
            shares = [md.percent_spread(vars(share)) if share.num_reached else "not reached" for share in found]
            reached = f"{found[1].num_reached} of {len(found[1].per_seed)}"
            rows.append([md.code(cell.name), md.percent(fraction), *shares, reached])
    if not rows:
        return ""
    header = ["arm", "training data", "of all FLOPs of `ssl_then_sl`", "of those to the same accuracy"]
    return (
        "What an arm costs until it has the accuracy that `ssl_then_sl` with the same seed ends with: from there on "
        "its test accuracy, linear between checkpoints, stays at that level or above. "
        f"{_scored_on(metrics)} The row of `ssl_then_sl` is the yardstick: where its own checkpoints are at that level "
        "before its end, a share of all its FLOPs below 100% is no saving. The other share, which is the one above and "
        "in the summary, is of the FLOPs until it is there itself. Seeds that do not reach the level are counted and "
        "not averaged. At a checkpoint inside a schedule the learning rate has not come down yet and the last phase "
        "may not have begun, in any arm: what schedules planned to end there would reach is not measured.\n\n"
        + md.table([*header, "seeds that reach it"], rows)
    )


def _scored_on(metrics: Metrics) -> str:
    """On how many test examples checkpoints and ends are scored."""
    tests, noun = metrics["dataset"]["test"], NOUNS[metrics["domain"]]
    some = min(metrics["config"]["checkpoint_examples"], tests)
    if not any(run["checkpoints"]["flops"] for run in metrics["runs"]):
        return "No run was scored before its end, so that only whole runs are compared."
    if some == tests:
        return f"Checkpoints and ends are scored on the same {md.plural(tests, f'test {noun}')}."
    return f"Checkpoints are scored on {some:,} of the {tests:,} test {noun}s, ends on all."


def _steps(metrics: Metrics) -> str:
    steps, joint, unhidden = metrics["steps"], metrics["schedule"]["joint"], _ssl_sees_all_tokens(metrics)
    passes = JOINT_VARIANTS[joint]
    if unhidden and joint == "two_passes":
        passes = "two passes over all tokens, hidden ones as mask tokens in the first"
    sl, used = steps.get("sl"), steps.get(f"joint_{joint}")
    dearer = sl is not None and used is not None and used["ms"] >= sl["ms"]
    rows = []
    for kind, name in STEP_KINDS.items():
        if step := steps.get(kind):
            relative = [f"{step[key] / sl[key]:.2f}" if sl else "" for key in ("ms", "flops")]
            ms = f"{step['ms']:.3g} ({step['ms_low']:.3g} to {step['ms_high']:.3g})"
            name += f", {MASK_TOKENS}" * (unhidden and kind.startswith("ssl"))
            rows.append([name, ms, f"{step['flops'] / 1e9:.3g}", *relative])
    return (
        "One batch forward, backward and through the optimiser, the kinds of step in turns: the median, and the range. "
        f"The joint phase of `mixtraining` here is {passes}"
        + (", **a step that takes no less time than a supervised one**" * dearer)
        + ".\n\n"
        + md.table(["step", "ms", "GFLOPs", "ms, relative to SL", "FLOPs, relative to SL"], rows)
    )


def _curves(metrics: Metrics) -> str:
    return (
        f"Training losses of the arms' own schedules at {md.percent(max(metrics['fractions']))} of the training data, "
        f"seed {metrics['seeds'][0]}; each point is the mean over a stretch of steps. A loss in the joint phase is not "
        "the same quantity as outside it where other shares are hidden: a step in the curve at a border of phases "
        "says little.\n\n"
        "![Training losses of SSL and SL of every arm against the step, the phases shaded](curves.png)"
    )


def _reconstructions() -> str:
    return (
        "Test images as they are, as the encoder saw them, and as the decoder filled them in.\n\n"
        "![Test images: original, masked and reconstructed](reconstructions.png)"
    )


def _compared_with(metrics: Metrics) -> str:
    schedule, settings, tuning = metrics["schedule"], metrics["settings"], metrics["tuning"]
    alpha = schedule["alpha"]
    weight = f"{alpha['kind']} from {alpha['start']:g} to {alpha['end']:g}"
    if alpha["kind"] == "constant":
        weight = f"constant, {alpha['start']:g}"
    border = [
        f"the learning rate {'starts again' if schedule['restart_learning_rate'] else 'carries on'}",
        f"the optimiser's moments {'are forgotten' if schedule['restart_moments'] else 'are kept'}",
    ]
    sees = f" An SSL step encodes {MASK_TOKENS}." * _ssl_sees_all_tokens(metrics)
    parts = [
        f"`ssl_then_sl`: {md.plural(schedule['ssl_epochs'], 'epoch')} of SSL, then "
        f"{md.plural(schedule['sl_epochs'], 'epoch')} of SL. `sl`: the SL epochs alone. `mixtraining`: a mix ratio of "
        f"{schedule['mix_ratio']:g} turns that share of the epochs of both objectives into joint ones, which minimise "
        f"alpha L_ssl + (1 - alpha) L_sl (alpha {weight}).{sees} At a border of phases {md.listing(border)}. Model, "
        "optimiser, data and seeds are the same for all arms. What may differ, empty where an arm has no such steps:",
        _arm_settings(metrics),
        f"**Settings** (chosen on: {md.plain(settings['chosen_on'])}). {md.plain(settings['text'])}",
    ]
    if tuning is not None:
        parts.append(_search(tuning))
    if metrics["references"]:
        rows = [
            [md.plain(r["name"]), md.percent(r["fraction"]), f"{100 * r['accuracy']:.1f}"]
            for r in metrics["references"]
        ]
        parts.append(
            "**References**, on the same split:\n\n" + md.table(["reference", "training data", "accuracy, %"], rows)
        )
    else:
        parts.append("No reference outside these arms was run.")
    return "\n\n".join(parts)


def _ssl_sees_all_tokens(metrics: Metrics) -> bool:
    """Whether SSL steps had mask tokens; the option is not written down at its default."""
    return metrics["config"].get("ssl_sees", "visible") == "all_tokens"


def _arm_settings(metrics: Metrics) -> str:
    """Peak learning rates by phase, and the shares of the tokens that are hidden: a line per arm."""
    header = ["arm", "peak learning rate, SSL and joint", "peak learning rate, SL", "hidden in SSL", "hidden in joint"]
    rows = []
    for arm in metrics["arms"]:
        used = metrics["config"]["arms"][arm]
        rate = f"{used['learning_rate']:g}"
        rates = [rate, f"{used['sl_learning_rate']:g}"] if "sl_learning_rate" in used else ["", rate]
        hidden = [md.percent(used[mask]) if mask in used else "" for mask in ("ssl_mask", "joint_mask")]
        rows.append([md.code(arm), *rates, *hidden])
    return md.table(header, rows)


def _search(tuning: Metrics) -> str:
    trials = tuning["trials"]
    last = max((trial["rung"] for trial in trials), default=0)
    finalists = sorted(
        (trial for trial in trials if trial["rung"] == last), key=lambda t: (-t["accuracy"], _settings(t["settings"]))
    )
    costs = ["FLOPs"] * all("flops" in t for t in finalists)  # which earlier versions did not choose by
    rows = [
        [
            _settings(t["settings"]),
            f"{t['epochs']:g}",
            *(md.si_count(t["flops"]) for _ in costs),
            f"{100 * t['accuracy']:.1f}",
        ]
        for t in finalists
    ]
    share = md.share_of(tuning["share_of_run"], "the FLOPs of one run of `ssl_then_sl` at the largest fraction")
    return (
        f"**Search.** {md.plural(len(trials), 'trial')} in {md.plural(last + 1, 'rung')} of successive halving chose "
        f"{_settings(tuning['chosen'])} by {tuning.get('rule', 'validation accuracy')}. They took "
        f"{md.si_count(tuning['flops'])} FLOPs, {share}. The last rung:\n\n"
        + md.table(["settings", "epochs", *costs, "validation accuracy, %"], rows)
    )


def _settings(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{md.code(name)} {_value(value)}" for name, value in sorted(settings.items()))


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else md.plain(str(value))


def _data(metrics: Metrics) -> str:
    data, model, noun = metrics["dataset"], metrics["model"], NOUNS[metrics["domain"]]
    shape = f" of {' x '.join(map(str, data['shape']))}" if data["shape"] else ""
    skipped = f" **{md.plural(data['skipped'], noun)} could not be read and left out.**" * bool(data["skipped"])
    patches = f", patches of {model['patch_size']} pixels" if model["patch_size"] else ""
    used = md.listing(_fraction_name(metrics, fraction) for fraction in metrics["fractions"])
    return (
        f"{md.code(data['name'])} ({md.plain(data['origin'])}): {noun}s{shape} of {len(data['classes'])} classes, "
        f"{data['train']:,} to train on, {data['validation']:,} for validation and {data['test']:,} to test.{skipped} "
        f"Used: {used}. Fingerprint: {md.code(data['fingerprint'])}.\n\n"
        f"The model {md.code(model['name'])} is {model['width']} wide and {model['depth']} deep with {model['heads']} "
        f"heads{patches}: {md.si_count(model['parameters'])} parameters, {md.si_count(model['encoder_parameters'])} of "
        "them in the encoder."
    )


def _caveats(metrics: Metrics) -> str:
    seeds, tests, chosen_on = len(metrics["seeds"]), metrics["dataset"]["test"], metrics["settings"]["chosen_on"]
    chance = chance_of_false_verdict(seeds)
    caveats = [md.seed_noise(seeds, chance)]
    compared = sum(len(paired_runs(metrics, c, Cell(BASELINE))) for c in cells(metrics) if c.arm != BASELINE)
    if seeds > 1 and compared > 1:
        caveats[0] += (
            f" {compared} are made above: if no arm differed from `ssl_then_sl`, {chance * compared:.1f} of them"
        )
        caveats[0] += " would say so on average."
    reached = [run["accuracy"] for run in metrics["runs"] if not run["failure"]]
    if reached:
        error = max(100 * math.sqrt(p * (1 - p) / tests) for p in reached)
        caveats.append(
            f"All runs share one test set of {tests:,} {NOUNS[metrics['domain']]}s. Another one would move an accuracy "
            f"by up to {error:.1f} points (one standard error), which is in no error above and cancels in differences "
            "in part."
        )
    if chosen_on != "validation":
        caveats.append(
            f"Settings were chosen on {md.plain(chosen_on)}, not on a validation split of these data: others may rank "
            "the arms differently."
        )
    caveats += [
        "Test accuracy at checkpoints was not used to choose anything.",
        f"All of this holds for these data and a model of {md.si_count(metrics['model']['parameters'])} parameters, "
        "trained this long; larger models and longer schedules may rank the arms differently.",
        *md.skipped_steps(metrics),
    ]
    return "\n".join(f"- {caveat}" for caveat in caveats)


# ---------------------------------------------------------------- a table of several experiments


def summary_table(experiments: Sequence[Metrics]) -> str:
    """Markdown: a line per data set, model and fraction, with accuracies, verdicts against `ssl_then_sl` and costs."""
    header = ["data, model, share of the data", "`ssl_then_sl`", "`mixtraining`", "times as fast", "same accuracy at"]
    mixed, baseline, extra = Cell(MIXED), Cell(BASELINE), [Cell(MIXED, "matched"), Cell(SUPERVISED, "matched")]
    if any(metrics.get("times_cheaper") for metrics in experiments):
        extra.insert(0, Cell(MIXED, "cheaper"))
    header += [f"{md.code(cell.arm)}, {cell.budget}" for cell in extra]
    rows = []
    for metrics in experiments:
        for fraction in metrics["fractions"]:
            faster = same = ""
            if pair := paired_runs(metrics, mixed, baseline).get(fraction):
                faster, same = f"{times_cheaper(*pair, 'seconds'):.2f}", _share_of_flops(same_accuracy(*pair))
            rows.append(
                [
                    f"{md.code(metrics['dataset']['name'])}, {metrics['model']['name']}, {md.percent(fraction)}",
                    _level(metrics, baseline, fraction),
                    _level(metrics, mixed, fraction),
                    faster,
                    same,
                    *(_level(metrics, cell, fraction) for cell in extra),
                ]
            )
    return md.table(header, rows)


def _level(metrics: Metrics, cell: Cell, fraction: float) -> str:
    """Accuracy of a cell, with its verdict against `ssl_then_sl`."""
    runs = cell_runs(metrics, cell, fraction)
    if not runs:
        return ""
    pair = paired_runs(metrics, cell, Cell(BASELINE)).get(fraction)
    word = accuracy_verdict(accuracy_difference(*pair)) if pair and cell.arm != BASELINE else None
    return md.percent_spread(accuracy(runs)) + (f" ({f'**{word}**' if word == 'loses' else word})" if word else "")


def _share_of_flops(found: CostShare) -> str:
    if not found.num_reached:
        return "**not reached**"
    some = f" ({found.num_reached} of {len(found.per_seed)} seeds)" * (found.num_reached < len(found.per_seed))
    return f"{md.percent_spread(vars(found))} of the FLOPs{some}"


def _fraction_name(metrics: Metrics, fraction: float) -> str:
    examples = {float(key): count for key, count in metrics["examples"].items()}[fraction]
    return f"{md.percent(fraction)} of the training data ({md.plural(examples, NOUNS[metrics['domain']])})"
