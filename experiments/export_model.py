"""Write a trained model for programs without this library: ONNX, or StableHLO for JAX and XLA.

python -m experiments.export_model runs/mine/model --to onnx --out model.onnx
"""

import dataclasses
from pathlib import Path
from typing import Literal

import tyro

from experiments.harness.command_line import run
from experiments.harness.result_files import write_bytes
from mixmin_jax.errors import InputError
from mixmin_jax.trained.export import to_onnx, to_stablehlo
from mixmin_jax.trained.folder import load_model

FORMATS = {"onnx": to_onnx, "stablehlo": to_stablehlo}


@dataclasses.dataclass(frozen=True)
class ExportModel:
    """Write a model that an experiment has left in its folder `model` as one file: inputs to class probabilities.

    Needs pip install -e ".[export-model]". docs/trained-models.md shows how to run the file.
    """

    model: tyro.conf.Positional[Path]
    """The folder of the model."""
    to: Literal["onnx", "stablehlo"]
    """The format."""
    out: Path
    """The file."""
    overwrite: bool = False
    """Replace --out."""


def main(config: ExportModel) -> None:
    if config.out.exists() and not config.overwrite:
        raise InputError(f"{config.out} is there already: choose another --out, or give --overwrite")
    model = load_model(config.model)
    write_bytes(config.out, FORMATS[config.to](model))
    print(f"{config.out}: {config.model} as {config.to}, inputs {model.kind} to {len(model.classes)} probabilities")


if __name__ == "__main__":
    run(ExportModel, main)
