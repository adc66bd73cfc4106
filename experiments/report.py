"""Write the reports and figures of finished runs again, from their result files alone.

python -m experiments.report experiments/results/text_mixture [DIR ...] [--matters 0.005]
"""

import dataclasses
from pathlib import Path
from typing import Any

import tyro

from experiments.harness.command_line import run
from experiments.harness.options import check_matters
from experiments.harness.result_files import write_json
from experiments.questions import read_results
from experiments.reporting.json_files import read_json, to_builtins
from experiments.reporting.schema import RunRecord
from experiments.verify.numbers import computed_again
from mixmin_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Report:
    """Write the reports, figures and summaries of runs again, from their result files alone.

    The files beside a result file that follow from it, such as weights.json, are written again too.
    """

    results: tyro.conf.Positional[tuple[Path, ...]]
    """Folders that experiments wrote to (--out)."""
    matters: float | None = None
    """Judge again with another smallest difference that matters: verdicts in the result files change, and no other
    number. By default that of the run."""


def main(config: Report) -> None:
    if not config.results:
        raise InputError("give at least one folder of results")
    if config.matters is not None:
        check_matters(config.matters)
    found = {folder: read_results(folder) for folder in config.results}  # all are read before anything is written
    for folder, (question, results) in found.items():
        if config.matters is not None:
            for name, metrics in results.items():
                judge_again(folder / name / question.result_file, metrics, config.matters)
            _, results = read_results(folder)
        for name, metrics in results.items():
            for file, content in question.files(metrics).items():
                write_json(folder / name / file, content)
        question.write(folder, results)
        print(f"{folder}: written again")


def judge_again(path: Path, metrics: RunRecord, matters: float) -> None:
    """Put the verdicts into a result file that follow from its numbers if differences below `matters` are ties."""
    judged = to_builtins(computed_again(dataclasses.replace(metrics, matters=matters)))
    write_json(path, _with_verdicts(read_json(path), judged) | {"matters": matters})


def _with_verdicts(held: Any, judged: Any) -> Any:
    if isinstance(held, dict):
        return {k: judged[k] if k == "verdict" else _with_verdicts(v, judged.get(k)) for k, v in held.items()}
    if isinstance(held, list):
        return [_with_verdicts(*pair) for pair in zip(held, judged, strict=True)]
    return held


if __name__ == "__main__":
    run(Report, main)
