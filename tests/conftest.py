"""Settings of the whole test run: programs that compile fast, and eight virtual CPU devices for tests of meshes."""

import gc
import importlib.metadata
import os
from pathlib import Path

# Most of the time of a test run is XLA compiling programs that run once, on a few rows. So tests optimize less,
# child processes too. `XLA_FLAGS= pytest` tests the programs that users get.
FAST_TO_COMPILE = ["--xla_backend_optimization_level=0"]
if importlib.metadata.version("jaxlib").startswith("0.10."):  # other versions refuse such flags
    # one thread each, as there is a worker per core
    FAST_TO_COMPILE += ["--xla_cpu_use_fusion_emitters=false", "--xla_cpu_parallel_codegen_split_count=1"]
os.environ.setdefault("XLA_FLAGS", " ".join(FAST_TO_COMPILE))

os.environ.setdefault("JAX_ENABLE_COMPILATION_CACHE", "false")  # tests compile what they test

import hypothesis  # noqa: E402
import jax  # noqa: E402
import pytest  # noqa: E402

hypothesis.settings.register_profile("repeatable", derandomize=True)  # the same examples in every run
hypothesis.settings.load_profile("repeatable")
jax.config.update("jax_num_cpu_devices", 8)
jax.devices()  # now, so that nothing that runs later can change their number

# Tracing makes many objects and few cycles: at Python's thresholds, looking for cycles takes a tenth of a test run.
gc.set_threshold(100_000, 20, 20)

MAPS = Path("/proc/self/maps")
MOST_MAPS = 10_000  # Linux allows a process 65 530; each stands for some 100 kB of memory


@pytest.fixture(scope="module", autouse=True)
def forget_programs():
    """Compiled programs hold memory maps and memory, which a whole test run would fill.

    They are kept as long as there is room, because many modules use the same small programs.
    """
    yield
    if not MAPS.exists() or MAPS.read_text().count("\n") > MOST_MAPS:
        jax.clear_caches()
        gc.collect()
