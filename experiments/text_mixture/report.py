"""report.md of the text experiment, written from its metrics.json alone.

The words follow from the numbers by the rules in this file: what `mixmin` loses by more than two standard errors comes
first, what is not distinguishable is called so, and where `mixmin` only ties with a mixture that needs no proxies, that
one is recommended.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from experiments.reporting import markdown as md
from mixmin_jax.stats.comparison import chance_of_false_verdict

Metrics = Mapping[str, Any]

FREE_ARMS = ("natural", "uniform")  # mixtures that need no proxies
SOLVED_ARMS = ("mixmin", "mixmin_token", "combined")  # mixtures with a certificate
CHEAP_EPOCHS = 4  # up to about here a repeated token is worth almost a new one (Muennighoff et al., arXiv:2305.16264)
WEAK_CORRELATION, STRONG_CORRELATION = 0.5, 0.8
LEAKING_SHARE = 0.01  # of the target's documents with near-duplicates in a source, from which a win may be leakage
FEW_DOCUMENTS = 100  # fewer than this to fit the weights on is called few


def text_mixture_report(metrics: Metrics) -> str:
    """The report on one target as Markdown, from what stands in its metrics.json (schema version 1).

    The figures of `figures.text_mixture_figures` are expected beside it.
    """
    sections = {
        "": conclusion(metrics),
        "Loss": _loss(metrics),
        "Weights": _weights(metrics),
        "Epochs": _epochs(metrics),
        **({"What training saw": _monitors(metrics)} if "monitors" in metrics else {}),
        "Solver": _solver(metrics),
        "Do the proxies predict what training reaches?": _fidelity(metrics),
        "Cost": _cost(metrics),
        "Near-duplicates of the target": _overlap(metrics),
        "Data": _data(metrics),
        "Caveats": _caveats(metrics),
        "How this was made": _provenance(metrics),
    }
    title = f"# Which mixture of {len(metrics['sources'])} sources for {md.code(metrics['target'])}?\n"
    body = (f"\n## {name}\n\n{text}\n" if name else f"\n{text}\n" for name, text in sections.items())
    return title + "".join(body)


def conclusion(metrics: Metrics) -> str:
    """The report's first paragraph: which mixture to use, and how far that can be believed."""
    arms, comparisons = metrics["arms"], metrics["comparisons"]
    by_verdict = {
        word: [arm for arm, result in comparisons.items() if result["verdict"] == word]
        for word in ("wins", "ties", "loses")
    }
    wins, ties, losses = by_verdict["wins"], by_verdict["ties"], by_verdict["loses"]
    free_ties = [arm for arm in FREE_ARMS if arm in ties]
    best = min(losses or free_ties or ["mixmin"], key=lambda arm: _level(arms[arm])["mean"])
    seeds = md.plural(len(metrics["seeds"]), "seed")
    sentences = []
    if not metrics["complete"]:
        sentences.append("**This run did not end: what follows is incomplete.**")
    if losses:
        against = md.listing(f"{md.code(arm)} by {md.plus_minus(comparisons[arm])}" for arm in losses)
        sentences.append(
            f"**`mixmin` loses to {against} bits per byte, more than two standard errors.** "
            f"{md.code(best)} is the better mixture here; what may have gone wrong stands below."
        )
    if diverged := metrics.get("monitors", {}).get("divergences"):
        arms_diverged = md.listing(md.code(arm) for arm in dict.fromkeys(record["arm"] for record in diverged))
        sentences.append(f"**In the training of {arms_diverged} something diverged: see “What training saw”.**")
    if metrics["demonstration"]:
        sentences.append(f"**This is a demonstration with {seeds} and decides nothing.**")
    elif len(metrics["seeds"]) == 1:
        sentences.append("One seed: the noise of training is not measured.")
    tie = f"`mixmin` is not distinguishable from {md.listing(map(md.code, ties))}."
    start = "As far as it goes, use" if metrics["demonstration"] else "Use"
    reaches = f"reaches {md.spread(_level(arms[best]))} bits per byte on the held-out part of the target"
    if not losses and free_ties:
        sentences.append(f"{tie} {start} the weights of {md.code(best)}: it needs no proxies and {reaches}.")
    elif not losses:
        sentences.append(f"{start} the weights of {md.code(best)}: it {reaches}.")
    if wins:
        by = md.listing(f"{md.code(arm)} (by {md.plus_minus(comparisons[arm])})" for arm in wins)
        sentences.append(f"In bits per byte `mixmin` wins against {by}.")
    if ties and (losses or not free_ties):
        sentences.append(tie)
    unsolved = [arm for arm in SOLVED_ARMS if arm in metrics and not metrics[arm]["converged"]]
    if unsolved:
        sentences.append(f"**The weights of {md.listing(map(md.code, unsolved))} are not solved to tolerance.**")
    documents = metrics["data"]["target"]["documents"]
    leaks = [source for source, count in metrics["overlap"]["sources"].items() if count >= LEAKING_SHARE * documents]
    leaking = sum(arms[best]["weights"][source] for source in leaks)
    if leaks and leaking > 0.01:
        sentences.append(
            f"**{leaking:.0%} of the weight of {md.code(best)} is on sources that hold near-duplicates of at least "
            f"{LEAKING_SHARE:.0%} of the target's documents**: what it gains may be leakage."
        )
    if best not in FREE_ARMS:
        flops = metrics["flops"]
        spent = flops["random_mixtures" if best in ("random_search", "regmix") else "proxies"] / flops["target"]
        sentences.append(
            f"Finding these weights cost {md.share_of(spent, 'the FLOPs of one target run')}, which `natural` and "
            "`uniform` did not get."
        )
    paragraph = " ".join(sentences)
    return paragraph + ("\n\n" + _what_to_check(metrics, best) if losses else "")


