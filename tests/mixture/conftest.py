"""Fixtures for the convex part."""

import jax
import pytest


@pytest.fixture
def traces_of(monkeypatch):
    """Gives a list that grows whenever a program with this method of an evaluator is traced."""
    jax.clear_caches()  # other tests may have compiled the same programs

    def count(evaluator, method):
        traces, original = [], getattr(evaluator, method)

        def counting(self, w_K):
            traces.append(1)
            return original(self, w_K)

        monkeypatch.setattr(evaluator, method, counting)
        return traces

    return count


@pytest.fixture
def x64():
    """Double precision for tests that call traced functions themselves."""
    with jax.enable_x64(True):
        yield
