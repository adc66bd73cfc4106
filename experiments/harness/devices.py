"""The devices of a run: one mesh from its options, for models, batches and the rows of the solver."""

import jax
from jax.sharding import Mesh

from experiments.harness.options import ManyModelsOptions, RunOptions
from experiments.harness.provenance import cpu_cores
from mixmin_jax.training.mesh import make_mesh, source_devices, split_cpu

MOST_CORES = 8  # by default no more virtual devices than this


def see_devices(options: RunOptions) -> None:
    """Split the CPU into as many virtual devices as the options ask for, before anything touches JAX's devices.

    By default an experiment with many models gets one per core. With --distributed the cluster decides.
    """
    if options.distributed:
        return
    processes, data = options.num_processes or 1, options.mesh_data
    source = 1
    if isinstance(options, ManyModelsOptions):
        source = options.mesh_source or max(processes * min(cpu_cores(), MOST_CORES) // data, 1)
    if source * data > 1:
        split_cpu(-(-source * data // processes))


def whole_mesh(options: ManyModelsOptions) -> Mesh:
    """All devices of a run. Raises InputError for more than there are."""
    return make_mesh(_source(options), options.mesh_data)


def models_mesh(options: ManyModelsOptions, num_models: int) -> Mesh:
    """The devices for some models at once: as many as shorten the run; with several processes always all."""
    if jax.process_count() > 1:
        return whole_mesh(options)
    return make_mesh(source_devices(num_models, _source(options)), options.mesh_data)


def batch_mesh(options: RunOptions) -> Mesh:
    """The devices for one model, whose batches are split over `data`. Raises InputError for more than there are.

    With several processes the mesh has all devices; along `source` all do the same work.
    """
    several = jax.process_count() > 1 and isinstance(options, ManyModelsOptions)
    return make_mesh(_source(options) if several else 1, options.mesh_data)  # type: ignore[arg-type]


def solver_mesh(options: ManyModelsOptions) -> Mesh | None:
    """The devices for the rows of a solve; None unless --mesh-data asks for more than one."""
    return None if options.mesh_data == 1 else batch_mesh(options)


def own_rows(mesh: Mesh | None, num_rows: int) -> slice:
    """The rows that this process gives to a solve over `mesh`: all, or its part if there are several processes."""
    if mesh is None or not mesh.is_multi_process:
        return slice(None)
    process, processes = jax.process_index(), jax.process_count()
    return slice(num_rows * process // processes, num_rows * (process + 1) // processes)


def _source(options: ManyModelsOptions) -> int:
    return options.mesh_source or max(jax.device_count() // options.mesh_data, 1)
