"""What the result file of every experiment says of its run, from its stages and where they were made."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.harness.options import RunOptions
from experiments.harness.stages import StageRecord, made_elsewhere
from experiments.reporting.json_files import typed
from experiments.reporting.schema import Certificate, DataSet, MadeBy


def run_fields(
    options: RunOptions, records: Mapping[str, StageRecord], made_by: MadeBy, data_sets: Sequence[DataSet]
) -> dict[str, Any]:
    """The fields of a `schema.RunRecord` that come from the run itself, by name."""
    devices, versions = made_elsewhere(records, made_by)
    skipped = {name: record.skipped for name, record in records.items() if record.skipped}
    return {
        "made_by": made_by,
        "matters": options.matters,
        "data_sets": tuple(data_sets),
        "seconds": {name: record.seconds for name, record in records.items()},
        "stage_commits": tuple(sorted({str(record.made_by.git_commit) for record in records.values()})),
        "stage_devices": tuple(devices),
        "stage_versions": {name: tuple(found) for name, found in versions.items()},
        "skipped_steps": None if options.on_nonfinite == "stop" else skipped,
    }


def worst_certificate(solutions: Mapping[int, Mapping[str, Any]]) -> Certificate:
    """Of what `certified_weights` records, by seed: that of the largest gap, with every seed's history."""
    seed = max(solutions, key=lambda seed: (not solutions[seed]["converged"], solutions[seed]["gap"]))
    history = [solution["gap_history"] for solution in solutions.values()]
    found = {key: value for key, value in solutions[seed].items() if key != "weights"}
    return typed(found | {"seed": seed, "gap_history": history}, Certificate, "the record of a solution")
