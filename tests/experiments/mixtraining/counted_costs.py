"""What steps cost, without the time to measure it: for whole runs in tests."""

from experiments.mixtraining.costs import step_kinds


def counted_costs(study, settings, advance):
    """The FLOPs of every kind of step, not its time."""
    return {
        name: {"flops": study.step_flops(given, joint)[phase], "ms": 1.0, "ms_low": 1.0, "ms_high": 1.0}
        for name, (phase, given, joint) in step_kinds(settings).items()
    }