def _what_to_check(metrics: Metrics, better: str) -> str:
    """The usual reasons for a loss, each with the numbers that speak for or against it."""
    arms, fidelity, data, tokens = (metrics[key] for key in ("arms", "fidelity", "data", "tokens"))
    document = fidelity["document"]
    predicted, predicted_better = (_predicted(arms[arm], "document") for arm in ("mixmin", better))
    worst, worst_better = (max(arms[arm]["epochs"].items(), key=lambda item: item[1]) for arm in ("mixmin", better))
    target, overlap = data["target"], metrics["overlap"]["sources"]
    weights_per_seed = {s: [seed[s] for seed in arms["mixmin"]["weights_per_seed"]] for s in metrics["sources"]}
    moved, mover = max((max(values) - min(values), source) for source, values in weights_per_seed.items())
    num_seeds = len(metrics["seeds"])
    leaks = [source for source, count in overlap.items() if count]
    shares = md.listing(
        f"{md.code(source)} ({overlap[source]} documents; weight {arms['mixmin']['weights'][source]:.3f} in `mixmin`, "
        f"{arms[better]['weights'][source]:.3f} in {md.code(better)})"
        for source in leaks
    )
    correlations = [document[group]["spearman"] for group in ("arms", "random_mixtures")]
    checks = [
        (
            "Proxies too weak?",
            any(rho is None or rho < WEAK_CORRELATION for rho in correlations) or predicted < predicted_better,
            f"Document rows rank the arms with {md.correlation(document['arms'])} and the random mixtures with "
            f"{md.correlation(document['random_mixtures'])}. On the held-out part they predict {predicted:.3f} for "
            f"`mixmin` and {predicted_better:.3f} for {md.code(better)}. A proxy saw {md.si_count(tokens['proxy'])} "
            f"tokens, the target model {md.si_count(tokens['target'])}.",
        ),
        (
            "Repeats?",
            worst[1] > CHEAP_EPOCHS,
            f"At most {worst[1]:.1f} epochs of a source ({md.code(worst[0])}) in `mixmin`, {worst_better[1]:.1f} "
            f"({md.code(worst_better[0])}) in {md.code(better)}; up to about {CHEAP_EPOCHS} cost little.",
        ),
        (
            "Few target documents?",
            # proxies that disown `mixmin` on other documents than it was fitted on: the fit did not carry over
            target["fit_documents"] < FEW_DOCUMENTS or predicted > predicted_better,
            f"Weights are fitted on {md.plural(target['fit_documents'], 'document')} ({target['fit_bytes']:,} bytes)"
            + (
                f"; over {num_seeds} seeds a weight moved by at most {moved:.3f} ({md.code(mover)})."
                if num_seeds > 1
                else "."
            ),
        ),
        (
            "Leakage?",
            bool(leaks),
            f"Near-duplicates of the target stand in {shares}." if leaks else "No near-duplicates of the target found.",
        ),
        (
            "Solver?",
            not metrics["mixmin"]["converged"],
            f"The fitted loss is within {metrics['mixmin']['gap']:.1e} nats per byte of the best possible.",
        ),
    ]
    lines = [f"- {name} **{'Possible' if suspect else 'Unlikely'}.** {text}" for name, suspect, text in checks]
    return "What to check:\n\n" + "\n".join(lines)


