"""What a run of the text experiment costs, in FLOPs (of n-grams: operations), and the plan in words.

All but `describe_plan` follows from the plan alone, which also times this machine.
"""

from collections.abc import Sequence

import jax
import numpy as np

from experiments.harness.language_model_stages import scoring_flops, training_flops
from experiments.harness.machine_rate import product_rate
from experiments.harness.progress import duration
from experiments.reporting.markdown import plural, share_of, si_count
from experiments.text_mixture.data import Target
from experiments.text_mixture.plan import COMBINED, PUBLISHED, SEARCHERS, Plan, Role, Rung
from mixmin_jax.data.text.documents import Corpus
from mixmin_jax.errors import InputError
from mixmin_jax.mixture.checks import list_names
from mixmin_jax.mixture.scale.memory import memory_of
from mixmin_jax.models.ngram import BYTES_PER_TOKEN
from mixmin_jax.training.language_model import num_parameters
from mixmin_jax.training.ngram_proxies import SOURCES_AT_ONCE, ngram_operations

TRAINING_SHARE = 0.7  # of the FLOP/s of products of matrices that training reaches, measured on two cores
COUNTING_SHARE = 0.001  # the same for operations of n-grams, which are few and slow


def training(plan: Plan, role: Role) -> float:
    """One model."""
    return training_flops(plan.run(role))


def rung_flops(plan: Plan, rung: Rung, documents: list[bytes]) -> float:
    """Proxies of all sources, and their scores of some documents."""
    if rung.run is None:
        sizes = [corpus.num_bytes for corpus in plan.sources]
        return ngram_operations(sizes, sum(map(len, documents)), plan.config.ngram_order)
    return len(plan.names) * (training_flops(rung.run) + scoring_flops(rung.run, documents))


def random_flops(plan: Plan, documents: list[bytes]) -> float:
    """All runs on random mixtures, and their scores of some documents."""
    return plan.num_random * (training(plan, "random") + scoring_flops(plan.run("random"), documents))


def finding(plan: Plan, target: Target, mixmin: float) -> dict[str, float]:
    """What finding the weights of each arm costs in one seed; that of `mixmin` follows from the rungs it reached."""
    fit = target.documents("fit")
    proxies, random = rung_flops(plan, Rung(plan.run("proxy")), fit), random_flops(plan, fit)
    costs = {"mixmin": mixmin, COMBINED: mixmin * len(plan.targets)}
    costs |= dict.fromkeys(PUBLISHED, proxies) | dict.fromkeys(SEARCHERS, random)
    costs["mde"] += proxies
    return {arm: costs.get(arm, 0.0) for arm in plan.arms}


def of_target(plan: Plan, target: Target, num_rungs: int = 1) -> dict[str, float]:
    """One target: what all proxies and random mixtures cost in one seed, one target run, and everything.

    `num_rungs`: as many of a ladder as were reached; beforehand, the first one counts.
    """
    documents = target.documents("fit") + target.documents("test")
    rungs = [*plan.rungs[:num_rungs], *([Rung(plan.run("proxy"))] if plan.trains_proxies else [])]
    proxies = sum(rung_flops(plan, rung, documents) for rung in rungs)
    random, model = random_flops(plan, documents), training(plan, "target")
    arms = len(plan.arms) * (model + scoring_flops(plan.run("target"), target.documents("test")))
    return {
        "proxies": proxies,
        "random_mixtures": random,
        "target": model,
        "total": plan.config.seeds * (proxies + random + arms) + sum(plan.config.multiples) * model,
    }


def in_all(plan: Plan) -> float:
    """Everything, with what several targets share counted once."""
    model, more = training(plan, "target"), len(plan.targets) - 1
    shared = plan.num_random * training(plan, "random")
    shared += (len(plan.shared_arms) + (COMBINED in plan.arms)) * model
    shared += len(plan.names) * training(plan, "proxy") * _trainings_of_proxies(plan)
    twice = plan.config.seeds * shared + sum(plan.config.multiples) * model
    return sum(of_target(plan, target)["total"] for target in plan.targets) - more * twice


