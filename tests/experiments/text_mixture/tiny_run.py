"""What the tests of the text experiment share: sizes and options of a tiny run."""

import json

from experiments.text_mixture.config import ALL_ARMS
from experiments.text_mixture.data import read_text, split_target, take_care
from experiments.text_mixture.plan import make_plan
from mixmin_jax.models.transformer import TransformerConfig
from mixmin_jax.training.language_model import LanguageModelRun

NOTES = """
[digits]
licence = "CC0-1.0"
note = "counted | by hand"
[web]
licence = "unknown"
allowed = false
"""
ARMS = (*ALL_ARMS, "today")
CAPPED = {"multiples": (), "compare": ()}  # which caps would refuse
UNTRIED = {"arms": ("none",), "compare": (), "multiples": (), "seeds": 1}
PROXY = LanguageModelRun(TransformerConfig(8, 1, 1), tokens=40 * 2 * 16, sequence_length=16, batch_size=2)
MODEL = LanguageModelRun(TransformerConfig(12, 1, 1), tokens=50 * 2 * 16, sequence_length=16, batch_size=2)


def load(out, target="numbers", name="metrics.json"):
    return json.loads((out / target / name).read_text())


def plan_of(config):
    sources, targets = read_text(config.sources, config.target, config.field, config.limits, config.sources_info)
    sources, care = take_care(sources, targets, config.sources, config.sources_info, config.drop_duplicates)
    return make_plan(config, sources, tuple(split_target(target, 0.5, 0, 10_000, 10_000) for target in targets), care)
