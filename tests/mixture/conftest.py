"""Fixtures for the convex part."""

import jax
import pytest


@pytest.fixture
def x64():
    """Double precision for tests that call traced functions themselves."""
    with jax.enable_x64(True):
        yield