def _loss(metrics: Metrics) -> str:
    header = ["arm", "test loss", "`mixmin` less arm", "`mixmin`", "predicted, document rows", "predicted, token rows"]
    rows = []
    for arm, result in metrics["arms"].items():
        comparison = metrics["comparisons"].get(arm)
        rows.append(
            [
                md.code(arm),
                md.spread(_level(result)),
                md.plus_minus(comparison, signed=True) if comparison else "",
                comparison["verdict"] if comparison else "",
                *(md.spread(result["predicted_bits_per_byte"][row]) for row in ("document", "token")),
            ]
        )
    bases = {comparison["basis"] for comparison in metrics["comparisons"].values()}
    num_seeds = len(metrics["seeds"])
    how = {
        "seeds": f"over {num_seeds} seeds, paired",
        "documents": "over test documents, drawn again: the noise of training is not measured",
    }
    errors = md.listing(how[basis] for basis in sorted(bases))
    return (
        "Bits per byte on the held-out part of the target; lower is better. After ± stands "
        + (f"the standard deviation over {num_seeds} seeds; for differences " if num_seeds > 1 else "")
        + f"the standard error ({errors}). *wins* and *loses* mean more than two standard errors, *ties* that the two "
        "are not distinguishable.\n\n" + md.table(header, rows) + "\n\n![loss per arm](loss.png)"
    )


def _weights(metrics: Metrics) -> str:
    return (
        "Share of the training tokens, mean over seeds; `weights.json` holds them for other programs.\n\n"
        + _per_source(metrics, "weights", lambda weight: f"{weight:.3f}")
        + "\n\n![weights per arm](weights.png)"
    )


def _epochs(metrics: Metrics) -> str:
    high = [
        f"{md.code(arm)} asks for {epochs:.1f} epochs of {md.code(source)}"
        for arm, result in metrics["arms"].items()
        for source, epochs in result["epochs"].items()
        if epochs > CHEAP_EPOCHS
    ]
    cap = metrics["max_epochs"]
    return (
        f"How often the target run reads each source ({md.si_count(metrics['tokens']['target'])} tokens in all; "
        + (f"capped at {cap:g} epochs" if cap is not None else "no cap; `--max-epochs` sets one")
        + f"). Up to about {CHEAP_EPOCHS} epochs repeated text costs little; beyond that each repeat is worth less "
        "(Muennighoff et al., arXiv:2305.16264). "
        + (f"**More than that (bold): {md.listing(high)}.**" if high else "No mixture asks for more than that.")
        + "\n\n"
        + _per_source(
            metrics, "epochs", lambda epochs: f"**{epochs:.2f}**" if epochs > CHEAP_EPOCHS else f"{epochs:.2f}"
        )
    )


def divergence_in_words(record: Mapping[str, Any]) -> str:
    """One line on a record of `divergences` in metrics.json, for a report or a log."""
    where = f"{md.code(record['source'])} in the training of {md.code(record['arm'])}, seed {record['seed']}"
    before, after = record["before"], record["after"]
    if record["kind"] == "share":
        return (
            f"{where}: {after:.4%} of the windows were sampled, {before:.4%} asked for. This is a defect, as draws are "
            "counted out beforehand: do not use the results"
        )
    return (
        f"{where}: the training loss rises from {before:.3f} to {after:.3f} bits per byte, from the third quarter of "
        "the run to the last. Lower the learning rate, or look at its text"
    )


def _monitors(metrics: Metrics) -> str:
    monitors = metrics["monitors"]
    off = max(
        abs(run["sampled"][source] - asked)
        for runs in monitors["arms"].values()
        for run in runs
        for source, asked in run["asked"].items()
    )
    kinds = {record["kind"] for record in monitors["divergences"]}
    windows = f"{off * monitors['windows']:.1f} of {monitors['windows']:,} windows"
    limits = f"(by more than {monitors['rise']:.0%} and {monitors['errors']:g} standard errors)"
    shares, losses = (
        f"Sources were sampled in the shares that were asked for, to within {windows}.",
        f"No source's training loss rises from the third quarter of a run to the last {limits}.",
    )
    if "share" in kinds:
        shares = f"**Sources were not sampled in the shares that were asked for**: they are off by up to {windows}."
    if "loss" in kinds:
        losses = f"**The training loss of a source rises in the second half of a run** {limits}."
    lines = "\n".join(f"- {divergence_in_words(record)}." for record in monitors["divergences"])
    return f"{shares} {losses}\n\n" + f"{lines}\n\n" * bool(lines) + "![training loss per source](source_loss.png)"


