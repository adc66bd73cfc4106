"""Settings of the whole test run: eight virtual CPU devices, so that meshes are tested without an accelerator."""

import hypothesis
import jax
import pytest

hypothesis.settings.register_profile("repeatable", derandomize=True)  # the same examples in every run
hypothesis.settings.load_profile("repeatable")
jax.config.update("jax_num_cpu_devices", 8)
jax.devices()  # now, so that nothing that runs later can change their number


@pytest.fixture(scope="module", autouse=True)
def forget_programs():
    """Compiled programs hold memory maps, of which a process may have some 65 000: a whole test run fills them."""
    yield
    jax.clear_caches()
