"""The stages of one seed of the text experiment, each found again if it was already computed.

Axes: N rows (documents or tokens), K sources, M models, R random mixtures, D documents.
"""

import dataclasses
import hashlib
import math
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from experiments.harness.certified_weights import TOLERANCE
from experiments.harness.language_model_stages import (
    Models,
    score_models,
    score_proxies,
    train_models,
    train_proxies,
    unlearned_records,
)
from experiments.harness.stages import Product, Running, Stages
from experiments.reporting.schema import Unlearned
from experiments.text_mixture import costs
from experiments.text_mixture.data import Target
from experiments.text_mixture.divergence import divergence_records
from experiments.text_mixture.plan import COMBINED, PUBLISHED, PUBLISHED_ROWS, Plan, Role, Rung
from experiments.text_mixture.search import (
    CERTIFICATE,
    LEVEL,
    MDE_CANDIDATES,
    MDE_TOP,
    RESAMPLES,
    Scores,
    chosen_rows,
    gain_over,
    objective_of,
    rung_result,
    searched,
    solved,
)
from mixmin_jax.data.text.tokens import join_documents
from mixmin_jax.mixture.targets import weighted_sum, worst_case
from mixmin_jax.models.ngram import NgramCounts, count_ngrams
from mixmin_jax.training.language_model import LanguageModelRun
from mixmin_jax.training.ngram_proxies import for_sources, ngram_score
from mixmin_jax.training.source_monitor import SourceMonitor

SAME_WEIGHT = 1e-9  # a weight that differs by less has not moved: rounding
NGRAMS = "count-ngrams"  # the stages with the n-grams of each source


def ngram_stage(target: str) -> str:
    """The stages with the log-likelihoods of the target's documents under the n-grams of each source."""
    return f"score-ngrams-{target}"


def proxy_stages(rung: Rung, target: str, seed: int) -> tuple[str, str]:
    """The stages, one for each source, of a rung's proxies and of their scores of a target."""
    if rung.run is None:
        return NGRAMS, ngram_stage(target)
    return f"train-{rung.name}-seed{seed}", score_stage(rung.name, target, seed)


def score_stage(models: str, target: str, seed: int) -> str:
    """The stage with the log-likelihoods of the target's documents under some models."""
    return f"score-{models}-{target}-seed{seed}"


def moved_stage(target: str, seed: int) -> str:
    """The stage with what the weights of `mixmin` gain over those before --extend."""
    return f"moved-{target}-seed{seed}"


def weights_stage(target: str, seed: int) -> str:
    """The stage with the weights of the target's own arms."""
    return f"weights-{target}-seed{seed}"


def rung_stage(target: str, rung: int, seed: int) -> str:
    """The stage with the weights of `mixmin` from one rung of proxies."""
    return f"weights-{target}-rung{rung}-seed{seed}"


@dataclasses.dataclass(frozen=True)
class SeedResult:
    """What one seed found for one target; losses in bits per byte."""

    seed: int
    rungs: list[dict[str, Any]]  # of the search for `mixmin`: `rung_result`, with the kind of proxies and their cost
    weights: dict[str, np.ndarray]  # arm -> weights_K
    draws: dict[str, np.ndarray]  # arm -> windows drawn from each source
    solutions: dict[str, dict[str, Any]]  # solved arm -> certificate
    test_nats: dict[str, np.ndarray]  # arm -> nats of each test document
    predicted: dict[str, dict[str, float]]  # arm -> {rows: loss of the mixture of proxies, test part}
    random_RxK: np.ndarray
    random_reached_R: np.ndarray  # test loss of the model trained on each random mixture
    random_predicted: list[dict[str, float]]
    monitors: dict[str, SourceMonitor]  # arm -> that of its one model
    multiples: dict[float, float]  # test loss of `natural` on so many times the tokens
    unlearned: tuple[Unlearned, ...] = ()
    moved: Product | None = None  # `search.gain_over`, in a first seed that extends a run and found other weights


