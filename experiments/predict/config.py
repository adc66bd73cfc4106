"""The options of predictions with a trained model."""

import dataclasses
from pathlib import Path

import tyro

from mixmin_jax.data.series.series_files import Axes
from mixmin_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Predict:
    """Predict classes with a model that a MixTraining experiment has left in its folder `model`.

    Writes a table with the columns path, predicted and probability, a line per image, document of text or series.
    Files that cannot be read are named and left out, and the exit status is then 1.
    """

    model: tyro.conf.Positional[Path]
    """The folder of the model."""
    inputs: tyro.conf.Positional[tuple[Path, ...]]
    """Files, and folders of them at any depth: images, or text in the formats of docs/own-data.md. Files of series."""
    out: Path = Path("predictions.csv")
    """The table."""
    all_probabilities: bool = False
    """Add a column p_CLASS for each class."""
    embeddings: Path | None = None
    """Also write an .npz file with `path` and `embedding_NxD`, the features that the model's head reads."""
    labels_from_folders: bool = False
    """The folders in the given folder (of text: its files too) are named like the classes: print the accuracy."""
    labels_from_files: bool = False
    """Series: print the accuracy by the labels in the files, which are ignored otherwise."""
    axes: Axes | None = None
    """Series: the order of three axes in an .npz file (as in training)."""
    label_column: str | None = None
    """Series: the column of labels in a .parquet file."""
    convert: bool = False
    """Images: crop and resize those of another size, and make colors gray, where the training did neither."""
    field: str = "text"
    """Text: the field or column that holds it."""
    batch_size: int = 256
    """Inputs in a step."""
    overwrite: bool = False
    """Replace --out and --embeddings."""

    def __post_init__(self) -> None:
        if not self.inputs:
            raise InputError("give files or folders to predict")
        if self.batch_size < 1:
            raise InputError(f"--batch-size must be at least 1, not {self.batch_size}")
        if self.embeddings is not None and self.embeddings.suffix != ".npz":
            raise InputError(f"--embeddings {self.embeddings}: an .npz file is written; give it that ending")
        for option, path in (("--out", self.out), ("--embeddings", self.embeddings)):
            if path is None:
                continue
            if not path.absolute().parent.is_dir():
                raise InputError(f"{option} {path}: no such folder as {path.absolute().parent}")
            if path.exists() and not self.overwrite:
                raise InputError(f"{option} {path} is there already: choose another name, or give --overwrite")
