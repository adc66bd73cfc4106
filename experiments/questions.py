"""The experiments whose results can be read, reported and verified again, by the name in their result files."""

import contextlib
import importlib
from pathlib import Path

from experiments.harness.question import Question, Results
from experiments.harness.replacement import UNFINISHED
from experiments.harness.result_files import read_result
from experiments.reporting.json_files import read_json
from mixmin_jax.errors import InputError

_MODULES = {  # name in result files -> the module that has its Question
    "text_mixture": "text_mixture.report",
    "molecule_mixture": "molecule_mixture.report",
    "image_mixtraining": "mixtraining.report",
    "text_mixtraining": "mixtraining.report",
    "series_mixtraining": "mixtraining.report",
    "image_mixtraining_variants": "mixtraining.variants_report",
    "mixed_mixtraining": "mixed_mixtraining.report",
    "weights_from_file": "weights_from_file.report",
    "regmix_published": "regmix_published.report",
    "filter_and_mix": "filter_and_mix.report",
}
RESULT_FILES = ("metrics.json", "variants.json")


def question_of(path: Path) -> Question:
    """Which experiment wrote a result file. Raises InputError for a file of none."""
    held = read_json(path)
    name = held.get("experiment") if isinstance(held, dict) else None
    if name not in _MODULES:
        raise InputError(f"{path} is of {name or 'something else'}; known are {', '.join(_MODULES)}")
    found = importlib.import_module(f"experiments.{_MODULES[name]}").QUESTION
    assert isinstance(found, Question)
    return found


def result_files(folder: Path) -> list[Path]:
    """The result files of a run: its own, or one for each target.

    Raises InputError for a folder that is no run's: missing, without such files, one target of a run, several runs.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    own = [folder / name for name in RESULT_FILES if (folder / name).is_file()]
    paths = own or sorted(path for path in folder.glob("*/metrics.json") if path.parent.name != UNFINISHED)
    if not paths:
        raise InputError(f"{folder}: no result; there is no {' or '.join(RESULT_FILES)} in it or in a folder of it")
    by_target = []
    for path in paths:
        with contextlib.suppress(InputError):  # of which whoever reads the file will hear
            by_target.append(question_of(path).by_target)
    if own and any(by_target):
        raise InputError(f"{folder} is one target of a run: name the run's folder, {folder.resolve().parent}")
    if not own and not all(by_target):
        raise InputError(f"{folder} is no run's folder but holds some: name {', '.join(str(p.parent) for p in paths)}")
    return paths


def read_results(folder: Path) -> tuple[Question, Results]:
    """A run's results as records. Raises InputError for what is no run's folder, or holds no results."""
    paths = result_files(folder)
    question = question_of(paths[0])
    return question, {
        "" if path.parent == folder else path.parent.name: read_result(path, question.metrics) for path in paths
    }