def _solver(metrics: Metrics) -> str:
    header = ["weights", *md.certificate_header("nats per byte")]
    rows = [
        [md.code(arm), *md.certificate_cells(solved)]
        for arm, solved in ((arm, metrics[arm]) for arm in SOLVED_ARMS if arm in metrics)
    ]
    together = ""
    if targets := metrics.get("combined", {}).get("targets"):
        shares = md.listing(
            f"{md.code(name)} {found['excess']:.4f} (price {found['price']:.2f})" for name, found in targets.items()
        )
        kind = "what each target loses against its own best mixture" if _is_worst_case(metrics) else "the loss of each"
        together = (
            f"\n\n`combined` is one mixture for all targets (`--combine {metrics['config']['combine']}`). In nats per "
            f"byte of the fit parts, {kind}, and its say in the choice: {shares}."
        )
    return (
        "The gap is a certificate: no feasible weights have a fitted loss lower than this by more than the gap. "
        "The seed with the largest gap is shown.\n\n"
        + md.table(header, rows)
        + together
        + "\n\n![the gap after each iteration](gap.png)"
    )


def _is_worst_case(metrics: Metrics) -> bool:
    return metrics["config"]["combine"] == "worst_case"


def _fidelity(metrics: Metrics) -> str:
    fidelity = metrics["fidelity"]
    rho = {row: fidelity[row]["all"]["spearman"] for row in ("document", "token")}
    if None in rho.values():
        better = "Too few points to say which rows predict better."
    else:
        best, other = sorted(rho, key=lambda row: rho[row], reverse=True)
        better = f"{best.capitalize()} rows predict better ({rho[best]:.2f} against {rho[other]:.2f} for {other} rows)."
        if abs(rho[best] - rho[other]) < 0.05:
            better = f"Document and token rows predict about equally well ({rho['document']:.2f}, {rho['token']:.2f})."
    header = ["rows", "all", "arms", "random mixtures"]
    rows = [
        [row, *(md.correlation(fidelity[row][group]) for group in ("all", "arms", "random_mixtures"))]
        for row in ("document", "token")
    ]
    return (
        f"The mixture of proxies ranks what training reached **{_strength(fidelity['spearman'])}**: Spearman "
        f"{md.spearman(fidelity['spearman'])} over {md.plural(fidelity['n'], 'model')} (document rows). Ranks are "
        f"taken inside each seed and model size, so differences between sizes neither help nor harm. {better} "
        "`mixmin` and `mixmin_token` were chosen by this prediction; the random mixtures, at the size of the proxies, "
        "were not.\n\n" + md.table(header, rows) + "\n\n![predicted against reached](fidelity.png)"
    )


def _cost(metrics: Metrics) -> str:
    flops, regmix = metrics["flops"], metrics["regmix"]
    rows = [
        [name, md.si_count(flops[key]), md.share(flops[key] / flops["target"])]
        for key, name in [
            ("proxies", "proxies (`mixmin`, `mixmin_token`)"),
            ("random_mixtures", "random mixtures (`random_search`, `regmix`)"),
            ("target", "one target run"),
            ("total", "everything, all arms and seeds"),
        ]
    ]
    more = (
        f"`regmix` was fitted on {regmix['runs']} runs and had **more compute than `mixmin`**."
        if regmix["more_compute_than_mixmin"]
        else f"`regmix` was fitted on {regmix['runs']} runs, with no more compute than `mixmin`."
    )
    model = "boosted trees with the published settings" if regmix["model"] == "boosted_trees" else regmix["model"]
    cost = md.share_of(flops["proxies"] / flops["target"], "the FLOPs of one target run")
    return f"Finding the weights costs **{cost}**. {more} Its regression is {model}.\n\n" + md.table(
        ["stage", "FLOPs", "share of one target run"], rows
    )


