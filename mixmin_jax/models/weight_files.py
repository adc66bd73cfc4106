"""Arrays in files of model weights: safetensors, NumPy archives and, where torch is installed, PyTorch's own format."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mixmin_jax.errors import InputError

TORCH_FILES = (".pth", ".pt", ".bin")
SUFFIXES = (".safetensors", ".npz", *TORCH_FILES)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a file by their keys.

    Names in nested dictionaries of PyTorch are joined by dots. Code in such a file does not run.

    Raises:
        InputError: a file of another format, a broken one, or one of PyTorch where torch is not installed.
    """
    import safetensors
    from safetensors.numpy import load_file

    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: weights are read from files that end in {', '.join(SUFFIXES)}")
    try:
        path.open("rb").close()  # a file that is not there needs no torch
        if path.suffix == ".safetensors":
            return load_file(path)
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                return {key: file[key] for key in file.files}
        return _read_torch(path)
    except InputError:
        raise
    except (OSError, ValueError, KeyError, safetensors.SafetensorError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read ({error})") from error


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError as error:
        raise InputError(
            f"{path} is in PyTorch's own format, which needs torch: install it, or convert the file where it is"
            " installed: safetensors.torch.save_file(torch.load(FILE, weights_only=True)['model'],"
            " 'FILE.safetensors'), without ['model'] where the file has no such entry"
        ) from error
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of many kinds
        raise InputError(f"{path} cannot be read as tensors alone ({str(error).splitlines()[0]})") from error
    found: dict[str, np.ndarray] = {}

    def visit(value: Any, key: str) -> None:
        if isinstance(value, Mapping):
            for name, part in value.items():
                visit(part, f"{key}.{name}" if key else str(name))
        elif isinstance(value, torch.Tensor):
            found[key] = value.detach().float().numpy()

    visit(loaded, "")
    return found
