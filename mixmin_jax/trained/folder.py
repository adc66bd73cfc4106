"""A trained model as a folder: `model.json`, `params.safetensors`, the same in `params/` by Orbax, and `card.md`.

`model.json` says what the model is; parameters are called by their place in the tree, as in `encoder/tokens/positions`.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import msgspec
import numpy as np
import orbax.checkpoint as ocp
import safetensors
import safetensors.numpy
from flax.traverse_util import flatten_dict, unflatten_dict

from mixmin_jax.errors import InputError, list_some
from mixmin_jax.trained.kinds import KINDS, Config, shapes_of
from mixmin_jax.trained.model import SeriesPreprocessing, TrainedModel

FORMAT = 1  # of the folder; another number is refused
MODEL, PARAMS, ORBAX, CARD = "model.json", "params.safetensors", "params", "card.md"
_PARTIAL = ".partial"  # end of the name of a folder that is being written


class _Description(msgspec.Struct, forbid_unknown_fields=True):
    """model.json, but for the configuration, whose fields depend on the kind."""

    format: int
    kind: str
    config: dict[str, Any]
    classes: tuple[str, ...]
    preprocessing: dict[str, Any]  # resize, or the fields of SeriesPreprocessing
    temperature: float
    params_sha256: str


class _Resizing(msgspec.Struct, forbid_unknown_fields=True):
    """The preprocessing of images."""

    resize: bool = False


def save_model(model: TrainedModel, folder: str | Path, *, card: str | None = None, overwrite: bool = False) -> None:
    """Write a model, whole or not at all.

    Args:
        model: what to write.
        folder: where; its parents are created.
        card: text of `card.md`, for people.
        overwrite: replace a model that is there.

    Raises:
        InputError: the parameters do not fit the configuration, or are not finite; the folder holds something else, or
            a model without `overwrite`.
    """
    folder = Path(folder)
    params = {name: np.asarray(value) for name, value in flatten_dict(jax.device_get(model.params), sep="/").items()}
    _check_params(model.config, params, "the model")
    if broken := [name for name, value in params.items() if not np.isfinite(value).all()]:
        raise InputError(f"the model has numbers that are not finite in {list_some(broken)}: train it again")
    if folder.exists() and not (folder / MODEL).exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InputError(f"{folder} is there and holds no model: name another folder")
    if (folder / MODEL).exists() and not overwrite:
        raise InputError(f"{folder} holds a model: name another folder, or replace it with overwrite=True")
    content = safetensors.numpy.save({name: np.ascontiguousarray(value) for name, value in params.items()})
    described = {
        "format": FORMAT,
        "kind": model.kind,
        "config": msgspec.to_builtins(model.config),
        "classes": list(model.classes),
        "preprocessing": {"resize": model.resize} if model.series is None else msgspec.to_builtins(model.series),
        "temperature": model.temperature,
        "params_sha256": hashlib.sha256(content).hexdigest(),
    }
    with _replacing(folder) as partial:
        (partial / PARAMS).write_bytes(content)
        # of several processes, this one alone writes
        alone = ocp.options.MultiprocessingOptions(
            primary_host=jax.process_index(), active_processes={jax.process_index()}
        )
        with ocp.StandardCheckpointer(multiprocessing_options=alone) as checkpointer:
            checkpointer.save((partial / ORBAX).absolute(), unflatten_dict(params, sep="/"))
        if card is not None:
            (partial / CARD).write_text(card)
        (partial / MODEL).write_text(json.dumps(described, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def load_model(folder: str | Path) -> TrainedModel:
    """The model in a folder that `save_model` wrote.

    Raises:
        InputError: no such folder; a file that is missing or damaged; a folder of another format version; parameters
            that do not fit the configuration (names and shapes).
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of a model")
    described = _described(folder)
    try:
        content = (folder / PARAMS).read_bytes()
    except OSError as error:
        raise InputError(f"{folder / PARAMS}: cannot be read ({error.strerror}); copy the folder again") from error
    if hashlib.sha256(content).hexdigest() != described.params_sha256:
        raise InputError(f"{folder / PARAMS}: not the file that {MODEL} was written with; copy the folder again")
    try:
        params = safetensors.numpy.load(content)
    except safetensors.SafetensorError as error:
        raise InputError(f"{folder / PARAMS}: no safetensors file ({error})") from error
    try:
        config = _config(described)
        _check_params(config, params, str(folder / PARAMS))
        resize, series = _preprocessing(described)
        return TrainedModel(
            config, described.classes, unflatten_dict(params, sep="/"), described.temperature, resize, series
        )
    except (InputError, msgspec.ValidationError) as error:
        raise InputError(f"{folder / MODEL}: {error}") from error


