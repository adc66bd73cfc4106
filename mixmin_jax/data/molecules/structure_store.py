"""Structures that were read before, kept on disk: RDKit needs minutes for a hundred thousand of them.

An entry is a file of its own. Its name is a hash of the structures as text and of RDKit's version, so it stays right
whatever becomes of a table, and two tables with the same structures share it. It may be removed at any time.
"""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mixmin_jax.data.molecules.cleaning import OnProgress, Structures, rdkit_version, read_structures

LEAST = 1000  # structures, about a second, from which on they are worth a file
_FORMAT = 1  # of the files, and of what `read_structures` makes of a structure: raise it when either changes


def structure_folder() -> Path:
    """`mixmin_jax/structures` in $XDG_CACHE_HOME, or in ~/.cache."""
    return (Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "mixmin_jax" / "structures").expanduser()


def stored_path(smiles: Sequence[str]) -> Path:
    """The file of these structures; another one with another version of RDKit.

    Raises:
        InputError: RDKit is not installed.
    """
    content = json.dumps([_FORMAT, rdkit_version(), *smiles])
    return structure_folder() / f"{hashlib.sha256(content.encode()).hexdigest()[:32]}.npz"


def read_stored(path: Path) -> Structures | None:
    """What `write_stored` kept; None if there is nothing, or it is damaged."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            parents, reasons = json.loads(file["text"].tobytes())
            return Structures(tuple(parents), file["scaffold_N"], file["parent_R"], file["is_salt_R"], tuple(reasons))
    except Exception:  # np.load raises many kinds on a damaged file
        return None


def write_stored(path: Path, structures: Structures) -> None:
    """Keep structures. Processes that write at once do no harm; where nothing can be written, nothing is kept."""
    text = np.frombuffer(json.dumps([structures.parents, structures.reasons]).encode(), np.uint8)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".partial", delete=False) as file:
            try:
                np.savez_compressed(
                    file,
                    text=text,
                    scaffold_N=structures.scaffold_N,
                    parent_R=structures.parent_R,
                    is_salt_R=structures.is_salt_R,
                )
                file.close()
                os.replace(file.name, path)
            finally:
                Path(file.name).unlink(missing_ok=True)


def stored_structures(smiles: Sequence[str], on_progress: OnProgress | None = None) -> Structures:
    """`read_structures`, from the file of these structures if there is one; `LEAST` or more are kept.

    Raises:
        InputError: RDKit is not installed.
    """
    if len(smiles) < LEAST:
        return read_structures(smiles, on_progress)
    path = stored_path(smiles)
    found = read_stored(path)
    if found is None:
        found = read_structures(smiles, on_progress)
        write_stored(path, found)
    return found
