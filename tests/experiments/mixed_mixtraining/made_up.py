"""Made-up results of the experiment that joins both papers."""

import dataclasses

from experiments.mixed_mixtraining.config import ARMS, MIXTURES, SSL_ARMS
from experiments.mixed_mixtraining.results import Arm, Curve, Flops, MixedMetrics, Model, Overlap, Source, Task
from experiments.reporting.schema import Certificate, MadeBy
from mixmin_jax.stats.comparison import summary

WEIGHTS = {"code": 0.75, "web": 0.25}


def metrics(accuracies, *, num_tasks=1, **changes):
    """A record in which each arm reaches `accuracies[arm]`, by seed and in every task."""
    seeds = len(accuracies["mixmin"])
    curve = Curve((0.5, 2.0), (0, 2), (5.0, None), (None, 1.0))
    arms = {
        arm: Arm(
            accuracy=summary(accuracies[arm]),
            accuracy_per_task=(summary(accuracies[arm]),) * num_tasks,
            test_loss=summary([0.5] * seeds),
            steps={"ssl": 10, "joint": 5, "sl": 20} if arm in SSL_ARMS else {"ssl": 0, "joint": 0, "sl": 30},
            wall_seconds=summary([3.0] * seeds),
            curves=(curve,) * seeds,
            epochs={"code": 5.0, "web": 0.5} if arm in SSL_ARMS else None,
            weights_per_seed=(WEIGHTS,) * seeds if arm in MIXTURES else (),
            proxy_loss=summary([2.0] * seeds) if arm in MIXTURES else None,
        ).derived()
        for arm in ARMS
    }
    config = {"proxy": {"sequence_length": 64}, "ssl_batch_size": 64, "batch_size": 32, "ssl_mask": 0.5}
    config |= {"joint_mask": 0.25, "joint": "visible", "learning_rate": 1e-3, "sl_learning_rate": 1e-3}
    found = MixedMetrics(
        experiment="mixed_mixtraining",
        seeds=tuple(range(seeds)),
        made_by=MadeBy("python -m experiments.mixed_mixtraining", "1 x cpu", "0123abc", {"python": "3.11"}),
        config=config,
        identity={},
        data_sets=(),
        seconds={"proxies-seed0": 4.0, "scores-seed0": 1.0},
        tasks=(Task(("odd", "even"), 50, 400, 0, {"odd": 30, "even": 40}),) * num_tasks,
        data={"code": Source(10, 1000, 100), "web": Source(20, 2000, 200)},
        arms=arms,
        references=(),
        mixmin=Certificate(2.0, 1e-12, 1e-9, 2, True, "interior_point", 0, ((1e-3, 1e-12),) * seeds),
        overlap=Overlap(13, 0.5, 70, {"code": 0, "web": 0}),
        flops=Flops(1e9, {"ssl": 1e7, "joint": 2e7, "sl": 1e7}),
        model=Model("nano", 144_291, 120_768),
        source_notes={},
    )
    return dataclasses.replace(found, **changes).derived()
