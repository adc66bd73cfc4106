"""What a run of the text experiment costs, in FLOPs (of n-grams: operations), and the plan in words.

Everything here follows from the plan; nothing is computed.
"""

import jax

from experiments.harness.language_model_stages import scoring_flops, training_flops
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
    """The plan in words: data, models, stages with their tokens and FLOPs."""
    config = plan.config
    lines = ["This is a demonstration: built-in text, small models."] if config.demonstration else []
    lines.append(f"Sources ({len(plan.sources)}):")
    epochs_K = plan.rule_K("uniform") * config.model.num_windows / plan.store.windows_K
    for corpus, epochs in zip(plan.sources, epochs_K, strict=True):
        dropped = len(plan.care.deduplicated.dropped[corpus.name]) if plan.care.deduplicated else 0
        without = f" without {plural(dropped, 'near-duplicate')} of the target" if dropped else ""
        lines.append(f"  {_describe_corpus(corpus)}{without}; `uniform` asks for {epochs:.2f} epochs")
    lines += [f"  {name:<20} left out: allowed = false" for name in plan.care.left_out]
    lines.append("Targets:")
    for target in plan.targets:
        lines.append(
            f"  {_describe_corpus(target.corpus)}; weights fitted on {len(target.fit)},"
            f" losses reported on {len(target.test)} others"
        )
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
    return "\n".join(lines)


def _describe_rung(rung: Rung) -> str:
    return "n-grams" if rung.run is None else f"transformers of {si_count(rung.run.tokens)} tokens"


def _describe_corpus(corpus: Corpus) -> str:
    skipped = f" ({corpus.num_skipped} empty ones skipped)" if corpus.num_skipped else ""
    return f"{corpus.name:<20} {corpus.num_documents:>7} documents {corpus.num_bytes:>12} bytes{skipped}"
