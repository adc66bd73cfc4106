"""Predict the classes of images, text or series with a model that a MixTraining experiment has left.

python -m experiments.predict runs/mine/model FILES|DIR --out predictions.csv

Axes: N inputs, M examples of a batch, A classes, D width of the encoder.
"""

import csv
import io
import sys
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from experiments.harness.command_line import run
from experiments.harness.progress import RunProgress
from experiments.harness.result_files import replacing, write_bytes
from experiments.predict.config import Predict
from experiments.predict.data import Example, File, batches, find_files, image_examples, series_examples, text_examples
from experiments.reporting.markdown import plural
from mixmin_jax.data.series.sources import SeriesReading
from mixmin_jax.errors import InputError, list_some
from mixmin_jax.program_cache import cache_programs
from mixmin_jax.trained.folder import load_model
from mixmin_jax.trained.model import TrainedModel

NAMED = 20  # examples that are left out and named; the others are counted


class Prediction(NamedTuple):
    """What the model says of an example: of a document, the mean over its windows."""

    example: Example
    probability_A: np.ndarray
    embedding_D: np.ndarray


def main(config: Predict) -> None:
    """Predict, and write all or nothing; the exit status is 1 if any example was left out."""
    model = load_model(config.model)
    if config.convert and model.kind != "images":
        raise InputError(f"--convert is for images, and {config.model} is a model of {model.kind}")
    if model.kind != "series" and (config.labels_from_files or config.axes or config.label_column):
        raise InputError(
            f"--labels-from-files, --axes and --label-column are for series, and {config.model} is a model of"
            f" {model.kind}"
        )
    if model.kind == "series" and config.labels_from_folders:
        raise InputError("--labels-from-folders is for images and text; the labels of series are --labels-from-files")
    files = find_files(model.kind, config.inputs)
    unknown = sorted({file.label for file in files} - set(model.classes))
    if config.labels_from_folders and unknown:
        raise InputError(
            f"--labels-from-folders: {list_some(unknown)} is no class of the model, which knows"
            f" {list_some(model.classes)}"
        )
    cache_programs(warn=lambda line: print(line, file=sys.stderr))
    left_out: list[str] = []
    kept: list[tuple[str, int, np.ndarray]] = []  # path, document and embedding
    count, right = 0, 0
    with replacing(config.out) as partial, partial.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(header(model, config.all_probabilities))
        for found in predictions(model, files, config, left_out):
            table.writerow(line(model, found, config.all_probabilities))
            count += 1
            right += model.classes[int(found.probability_A.argmax())] == (
                found.example.label or found.example.file.label
            )
            if config.embeddings is not None:
                kept.append((found.example.file.path, found.example.document, found.embedding_D))
        if not count:
            raise InputError(f"nothing could be predicted: {list_some(left_out, 3)}")
    if config.embeddings is not None:
        paths, documents, embeddings = zip(*kept, strict=True)
        content = io.BytesIO()
        np.savez(content, path=paths, document=documents, embedding_NxD=np.stack(embeddings), allow_pickle=False)
        write_bytes(config.embeddings, content.getvalue())
    print(f"{config.out}: {plural(count, 'prediction')}")
    if config.labels_from_folders or config.labels_from_files:
        print(f"accuracy: {100 * right / count:.1f}% ({right:,} of {count:,})")
    if left_out:
        more = f", the first {NAMED} named above" if len(left_out) > NAMED else ""
        print(f"left out: {len(left_out):,}{more}", file=sys.stderr)
        sys.exit(1)


def predictions(model: TrainedModel, files: list[File], config: Predict, left_out: list[str]) -> Iterator[Prediction]:
    """The predictions in the order of the files; what the model cannot take is named and added to `left_out`."""
    if model.kind == "images":
        examples = image_examples(model, files, config.convert, config.batch_size)
    elif model.kind == "series":
        reading = SeriesReading(axes=config.axes, label_column=config.label_column)
        examples = series_examples(model, files, reading, config.labels_from_files)
    else:
        examples = text_examples(model, files, config.field)
    place = {file.path: number for number, file in enumerate(files)}
    with RunProgress(1.0).stage("predict", 1.0) as advance:
        for batch in batches(examples, config.batch_size):
            for example in batch:
                if isinstance(example.inputs, str):
                    left_out.append(f"{example.file.path}: {example.inputs}")
                    if len(left_out) <= NAMED:
                        print(f"left out: {left_out[-1]}", file=sys.stderr)
            yield from _predicted(model, [found for found in batch if not isinstance(found.inputs, str)], config)
            advance(place[batch[-1].file.path] + 1, len(files))


def _predicted(model: TrainedModel, batch: list[Example], config: Predict) -> Iterator[Prediction]:
    if not batch:
        return
    inputs_N = np.concatenate([example.inputs for example in batch])
    count_M = np.array([len(example.inputs) for example in batch])
    outputs = model.outputs(inputs_N, config.batch_size)
    first_M = np.cumsum(count_M) - count_M
    means = [np.add.reduceat(values, first_M) / count_M[:, None].astype(np.float32) for values in outputs]
    yield from map(Prediction, batch, *means)


def header(model: TrainedModel, all_probabilities: bool) -> list[str]:
    own = {"text": ["document", "windows"], "series": ["series"]}.get(model.kind, [])
    return ["path", "predicted", "probability", *own, *(f"p_{name}" for name in model.classes if all_probabilities)]


def line(model: TrainedModel, found: Prediction, all_probabilities: bool) -> list[str]:
    best = int(found.probability_A.argmax())
    example = found.example
    numbers = [str(example.document), str(len(example.inputs))]
    own = {"text": numbers, "series": numbers[:1]}.get(model.kind, [])
    shares = [f"{p:.6f}" for p in found.probability_A]
    return [example.file.path, model.classes[best], shares[best], *own, *(shares if all_probabilities else [])]


if __name__ == "__main__":
    run(Predict, main)