def _overlap(metrics: Metrics) -> str:
    overlap, target = metrics["overlap"], metrics["data"]["target"]
    found = {source: count for source, count in overlap["sources"].items() if count}
    what = f"at least {overlap['threshold']:.0%} of their {overlap['ngram']}-grams with a source"
    if "dropped" in overlap:
        return _dropped(overlap, target, what)
    if not found:
        return (
            f"None of the {target['documents']} target documents shares {what}: no sign of leakage. Paraphrases and "
            "translations are not found this way."
        )
    weights = metrics["arms"]["mixmin"]["weights"]
    rows = [[md.code(source), str(count), f"{weights[source]:.3f}"] for source, count in found.items()]
    worst = _worst(overlap["worst"])
    given = sum(weights[source] for source in found)
    return (
        f"Of {target['documents']} target documents some share {what} (below). `mixmin` gives these sources "
        f"{given:.1%} of the weight. **A win may be leakage as far as it rests on them**: run again without these "
        "documents before believing it.\n\n"
        + md.table(["source", "target documents found in it", "weight in `mixmin`"], rows)
        + (f"\n\n{worst}" if worst else "")
    )


def _dropped(overlap: Mapping[str, Any], target: Mapping[str, Any], what: str) -> str:
    """What --drop-duplicates did."""
    dropped = {source: count for source, count in overlap["dropped"].items() if count}
    if not dropped:
        return f"`--drop-duplicates` found nothing to drop: no target document shares {what}."
    worst = _worst(overlap["worst_dropped"])
    total = md.plural(sum(dropped.values()), "document")
    return (
        f"Before anything was trained, `--drop-duplicates` took {total} out of the sources (below, for all targets). "
        f"Of the {target['documents']} documents of this target {overlap['target_documents_repeated']} had shared "
        f"{what}; now none does. Paraphrases and translations are not found this way.\n\n"
        + md.table(["source", "documents dropped"], [[md.code(name), f"{count:,}"] for name, count in dropped.items()])
        + (f"\n\n{worst}" if worst else "")
    )


def _worst(cases: Sequence[Mapping[str, Any]]) -> str:
    return "\n".join(
        f"- document {case['document']} ({case['part']} part), {case['share']:.0%} in {md.code(case['source'])}: "
        f"“{md.plain(case['excerpt'])}”"
        for case in cases
    )


def _data(metrics: Metrics) -> str:
    sources, target = metrics["data"]["sources"], metrics["data"]["target"]
    total = sum(counts["bytes"] for counts in sources.values())
    rows = [
        [md.code(name), f"{counts['documents']:,}", f"{counts['bytes']:,}", f"{counts['bytes'] / total:.1%}"]
        for name, counts in sources.items()
    ]
    notes = f"\n\n{md.source_notes(metrics['source_notes'])}" if metrics.get("source_notes") else ""
    return md.table(["source", "documents", "bytes", "share"], rows) + (
        f"{notes}\n\n"
        f"The target {md.code(target['name'])} has {target['documents']:,} documents ({target['bytes']:,} bytes), "
        f"split by document (seed {target['split_seed']}): weights are fitted on {target['fit_documents']:,} "
        f"({target['fit_bytes']:,} bytes), losses reported on the other {target['test_documents']:,} "
        f"({target['test_bytes']:,} bytes)."
    )


def _caveats(metrics: Metrics) -> str:
    num_seeds = len(metrics["seeds"])
    few = metrics["data"]["target"]["fit_documents"] < FEW_DOCUMENTS
    caveats = [
        md.seed_noise(num_seeds, chance_of_false_verdict(num_seeds)),
        "The split of the target is the same for every seed: another choice of documents is not in the spread.",
        "All of this holds for this target, at this size and this number of tokens; larger models may rank mixtures "
        "differently.",
    ] + ["Few target documents were there to fit the weights on."] * few
    caveats += md.skipped_steps(metrics)
    return "\n".join(f"- {caveat}" for caveat in caveats)


def _provenance(metrics: Metrics) -> str:
    seconds = ", ".join(f"{stage} {value:.0f} s" for stage, value in metrics["seconds"].items())
    return md.provenance(metrics, seconds)


def _per_source(metrics: Metrics, key: str, show: Callable[[float], str]) -> str:
    """A table of sources (largest weight in `mixmin` first) against arms."""
    arms = metrics["arms"]
    order = sorted(metrics["sources"], key=lambda source: -arms["mixmin"]["weights"][source])
    rows = [[md.code(source), *(show(result[key][source]) for result in arms.values())] for source in order]
    return md.table(["source", *map(md.code, arms)], rows)


def _level(result: Metrics) -> dict[str, Any]:
    return result["test_bits_per_byte"]


def _predicted(result: Metrics, row: str) -> float:
    return result["predicted_bits_per_byte"][row]["mean"]


def _strength(spearman: float | None) -> str:
    if spearman is None:
        return "to an extent that cannot be told"
    return "well" if spearman >= STRONG_CORRELATION else "roughly" if spearman >= WEAK_CORRELATION else "poorly"