def _trainings_of_proxies(plan: Plan) -> int:
    """How often transformer proxies are trained beforehand: for published arms, and with --proxy transformer."""
    return plan.trains_proxies + (plan.rungs[0].run is not None)


def check_search(plan: Plan, memory: int | None = None) -> None:
    """Raise InputError if n-grams need more than `memory` (default: the host's), or more than --search-budget."""
    memory = memory or memory_of(None)
    largest = sorted(plan.sources, key=lambda corpus: -corpus.num_bytes)[:SOURCES_AT_ONCE]
    size = sum(corpus.num_bytes for corpus in largest)
    if plan.rungs[0].run is None and memory and size * BYTES_PER_TOKEN > memory:
        raise InputError(
            f"counting the n-grams of {list_names([corpus.name for corpus in largest])} ({size} bytes) takes up to"
            f" {size * BYTES_PER_TOKEN / 1e9:.3g} GB, and there are {memory / 1e9:.3g}: {memory // BYTES_PER_TOKEN}"
            " bytes fit; give a part of them, or --proxy transformer"
        )
    for target in plan.targets if plan.config.proxy == "auto" else ():
        share = rung_flops(plan, plan.rungs[0], target.documents("fit")) / training(plan, "target")
        if share > plan.config.search_budget:
            raise InputError(
                f"n-grams alone cost {share:.2g} of a target run, more than --search-budget"
                f" {plan.config.search_budget:g}: raise it, or --model.tokens"
            )


def describe_plan(plan: Plan) -> str:
    """The plan in words: data, models, stages with their tokens and FLOPs; and as tables, with seconds here."""
    config = plan.config
    lines = ["This is a demonstration: built-in text, small models."] if config.demonstration else []
    lines.append(f"Sources ({len(plan.sources)}):")
    for corpus in plan.sources:
        dropped = len(plan.care.deduplicated.dropped[corpus.name]) if plan.care.deduplicated else 0
        without = f" without {plural(dropped, 'near-duplicate')} of the target" if dropped else ""
        lines += [f"  {_describe_corpus(corpus)}{without}", *(f"    {notice}" for notice in corpus.notices)]
    lines += [f"  {name:<20} left out: allowed = false" for name in plan.care.left_out]
    if any(corpus.whole for corpus in plan.sources):
        lines.append("  Duplicates and overlap are looked for in what is kept.")
    lines.append("Targets:")
    for target in plan.targets:
        lines.append(
            f"  {_describe_corpus(target.corpus)}; weights fitted on {len(target.fit)},"
            f" losses reported on {len(target.test)} others"
        )
        lines += [f"    {notice}" for notice in target.corpus.notices]
    arms = len(plan.arms) + len(plan.own_arms) * (len(plan.targets) - 1)
    longest = max(len(document) for target in plan.targets for document in target.documents("fit"))
    if config.rows.isdecimal() and int(config.rows) >= longest:
        lines.append(f"Rows of {config.rows} bytes are whole documents: the longest has {longest}.")
    lines.append(f"Proxies for `mixmin`: {', '.join(map(_describe_rung, plan.rungs))}, rows of {plan.config.rows}.")
    rows: list[tuple[int, str, Role]] = [
        (len(plan.names) * _trainings_of_proxies(plan), "proxies", "proxy"),
        (plan.num_random, "runs on random mixtures", "random"),
        (arms, "target runs (arms)", "target"),
    ]
    rows = [row for row in rows if row[0]]
    lines += [f"Training, {plural(config.seeds, 'seed')}:"] * bool(rows)
    for count, what, role in rows:
        run, flops = plan.run(role), training(plan, role)
        size = num_parameters(jax.eval_shape(run.init, jax.random.key(0)).params)
        tokens = run.num_windows * run.sequence_length
        lines.append(
            f"  {count * config.seeds:>4} {what}: {si_count(size)} parameters, {si_count(tokens)} tokens and"
            f" {si_count(flops)}FLOPs each; {si_count(tokens * count * config.seeds)} tokens in all"
        )
    for target in plan.targets:
        share = rung_flops(plan, plan.rungs[0], target.documents("fit")) / training(plan, "target")
        least = "at least " if len(plan.rungs) > 1 else ""
        lines.append(
            f"Finding weights for {target.name} costs {least}{share_of(share, 'the FLOPs of one target run')}."
        )
    lines.append(f"In all {si_count(in_all(plan))}FLOPs, scoring included.")
    return "\n".join([*lines, "", *_sources_table(plan), "", *_costs_table(plan, product_rate())])


