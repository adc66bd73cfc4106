"""More accuracy for less compute? SSL and SL one after the other, against both in one phase, on text.

    python -m experiments.text_mixtraining                        demonstration on text that Python carries (minutes)
    python -m experiments.text_mixtraining --sources DIR --out DIR --preset micro --seeds 3 --tune
    python -m experiments.text_mixtraining --ssl-sees all_tokens --joint all_tokens   masked language modelling, as BERT

MixTraining (Li et al., arXiv:2502.19513) on a transformer over bytes: self-supervision predicts hidden bytes, by
default from the visible ones alone, and the labels are the sources that windows of text are from.
"""

import jax

from experiments.harness.command_line import run
from experiments.harness.data_sets import text_record
from experiments.harness.devices import see_devices
from experiments.harness.processes import together
from experiments.mixtraining.run import run_experiment
from experiments.mixtraining.text.config import PRESETS, TextMixTraining
from experiments.mixtraining.text.data import text_domain
from experiments.mixtraining.text.model import text_model
from mixmin_jax.data.text.installed_text import installed_sources
from mixmin_jax.data.text.sources import read_sources
from mixmin_jax.training.language_model import num_parameters
from mixmin_jax.training.learners import text_learner


def main(config: TextMixTraining) -> None:
    see_devices(config)
    with together():
        sources = read_sources(*config.sources, field=config.field) if config.sources else installed_sources()
        model = text_model(config.model, config.length, (len(sources),), config.pool, config.bfloat16)
        params = jax.eval_shape(text_learner(model, config.ssl_mask).init, jax.random.key(0))
        field = config.field if config.sources else None
        domain = text_domain(
            sources,
            model,
            config.model,
            config.batch_size,
            config.windows,
            config.test_windows,
            config.test_fraction,
            config.validation_fraction,
            config.split_seed,
            {part: num_parameters(tree) for part, tree in params.items()},
            [text_record("class", corpus, field) for corpus in sources],
        )
    run_experiment("text_mixtraining", domain, config, demonstration=config.demonstration)


if __name__ == "__main__":
    run(TextMixTraining, main, PRESETS)