@dataclasses.dataclass(frozen=True)
class Climbed:
    """The search for `mixmin` on one target: `rung_result` of each rung, the one that is kept, and its scores."""

    rungs: tuple[dict[str, Any], ...]
    kept: dict[str, Any]
    fit: Scores
    test: Scores


class SeedStages:
    """Runs the stages of one seed."""

    def __init__(self, plan: Plan, seed: int, stages: Stages) -> None:
        self._plan, self._seed, self._stages = plan, seed, stages
        self.unlearned: list[Unlearned] = []  # of the proxies that were trained so far

    def _key(self, role: Role) -> jax.Array:
        return jax.random.fold_in(jax.random.key(self._seed), 1 if role == "target" else 0)

    def train(
        self,
        name: str,
        role: Role,
        weights_MxK: np.ndarray,
        labels: tuple[str, ...],
        target: str | None = None,
        run: LanguageModelRun | None = None,
        monitor: bool = True,
    ) -> Models:
        """Train one model per row of weights; caps hold in target runs, and monitors warn on stderr."""
        plan, store = self._plan, self._plan.store
        models = train_models(
            self._stages,
            f"train-{name}-seed{self._seed}",
            run or plan.run(role),
            store,
            weights_MxK,
            self._key(role),
            plan.inputs | {"role": role, "seed": self._seed, "windows": store.windows_K.tolist()},
            labels=labels,
            max_epochs=plan.config.max_epochs if role == "target" and plan.is_real_run else None,
            mesh=plan.mesh(len(weights_MxK)),
            tokens_on=plan.tokens_on,
            on_nonfinite=plan.config.on_nonfinite,
            target=target,
            monitor_sources=role == "target" and monitor,
        )
        if models.monitor is not None:
            for m, arm in enumerate(labels):
                for record in divergence_records(plan, self._seed, arm, models.monitor.of_model(m), weights_MxK[m]):
                    print(f"warning: {record}", file=sys.stderr)
        return models

    def score(self, name: str, models: Models, target: Target, parts: tuple[str, ...]) -> Product:
        """Log-likelihoods of the target's documents, `document_DxM`, in nats."""
        return score_models(
            self._stages,
            score_stage(name, target.name, self._seed),
            models,
            [document for part in parts for document in target.documents(part)],
            _described(target, parts),
            mesh=self._plan.mesh(len(models.draws_MxK)),
            target=target.name,
        )

    def rung_scores(self, rung: Rung) -> dict[str, Scores]:
        """Of the fit and then the test documents of every target.

        Proxies, and their scores of a target, are stages of each source alone: what is there of a source or a target
        is used whatever the others are.
        """
        plan = self._plan
        found = self._ngram_scores() if rung.run is None else self._trained_scores(rung, rung.run)
        left_out = tuple(plan.names.index(one.source) for one in self._unlearned_of(rung) if one.then == "left out")
        scores = {}
        for target in plan.targets:
            token_NxK = np.stack([found[target.name][source]["token_N"] for source in plan.names], axis=1)
            sizes = [len(document) for part in ("fit", "test") for document in target.documents(part)]
            scores[target.name] = Scores(token_NxK, np.array(sizes), left_out)
        return scores

    def _unlearned_of(self, rung: Rung) -> list[Unlearned]:
        return [one for one in self.unlearned if one.proxies == rung.name]

    def _trained_scores(self, rung: Rung, run: LanguageModelRun) -> dict[str, Mapping[str, Product]]:
        """{target: {source: product with token_N}}."""
        plan = self._plan
        store = plan.proxy_store(run) if rung.matched else plan.store
        inputs = {
            corpus.name: {
                "source": corpus.fingerprint,
                "windows": int(windows),
                "length": store.length,
                "role": "proxy",
                "seed": self._seed,
            }
            for corpus, windows in zip(plan.sources, store.windows_K, strict=True)
        }
        proxies = train_proxies(
            self._stages,
            f"train-{rung.name}-seed{self._seed}",
            run,
            store,
            self._key("proxy"),
            inputs,
            mesh=plan.mesh,
            tokens_on=plan.tokens_on,
            on_nonfinite=plan.config.on_nonfinite,
        )
        found = unlearned_records(
            rung.name, self._seed, proxies.learned, "passed over" if rung in plan.rungs[1:] else "used"
        )
        self.unlearned += found
        for record in found:
            print(f"warning: {record}", file=sys.stderr)
        return {
            target.name: score_proxies(
                self._stages,
                score_stage(rung.name, target.name, self._seed),
                proxies,
                target.documents("fit") + target.documents("test"),
                _described(target, ("fit", "test")),
                mesh=plan.mesh,
                target=target.name,
            )
            for target in plan.targets
        }

    def _ngram_scores(self) -> dict[str, Mapping[str, Product]]:
        """{target: {source: product with token_N}}; the same in every seed."""
        plan, order = self._plan, self._plan.config.ngram_order
        corpora = {corpus.name: corpus for corpus in plan.sources}
        inputs = {name: {"source": corpus.fingerprint, "order": order} for name, corpus in corpora.items()}

        def count(stage: Running, missing: list[str]) -> Iterator[Product]:
            def one(source: str) -> NgramCounts:
                return count_ngrams(join_documents(corpora[source].documents), order)

            for done, counts in enumerate(for_sources(one, missing)):
                stage.advance(done + 1, len(missing))
                yield counts._asdict()

        counted = self._stages.run_each(NGRAMS, inputs, count)

        def scored(target: Target) -> Mapping[str, Product]:
            documents = target.documents("fit") + target.documents("test")

            def score(stage: Running, missing: list[str]) -> Iterator[Product]:
                def one(source: str) -> np.ndarray:
                    return ngram_score(NgramCounts(**counted[source]), documents, (order,))[0]

                for done, token_N in enumerate(for_sources(one, missing)):
                    stage.advance(done + 1, len(missing))
                    yield {"token_N": token_N}

            described = _described(target, ("fit", "test"))
            each = {source: own | described for source, own in inputs.items()}
            return self._stages.run_each(ngram_stage(target.name), each, score, target=target.name)

        return {target.name: scored(target) for target in plan.targets}

    def climb(self) -> dict[str, Climbed]:
        """For every target the rungs that were reached, and the weights found with each.

        A rung that would cost more than the budget, with those below it, is not begun. The last one is the first that
        did not change what the weights are worth, so those of the rung below it stay. Rungs of proxies that were
        trained too little, all of them, are passed over.
        """
        plan, reached = self._plan, dict[str, Climbed]()
        going = {target.name for target in plan.targets}
        spent = dict.fromkeys(going, 0.0)
        for index, rung in enumerate(plan.rungs):
            for target in plan.targets:
                cost = costs.rung_flops(plan, rung, target.documents("fit")) / costs.training(plan, "target")
                if index and spent[target.name] + cost > plan.config.search_budget:
                    going.discard(target.name)
                spent[target.name] += cost
            scores = self.rung_scores(rung) if going else {}
            for target in plan.targets:
                if target.name not in going:
                    continue
                own = reached.get(target.name)
                fit, test = scores[target.name].split(len(target.fit))
                found = self._rung(index, rung, target, fit, None if own is None else np.array(own.kept["weights"]))
                if found["changed"]:
                    reached[target.name] = Climbed((*(own.rungs if own else ()), found), found, fit, test)
                elif own:
                    reached[target.name] = dataclasses.replace(own, rungs=(*own.rungs, found))
                    if not self._passed_over(rung):
                        going.discard(target.name)
        return reached

    def _rung(
        self, index: int, rung: Rung, target: Target, scores: Scores, earlier_K: np.ndarray | None
    ) -> dict[str, Any]:
        plan = self._plan
        flops = costs.rung_flops(plan, rung, target.documents("fit"))
        inputs = solver_settings(plan) | {
            "rung": [rung.kind, rung.run and dataclasses.asdict(rung.run)],
            "scores": _fingerprint(scores),
            "rows": chosen_rows(plan, rung.kind),
            "earlier": None if earlier_K is None else earlier_K.tolist(),
            "natural": plan.rule_K("natural").tolist(),
            "bootstrap": [RESAMPLES, LEVEL],
        }
        if passed_over := self._passed_over(rung):
            inputs |= {"passed_over": True}

        def compute(_stage: Running) -> Product:
            found = rung_result(plan, scores, rung.kind, earlier_K)
            return found | {"changed": found["changed"] and not passed_over}

        found = self._stages.run(rung_stage(target.name, index, self._seed), inputs, compute, target=target.name)
        return found | {"kind": rung.kind, "tokens": rung.run and rung.run.tokens, "flops": flops}

    def _passed_over(self, rung: Rung) -> bool:
        return any(one.then == "passed over" for one in self._unlearned_of(rung))

    def moved(self, target: Target, climb: Climbed, before_K: np.ndarray) -> Product:
        """What the weights found gain over earlier ones."""
        plan, length = self._plan, str(climb.kept["rows"])
        inputs = solver_settings(plan) | {
            "scores": _fingerprint(climb.fit),
            "rows": length,
            "before": before_K.tolist(),
            "bootstrap": [RESAMPLES, LEVEL],
        }

        def compute(_stage: Running) -> Product:
            return gain_over(plan, climb.fit, length, before_K)

        return self._stages.run(moved_stage(target.name, self._seed), inputs, compute, target=target.name)

    def weights(
        self, target: Target, proxies: Scores | None, losses_R: np.ndarray | None
    ) -> tuple[dict[str, list[float]], dict[str, Any]]:
        """The weights of the target's own arms but `mixmin`, with the certificates of those that have one."""
        plan = self._plan

        def compute(_stage: Running) -> Product:
            solutions = {}
            for arm, length in zip(PUBLISHED, PUBLISHED_ROWS, strict=True):
                if arm in plan.arms:
                    assert proxies is not None
                    solutions[arm], _ = solved(plan, objective_of(plan, proxies, length), proxies)
            weights = {arm: solution.pop("weights") for arm, solution in solutions.items()}
            if losses_R is not None:
                weights |= searched(plan, losses_R, proxies, self._seed)
            return {"weights": weights, "solutions": solutions}

        inputs = solver_settings(plan) | {
            "proxies": None if proxies is None else _fingerprint(proxies),
            "random": None if losses_R is None else losses_R.tolist(),
            "arms": list(plan.own_arms),
            "regmix": plan.regmix_model,
            "sizes": plan.sizes_K.tolist(),
            "mixtures": plan.random_RxK(self._seed).tolist() if plan.num_random else [],
            "mde": [MDE_CANDIDATES, MDE_TOP],
        }
        found = self._stages.run(weights_stage(target.name, self._seed), inputs, compute, target=target.name)
        return found["weights"], found["solutions"]

    def combined_weights(self, fits: list[tuple[Scores, str]]) -> Product:
        """One mixture for all targets, from their fit parts in the rows of `mixmin`, with the solver's certificate."""
        plan = self._plan

        def compute(_stage: Running) -> Product:
            objectives = [objective_of(plan, scores, length) for scores, length in fits]
            weighted = plan.config.combine == "weighted"
            both = weighted_sum(objectives) if weighted else worst_case(objectives, relative_to="best")
            record, solution = solved(plan, both, *(scores for scores, _ in fits))
            if solution.targets is None:
                return record
            columns = {
                "loss": solution.targets.losses, "excess": solution.targets.excess, "price": solution.targets.prices
            }  # fmt: skip
            return record | {
                "targets": {
                    target.name: {what: float(values_T[t]) for what, values_T in columns.items()}
                    for t, target in enumerate(plan.targets)
                }
            }

        inputs = [[*_fingerprint(scores), length] for scores, length in fits]
        settings = solver_settings(plan) | {"combine": plan.config.combine, "scores": inputs}
        return self._stages.run(f"weights-{COMBINED}-seed{self._seed}", settings, compute)

    def multiples(self) -> dict[str, dict[float, float]]:
        """The test loss of `natural` on multiples of the tokens, by target."""
        plan, natural_1xK = self._plan, self._plan.rule_K("natural")[None]
        losses: dict[str, dict[float, float]] = {target.name: {} for target in plan.targets}
        for multiple in plan.config.multiples:
            name, tokens = f"natural-{multiple:g}", round(multiple * plan.config.model.tokens)
            run = dataclasses.replace(plan.config.model, tokens=tokens)
            models = self.train(name, "target", natural_1xK, (name,), run=run, monitor=False)
            for target in plan.targets:
                losses[target.name][multiple] = float(_bits(self.score(name, models, target, ("test",)))[0])
        return losses


