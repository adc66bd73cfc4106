"""Training-data mixtures by convex optimisation (MixMin)."""

from mixmin_jax.errors import InputError as InputError
from mixmin_jax.mixture.objective import cross_entropy as cross_entropy
from mixmin_jax.mixture.objective import squared_error as squared_error
from mixmin_jax.mixture.solution import NotConverged as NotConverged
from mixmin_jax.mixture.solution import Solution as Solution
from mixmin_jax.mixture.solve import solve as solve
from mixmin_jax.mixture.traced import solve_traced as solve_traced
