"""Text as the domain of a MixTraining experiment: which source is a window of text from?

Axes: N examples, B batch, L bytes.
"""

import functools
from collections.abc import Mapping

import jax
import numpy as np

from experiments.harness.data_sets import text_record
from experiments.mixtraining.domain import Domain, Labels, model_record, pooled_features
from experiments.mixtraining.text.config import TextMixTraining
from experiments.mixtraining.text.model import cached_learner, text_model
from experiments.mixtraining.text.unlabeled import split_sources, unlabeled_windows
from mixmin_jax.data.epochs import batch_rows
from mixmin_jax.data.text.installed_text import installed_sources
from mixmin_jax.data.text.labeled_windows import LabeledWindows, balanced_windows, drop_shared_documents, split_corpus
from mixmin_jax.data.text.sources import list_sources, read_sources
from mixmin_jax.errors import InputError
from mixmin_jax.trained.model import TrainedModel
from mixmin_jax.training.mixtraining import Batch, Fetch, Labeled

MIN_WINDOWS = 8  # of each class in each part; fewer can neither train nor tell two arms apart
NGRAM_BYTES = (1, 4)  # lengths of the n-grams of the reference
NGRAM_FEATURES = 2**14  # that they are hashed to
NGRAM_C = 30.0  # inverse strength of its L2 penalty


def read_domain(config: TextMixTraining) -> Domain:
    """Windows of the sources' documents, split by document, and the learners of the model that the options name.

    Raises InputError for a source with too few documents or windows, and for a batch larger than the training part.
    """
    sources = read_sources(*config.sources, field=config.field) if config.sources else installed_sources()
    sources, text = split_sources(sources, config)
    model = text_model(config.model, config.length, (len(sources),), config.pool, config.bfloat16)
    seed, validation = config.split_seed, config.validation_fraction
    corpora, num_shared = drop_shared_documents(sources)
    rest, test = zip(*(split_corpus(corpus, 1 - config.test_fraction, seed) for corpus in corpora), strict=True)
    train, held = zip(*(split_corpus(corpus, 1 - validation, seed) for corpus in rest), strict=True)
    counts = {
        "train": (train, config.windows),
        "validation": (held, max(round(config.windows * validation / (1 - validation)), MIN_WINDOWS)),
        "test": (test, config.test_windows),
    }
    parts = {
        part: balanced_windows(documents, config.length, count, seed, min_windows=MIN_WINDOWS)
        for part, (documents, count) in counts.items()
    }
    if config.batch_size > len(parts["train"].labels_N):
        raise InputError(
            f"--batch-size {config.batch_size} is more than the {len(parts['train'].labels_N)} training windows: lower"
            " it, or raise --windows"
        )
    pool_PxL, num_tested = unlabeled_windows(text, test, config)
    unlabeled = {}
    if pool_PxL is not None:
        unlabeled["unlabeled"] = {
            "origin": ", ".join(corpus.origin for corpus in text.corpora),
            "examples": len(pool_PxL),
            "copies_of_test": num_tested,
            "skipped": sum(corpus.num_skipped for corpus in text.corpora),
            "fingerprint": "+".join(corpus.fingerprint[:8] for corpus in text.corpora),
        }
    origins = ", ".join(dict.fromkeys(corpus.origin for corpus in sources))
    classes = tuple(corpus.name for corpus in corpora)
    given = list_sources(*config.sources).places if config.sources else classes
    unread = [name for name in given if name not in classes]
    return Domain(
        name="text",
        train=labels(parts["train"]),
        validation=labels(parts["validation"]),
        test=labels(parts["test"]),
        classes=classes,
        learner=functools.partial(cached_learner, model),
        fetch=text_fetch(config.batch_size),
        dataset={
            "name": f"source of {config.length} bytes",
            "origin": f"{origins}; windows of {config.length} bytes, as many of each class, split by document"
            f" (seed {seed}): {_documents(parts)}"
            + (f"; {num_shared} documents of more than one class left out" if num_shared else "")
            + (f"; not read, as allowed = false: {', '.join(unread)}" if unread else "")
            + "".join(f"; {corpus.name}: {notice}" for corpus in sources for notice in corpus.notices),
            "classes": list(classes),
            **{part: len(found.labels_N) for part, found in parts.items()},
            "skipped": sum(corpus.num_skipped for corpus in sources),
            "shape": None,
            "fingerprint": "+".join(corpus.fingerprint[:8] for corpus in sources),
            **unlabeled,
        },
        model=model_record(config.model, model, cached_learner(model, config.ssl_mask, False, False)),
        data_sets=[
            *(text_record("class", corpus, config.field if config.sources else None) for corpus in sources),
            *(text_record("text without labels", corpus, config.field) for corpus in text.corpora),
        ],
        references=linear_on_ngrams,
        unlabeled=pool_PxL,
        notices=text.notices,
        as_model=functools.partial(TrainedModel, model, tuple(corpus.name for corpus in corpora)),
        features=pooled_features(cached_learner(model, config.ssl_mask, False, False), config.pool),
    )


def text_fetch(batch_size: int) -> Fetch:
    """Batches of one data set with one label per window: each epoch in a new order."""

    def fetch(step: jax.Array, key: jax.Array, data_key: jax.Array, tokens: jax.Array, labels: jax.Array) -> Batch:
        del key
        rows_B = batch_rows(step, batch_size, len(labels), data_key)
        return Batch(sl=(Labeled(tokens[rows_B], labels[rows_B]),))

    return fetch


def linear_on_ngrams(train: Labels, test: Labels) -> dict[str, float]:
    """Test accuracy of logistic regression on hashed byte n-grams, what a model should at least beat."""
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.linear_model import LogisticRegression

    vectorizer = HashingVectorizer(
        analyzer="char", lowercase=False, ngram_range=NGRAM_BYTES, n_features=NGRAM_FEATURES, alternate_sign=False
    )

    def counted(examples: Labels) -> np.ndarray:
        return vectorizer.transform([row.tobytes().decode("latin-1") for row in examples.inputs])  # a byte a character

    model = LogisticRegression(C=NGRAM_C, tol=1e-3, max_iter=300).fit(counted(train), train.labels_N)
    return {"logistic regression on byte n-grams": float(model.score(counted(test), test.labels_N))}


def labels(windows: LabeledWindows) -> Labels:
    return Labels(windows.tokens_NxL, windows.labels_N)


def _documents(parts: Mapping[str, LabeledWindows]) -> str:
    """How many documents the windows of each part are from: windows of one document are alike."""
    counts = {
        part: len(np.unique(np.stack([found.labels_N, found.documents_N]), axis=1)[0]) for part, found in parts.items()
    }
    return ", ".join(f"{part} windows from {count:,} documents" for part, count in counts.items())