def run_seed(
    plan: Plan, seed: int, stages: Stages, before: Mapping[str, np.ndarray] | None = None
) -> dict[str, SeedResult]:
    """All stages of one seed; returns {target name: result}. `before`: weights_K of `mixmin` so far, by target."""
    stage = SeedStages(plan, seed, stages)
    climbed = stage.climb()
    proxies = stage.rung_scores(Rung(plan.run("proxy"), matched=False)) if plan.trains_proxies else {}
    random_RxK = plan.random_RxK(seed) if plan.num_random else np.zeros((0, len(plan.names)))
    random = _random_losses(plan, stage, random_RxK)
    common, common_models = _common_arms(plan, stage, climbed)
    multiples = stage.multiples() if seed == 0 else {}
    results = {}
    for target in plan.targets:
        fit_R, test_R = random.get(target.name, (None, np.zeros(0)))
        climb = climbed[target.name]
        proxies_fit = proxies[target.name].split(len(target.fit))[0] if proxies else None
        weights_of, solutions = stage.weights(target, proxies_fit, fit_R) if len(plan.own_arms) > 1 else ({}, {})
        weights = {arm: np.array(w_K) for arm, w_K in ({"mixmin": climb.kept["weights"]} | weights_of).items()}
        solutions = {"mixmin": {key: climb.kept[key] for key in CERTIFICATE}} | solutions | common.solutions
        test_nats: dict[str, np.ndarray] = {}
        draws: dict[str, np.ndarray] = {}
        monitors: dict[str, SourceMonitor] = {}
        groups = list(common_models)
        if plan.own_arms:
            own_MxK = np.stack([weights[arm] for arm in plan.own_arms])
            own = stage.train(f"arms-{target.name}", "target", own_MxK, plan.own_arms, target.name)
            groups.append(("arms", plan.own_arms, own))
        for label, arms, models in groups:
            logp_DxM = stage.score(label, models, target, ("test",))["document_DxM"]
            test_nats |= dict(zip(arms, -logp_DxM.T, strict=True))
            draws |= dict(zip(arms, models.draws_MxK, strict=True))
            if models.monitor is not None:
                monitors |= {arm: models.monitor.of_model(m) for m, arm in enumerate(arms)}
        weights |= common.weights
        before_K = (before or {}).get(target.name) if seed == 0 else None
        moved = None
        if before_K is not None and not np.allclose(before_K, weights["mixmin"], rtol=0, atol=SAME_WEIGHT):
            moved = stage.moved(target, climb, before_K)
        results[target.name] = SeedResult(
            seed,
            list(climb.rungs),
            weights,
            draws,
            solutions,
            test_nats,
            predicted=dict(zip(plan.arms, _predicted(climb, [weights[arm] for arm in plan.arms]), strict=True)),
            random_RxK=random_RxK,
            random_reached_R=test_R,
            random_predicted=_predicted(climb, list(random_RxK)),
            monitors=monitors,
            multiples=multiples.get(target.name, {}),
            unlearned=tuple(stage.unlearned),
            moved=moved,
        )
    return results


