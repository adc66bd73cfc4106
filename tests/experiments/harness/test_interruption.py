"""Signals end a run wherever they come."""

import contextlib
import gc
import signal
import sys
import time
import weakref

import pytest

from experiments.harness.interruption import Interrupted, Interruption


class Thing:
    """Something that weak references and finalizers are for."""


@contextlib.contextmanager
def collector_calls(callback):
    """Python's garbage collector runs and calls back."""

    def called(phase, info):
        callback()

    gc.callbacks.append(called)
    try:
        gc.collect()
        yield
    finally:
        gc.callbacks.remove(called)


@contextlib.contextmanager
def weak_reference_calls(callback):
    """What a weak reference points to is deleted."""
    thing = Thing()
    reference = weakref.ref(thing, lambda _: callback())
    del thing
    yield reference


@contextlib.contextmanager
def finalizer_calls(callback):
    """An object with a finalizer is deleted."""

    class Finalized:
        def __del__(self):
            callback()

    Finalized()
    yield


@pytest.mark.parametrize("calls", [collector_calls, weak_reference_calls, finalizer_calls])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGUSR1])
def test_a_signal_that_comes_where_python_ignores_exceptions_is_not_lost(calls, number):
    left = [number]

    def callback():
        if left:
            signal.raise_signal(left.pop())

    with pytest.raises(Interrupted, match=f"stopped by {number.name}"), Interruption(), calls(callback):
        time.sleep(20)
    assert not left


def test_what_else_python_ignores_is_told_as_before(monkeypatch):
    told = []
    monkeypatch.setattr("sys.unraisablehook", lambda unraisable: told.append(str(unraisable.exc_value)))
    hook = sys.unraisablehook

    def fails():
        raise ValueError("another error")

    with Interruption(), finalizer_calls(fails):
        pass
    assert told == ["another error"]
    assert sys.unraisablehook is hook
