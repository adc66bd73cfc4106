import dataclasses

import jax
import numpy as np
import pytest

from mixmin_jax.errors import InputError
from mixmin_jax.models.transformer import TransformerConfig
from mixmin_jax.training.language_model import (
    LanguageModelRun,
    num_parameters,
    scoring_flops_per_row,
    token_log_likelihoods,
    training_flops,
)


@pytest.mark.parametrize(
    ("tokens", "steps"),
    [(16, 1), (31, 1), (32, 2), (49 * 16, 49), (50 * 16, 50), (51 * 16, 50), (99 * 16, 98), (101 * 16, 100)],
)
def test_tokens_become_whole_batches_and_then_blocks_of_one_length(run, tokens, steps):
    longer = dataclasses.replace(run, tokens=tokens)
    assert (longer.num_steps, longer.num_windows) == (steps, 2 * steps)


@pytest.mark.parametrize(
    "change",
    [{"tokens": 15}, {"batch_size": 0}, {"sequence_length": 0}, {"learning_rate": 0.0}, {"weight_decay": -1.0}],
)
def test_impossible_runs_are_refused(run, change):
    with pytest.raises(InputError, match=next(iter(change))):
        dataclasses.replace(run, **change)


def test_a_new_model_knows_nothing_yet(run):
    params = jax.jit(run.init)(jax.random.key(0)).params
    tokens = jax.random.randint(jax.random.key(1), (8, 9), 0, 256)
    assert abs(-token_log_likelihoods(run.model, params, tokens).mean() - np.log(256)) < 1.0


def test_flops_count_the_matrices_at_least_and_not_much_more():
    run = LanguageModelRun(TransformerConfig(64, 2, 4), tokens=64 * 4 * 50, sequence_length=64, batch_size=4)
    params = jax.eval_shape(run.init, jax.random.key(0)).params
    matrices = num_parameters(params) - 256 * 64  # the embedding is looked up, not multiplied
    assert 1 <= training_flops(run) / (6 * matrices * run.tokens) < 1.6  # 2 forward and 4 backward per weight and token
    assert 1 <= scoring_flops_per_row(run) / (2 * matrices * 64) < 1.6
    twice = dataclasses.replace(run, tokens=2 * run.tokens)
    assert training_flops(twice) == 2 * training_flops(run)