@dataclasses.dataclass(frozen=True)
class CommonArms:
    """Arms that are the same for every target."""

    weights: dict[str, np.ndarray]
    solutions: dict[str, Any]


def _common_arms(
    plan: Plan, stage: SeedStages, climbed: Mapping[str, Climbed]
) -> tuple[CommonArms, list[tuple[str, tuple[str, ...], Models]]]:
    """The arms that are the same for every target, with their models."""
    weights = {arm: plan.rule_K(arm) for arm in plan.shared_arms}
    solutions: dict[str, Any] = {}
    models: list[tuple[str, tuple[str, ...], Models]] = []
    if weights:
        trained = stage.train("shared-arms", "target", np.stack(list(weights.values())), tuple(weights))
        models.append(("shared-arms", tuple(weights), trained))
    if COMBINED in plan.arms:
        found = stage.combined_weights([(climbed[t.name].fit, climbed[t.name].kept["rows"]) for t in plan.targets])
        solutions[COMBINED] = {key: value for key, value in found.items() if key != "weights"}
        weights[COMBINED] = np.array(found["weights"])
        trained = stage.train(f"{COMBINED}-arm", "target", weights[COMBINED][None], (COMBINED,))
        models.append((f"{COMBINED}-arm", (COMBINED,), trained))
    return CommonArms(weights, solutions), models


