"""Training-data mixtures by convex optimization (MixMin), and SSL and SL in one compiled loop (MixTraining)."""

import importlib
from typing import TYPE_CHECKING

from mixmin_jax.errors import InputError as InputError
from mixmin_jax.export.formats import export_mixture as export_mixture
from mixmin_jax.export.token_mixture import TokenMixture as TokenMixture
from mixmin_jax.export.token_mixture import token_mixture as token_mixture
from mixmin_jax.mixture.inference.bootstrap import Bootstrap as Bootstrap
from mixmin_jax.mixture.inference.bootstrap import Comparison as Comparison
from mixmin_jax.mixture.inference.bootstrap import bootstrap as bootstrap
from mixmin_jax.mixture.inference.leave_one_out import LeaveOneOut as LeaveOneOut
from mixmin_jax.mixture.inference.leave_one_out import leave_one_out as leave_one_out
from mixmin_jax.mixture.inference.prior_strength import PriorStrength as PriorStrength
from mixmin_jax.mixture.inference.prior_strength import choose_prior_strength as choose_prior_strength
from mixmin_jax.mixture.inference.short_list import ShortList as ShortList
from mixmin_jax.mixture.inference.short_list import shorten as shorten
from mixmin_jax.mixture.objective import cross_entropy as cross_entropy
from mixmin_jax.mixture.objective import squared_error as squared_error
from mixmin_jax.mixture.rows import Rows as Rows
from mixmin_jax.mixture.rows import rows as rows
from mixmin_jax.mixture.scale.sharding import on_every_process as on_every_process
from mixmin_jax.mixture.scale.streaming import stream_cross_entropy as stream_cross_entropy
from mixmin_jax.mixture.scale.streaming import stream_squared_error as stream_squared_error
from mixmin_jax.mixture.solution import NotConverged as NotConverged
from mixmin_jax.mixture.solution import Solution as Solution
from mixmin_jax.mixture.solution import TargetLosses as TargetLosses
from mixmin_jax.mixture.solution import TracedSolution as TracedSolution
from mixmin_jax.mixture.solve import solve as solve
from mixmin_jax.mixture.targets import weighted_sum as weighted_sum
from mixmin_jax.mixture.targets import worst_case as worst_case
from mixmin_jax.mixture.traced import solve_traced as solve_traced
from mixmin_jax.program_cache import cache_programs as cache_programs

if TYPE_CHECKING:
    from mixmin_jax import plot as plot
    from mixmin_jax.trained.folder import load_model as load_model
    from mixmin_jax.trained.folder import save_model as save_model
    from mixmin_jax.trained.model import TrainedModel as TrainedModel
    from mixmin_jax.training import mixtraining as mixtraining
    from mixmin_jax.training import schedule as schedule
else:

    def __getattr__(name: str) -> object:
        """Import on first use what takes long to import: matplotlib, and for MixTraining Orbax and Optax."""
        if name in ("mixtraining", "plot", "schedule"):
            return importlib.import_module(f"mixmin_jax.{'' if name == 'plot' else 'training.'}{name}")
        if name in ("TrainedModel", "load_model", "save_model"):
            home = "model" if name == "TrainedModel" else "folder"
            return getattr(importlib.import_module(f"mixmin_jax.trained.{home}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
