"""What an experiment tells of its results, so that one command writes its reports again and one verifies them."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from experiments.reporting.schema import RunRecord

Results = Mapping[str, Any]  # by the folder in the run's folder that each stands in, "" for the run's folder itself


@dataclasses.dataclass(frozen=True)
class Question:
    """One experiment's results; each package has its own at the end of its `report.py`."""

    name: str  # the entry `experiment` of its result files
    metrics: type[RunRecord]  # the record that a result file holds
    write: Callable[[Path, Results], None]  # reports, figures and summary of a run, into a folder
    by_target: bool = False  # a folder for each target, with a result file each
    result_file: str = "metrics.json"
    files: Callable[[Any], dict[str, Any]] = lambda metrics: {}  # the JSON files beside it that follow from its record
    # the record with what a run's stages say of it, and nothing else, put in place; None where a stage is missing
    from_stages: Callable[[Any, Path], Any] = lambda metrics, stages: None
    # sentences on what is wrong beyond what `derived` computes again; the folder is that of the run
    problems: Callable[[Any, Path], list[str]] = lambda metrics, folder: []