def _random_losses(plan: Plan, stage: SeedStages, random_RxK: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The loss of a small model trained on each random mixture, on the fit and on the test part of every target."""
    losses: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    together = len(plan.names)  # as many at once as there are proxies
    for first in range(0, len(random_RxK), together):
        part_RxK, number = random_RxK[first : first + together], first // together
        labels = tuple(f"random mixture {first + r}" for r in range(len(part_RxK)))
        models = stage.train(f"random-mixtures-{number}", "random", part_RxK, labels)
        for target in plan.targets:
            scored = stage.score(f"random-mixtures-{number}", models, target, ("fit", "test"))
            fit = len(target.fit)
            halves = (
                {"document_DxM": scored["document_DxM"][part], "bytes_D": scored["bytes_D"][part]}
                for part in (slice(fit), slice(fit, None))
            )
            losses.setdefault(target.name, []).append((_bits(next(halves)), _bits(next(halves))))
    return {
        name: (np.concatenate([fit for fit, _ in parts]), np.concatenate([test for _, test in parts]))
        for name, parts in losses.items()
    }


def _predicted(climb: Climbed, weights: list[np.ndarray]) -> list[dict[str, float]]:
    """Test loss of each mixture of the proxies of `mixmin` in bits per byte: in its rows, and in the published ones."""
    if not weights:
        return []
    lengths = {"mixmin": climb.kept["rows"]} | {length: length for length in PUBLISHED_ROWS}
    losses = {row: climb.test.losses(np.stack(weights), length).tolist() for row, length in lengths.items()}
    return [dict(zip(losses, values, strict=True)) for values in zip(*losses.values(), strict=True)]


def _bits(scored: Mapping[str, np.ndarray]) -> np.ndarray:
    """Loss of each model in bits per byte."""
    return -scored["document_DxM"].sum(0) / (math.log(2) * scored["bytes_D"].sum())


def _described(target: Target, parts: tuple[str, ...]) -> dict[str, Any]:
    """What the documents of some parts are, for the stages that rest on them."""
    return {
        "target": target.corpus.fingerprint,
        "documents": [getattr(target, part).tolist() for part in parts],
    }


def _fingerprint(scores: Scores) -> list[Any]:
    """What scores are, for the stages that rest on them."""
    shown = [hashlib.sha256(scores.token_NxK.tobytes()).hexdigest(), scores.bytes_D.tolist()]
    return [*shown, list(scores.left_out)] if scores.left_out else shown


def solver_settings(plan: Plan) -> dict[str, Any]:
    """What the solver's answers depend on beside the scores."""
    bounds_K = plan.upper_bounds_K
    caps = None if bounds_K is None else bounds_K.tolist()
    return {"method": plan.config.method, "tolerance": TOLERANCE, "caps": caps}
