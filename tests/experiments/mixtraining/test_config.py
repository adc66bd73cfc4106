import dataclasses

import pytest

from experiments.harness.command_line import parse
from experiments.mixtraining.config import ARMS, MixTrainingOptions
from mixmin_jax.errors import InputError
from mixmin_jax.training.schedule import Alpha


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fractions": ()}, "--fractions"),
        ({"fractions": (0.5, 1.5)}, "--fractions must lie in"),
        ({"fractions": (0.5, 0.5)}, "names one twice"),
        ({"seeds": 0}, "--seeds"),
        ({"batch_size": 0}, "--batch-size"),
        ({"checkpoints": -1}, "--checkpoints"),
        ({"ssl_epochs": 0}, "--ssl-epochs and --sl-epochs must be at least 1"),
        ({"mix_ratio": 1.5}, "mix_ratio must lie in"),
        ({"ssl_epochs": 2, "mix_ratio": 0.2}, "no whole joint epoch"),
        ({"ssl_mask": 0.0}, "--ssl-mask"),
        ({"ssl_mask": 1.0}, "--ssl-mask"),
        ({"joint_mask": 1.0}, "--joint-mask"),
        ({"alpha_start": 1.2}, "alpha must lie in"),
        ({"learning_rate": 0.0}, "learning rate must be positive"),
        ({"scratch_learning_rate": -1.0}, "learning rate must be positive"),
        ({"warmup_fraction": 1.0}, "warmup_fraction"),
        ({"weight_decay": -0.1}, "weight_decay"),
        ({"label_smoothing": 1.0}, "label_smoothing"),
        ({"validation_fraction": 1.0}, "--validation-fraction"),
        ({"tune_trials": 1}, "--tune-trials"),
        ({"tune_trials": 33}, "--tune-trials"),
        ({"price_per_hour": 0.0}, "--price-per-hour"),
        ({"times_cheaper": 1.0}, "--times-cheaper"),
        ({"times_cheaper": float("nan")}, "--times-cheaper"),
    ],
)
def test_bad_options_are_refused_by_name(options, message):
    with pytest.raises(InputError, match=message):
        MixTrainingOptions(**options)


def test_arms_differ_in_what_they_are_and_in_nothing_else():
    options = MixTrainingOptions(
        ssl_epochs=4, sl_epochs=6, scratch_learning_rate=3e-3, learning_rate=1e-3, sl_learning_rate=2e-3
    )
    sl, conventional, mixed = (options.settings(arm).schedule(arm, options) for arm in ARMS)
    assert sl.segments() == (("sl", 6),)
    assert conventional.segments() == (("ssl", 4), ("sl", 6))
    assert mixed.segments() == (("ssl", 2), ("joint", 2), ("sl", 4))
    assert dataclasses.replace(mixed, mix_ratio=0.0) == conventional
    assert sl.peaks["sl"] == 3e-3 and conventional.peaks == mixed.peaks == {"ssl": 1e-3, "joint": 1e-3, "sl": 2e-3}


def test_only_what_is_there_can_be_seen_in_an_ssl_step(capsys):
    assert MixTrainingOptions().ssl_sees == "visible"
    assert parse(MixTrainingOptions, arguments=["--ssl-sees", "all_tokens"]).ssl_sees == "all_tokens"
    with pytest.raises(SystemExit):
        parse(MixTrainingOptions, arguments=["--ssl-sees", "two_passes"])
    assert "--ssl-sees" in capsys.readouterr().err


def test_settings_in_words_name_what_matters_to_an_arm():
    options = MixTrainingOptions(alpha="cosine")
    sl, conventional, mixed = (options.settings(arm).of(arm) for arm in ARMS)
    assert list(sl) == ["learning_rate"]
    assert set(mixed) - set(conventional) == {"mix_ratio", "joint_mask", "alpha"}
    assert mixed["alpha"] == "cosine 1.0 to 0.0"
    constant = MixTrainingOptions(alpha="constant", alpha_start=0.5).settings("mixtraining")
    assert constant.alpha == Alpha.constant(0.5) and constant.of("mixtraining")["alpha"] == "constant 0.5"
