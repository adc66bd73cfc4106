"""Signals end a run wherever they come."""

import gc
import signal
import time

import pytest

from experiments.harness.interruption import Interrupted, Interruption


def test_a_signal_during_garbage_collection_is_not_lost():
    """Python ignores what a callback of the collector raises, and a run would go on."""
    signals = [signal.SIGINT]

    def callback(phase, info):
        if signals:
            signal.raise_signal(signals.pop())

    gc.callbacks.append(callback)
    try:
        with pytest.raises(Interrupted, match="stopped by SIGINT"), Interruption():
            gc.collect()
            time.sleep(5)
    finally:
        gc.callbacks.remove(callback)
    assert not signals