def _sources_table(plan: Plan) -> list[str]:
    """Each source in the run that the weights are for."""
    natural_K, bounds_K = plan.rule_K("natural"), plan.upper_bounds_K
    most_K = np.ones(len(plan.names)) if bounds_K is None else bounds_K
    runs_K = plan.target_tokens / plan.sizes_K  # epochs at weight 1
    cap = f"under --max-epochs {plan.config.max_epochs:g}" if bounds_K is not None else "at weight 1"
    header = ["source", "documents", "bytes", "natural", "tokens", "epochs", f"epochs {cap}", "licence"]
    rows = []
    for k, corpus in enumerate(plan.sources):
        note = plan.care.notes.get(corpus.name)
        epochs = [f"{natural_K[k] * runs_K[k]:.3g}", f"{most_K[k] * runs_K[k]:.3g}"]
        size = [f"{corpus.size.documents:,}", si_count(corpus.size.bytes)]
        drawn = [f"{natural_K[k]:.3f}", si_count(natural_K[k] * plan.target_tokens)]
        rows.append([corpus.name, *size, *drawn, *epochs, (note and note.licence) or "-"])
    title = f"Sources under natural weights, in a run of {si_count(plan.target_tokens)} tokens:"
    return [title, *_aligned(header, rows)]


def _costs_table(plan: Plan, rate: float) -> list[str]:
    """What one seed of the first target costs."""
    target, model = plan.targets[0], training(plan, "target")
    search = rung_flops(plan, plan.rungs[0], target.documents("fit"))
    counted = plan.rungs[0].run is None

    def seconds(flops: float, counted: bool = False) -> str:
        return duration(flops / (rate * (COUNTING_SHARE if counted else TRAINING_SHARE)))

    rows = [["finding mixmin", si_count(search), "", seconds(search, counted)]]
    for arm, found in finding(plan, target, 0.0).items():
        rows.append([arm, si_count(found) if found else "", si_count(model), seconds(found + model)])
    least = "at least; " if len(plan.rungs) > 1 else ""
    how = "times as a product of matrices suggests them here, without compiling"
    header = ["arm", "FLOPs to find", "FLOPs to train", "about"]
    return [f"Costs of one seed for {target.name} ({least}{how}):", *_aligned(header, rows)]


def _aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table for a screen: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = []
    for row in (header, *rows):
        first, *others = zip(row, widths, strict=True)
        lines.append("  " + "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]))
    return lines


def _describe_rung(rung: Rung) -> str:
    return "n-grams" if rung.run is None else f"transformers of {si_count(rung.run.tokens)} tokens"


def _describe_corpus(corpus: Corpus) -> str:
    skipped = f" ({corpus.num_skipped} unusable ones skipped)" if corpus.num_skipped else ""
    whole = f", a sample of {corpus.whole.documents} with {corpus.whole.bytes}" if corpus.whole else ""
    return f"{corpus.name:<20} {corpus.num_documents:>7} documents {corpus.num_bytes:>12} bytes{whole}{skipped}"
