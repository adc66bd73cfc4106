"""What a step of each kind costs: FLOPs of the step lowered alone, and milliseconds measured side by side."""

import functools
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from experiments.harness.stages import Product, Running
from experiments.mixtraining.config import Arm, ArmSettings, Variant
from experiments.mixtraining.plan import Study
from experiments.mixtraining.results import JOINT_LABELED, OTHER_SSL
from experiments.mixtraining.unlabeled import LABELED_ALONE
from mixmin_jax.training.mixtraining import MixState, init_state, make_step
from mixmin_jax.training.schedule import Alpha, Phase, plan_steps

JOINT: Mapping[str, Variant] = {f"joint_{variant}": variant for variant in ("visible", "all_tokens", "two_passes")}
_ROUNDS = 7
_STEPS = 10  # of one kind before the next kind's turn

Kind = tuple[Phase, ArmSettings, Variant]


def step_kinds(settings: Mapping[Arm, ArmSettings]) -> dict[str, Kind]:
    """The kinds of step by name: those of mixtraining's settings, all joint variants, and what another arm adds."""
    mixed, baseline = settings["mixtraining"], settings["ssl_then_sl"]
    kinds: dict[str, Kind] = {"ssl": ("ssl", mixed, "visible"), "sl": ("sl", mixed, "visible")}
    kinds |= {name: ("joint", mixed, variant) for name, variant in JOINT.items()}
    if baseline.ssl_mask != mixed.ssl_mask:
        kinds[OTHER_SSL] = ("ssl", baseline, "visible")
    return kinds


def step_costs(study: Study, settings: Mapping[Arm, ArmSettings], stage: Running) -> Product:
    """{kind: {"flops", "ms", "ms_low", "ms_high"}}; every kind has its turn in each round: noise hits all alike."""
    kinds = step_kinds(settings)
    data = jax.random.key(0), *map(jnp.asarray, study.data(min(study.options.shares), 0))
    if study.has_pool:  # whose joint steps encode other rows for SSL than for SL
        kinds[JOINT_LABELED] = ("joint", settings["mixtraining"], study.options.joint)
    blocks = {name: _block(study, kind) for name, kind in kinds.items()}
    learner, _ = study.learners(settings["mixtraining"])
    state = jax.jit(functools.partial(init_state, learner, study.options.optimizer))(jax.random.key(1))
    states = {name: jax.tree.map(jnp.copy, state) for name in kinds}  # each block takes over its own
    milliseconds: dict[str, list[float]] = {name: [] for name in kinds}
    for turn in range(_ROUNDS + 1):  # the first compiles and warms up
        for place, (name, block) in enumerate(blocks.items()):
            started = time.perf_counter()
            states[name] = jax.block_until_ready(block(states[name], *(data[:3] if name == JOINT_LABELED else data)))
            if turn:
                milliseconds[name].append(1e3 * (time.perf_counter() - started) / _STEPS)
            stage.advance(turn * len(kinds) + place + 1, (_ROUNDS + 1) * len(kinds))
    return {
        name: {
            "flops": study.step_flops(given, joint, LABELED_ALONE if name == JOINT_LABELED else "schedule")[phase],
            "ms": statistics.median(milliseconds[name]),
            "ms_low": min(milliseconds[name]),
            "ms_high": max(milliseconds[name]),
        }
        for name, (phase, given, joint) in kinds.items()
    }


def _block(study: Study, kind: Kind) -> Callable[..., MixState]:
    phase, settings, variant = kind
    learner, joint = study.learners(settings, variant)
    step = make_step(learner, study.options.optimizer, fetch=study.fetch, only=phase, **joint)
    row = plan_steps([(phase, 1)], _STEPS, alpha=Alpha.constant(0.5), learning_rate=1e-5)

    @functools.partial(jax.jit, donate_argnums=0)
    def block(state: MixState, *data: Any) -> MixState:
        return jax.lax.scan(lambda state, row: step(state, row, *data), state, row)[0]

    return block
