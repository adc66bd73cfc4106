"""Settings of the whole test run: eight virtual CPU devices, so that meshes are tested without an accelerator."""

import jax

jax.config.update("jax_num_cpu_devices", 8)
jax.devices()  # now, so that nothing that runs later can change their number
