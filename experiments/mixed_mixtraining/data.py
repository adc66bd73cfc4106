"""What the experiment that joins both papers reads: sources without labels, and tasks with few.

Axes: K sources, N windows, L bytes, B batch.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from experiments.mixed_mixtraining.config import MixedMixTraining
from experiments.mixtraining.domain import Labels
from experiments.mixtraining.text.data import MIN_WINDOWS, labels
from mixmin_jax.data.epochs import batch_rows
from mixmin_jax.data.mixing import MixingPlan, draw, gather_windows
from mixmin_jax.data.text.documents import Corpus
from mixmin_jax.data.text.installed_text import installed_sources, installed_target
from mixmin_jax.data.text.labeled_windows import balanced_windows, drop_shared_documents, split_corpus
from mixmin_jax.data.text.source_notes import SourceNote, allowed_names, find_source_notes
from mixmin_jax.data.text.sources import list_sources, read_sources, refuse_identical
from mixmin_jax.data.text.tokens import TokenStore
from mixmin_jax.data.tfds_builders import TFDS_PREFIX
from mixmin_jax.errors import InputError, read_each
from mixmin_jax.training.mixtraining import Batch, Fetch, Labeled

DEMO_CLASSES = ("docstrings", "reference")  # of the installed sources; the third class is the installed target


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """Which of its classes is a window from?"""

    corpora: tuple[Corpus, ...]  # all that was read, a corpus per class
    train: tuple[Corpus, ...]  # documents that labeled windows are drawn from, a corpus per class
    test: Labels
    num_shared: int  # documents of more than one class, which were left out

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(corpus.name for corpus in self.corpora)

    @property
    def name(self) -> str:
        return " or ".join(self.classes)


def read_text(config: MixedMixTraining) -> tuple[tuple[Corpus, ...], tuple[Task, ...], dict[str, SourceNote]]:
    """Sources, tasks, and the notes on all sources that were given; by default the text that this Python carries.

    Sources that are not allowed are not read, so that no arm and no proxy sees them.
    """
    if config.demonstration:
        installed = installed_sources()
        sources = tuple(corpus for corpus in installed if corpus.name not in DEMO_CLASSES)
        tasks = [(*(corpus for corpus in installed if corpus.name in DEMO_CLASSES), installed_target())]
    else:
        for given in config.task:
            one = given[0] if given else ""
            if not given or (len(given) == 1 and (one.startswith(TFDS_PREFIX) or not Path(one).is_dir())):
                raise InputError(
                    f"--task {one or '(nothing)'} is no task: labels are the files that windows are from, so give two"
                    " or more, one per class, or a folder of them"
                )
        given_with_info = [(config.sources, config.sources_info), *((given, None) for given in config.task)]
        sources, *tasks = read_each(
            given_with_info, lambda given: read_sources(*given[0], field=config.field, info=given[1])
        )
    for corpora in tasks:
        refuse_identical((*sources, *corpora))
    if config.sources:
        notes = list_sources(*config.sources, info=config.sources_info).notes
    else:
        notes = find_source_notes([source.name for source in sources], (), config.sources_info)
    allowed = allowed_names([source.name for source in sources], notes)
    kept = tuple(source for source in sources if source.name in allowed)
    return kept, tuple(_task(corpora, config) for corpora in tasks), notes


def _task(corpora: tuple[Corpus, ...], config: MixedMixTraining) -> Task:
    kept, num_shared = drop_shared_documents(corpora)
    parts = (split_corpus(corpus, 1 - config.test_fraction, config.split_seed) for corpus in kept)
    train, test = zip(*parts, strict=True)
    windows = balanced_windows(test, config.length, config.test_windows, config.split_seed, min_windows=MIN_WINDOWS)
    task = Task(corpora, train, labels(windows), num_shared)
    found = len(labeled(task, config, 0))  # the number is that of every seed
    if config.batch_size > found:
        raise InputError(
            f"--batch-size {config.batch_size} is more than the {found} labeled windows of the task {task.name}:"
            " lower it, or raise --labels"
        )
    return task


def labeled(task: Task, config: MixedMixTraining, seed: int) -> Labels:
    """The labeled windows of one seed, as many of each class."""
    return labels(balanced_windows(task.train, config.length, config.labels, seed, min_windows=MIN_WINDOWS))


def as_documents(examples: Sequence[Labels]) -> list[bytes]:
    """The windows of all tasks as documents of their own."""
    return [row.tobytes() for task in examples for row in task.inputs]


def fingerprint_of(documents: Sequence[bytes]) -> str:
    """sha256 (hex) of windows of one length."""
    return hashlib.sha256(b"".join(documents)).hexdigest()


@functools.cache
def mixed_fetch(batch_size: int, ssl_batch_size: int, length: int) -> Fetch:
    """Labeled windows of every task, each epoch in a new order, and beside them windows of the sources by `plan`.

    The batches follow from the step alone.
    """

    def fetch(
        step: jax.Array,
        key: jax.Array,
        data_key: jax.Array,
        plan: MixingPlan,
        tokens: jax.Array,
        starts_K: jax.Array,
        tasks: tuple[Labeled, ...],
    ) -> Batch:
        del key
        source_B, window_B = draw(plan, step * ssl_batch_size + jnp.arange(ssl_batch_size))
        ssl_BxL = gather_windows(tokens, starts_K, length, source_B, window_B)[:, :-1]
        sl = []
        for number, task in enumerate(tasks):
            rows_B = batch_rows(step, batch_size, len(task.labels), jax.random.fold_in(data_key, number))
            sl.append(Labeled(task.inputs[rows_B], task.labels[rows_B]))
        return Batch(sl=tuple(sl), ssl=ssl_BxL)

    return fetch


def device_store(store: TokenStore) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and starts as `gather_windows` takes them."""
    if len(store.tokens) > np.iinfo(np.int32).max:
        raise InputError(f"{len(store.tokens)} bytes of sources are too many for the device: give less than 2^31")
    return store.tokens, store.starts_K.astype(np.int32)