def _described(folder: Path) -> _Description:
    path = folder / MODEL
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        inside = f"; the model of that run is {folder / 'model'}" if (folder / "model" / MODEL).is_file() else ""
        raise InputError(f"{folder}: no folder of a model, it holds no {MODEL}{inside}") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); copy the folder again") from error
    version = found.get("format") if isinstance(found, dict) else None
    if version != FORMAT:
        says = f"of format {version}" if version is not None else "of no format that it names"
        raise InputError(
            f"{path}: a model {says}, and this version of mixmin_jax reads format {FORMAT}: use the version that wrote"
            " it, or train the model again"
        )
    try:
        described = msgspec.convert(found, _Description)
    except msgspec.ValidationError as error:
        raise InputError(f"{path}: no description of a model ({error})") from error
    if described.kind not in KINDS:
        raise InputError(f"{path}: a model of {described.kind!r}; known are {', '.join(KINDS)}")
    return described


def _config(described: _Description) -> Config:
    config: Config = msgspec.convert(described.config, KINDS[described.kind].config)
    if unknown := [*_unknown(described.config, msgspec.to_builtins(config))]:
        raise InputError(f"the configuration has {list_some(unknown)}, which this version of mixmin_jax does not know")
    return config


def _preprocessing(described: _Description) -> tuple[bool, SeriesPreprocessing | None]:
    """(resize, that of series). Raises InputError for fields that this version does not know."""
    found = described.preprocessing
    if "mean" not in found:
        return msgspec.convert(found, _Resizing).resize, None
    series = msgspec.convert(found, SeriesPreprocessing)
    if unknown := [*_unknown(found, msgspec.to_builtins(series))]:
        raise InputError(f"the preprocessing has {list_some(unknown)}, which this version of mixmin_jax does not know")
    return False, series


def _unknown(found: Mapping[str, Any], known: Mapping[str, Any]) -> Iterator[str]:
    for name, value in found.items():
        if name not in known:
            yield name
        elif isinstance(value, Mapping):
            yield from _unknown(value, known[name])


def _check_params(config: Config, params: Mapping[str, np.ndarray], where: str) -> None:
    """Raise InputError for parameters that are missing, not the model's, or of another shape or type."""
    expected = flatten_dict(shapes_of(config), sep="/")
    wrong = [f"{name} is missing" for name in expected if name not in params]
    wrong += [f"{name} is not the model's" for name in params if name not in expected]
    for name, like in expected.items():
        if name in params and (params[name].shape, params[name].dtype) != (like.shape, like.dtype):
            found = params[name]
            wrong.append(f"{name} is {found.dtype}{list(found.shape)} and should be {like.dtype}{list(like.shape)}")
    if wrong:
        raise InputError(f"{where}: parameters do not fit the configuration: {list_some(wrong)}")


@contextlib.contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """A folder to write into, which takes the place of `folder` at the end, unless there was an error."""
    partial = folder.with_name(f".{folder.name}.{os.getpid()}{_PARTIAL}")
    before = folder.with_name(f".{folder.name}.{os.getpid()}.before{_PARTIAL}")
    try:
        partial.mkdir(parents=True)
        yield partial
        if folder.exists():
            folder.rename(before)
        try:
            partial.rename(folder)
        except OSError:
            if before.exists():
                before.rename(folder)
            raise
    finally:
        for left in (partial, before):
            shutil.rmtree(left, ignore_errors=True)
